"""The real Helm, on charts whose folders are at hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from offline.package import RefusalError
from offline.wire import Properties, contains_unknown

# Helm itself waits for what it deletes; the Deployments here never had a running pod.
_COMMAND_DEADLINE_SECONDS = 120.0
_WAIT = "60s"
# Helm's own client only repeats a 429 that says when; between two commands of ours:
_PAUSE_SECONDS = 1.0

_PASSING = re.compile(
    r"connection refused|connection reset|\bEOF\b|TLS handshake timeout|i/o timeout"
    r"|too many requests|unable to handle the request|internal error|internal server error"
    r"|an error on the server|etcdserver|context deadline exceeded|client rate limiter",
    re.IGNORECASE,
)
_NOT_YET = re.compile(r'namespaces "[^"]*" not found|no matches for kind')
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Helm:
    """Releases of one cluster through the `helm` binary; nothing of the user's settings is read."""

    def __init__(self, binary: Path, kubeconfig: Path, patience_seconds: float) -> None:
        self._binary = binary
        self._kubeconfig = kubeconfig
        self._patience_seconds = patience_seconds

    def render(self, release: Properties, folder: Path) -> list[Properties] | None:
        """The objects of a release as Helm would send them; None where that cannot be told yet.

        That is so while a value is unknown, the namespace is missing, or a definition is.
        """
        if contains_unknown(release.get("values")):
            return None
        try:
            found = json.loads(
                self._run(*_upgrade(release, folder), "--dry-run=server", text=_values(release))
            )
        except RefusalError as error:
            if _NOT_YET.search(str(error)):
                return None
            raise
        objects = yaml.load_all(found["manifest"], Loader=_LOADER)
        return [item for item in objects if item]

    def install(self, release: Properties, folder: Path, labels: Mapping[str, str]) -> None:
        """Install or upgrade. Like `atomic`, a first install that fails leaves no release behind.

        It does not wait: on a cluster without nodes nothing becomes ready.
        """
        name, namespace = str(release["name"]), str(release["namespace"])
        marks = ",".join(f"{key}={value}" for key, value in labels.items())
        command, text = [*_upgrade(release, folder), f"--labels={marks}"], _values(release)
        for again in self._attempts():
            first = self._make_way(name, namespace)
            try:
                self._once(command, text)
                return
            except RefusalError as error:
                if first:
                    self.uninstall(name, namespace)
                if not (again and _PASSING.search(str(error))):
                    raise

    def _make_way(self, name: str, namespace: str) -> bool:
        """End what a Helm that was killed has left; tell whether no release is there."""
        found = self.metadata(name, namespace)
        if found is None:
            return True
        status, revision = str(found.get("status", "")), int(found.get("revision") or 1)
        if status.startswith("pending") or (status == "failed" and revision == 1):
            # From here Helm would refuse to go on.
            if revision == 1:
                self.uninstall(name, namespace)
                return True
            self._run("rollback", name, f"--namespace={namespace}")
        return False

    def uninstall(self, name: str, namespace: str) -> None:
        """Remove a release and wait until its objects are gone; one that is gone is no error."""
        self._run(
            "uninstall", name, f"--namespace={namespace}", "--ignore-not-found",
            "--wait", f"--timeout={_WAIT}",
        )  # fmt: skip

    def metadata(self, name: str, namespace: str) -> dict[str, Any] | None:
        """Status, revision and labels of a release, or None without one."""
        return self._read("metadata", name, namespace)

    def values(self, name: str, namespace: str) -> dict[str, Any]:
        """The values a release was given."""
        return self._read("values", name, namespace) or {}

    def _read(self, what: str, name: str, namespace: str) -> dict[str, Any] | None:
        try:
            return json.loads(
                self._run("get", what, name, f"--namespace={namespace}", "--output=json")
            )
        except RefusalError as error:
            if "release: not found" in str(error):
                return None
            raise

    def _run(self, *arguments: str, text: str = "") -> str:
        """Standard output. Raises RefusalError with what Helm said."""
        for again in self._attempts():
            try:
                return self._once(arguments, text)
            except RefusalError as error:
                if not (again and _PASSING.search(str(error))):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _attempts(self) -> Iterator[bool]:
        """One step per attempt; whether there may be another one after it."""
        started = time.monotonic()
        while time.monotonic() - started < self._patience_seconds:
            yield True
            time.sleep(_PAUSE_SECONDS)
        yield False

    def _once(self, arguments: Sequence[str], text: str) -> str:
        with tempfile.TemporaryDirectory(prefix="coldstart-helm-") as home:
            places = {f"HELM_{part}_HOME": home for part in ("CACHE", "CONFIG", "DATA")}
            try:
                done = subprocess.run(
                    [self._binary, *arguments, f"--kubeconfig={self._kubeconfig}"],
                    env={"PATH": os.environ.get("PATH", ""), "HOME": home, **places},
                    input=text,
                    capture_output=True,
                    text=True,
                    timeout=_COMMAND_DEADLINE_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise RefusalError(f"helm {arguments[0]}: {error}") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
            said = " ".join(line.removeprefix("Error: ") for line in lines[-3:])
            raise RefusalError(f"helm {arguments[0]} {arguments[1]}: {said}")
        return done.stdout


def _upgrade(release: Properties, folder: Path) -> list[str]:
    command = [
        "upgrade", str(release["name"]), str(folder), "--install",
        f"--namespace={release['namespace']}", "--values=-", "--output=json",
    ]  # fmt: skip
    return [*command, "--skip-crds"] if release.get("skipCrds") else command


def _values(release: Properties) -> str:
    return json.dumps(release.get("values") or {})
