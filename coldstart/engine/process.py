"""Run a program in a session of its own, with a deadline, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coldstart.errors import UserError

# How long a program may take to end by itself after it was asked to.
TERMINATION_GRACE_SECONDS = 10.0
# Short enough that a fast command is not kept waiting.
_POLL_SECONDS = 0.02


class DeadlineError(UserError):
    """The program did not end in time; everything it started was ended."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended, with all it wrote."""

    exit_code: int
    stdout: str
    stderr: str
    duration_seconds: float


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    deadline_seconds: float,
    watch: Callable[[float], None] | None = None,
) -> Completed:
    """Run `command` to its end; `watch` is told the elapsed seconds while it runs.

    Raises DeadlineError after `deadline_seconds`, OSError when it cannot be started. On any
    exception, KeyboardInterrupt included, every process it started is ended first.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            while not _ended(process):
                elapsed = time.monotonic() - started
                if elapsed > deadline_seconds:
                    raise DeadlineError(
                        f"{Path(command[0]).name} did not end within {deadline_seconds:g} s"
                    )
                if watch is not None:
                    watch(elapsed)
        finally:
            # Plugins of a failed engine may outlive it, so this is done in any case.
            end_session(process)
        return Completed(
            process.returncode, _text(stdout), _text(stderr), time.monotonic() - started
        )


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End `process` and all it started, first politely, then for good.

    The engine puts each plugin into a process group of its own, so one group is not enough: all
    of them are in the session that `process` leads.
    """
    if process.poll() is None:
        _signal(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATION_GRACE_SECONDS)
    deadline = time.monotonic() + TERMINATION_GRACE_SECONDS
    while (left := session_members(process.pid)) and time.monotonic() < deadline:
        for member in left:
            _signal(member, signal.SIGKILL)
        process.poll()
        time.sleep(_POLL_SECONDS)


def session_members(session: int) -> list[int]:
    """The ids of all living processes in `session`."""
    return [pid for pid in _all_processes() if _session_of(pid) == session]


def _all_processes() -> list[int]:
    proc = Path("/proc/self/stat")
    if proc.exists():
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True, timeout=10
    )
    return [int(word) for word in listing.stdout.split()]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")
