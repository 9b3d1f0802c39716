"""The server: imports what processes have used, and forks for each request.

Run as a file: `python forkserver_process.py <listening socket> <its folder> <memory>`, with a pipe
as standard input that is closed when the owner is gone. It has one thread, so a fork is whole.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import sysconfig
import threading
import traceback
import types
from collections import deque
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path
from typing import NoReturn

_LESSON_BYTES = 1 << 20
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


def main() -> None:
    """Serve until the owner is gone."""
    listener, folder, memory = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3]
    lessons, teacher = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    known = _remembered(Path(memory))
    waiting = deque(known)
    # Nobody waits for the forks: each tells its own client how it ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.disable()
    server = os.getpid()
    try:
        while True:
            ready = select.select([0, listener, lessons], [], [], 0 if waiting else None)[0]
            if 0 in ready:
                return
            if lessons in ready:
                new = [
                    name for name in json.loads(lessons.recv(_LESSON_BYTES)) if name not in known
                ]
                # Another fork may have told the same.
                waiting.extend(new)
                if new:
                    known |= dict.fromkeys(new)
                    _remember(Path(memory), known)
            if listener in ready:
                client, _ = listener.accept()
                if os.fork() == 0:
                    for mine in (listener, lessons):
                        mine.close()
                    _become(client, partial(_teach, teacher, known))
                client.close()
            elif waiting:
                _import(waiting.popleft())
    finally:
        if os.getpid() == server:
            shutil.rmtree(folder, ignore_errors=True)


def _remembered(memory: Path) -> dict[str, None]:
    try:
        return dict.fromkeys(map(str, json.loads(memory.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return {}


def _remember(memory: Path, names: dict[str, None]) -> None:
    new = memory.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(list(names)), encoding="utf-8")
        new.replace(memory)


def _import(name: str) -> None:
    """Load a module and those above it; one that cannot be loaded here is left to the forks."""
    parts = name.split(".")
    with contextlib.suppress(Exception):
        for end in range(1, len(parts) + 1):
            # Modules of Pulumi's SDKs load when something is asked of them. If that came after the
            # import of a submodule, the submodule would stand in the place of a class of its name.
            getattr(importlib.import_module(".".join(parts[:end])), "__all__", None)


def _become(client: socket.socket, teach: Callable[[], None]) -> NoReturn:
    """Be the process that `client` asked for."""
    received = _receive(client)
    if received is None:
        os._exit(1)
    request, streams = received
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # Without this the first collection would look at, and so copy, all that was imported.
        gc.freeze()
        gc.enable()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # As an exception it would leave Pulumi's executor waiting for answers that never come,
        # until the engine kills it after 5 s (seen with CLI 3.259 and SDK 3.272).
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # What it starts, Helm for one, ends with it.
        os.setpgid(0, 0)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        threading.Thread(target=_end_with, args=(client, teach), daemon=True).start()
        status = _run(request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        teach()
        with contextlib.suppress(OSError):
            client.sendall(bytes([status & 0xFF]))
        # Taking an interpreter with a whole SDK apart costs a sixth of a second.
        os._exit(status)


def _receive(client: socket.socket) -> tuple[dict, list[int]] | None:
    """What is to run, and its three streams; None from a client that went away."""
    head, streams, _, _ = socket.recv_fds(client, 4, 3)
    length, text = int.from_bytes(head, "big"), b""
    while len(text) < length:
        part = client.recv(length - len(text))
        if not part:
            return None
        text += part
    return json.loads(text), streams


def _end_with(client: socket.socket, teach: Callable[[], None]) -> None:
    """The client is what the engine knows of, and ends."""
    with contextlib.suppress(OSError):
        client.recv(1)
    teach()
    os.killpg(0, signal.SIGKILL)


def _run(arguments: list[str]) -> int:
    """Do what `python <arguments>` does: `-u`, `-P`, then a script or `-m` and a module."""
    options = set()
    while arguments[0] in ("-u", "-P"):
        options.add(arguments.pop(0))
    if "-u" in options or os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), write_through=True)
    is_module = arguments[0] == "-m"
    sys.argv = arguments[is_module:]
    if given := os.environ.get("PYTHONPATH"):
        sys.path[:0] = given.split(os.pathsep)
    if "-P" not in options:
        sys.path.insert(0, str(Path.cwd() if is_module else Path(arguments[0]).parent))
    try:
        if is_module:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _teach(teacher: socket.socket, known: Container[str]) -> None:
    """Tell the server which installed modules are loaded by now that it does not know of."""
    new = [
        name
        for name, module in list(sys.modules.items())
        if name not in known and type(module) is types.ModuleType and _is_installed(module)
    ]
    if new:
        with contextlib.suppress(OSError):
            teacher.send(json.dumps(new).encode(), socket.MSG_DONTWAIT)


def _is_installed(module: types.ModuleType) -> bool:
    spec = module.__spec__
    return spec is not None and (spec.origin or "").startswith(_INSTALLED)


if __name__ == "__main__":
    main()
