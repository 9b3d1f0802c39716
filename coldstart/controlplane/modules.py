"""Folders of published Go modules, at pinned versions with pinned checksums."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coldstart.engine import process

DEADLINE_SECONDS = 600.0
"""For one download; the largest archive has 20 MB."""

GO_MISSING = "Go is not on PATH; install Go 1.26 or newer: https://go.dev/dl"


class ModuleUnavailableError(Exception):
    """A module cannot be had here; the message says what to do."""


@dataclass(frozen=True)
class Module:
    """A Go module; `checksum` is what the Go checksum database has of it (`h1:…`)."""

    path: str
    version: str
    checksum: str

    @property
    def reference(self) -> str:
        """As the `go` command takes it."""
        return f"{self.path}@{self.version}"


KARPENTER_AWS = Module(
    "github.com/aws/karpenter-provider-aws",
    "v1.14.1",
    "h1:WGtIQTQcxpElYMdWfWuPwaF2+9muR+hYhPZsTtoY8Gs=",
)
KEDA = Module(
    "github.com/kedacore/keda/v2", "v2.20.2", "h1:SR60v8uIcelbveS8n/1jcl8tLdBBIbHMxmdOHw8tKqA="
)
KEDA_HTTP_ADD_ON = Module(
    "github.com/kedacore/http-add-on", "v0.15.0", "h1:6xqqvzFB/Yw9zBSsPD/T6DBTaOj6N4/NqbAs26E5XGA="
)


@cache
def module_folder(module: Module) -> Path:
    """Where the module lies, in Go's own cache; downloaded first when it is not there.

    Raises ModuleUnavailableError when Go or the module cannot be had, or the checksum differs.
    """
    answer = go("mod", "download", "-json", module.reference)
    # Go prints the same document when it fails, with the reason in it.
    found = json.loads(answer.stdout) if answer.stdout.strip().startswith("{") else {}
    if answer.exit_code != 0 or "Dir" not in found:
        reason = found.get("Error") or answer.stderr.strip()
        raise ModuleUnavailableError(
            f"the Go module {module.reference} cannot be had: {reason}\n"
            "Its definitions are read from there: check the network, or GOPROXY in `go env`, "
            f"then try `go mod download {module.reference}` outside any module"
        )
    if found.get("Sum") != module.checksum:
        raise ModuleUnavailableError(
            f"{module.reference} has checksum {found.get('Sum')}, expected {module.checksum}"
        )
    return Path(found["Dir"])


def go(
    *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> process.Completed:
    """Run `go`, outside any workspace and with no toolchain but the one on PATH.

    Raises ModuleUnavailableError when there is no Go, or when it takes over `DEADLINE_SECONDS`.
    """
    given = os.environ if environment is None else environment
    found = shutil.which("go", path=given.get("PATH"))
    if found is None:
        raise ModuleUnavailableError(GO_MISSING)
    settings = {"GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    try:
        return process.run(
            [found, *arguments],
            # Anywhere that is no module of its own.
            cwd=cwd or Path(Path(found).anchor),
            env={**given, **settings},
            deadline_seconds=DEADLINE_SECONDS,
        )
    except process.DeadlineError as late:
        raise ModuleUnavailableError(f"go {' '.join(arguments)}: {late}") from late
