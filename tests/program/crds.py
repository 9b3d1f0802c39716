"""Checks custom resources as an API server would, with the definitions upstream publishes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from coldstart.controlplane import definitions
from coldstart.engine.build import BuildError, ensure_built

ROOT = Path(__file__).resolve().parents[2]
CHECK_DEADLINE_SECONDS = 120


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
        input=json.dumps([whole_numbers(dict(item)) for item in objects]),
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
    try:
        return definitions.directories()
    except definitions.DefinitionsError as error:
        raise CheckerUnavailableError(str(error)) from error


@cache
def executable() -> Path:
    """The checker, built once per state of its sources and kept in `.cache`."""
    try:
        return ensure_built("crdcheck", ROOT, os.environ, lambda _: None) / "crdcheck"
    except BuildError as error:
        raise CheckerUnavailableError(str(error)) from error


def whole_numbers(value: Any) -> Any:
    """`value` with 3.0 as 3: a property is a double, but the Kubernetes provider sends 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    return value
