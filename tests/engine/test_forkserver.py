"""Processes that start warm behave as if Python had been started for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coldstart.engine import Rehearsal, Toolchain, forkserver
from tests.waiting import DEADLINE_SECONDS, gone, until

ROOT = Path(__file__).resolve().parents[2]
FORKED = [sys.executable, "-I", "-S", str(forkserver.CLIENT)]
PLAIN = [sys.executable]

SEEN = """
import json, os, sys
loaded = [name for name in ("wave", "pulumi_random", "beside") if name in sys.modules]
import beside
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("COLOUR"), __name__, beside.VALUE, loaded]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program with a module of its own."""
    (tmp_path / "program.py").write_text(SEEN)
    (tmp_path / "beside.py").write_text("VALUE = 1\n")
    return tmp_path


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "imports.json"


@pytest.fixture
def server(memory: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server of the test's own."""
    process, address = forkserver.start(memory)
    yield process, address
    assert process.stdin is not None
    process.stdin.close()
    process.wait(DEADLINE_SECONDS)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(server: tuple[subprocess.Popen[bytes], Path], folder: Path) -> Run:
    """Runs `python <arguments>` in the folder, as a fork or, where a test compares, plainly."""

    def run(*arguments: str, by: list[str] = FORKED, **environment: str) -> object:
        env = {**os.environ, forkserver.ADDRESS_VARIABLE: str(server[1]), **environment}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        return subprocess.run(
            [*by, *arguments],
            cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
        )  # fmt: skip

    return run  # type: ignore[return-value]


@pytest.mark.parametrize(
    "arguments", (("program.py", "a", "-b"), ("-m", "program", "a"), ("-u", "-m", "program"))
)
def test_a_fork_sees_what_a_fresh_python_sees(arguments: tuple[str, ...], run: Run) -> None:
    forked, plain = (run(*arguments, by=by, COLOUR="blue") for by in (FORKED, PLAIN))
    assert forked.returncode == plain.returncode == 0, forked.stderr
    assert forked.stdout == plain.stdout
    assert json.loads(forked.stdout)[2:5] == ["blue", "__main__", 1]


def test_without_a_server_it_is_an_ordinary_python(run: Run) -> None:
    ended = run("program.py", "a", **{forkserver.ADDRESS_VARIABLE: ""})
    assert (ended.returncode, ended.stdout) == (0, run("program.py", "a", by=PLAIN).stdout)


def test_a_path_of_modules_is_taken_from_the_environment(run: Run, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "further.py").write_text("print('found')")
    assert run("-P", "-m", "further", PYTHONPATH=str(elsewhere)).stdout == "found\n"
    # With -P the working folder is not searched.
    assert "No module named program" in run("-P", "-m", "program").stderr


@pytest.mark.parametrize(
    ("code", "status", "said"),
    (("", 0, ""), ("sys.exit(3)", 3, ""), ("sys.exit('no')", 1, "no\n"), ("sys.exit()", 0, "")),
)
def test_the_exit_status_and_the_last_words_are_those_of_python(
    code: str, status: int, said: str, run: Run, folder: Path
) -> None:
    (folder / "ends.py").write_text(f"import sys\n{code}\n")
    ended = run("ends.py")
    assert (ended.returncode, ended.stderr) == (status, said)


def test_an_exception_ends_in_its_traceback(run: Run, folder: Path) -> None:
    (folder / "wrong.py").write_text("print('before')\nraise ValueError('so wrong')\n")
    ended = run("wrong.py")
    assert (ended.returncode, ended.stdout) == (1, "before\n")
    assert ended.stderr.endswith("ValueError: so wrong\n")


def test_libraries_are_loaded_for_the_next_and_the_project_is_read_anew(
    run: Run, folder: Path, memory: Path
) -> None:
    (folder / "beside.py").write_text("import wave\nVALUE = 2\n")
    assert json.loads(run("program.py").stdout)[4:] == [2, []]
    (folder / "beside.py").write_text("VALUE = 'another'\n")
    until(lambda: json.loads(run("program.py").stdout)[5], "library that is loaded already")
    assert json.loads(run("program.py").stdout)[4:] == ["another", ["wave"]]
    assert "wave" in json.loads(memory.read_text())
    assert "beside" not in json.loads(memory.read_text())


@pytest.mark.parametrize("kept", ('["wave", "no_such_library", "os.path.nothing"]', "no JSON", "7"))
def test_a_server_begins_with_what_was_loaded_before(
    kept: str, folder: Path, memory: Path, request: pytest.FixtureRequest
) -> None:
    memory.parent.mkdir()
    memory.write_text(kept)
    run: Run = request.getfixturevalue("run")
    expected = ["wave"] if "wave" in kept else []
    until(lambda: json.loads(run("program.py").stdout)[5] == expected, "answer")


def test_a_class_is_not_taken_for_the_module_of_its_name(run: Run, folder: Path) -> None:
    """The SDK for Kubernetes names modules as their classes, and loads them when asked."""
    (folder / "uses.py").write_text(
        "import sys\n"
        "warm = 'pulumi_kubernetes.apiextensions.CustomResource' in sys.modules\n"
        "from pulumi_kubernetes.apiextensions import CustomResource\n"
        "print(warm, isinstance(CustomResource, type))\n"
    )
    assert run("uses.py").stdout == "False True\n"
    until(lambda: run("uses.py").stdout == "True True\n", "class that is loaded already")


SLEEPS = """
import os, subprocess, time
started = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
print(os.getpid(), started.pid, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Sleeping:
    """A client whose fork sleeps, under a shell; ids of the client, and of fork and its child."""

    shell: subprocess.Popen[str]
    client: int
    forked: tuple[int, int]

    def is_gone(self) -> bool:
        return gone(*self.forked)


@pytest.fixture
def sleeping(server: tuple[subprocess.Popen[bytes], Path], folder: Path) -> Iterator[Sleeping]:
    (folder / "sleeps.py").write_text(SLEEPS)
    env = {**os.environ, forkserver.ADDRESS_VARIABLE: str(server[1])}
    script = '"$@" & echo $!; wait'
    shell = subprocess.Popen(
        ["sh", "-c", script, "sh", *FORKED, "sleeps.py"],
        cwd=folder, env=env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert shell.stdout is not None
    client = int(shell.stdout.readline())
    fork, child = map(int, shell.stdout.readline().split())
    found = Sleeping(shell, client, (fork, child))
    yield found
    shell.kill()
    shell.wait(DEADLINE_SECONDS)
    until(found.is_gone, "end of the fork")


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGKILL))
def test_a_fork_ends_with_its_client(number: signal.Signals, sleeping: Sleeping) -> None:
    os.kill(sleeping.client, number)
    until(sleeping.is_gone, "end of the fork and of what it started")


def test_a_fork_ends_when_whoever_asked_for_it_was_killed(sleeping: Sleeping) -> None:
    sleeping.shell.kill()
    until(sleeping.is_gone, "end of the fork and of what it started")


def test_the_server_ends_with_its_owner_and_takes_its_folder_with_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from coldstart.engine import forkserver\n"
        "process, address = forkserver.start(Path(sys.argv[1]))\n"
        "print(process.pid, address, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "imports.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    process, address = told.stdout.split()
    until(lambda: gone(int(process)), "end of the server")
    assert not Path(address).parent.exists()


def test_a_server_that_ended_is_replaced_and_its_clients_say_what_to_do(
    server: tuple[subprocess.Popen[bytes], Path], run: Run
) -> None:
    process, _ = server
    process.kill()
    process.wait(DEADLINE_SECONDS)
    ended = run("program.py")
    assert ended.returncode == 1
    assert "has ended" in ended.stderr
    assert "start it again" in ended.stderr

    first = forkserver.ensure()
    assert forkserver.ensure() == first
    forkserver._running[0][0].kill()
    forkserver._running[0][0].wait(DEADLINE_SECONDS)
    assert forkserver.ensure() != first
    assert not first.parent.exists()


def test_processes_that_are_started_anew_preview_the_same(toolchain: Toolchain) -> None:
    """Nothing hangs on a module that another process imported, or on the hash seed of the forks."""

    def previewed(**environment: str) -> list[str]:
        with Rehearsal(ROOT, toolchain, extra_environment=environment) as rehearsal:
            result = rehearsal.preview("eks-dev", ROOT / "policies")
        assert result.ok, result.errors
        return sorted(f"{step.urn} {_given(step.inputs)}" for step in result.resources)

    forked = previewed()
    assert len(forked) > 100
    assert previewed(**{forkserver.ADDRESS_VARIABLE: ""}) == forked


def _given(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs without the names that the provider made up."""
    made_up = inputs.get("__defaults", ())
    return {key: value for key, value in inputs.items() if key not in made_up}
