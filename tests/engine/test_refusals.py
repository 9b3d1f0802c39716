"""What the engine, the stand-ins and the policies refuse, and how it is said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coldstart.engine import Rehearsal, RehearsalError, Toolchain, process
from tests.waiting import gone, until

PACK = Path(__file__).with_name("fixtures") / "pack"
STACK = "whole"

Program = Callable[[str], Path]
Rehearse = Callable[[Path], Rehearsal]


def _configure(project: Path, *lines: str) -> None:
    text = "\n".join(["config:", "  aws:region: us-west-2", *(f"  {line}" for line in lines)])
    (project / "stacks" / f"Pulumi.{STACK}.yaml").write_text(text + "\n", encoding="utf-8")


def test_a_misspelt_nested_key_is_refused_with_its_path_and_the_nearest_name(
    program: Program, rehearse: Rehearse
) -> None:
    project = program("toy")
    _configure(project, "toy:misspelt: true")
    result = rehearse(project).preview(STACK)
    assert result.exit_code != 0
    (message,) = (error for error in result.errors if "vpcConfig" in error)
    assert "vpcConfig.endpoint_public_acces" in message
    assert 'did you mean "endpointPublicAccess"?' in message


def test_an_advisory_violation_is_told_and_does_not_stop_a_preview(
    program: Program, rehearse: Rehearse
) -> None:
    result = rehearse(program("toy")).preview(STACK, PACK)
    assert result.ok, result.errors
    (violation,) = result.violations
    assert (violation.policy, violation.level) == ("limits-are-small", "advisory")
    assert violation.urn.endswith("NodePool::gpu")
    assert "a pool of eight is large" in violation.message
    counts = {found.policy: found.failed for found in result.policy_results}
    assert counts == {"limits-are-small": 1, "network-is-private": 0}


def test_a_mandatory_violation_makes_the_exit_code_non_zero(
    program: Program, rehearse: Rehearse
) -> None:
    config = {"network-is-private": {"prefix": "192.168."}}
    result = rehearse(program("toy")).preview(STACK, PACK, config)
    assert result.exit_code != 0
    mandatory = [found for found in result.violations if found.level == "mandatory"]
    assert [found.policy for found in mandatory] == ["network-is-private"]
    assert "does not begin with 192.168." in mandatory[0].message


def test_two_stacks_are_joined_by_a_stack_reference_and_secrets_stay_secret(
    program: Program, rehearse: Rehearse
) -> None:
    rehearsal = rehearse(program("joined"))
    assert rehearsal.up("below").ok
    above = rehearsal.up("above")
    assert above.ok, above.errors
    below_outputs, above_outputs = rehearsal.outputs("below"), rehearsal.outputs("above")
    assert above_outputs == {"seen": below_outputs["vpcId"], "seenKey": below_outputs["key"]}
    assert below_outputs["key"] not in str(rehearsal.export("above"))


def test_a_stack_that_does_not_exist_is_refused_with_those_that_do(
    program: Program, rehearse: Rehearse
) -> None:
    with pytest.raises(RehearsalError, match=r"Pulumi\.belov\.yaml.*stacks: above, below"):
        rehearse(program("joined")).preview("belov")


def test_a_folder_without_a_project_is_refused(tmp_path: Path, toolchain: Toolchain) -> None:
    with pytest.raises(RehearsalError, match="no Pulumi project"):
        Rehearsal(tmp_path, toolchain)


def test_a_folder_that_is_no_policy_pack_is_refused(
    program: Program, rehearse: Rehearse, tmp_path: Path
) -> None:
    with pytest.raises(RehearsalError, match="no policy pack"):
        rehearse(program("joined")).preview("below", tmp_path)


def test_secrets_of_the_real_backend_are_replaced_and_the_file_is_left_alone(
    program: Program, toolchain: Toolchain, tmp_path: Path
) -> None:
    project = program("toy")
    stack_file = project / "stacks" / f"Pulumi.{STACK}.yaml"
    _configure(project, "toy:cidr:", "  secure: v1:abc")
    stack_file.write_text(
        f"secretsprovider: awskms://alias/real\nencryptedkey: QUJD\n{stack_file.read_text()}"
    )
    written = stack_file.read_text()
    rehearsal = Rehearsal(
        project, toolchain, folder=tmp_path / "r", secrets={"toy:cidr": "10.50.0.0/16"}
    )
    result = rehearsal.preview(STACK)
    assert result.ok, result.errors
    network = next(step for step in result.resources if step.name == "network")
    assert network.inputs["cidrBlock"] == "10.50.0.0/16"
    assert stack_file.read_text() == written


def test_an_interrupted_run_leaves_no_process_behind(
    program: Program, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "process"
    ended: list[int] = []
    end_session = process.end_session

    def end(engine: subprocess.Popen[bytes]) -> None:
        ended.append(engine.pid)
        end_session(engine)

    def interrupt_once_the_program_runs(_: str) -> None:
        if note.is_file() and note.read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(process, "end_session", end)
    rehearsal = Rehearsal(
        program("hanging"),
        toolchain,
        folder=tmp_path / "r",
        deadline_seconds=120,
        progress=interrupt_once_the_program_runs,
        extra_environment={"COLDSTART_TEST_NOTE": str(note)},
    )
    with pytest.raises(KeyboardInterrupt):
        rehearsal.preview("forever")
    assert process.session_members(ended[-1]) == []
    # The program is not among them: it ends when it has lost its client.
    until(lambda: gone(int(note.read_text())), "end of the program")
