"""Checks custom resources as an API server would, with the definitions upstream publishes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from coldstart.engine.lock import locked

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tools" / "crdcheck"
CACHE = ROOT / ".cache" / "crdcheck"
OWN_DEFINITIONS = Path(__file__).parent / "crd_schemas"
BUILD_DEADLINE_SECONDS = 600
CHECK_DEADLINE_SECONDS = 120

# Go modules whose folders hold definitions, with the checksum the Go checksum database has of each.
MODULES = (
    (
        "github.com/aws/karpenter-provider-aws@v1.14.1",
        "h1:WGtIQTQcxpElYMdWfWuPwaF2+9muR+hYhPZsTtoY8Gs=",
        "pkg/apis/crds",
    ),
    (
        "github.com/kedacore/keda/v2@v2.20.2",
        "h1:SR60v8uIcelbveS8n/1jcl8tLdBBIbHMxmdOHw8tKqA=",
        "config/crd/bases",
    ),
    (
        "github.com/kedacore/http-add-on@v0.15.0",
        "h1:6xqqvzFB/Yw9zBSsPD/T6DBTaOj6N4/NqbAs26E5XGA=",
        "config/crd/bases",
    ),
)


class CheckerUnavailableError(Exception):
    """The checker cannot be built or the definitions cannot be had, with what to do."""


def check(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    """What an API server would refuse or drop, as `Kind name: message`; empty when all is well.

    Unknown fields count as errors, CEL rules run, and an object of a kind no definition knows is
    an error. Raises CheckerUnavailableError when Go or the modules are missing.
    """
    if not objects:
        return []
    done = subprocess.run(
        [str(executable()), "--crds", ",".join(map(str, directories()))],
        input=json.dumps([_whole_numbers(dict(item)) for item in objects]),
        capture_output=True,
        text=True,
        timeout=CHECK_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise CheckerUnavailableError(done.stderr.strip())
    return [
        f"{result['kind']} {result['name']}: {message}"
        for result in json.loads(done.stdout)
        for message in result["errors"]
    ]


@cache
def directories() -> tuple[Path, ...]:
    """Folders with definitions: those of the pinned modules and the repository's own."""
    return (*(_module_folder(*module) for module in MODULES), OWN_DEFINITIONS)


@cache
def executable() -> Path:
    """The checker, built once per state of its sources and kept in `.cache`."""
    binary = CACHE / f"crdcheck-{_fingerprint()}"
    if binary.exists():
        return binary
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "lock", BUILD_DEADLINE_SECONDS):
        if not binary.exists():
            _build(binary)
    return binary


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for file in sorted(SOURCE.iterdir()):
        if file.suffix in {".go", ".mod", ".sum"}:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _build(binary: Path) -> None:
    partial = binary.with_suffix(f".{os.getpid()}")
    _go("build", "-trimpath", "-ldflags", "-s -w", "-o", str(partial), ".", cwd=SOURCE)
    partial.replace(binary)
    for other in CACHE.glob("crdcheck-*"):
        if other != binary:
            other.unlink(missing_ok=True)


def _module_folder(module: str, checksum: str, folder: str) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    found = json.loads(_go("mod", "download", "-json", module, cwd=CACHE))
    if found["Sum"] != checksum:
        raise CheckerUnavailableError(f"{module} has checksum {found['Sum']}, expected {checksum}")
    return Path(found["Dir"]) / folder


def _go(*arguments: str, cwd: Path) -> str:
    go = shutil.which("go")
    if go is None:
        raise CheckerUnavailableError(
            "Go is not on PATH; install Go 1.26 or newer: https://go.dev/dl"
        )
    try:
        done = subprocess.run(
            [go, *arguments],
            cwd=cwd,
            env={**os.environ, "GOWORK": "off", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CheckerUnavailableError(
            f"go {' '.join(arguments)} took over {BUILD_DEADLINE_SECONDS} s"
        ) from late
    if done.returncode != 0:
        raise CheckerUnavailableError(f"go {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def _whole_numbers(value: Any) -> Any:
    # Every number of a property value is a double; the Kubernetes provider sends 3.0 as 3.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(item) for item in value]
    return value
