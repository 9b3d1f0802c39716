"""The parent's side of the supervisor, and the reading of its record."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from coldstart.controlplane.errors import ControlPlaneError
from coldstart.controlplane.supervisor import FORMAT, RECORD, identity

_ANSWER_DEADLINE_SECONDS = 30.0
# The longest grace of a stage is 5 s, and the folder has to be removed.
END_DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a process runs: `exit_status` is None while it does, negative for a signal."""

    pid: int | None
    exit_status: int | None

    @property
    def running(self) -> bool:
        return self.pid is not None and self.exit_status is None


class Supervisor:
    """Starts processes that end with this one, however this one ends.

    Raises ControlPlaneError from every call when the supervisor itself is gone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._asked = 0
        self._read = b""
        script = Path(__file__).with_name("supervisor.py")
        with (folder / "supervisor.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(script), str(folder)],
                cwd="/",
                env={},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C in a terminal goes to the parent alone, which then ends this in order.
                start_new_session=True,
            )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str],
        *,
        stage: int,
        grace_seconds: float,
    ) -> int:
        """Start `command` as process `name`, its output appended to `log`; gives its id.

        At the end the highest stage goes first; without grace a process is killed at once.
        """
        answer = self._ask(
            do="start",
            name=name,
            command=[str(word) for word in command],
            log=str(log),
            environment=dict(environment),
            stage=stage,
            grace_seconds=grace_seconds,
        )
        return answer["pid"]

    @property
    def exit_status(self) -> int | None:
        """None while it runs; 0 when it ended everything in order."""
        return self._process.poll()

    def signal(self, name: str, number: int) -> None:
        self._ask(do="signal", name=name, number=number)

    def status(self, name: str) -> Status:
        answer = self._ask(do="status", name=name)
        return Status(answer["pid"], answer["exit"])

    def detach(self) -> None:
        """From now on it lives without this process, until it gets SIGTERM."""
        self._ask(do="detach")
        self._close_pipes()

    def end(self) -> None:
        """End everything it started, then itself, and have the folder removed."""
        with contextlib.suppress(ControlPlaneError):
            self._ask(do="end")
        self._close_pipes()
        try:
            self._process.wait(END_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        end_recorded(self._folder)

    def _close_pipes(self) -> None:
        for pipe in (self._input, self._output):
            with contextlib.suppress(OSError):
                pipe.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            with self._lock:
                self._asked += 1
                line = json.dumps({"id": self._asked, **request}).encode() + b"\n"
                self._input.write(line)
                self._input.flush()
                answer = json.loads(self._line())
                # An interrupt may have come before the answer to an earlier question was read.
                while answer["id"] != self._asked:
                    answer = json.loads(self._line())
        except (OSError, ValueError) as error:
            raise ControlPlaneError(
                "the supervisor of the control plane is gone"
                f" ({error}); leave the control plane and start another"
            ) from None
        if "error" in answer:
            raise ControlPlaneError(answer["error"])
        return answer

    def _line(self) -> bytes:
        descriptor = self._output.fileno()
        deadline = time.monotonic() + _ANSWER_DEADLINE_SECONDS
        while b"\n" not in self._read:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                raise OSError(f"no answer within {_ANSWER_DEADLINE_SECONDS:g} s")
            read = os.read(descriptor, 1 << 16)
            if not read:
                raise OSError("it ended")
            self._read += read
        line, _, self._read = self._read.partition(b"\n")
        return line


@dataclass(frozen=True, slots=True)
class Recorded:
    """A process as the record names it."""

    name: str
    pid: int
    started: str | None

    @property
    def alive(self) -> bool:
        """Whether that very process is there, not another one with its id."""
        return self.started is not None and identity(self.pid) == self.started


def read_record(folder: Path) -> list[Recorded]:
    """The processes recorded in `folder`, the supervisor first; empty without a record.

    Raises ControlPlaneError when there is a record that cannot be read.
    """
    path = folder / RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, wanted {FORMAT}")
        entries = {"supervisor": data["supervisor"], **data["processes"]}
        return [Recorded(name, int(e["pid"]), e["started"]) for name, e in entries.items()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ControlPlaneError(
            f"{path} cannot be read ({error}): end what still runs from that folder by hand"
            f" (look for it with: ps -ef | grep {folder}), then remove the folder"
        ) from None


def end_recorded(folder: Path) -> list[str]:
    """End by its id each recorded process that is still there; gives their names.

    The supervisor is asked first and ends the others in order.
    """
    ended = []
    for number in (15, 9):
        for recorded in read_record(folder):
            if recorded.alive:
                ended.append(recorded.name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(recorded.pid, number)
                _await_end(recorded)
    return ended


def _await_end(recorded: Recorded) -> None:
    deadline = time.monotonic() + END_DEADLINE_SECONDS
    while recorded.alive and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
