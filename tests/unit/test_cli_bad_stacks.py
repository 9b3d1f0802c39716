"""Hundreds of wrong stack files through the real entry: one clear message each, nothing changed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.testing
from bad_stacks import STACKS, BadStack, every_bad_stack
from typer.main import get_command
from typer.testing import CliRunner

from coldstart.cli.app import ROOT, app

FILE = "stacks/Pulumi.bad.yaml"
ALL = tuple(every_bad_stack())
BY_NAME = {bad.name: bad for bad in ALL}
IN_A_PROCESS = (
    "without nodePools.a100.accelerator",
    "snapshot under RAID0",
    "everything at once",
    "split: a model without identity",
    "hostile: not UTF-8",
    "hostile: a cursor in a value",
    "hostile: half a character",
    "hostile: nested lists",
    "hostile: an alias bomb",
    "hostile: 10 MB of comment",
)
PROCESS_DEADLINE_SECONDS = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("checkout")
    shutil.copytree(STACKS, made / "stacks")
    yield made


@dataclass(frozen=True, slots=True)
class Started:
    bad: BadStack
    checkout: Path
    before: dict[str, str]
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Started]]:
    """Real processes, which run beside the other tests of this file."""
    cases = []
    for name in IN_A_PROCESS:
        checkout = tmp_path_factory.mktemp("process")
        shutil.copytree(STACKS, checkout / "stacks")
        (checkout / FILE).write_bytes(BY_NAME[name].content)
        command = [sys.executable, "-B", "-m", "coldstart", "check", "bad", "--root", str(checkout)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        cases.append(Started(BY_NAME[name], checkout, fingerprint(checkout), process))
    yield cases
    for case in cases:
        if case.process.poll() is None:
            case.process.kill()
            case.process.wait(timeout=PROCESS_DEADLINE_SECONDS)


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module", autouse=True)
def commands_built_once() -> Iterator[None]:
    """The runner builds all commands anew for each call, which takes longer than the call."""
    built = get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", lambda _: built)
        yield


def assert_told(bad: BadStack, code: int, said: str) -> None:
    assert code == 2, f"{bad.name}: exit code {code}, said {said!r}"
    assert "Traceback" not in said
    lines = said.splitlines()
    assert lines, f"{bad.name}: nothing was said"
    assert lines[0].startswith(FILE), f"{bad.name}: the message starts with {lines[0][:80]!r}"
    assert all(line.startswith((FILE, "  ")) for line in lines), said
    assert all(line.isprintable() for line in lines), f"{bad.name}: raw bytes of the file are shown"
    assert max(map(len, lines)) < 1500, f"{bad.name}: a line of {max(map(len, lines))} characters"
    for word in bad.words:
        assert word in said, f"{bad.name}: {word!r} is not named in\n{said}"


def test_there_are_hundreds_of_distinct_bad_stacks() -> None:
    assert len({bad.content for bad in ALL}) >= 350
    assert len(BY_NAME) == len(ALL)


@pytest.mark.parametrize("bad", ALL, ids=lambda bad: bad.name.encode("unicode_escape").decode())
def test_a_bad_stack_file_ends_in_a_message_and_changes_nothing(bad: BadStack, root: Path) -> None:
    (root / FILE).write_bytes(bad.content)
    before = fingerprint(root)
    result = CliRunner().invoke(app, ["check", "bad", "--root", str(root)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    assert_told(bad, result.exit_code, result.stderr)
    assert fingerprint(root) == before


def test_every_command_refuses_a_bad_stack_before_it_starts_an_engine(root: Path) -> None:
    bad = BY_NAME["without platform"]
    (root / FILE).write_bytes(bad.content)
    before = fingerprint(root)
    for command in ("plan", "check", "preview", "rehearse"):
        result = CliRunner().invoke(app, [command, "bad", "--json", "--root", str(root)])
        assert_told(bad, result.exit_code, result.stderr)
    assert fingerprint(root) == before


def test_the_same_holds_for_the_command_as_users_call_it(started: list[Started]) -> None:
    for case in started:
        said, told = case.process.communicate(timeout=PROCESS_DEADLINE_SECONDS)
        assert said == b""
        assert_told(case.bad, case.process.returncode, told.decode("utf-8"))
        assert fingerprint(case.checkout) == case.before
