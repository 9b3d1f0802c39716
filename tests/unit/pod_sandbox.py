"""A directory that stands for a pod: its mounts, an object store, stand-ins for its commands."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from functools import partial
from hashlib import sha256
from pathlib import Path

from tests.waiting import until

SCRIPTS = Path(__file__).resolve().parents[2] / "coldstart" / "render" / "scripts"
DEADLINE_SECONDS = 20
wait_until = partial(until, deadline_seconds=DEADLINE_SECONDS)
BUCKET = "bucket"

# Copies between directories as rclone copies between remotes; `store:` is $STORE_ROOT. A missing
# object is an empty directory to it, as in every object store: nothing is copied, nothing fails.
RCLONE = """#!/bin/sh
echo "$*" >>"$SANDBOX/rclone.calls"
command=$1; shift
list=
while [ $# -gt 2 ]; do
  case $1 in --files-from-raw) list=$2; shift ;; esac
  shift
done
place() { case $1 in store:*) echo "$STORE_ROOT/${1#store:}" ;; *) echo "$1" ;; esac; }
from=$(place "$1"); to=$(place "$2")
if [ "$command" = copyto ]; then
  [ -f "$from" ] || exit 0
  mkdir -p "$(dirname "$to")"
  exec cp "$from" "$to"
fi
while read -r path; do
  if [ -e "$SANDBOX/rclone.hangs.at.$path" ]; then exec sleep 60; fi
  mkdir -p "$to/$(dirname "$path")"
  cp "$from/$path" "$to/$path" || exit 1
done <"$list"
"""


def shells() -> list[list[str]]:
    """The shells to test with: busybox as in the sidecar's image where there is one, and dash."""
    found = [[path] for name in ("dash", "sh") if (path := shutil.which(name))][:1]
    if busybox := shutil.which("busybox"):
        found.append([busybox, "sh"])
    return found


class Pod:
    """One pod's file system; `run` and `start` execute a script of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store" / BUCKET
        self.handover, self.exchange = root / "handover", root / "exchange"
        self.models, self.cache = root / "models", root / "cache"
        self.bin = root / "bin"
        for directory in (self.store, self.handover, self.exchange, self.models, self.cache,
                          self.bin):  # fmt: skip
            directory.mkdir(parents=True)
        self.command("rclone", RCLONE)
        self._running: list[subprocess.Popen[str]] = []

    def command(self, name: str, text: str) -> None:
        """Put a stand-in on the pod's PATH."""
        file = self.bin / name
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        """The variables of a container of this pod."""
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "SANDBOX": str(self.root),
            "STORE_ROOT": str(self.root / "store"),
            "STORE_BUCKET": BUCKET,
            "HANDOVER": str(self.handover),
            "RESTORE_SECONDS": "10",
            **variables,
        }

    def start(
        self, shell: list[str], script: str, arguments: tuple[str, ...] = (), /, **variables: str
    ) -> subprocess.Popen[str]:
        """A container in the background; `stop_all` ends it."""
        process = subprocess.Popen(
            [*shell, str(SCRIPTS / script), *arguments],
            env=self.environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def run(
        self, shell: list[str], script: str, arguments: tuple[str, ...] = (), /, **variables: str
    ) -> tuple[int, str]:
        """Exit status and output of a container that ends by itself."""
        process = self.start(shell, script, arguments, **variables)
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, output

    def calls(self) -> list[str]:
        """Every call of rclone so far."""
        file = self.root / "rclone.calls"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def put_weights(self, prefix: str, files: dict[str, bytes]) -> None:
        """Complete weights in the store, as the fetching Job leaves them."""
        lines = []
        for path, content in files.items():
            place = self.store / prefix / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            lines.append(f"{sha256(content).hexdigest()}\t{len(content)}\t{path}\n")
        manifest = "".join(lines)
        (self.store / prefix / ".manifest").write_text(manifest, encoding="utf-8")
        (self.store / prefix / ".complete").write_text(sha256(manifest.encode()).hexdigest())

    def stop_all(self) -> None:
        """End what this pod started, and only that."""
        for process in self._running:
            # The group, also when its leader is gone: a child may have outlived it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=DEADLINE_SECONDS)
