"""How commands start and end: what they import, complete, colour, refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from stack_examples import ROOT
from typer.testing import CliRunner

from coldstart.catalog import load
from coldstart.cli import lint
from coldstart.cli.app import app
from coldstart.cli.shared import console
from coldstart.errors import UserError
from policies import presets
from policies.lint import formats

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
DEADLINE_SECONDS = 120
HEAVY = ("pulumi", "vl_convert", "simpy", "playwright", "requests", "jsonschema", "policies")
"""What only some command needs, and takes tenths of a second to import."""
LOADED = """
import json, sys
from coldstart.cli.app import app
try:
    app(json.loads(sys.argv[1]), prog_name="coldstart")
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def loaded_by(*arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True,
    )  # fmt: skip
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def test_help_reads_no_data_and_imports_nothing_to_plan_with() -> None:
    code, names = loaded_by("--help")
    assert not code
    assert not {*HEAVY, "pydantic", "yaml"} & set(names)


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "eks-dev"),
        ("compare", "eks-dev", "eks-dev", "--json"),
        ("explain", "eks-dev", "qwen3-1-7b", "weights"),
        ("gpus", "--json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_only_plans_imports_no_engine_and_no_picture(arguments: tuple[str, ...]) -> None:
    code, names = loaded_by(*arguments)
    assert not code
    assert not set(HEAVY) & set(names)


def coldstart(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
    return subprocess.run(
        [ROOT / "bin" / "coldstart", *arguments],
        cwd="/", capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
        env={**kept, **environment},
    )  # fmt: skip


def completed(words: str, **environment: str) -> list[str]:
    """What a shell is offered at the end of `words`, asked as bash asks."""
    asked = words.split(" ")
    done = CliRunner().invoke(
        app,
        [],
        env={
            "_COLDSTART_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(asked) - 1),
            **environment,
        },
        prog_name="coldstart",
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("coldstart exp", ["explain"]),
        ("coldstart plan eks-d", ["eks-dev"]),
        ("coldstart explain eks-prod qwen3-8", ["qwen3-8b"]),
        ("coldstart explain eks-prod l", ["l40s"]),
        ("coldstart explain eks-prod-workload qwen", ["qwen3-32b", "qwen3-8b"]),
        ("coldstart explain no-such-stack q", []),
        ("coldstart explain eks-prod qwen3-8b comp", ["compileCache"]),
        ("coldstart compare eks-dev eks-prod-i", ["eks-prod-infra"]),
        ("coldstart models Qwen/Qwen3-3", ["Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B"]),
        ("coldstart gpus --model microsoft", ["microsoft/phi-4"]),
        ("coldstart gpus --region us-w", ["us-west-2"]),
        ("coldstart init --model openai/gpt-oss-1", ["openai/gpt-oss-120b"]),
        ("coldstart plan --format m", ["markdown"]),
    ],
)
def test_a_shell_is_offered_names_that_exist(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


def test_a_stack_file_that_cannot_be_read_offers_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.bad.yaml").write_text("config: [")
    assert completed(f"coldstart plan --root {tmp_path} b") == ["bad"]
    assert completed(f"coldstart explain --root {tmp_path} bad q") == []


def test_the_script_for_the_shell_asks_the_command_itself() -> None:
    done = coldstart(_COLDSTART_COMPLETE="source_bash")
    assert "complete -o default -F _coldstart_completion coldstart" in done.stdout


def test_completion_installs_itself(tmp_path: Path) -> None:
    done = coldstart(
        "--install-completion", "bash",
        HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scripts = [f for f in tmp_path.rglob("*.sh") if f.is_file()]
    assert any("_coldstart_completion" in f.read_text() for f in scripts)


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1", "TERM": "xterm-256color"}])
def test_a_pipe_gets_no_colours(environment: dict[str, str]) -> None:
    for arguments in (("plan", "eks-dev", "--why"), ("explain", "eks-dev", "l4", "os")):
        done = coldstart(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("rules",), ("plan", "eks-dev", "--json"), ("--help",)])
def test_an_answer_that_cannot_be_written_ends_with_2_and_says_so(
    arguments: tuple[str, ...],
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [ROOT / "bin" / "coldstart", *arguments], stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "the answer cannot be written: No space left on device\n"


def test_a_terminal_that_knows_few_letters_still_gets_an_answer() -> None:
    done = coldstart("plan", "eks-dev", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u2588" in done.stdout


def test_text_in_brackets_or_colons_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("a [bold]note[/] of [/] and :smile: ")
    assert capsys.readouterr().out == "a [bold]note[/] of [/] and :smile: \n"


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("coldstart.cli.breakeven_case.answered", ("breakeven",)),
        ("policies.lint.sources.read", ("lint", ".")),
        ("policies.presets.levels", ("rules",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_interrupt_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, place: str, arguments: tuple[str, ...]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 130
    assert done.stderr == "interrupted; nothing was left running\n"


def test_the_command_runs_from_any_folder_and_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "coldstart"
    link.symlink_to(ROOT / "bin" / "coldstart")
    done = subprocess.run(
        [link, "check", "eks-dev"], cwd=tmp_path, capture_output=True, text=True,
        timeout=DEADLINE_SECONDS, check=True,
    )  # fmt: skip
    assert done.stdout == "stacks/Pulumi.eks-dev.yaml: node pools: 1, models: 1, ok\n"


def test_names_that_help_shows_are_those_of_the_policies() -> None:
    assert lint.PRESETS == presets.PRESETS
    assert tuple(formats.FORMATS) == lint.FORMATS


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"cluster"}))
def test_help_of_every_command_has_an_example_that_its_arguments_allow(name: str) -> None:
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    examples = " ".join(COMMANDS[name].help.split()).split("Example: ")[1:]
    assert examples
    for example in examples:
        words = example.partition(f"coldstart {name}")[2].partition(" > ")[0].split()
        with COMMANDS[name].make_context(name, words):
            pass


BAD = [
    (("plan", "eks-pord"), 'did you mean "eks-prod"?'),
    (("plan", "--format", "markdown", "--json"), "ask for two answers; give one of them"),
    (("plan", "--format", "yaml"), "'yaml' is not one of 'text', 'json', 'markdown'"),
    (("explain", "eks-pord", "x", "y"), 'did you mean "eks-prod"?'),
    (("explain", "eks-prod", "qwen3-8c", "os"), 'did you mean "qwen3-8b"?'),
    (("explain", "eks-prod", "qwen3-8b", "imgae"), 'did you mean "image"?'),
    (("compare", "eks-prod", "eks-dve"), 'did you mean "eks-dev"?'),
    (("compare", "nowhere.json", "eks-dev"), "nowhere.json: cannot be read: No such file"),
    (("compare", "/", "eks-dev"), "/: cannot be read: Is a directory"),
    (
        ("compare", "eks-dev", "eks-dev", "--fail-over-seconds", "-1"),
        "should be greater than or equal to 0",
    ),
    (
        ("compare", "eks-dev", "eks-dev", "--fail-over-usd", "nan"),
        "'--fail-over-usd': Input should be",
    ),
    (("compare", "eks-dev", "eks-dev", "--fail-over-usd", "inf"), "inf is not a limit"),
    (("compare", "eks-dev"), "Missing argument 'STACK_B'"),
    (("models", "Qwen/Qwen3-8"), 'did you mean "Qwen/Qwen3-8B"?'),
    (("models", ""), "'' is not in the model catalog"),
    (("gpus", "--model", ""), "'' is not in the model catalog"),
    (("compare", "/dev/zero", "eks-dev"), "/dev/zero: is larger than 50,000,000 bytes"),
    (("models", "--region", "us-west-3"), 'did you mean "us-west-2"?'),
    (("models", "Qwen/Qwen3-8B", "--file", "x"), "one of the two"),
    (("gpus", "--model", "gpt-oss-120"), 'did you mean "openai/gpt-oss-120b"?'),
    (("gpus", "--region", ""), "no prices are known for ''"),
    (("gpus", "extra"), "unexpected extra argument"),
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    BAD,
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_ends_with_2_and_one_clear_message(
    arguments: tuple[str, ...], words: str
) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


GOOD_PLAN = {
    "stack": "x",
    "models": {},
    "decisions": [],
    "cost": {"idleUsdPerHour": 1.0, "maximumUsdPerHour": 2.0},
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\0", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "the top"),
        ("5", "the top"),
        ("{}", "stack: Field required"),
        (json.dumps({**GOOD_PLAN, "models": {"m": {}}}), "models.m.nodePool: Field required"),
        (json.dumps({**GOOD_PLAN, "decisions": [{"path": 5}]}), "decisions.0.path"),
        (json.dumps({**GOOD_PLAN, "cost": {}}), "cost.idleUsdPerHour"),
        (
            json.dumps({**GOOD_PLAN, "cost": {"idleUsdPerHour": -1, "maximumUsdPerHour": 2}}),
            "greater than or equal to 0",
        ),
        (
            json.dumps({**GOOD_PLAN, "cost": {"idleUsdPerHour": 1, "maximumUsdPerHour": 1e999}}),
            "finite number",
        ),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_how_to_write_one(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "base.json"
    file.write_text(text)
    done = CliRunner().invoke(app, ["compare", str(file), "eks-dev"])
    assert (done.exit_code, done.stdout) == (2, ""), done.exception
    assert words in done.stderr
    assert "coldstart plan STACK --json" in done.stderr
    assert "Traceback" not in done.stderr


def test_binary_bytes_and_a_missing_right_are_told_too(tmp_path: Path) -> None:
    file = tmp_path / "base.json"
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not JSON" in CliRunner().invoke(app, ["compare", str(file), "eks-dev"]).stderr


def test_the_plan_it_accepts_is_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "base.json"
    file.write_text(json.dumps({**GOOD_PLAN, "later": "keys are left alone"}))
    assert CliRunner().invoke(app, ["compare", str(file), str(file)]).exit_code == 0


def test_errors_that_a_user_can_mend_have_one_base() -> None:
    from coldstart.catalog import CatalogError
    from coldstart.controlplane import ControlPlaneError
    from coldstart.engine import RehearsalError, ToolchainError
    from coldstart.planning import PlanFailedError
    from coldstart.spec import SpecError

    for kind in (CatalogError, ControlPlaneError, PlanFailedError, RehearsalError, SpecError):
        assert issubclass(kind, UserError)
    assert issubclass(ToolchainError, UserError)
    assert load().models
