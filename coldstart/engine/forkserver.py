"""Gives Python processes that have their libraries imported already.

Two thirds of what a program, a policy pack or a stand-in provider computes is the import of the
cloud SDKs, and an engine starts five such processes for one preview. Scripts that would run
`python <arguments>` run `forkserver_client.py <arguments>` instead, and get a fork of a process
that has imported what the processes before it used (`forkserver_process.py`). The code of the
project is never imported there: each process reads it anew.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ADDRESS_VARIABLE = "COLDSTART_FORK_SERVER"
"""Where the clients find the server; empty for processes that are started anew."""
CLIENT = Path(__file__).with_name("forkserver_client.py")
MEMORY = Path(__file__).resolve().parents[2] / ".cache" / "imports.json"
"""What was imported before, so that already the first process of the next command starts warm."""

_SERVER = Path(__file__).with_name("forkserver_process.py")
_BACKLOG = 64

_lock = threading.Lock()
_running: list[tuple[subprocess.Popen[bytes], Path]] = []


def ensure() -> Path:
    """The socket of the one server of this process; a server that has ended is replaced.

    The server ends with this process, however that ends, and takes its folder with it.
    """
    with _lock:
        if _running and _running[0][0].poll() is not None:
            shutil.rmtree(_running.pop()[1].parent, ignore_errors=True)
        if not _running:
            _running.append(start(MEMORY))
        return _running[0][1]


def start(memory: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A server and its socket; closing the standard input of the server ends it.

    It begins with the modules named in `memory`, a JSON list that it keeps up to date.
    """
    # The path of a socket has room for about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="coldstart-fork-"))
    address = folder / "socket"
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(address))
            listener.listen(_BACKLOG)
            number = str(listener.fileno())
            process = subprocess.Popen(
                [sys.executable, "-E", "-P", str(_SERVER), number, str(folder), str(memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                # A stream of the owner would stay open until the server has noticed its end.
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return process, address
