"""Runs `python <arguments>` as a fork of the server, with its own streams, folder and environment.

It ends as the fork ends, and the fork ends when it is ended. It imports only what loads fast. With
no server in the environment it becomes an ordinary Python.
"""

import json
import os
import select
import signal
import socket
import sys

_ORPHAN_CHECK_SECONDS = 2.0


def main() -> None:
    """Ask for the process and wait for its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    address = os.environ.get("COLDSTART_FORK_SERVER")
    if not address:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606
    parent = os.getppid()
    folder = os.getcwd()  # noqa: PTH109 - pathlib loads slowly
    request = {"arguments": sys.argv[1:], "folder": folder, "environment": dict(os.environ)}
    text = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
        except OSError as error:
            sys.exit(f"the process that started this rehearsal has ended ({error}): start it again")
        socket.send_fds(server, [len(text).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(text)
        while not select.select([server], [], [], _ORPHAN_CHECK_SECONDS)[0]:
            # An engine that was killed takes nothing with it.
            if os.getppid() != parent:
                return
        status = server.recv(1)
    sys.exit(status[0] if status else 1)


if __name__ == "__main__":
    main()
