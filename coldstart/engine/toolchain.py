"""Find a usable Pulumi CLI, or build the pinned one from `tools/` with Go.

`ensure` tries, in this order: the binary named by `COLDSTART_PULUMI`, `pulumi` on PATH, the build
cache under `.cache/bin`, and a build with Go.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coldstart.engine.build import GO_MINIMUM, BuildError, ensure_built
from coldstart.engine.bundles import CLI_VERSION, PINNED_HOST_MARK
from coldstart.errors import UserError

BINARY_VARIABLE = "COLDSTART_PULUMI"
HOST_NAME = "pulumi-language-python"

# The CLI's --version answers in well under a second; a cold disk may take longer.
_VERSION_DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions from `minimum` up to, not including, `below`."""

    minimum: tuple[int, int, int]
    below: tuple[int, int, int]
    reason: str

    def __contains__(self, version: object) -> bool:
        return isinstance(version, tuple) and self.minimum <= version < self.below

    def __str__(self) -> str:
        return f"{_dotted(self.minimum)} or newer, below {_dotted(self.below)}"


CLI_VERSIONS = VersionRange(
    minimum=(3, 259, 0),
    below=(4, 0, 0),
    reason="3.259.0 is what the tests run with, older ones write other events; a new major version"
    " may change the event log",
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A Pulumi CLI with the Python language host that belongs to it."""

    pulumi: Path
    language_host_folder: Path
    """Goes first on PATH, so that the CLI finds this host."""
    version: str
    runs_policy_folders: bool
    """Whether the host starts a policy pack given as a folder; the pinned host needs a program."""
    origin: str
    """One sentence for the user: which CLI this is and why."""


class ToolchainError(UserError):
    """No usable CLI and no way to build one; the message says what to install."""


def ensure(
    progress: Callable[[str], None],
    *,
    repository: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Toolchain:
    """A toolchain that works, built when none is there; `progress` is told what takes long.

    Raises ToolchainError with everything that was tried and what to install.
    """
    root = repository or Path(__file__).resolve().parents[2]
    env = dict(os.environ if environment is None else environment)
    named = env.get(BINARY_VARIABLE)
    if named:
        return _named(Path(named), env)
    obstacles: list[str] = []
    on_path = shutil.which("pulumi", path=env.get("PATH"))
    if on_path is None:
        obstacles.append("no pulumi on PATH")
    else:
        try:
            return _inspect(Path(on_path), env, origin=f"pulumi on PATH ({on_path})")
        except ToolchainError as error:
            obstacles.append(str(error))
    try:
        built = ensure_built("pulumi", root, env, progress)
    except BuildError as error:
        raise ToolchainError(_nothing_works(obstacles, str(error))) from error
    return Toolchain(
        pulumi=built / "pulumi",
        language_host_folder=built,
        version=CLI_VERSION,
        runs_policy_folders=False,
        origin=f"built from tools/ ({'; '.join(obstacles)})",
    )


def _named(binary: Path, env: Mapping[str, str]) -> Toolchain:
    if not binary.is_file() or not os.access(binary, os.X_OK):
        raise ToolchainError(f"{BINARY_VARIABLE}={binary}: this is not an executable file")
    return _inspect(binary, env, origin=f"named by {BINARY_VARIABLE} ({binary})")


def _inspect(binary: Path, env: Mapping[str, str], origin: str) -> Toolchain:
    version = _version_of(binary, env)
    if version not in CLI_VERSIONS:
        raise ToolchainError(
            f"{binary} is version {_dotted(version)}, wanted {CLI_VERSIONS} ({CLI_VERSIONS.reason})"
        )
    folder = _language_host_folder(binary, env)
    return Toolchain(
        pulumi=binary,
        language_host_folder=folder,
        version=_dotted(version),
        runs_policy_folders=not (folder / PINNED_HOST_MARK).exists(),
        origin=origin,
    )


def _version_of(binary: Path, env: Mapping[str, str]) -> tuple[int, int, int]:
    quiet = {**env, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        answer = subprocess.run(
            [str(binary), "version"],
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_DEADLINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{binary} does not answer: {error}") from error
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout.strip())
    if answer.returncode != 0 or not found:
        said = answer.stdout.strip() or answer.stderr.strip()
        raise ToolchainError(f"{binary} does not tell its version (it said {said[:200]!r})")
    return int(found[1]), int(found[2]), int(found[3])


def _language_host_folder(binary: Path, env: Mapping[str, str]) -> Path:
    beside = [binary.parent, binary.resolve().parent]
    for folder in beside:
        if os.access(folder / HOST_NAME, os.X_OK):
            return folder
    on_path = shutil.which(HOST_NAME, path=env.get("PATH"))
    if on_path is None:
        raise ToolchainError(f"{binary} has no {HOST_NAME} beside it, and none is on PATH")
    return Path(on_path).parent


def _nothing_works(obstacles: list[str], building: str) -> str:
    tried = "\n".join(f"  - {obstacle}" for obstacle in [*obstacles, building])
    return (
        f"No Pulumi CLI can be used and none can be built:\n{tried}\n"
        "Do one of these:\n"
        f"  - install the Pulumi CLI, {CLI_VERSIONS}, with its Python language host:"
        " https://www.pulumi.com/docs/install/\n"
        f"  - install Go {_dotted(GO_MINIMUM)} or newer (https://go.dev/dl/); the CLI is then"
        " built once, in about 4 minutes"
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
