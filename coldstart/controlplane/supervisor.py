"""Start processes and see to it that none outlives its purpose. Run as a script, of its own.

    python -I -S supervisor.py FOLDER

Requests are JSON lines on standard input, answers JSON lines on standard output. The supervisor
ends everything it started, highest stage first, when its input ends (its parent died, in whatever
way), when its parent changed, or on SIGTERM, SIGINT and SIGHUP; then it removes FOLDER. After
`detach` the parent no longer matters. On Linux the kernel kills its children with it, so that even
a supervisor killed by SIGKILL leaves nobody behind.

What runs is recorded in FOLDER/state.json with the start time of each process, because an id alone
may belong to somebody else by the time it is read.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECORD = "state.json"
FORMAT = 1
_POLL_SECONDS = 0.01
_PARENT_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def identity(pid: int) -> str | None:
    """When process `pid` started, in a form that no later process of that id repeats.

    None when there is no such process, or only its unread exit status is left.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except ProcessLookupError:
        return None
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return answer.stdout.strip() or None
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


class Child:
    """A process, the stage at which it is ended and how long it may take to end by itself."""

    def __init__(self, process: subprocess.Popen[bytes], stage: int, grace_seconds: float) -> None:
        self.process = process
        self.stage = stage
        self.grace_seconds = grace_seconds


class Supervisor:
    """The processes and the record of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, Child] = {}
        self.attached = True
        self.ending = False
        self._pid = os.getpid()
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what `request` asks; whatever fails is told, not raised."""
        number = request.pop("id")
        try:
            return {"id": number, **getattr(self, "do_" + request.pop("do"))(**request)}
        except Exception as error:  # the asking side turns it into its message
            return {"id": number, "error": str(error)}

    def do_start(
        self,
        name: str,
        command: list[str],
        log: str,
        environment: dict[str, str],
        stage: int,
        grace_seconds: float,
    ) -> dict[str, Any]:
        known = self.running.get(name)
        if known is not None and known.process.poll() is None:
            return {"error": f"{name} is already running"}
        with Path(log).open("ab") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._die_with_me if self._libc else None,
            )
        self.running[name] = Child(process, stage, grace_seconds)
        self.record()
        return {"pid": process.pid}

    def do_signal(self, name: str, number: int) -> dict[str, Any]:
        child = self.running.get(name)
        if child is not None:
            child.process.send_signal(number)
        return {}

    def do_status(self, name: str) -> dict[str, Any]:
        child = self.running.get(name)
        if child is None:
            return {"pid": None, "exit": None}
        return {"pid": child.process.pid, "exit": child.process.poll()}

    def do_detach(self) -> dict[str, Any]:
        self.attached = False
        return {}

    def do_end(self) -> dict[str, Any]:
        self.ending = True
        return {}

    def record(self) -> None:
        """Write who runs, whole or not at all."""
        data = {
            "format": FORMAT,
            "supervisor": _entry(os.getpid()),
            "processes": {name: _entry(child.process.pid) for name, child in self.running.items()},
        }
        handle, name = tempfile.mkstemp(prefix=RECORD, dir=self.folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
        Path(name).replace(self.folder / RECORD)

    def end_all(self) -> None:
        """Stage by stage, so that nobody loses the server it talks to while it ends."""
        for stage in sorted({child.stage for child in self.running.values()}, reverse=True):
            children = [child for child in self.running.values() if child.stage == stage]
            for child in children:
                if child.grace_seconds:
                    child.process.terminate()
            began = time.monotonic()
            while left := [child for child in children if child.process.poll() is None]:
                for child in left:
                    if time.monotonic() - began >= child.grace_seconds:
                        child.process.kill()
                time.sleep(_POLL_SECONDS)

    def _die_with_me(self) -> None:
        """In the child, before it becomes the program: the kernel kills it when we are gone."""
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(1)


def _entry(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": identity(pid)}


def serve(supervisor: Supervisor) -> None:
    """Answer requests until it is time to end."""
    parent = os.getppid()
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: setattr(supervisor, "ending", True))
    buffer = b""
    sources = [0, wake]
    while not supervisor.ending:
        ready, _, _ = select.select(sources, [], [], _PARENT_CHECK_SECONDS)
        if supervisor.attached and os.getppid() != parent:
            return
        if 0 not in ready:
            continue
        read = os.read(0, 1 << 16)
        if not read:
            if supervisor.attached:
                return
            sources.remove(0)
        buffer += read
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            reply = json.dumps(supervisor.answer(json.loads(line))) + "\n"
            # Nobody may be left to read the answer; the end of the input says so next.
            with contextlib.suppress(BrokenPipeError):
                os.write(1, reply.encode())


def main() -> None:
    folder = Path(sys.argv[1])
    supervisor = Supervisor(folder)
    try:
        supervisor.record()
        serve(supervisor)
    finally:
        supervisor.end_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
