"""Build the pinned Pulumi CLI and Python language host from `tools/` into a cache.

The two live in modules of their own: the language host's newest buildable source is older than
the CLI, and one module would lift its dependencies to the CLI's.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldstart.engine import process
from coldstart.engine.lock import locked

CLI_VERSION = "3.259.0"
HOST_VERSION = "3.78.1"
GO_MINIMUM = (1, 26, 0)
"""The `go` line of tools/*/go.mod; CLI 3.259.0 itself asks for 1.25.11."""

PINNED_HOST_MARK = "pinned-language-host"
"""A file beside the built host, so that the cache can also be named by COLDSTART_PULUMI."""

CACHE_FOLDER = Path(".cache/bin")

_SDK = "github.com/pulumi/pulumi/sdk/v3"
_VERSION_SYMBOL = f"{_SDK}/go/common/version.Version"
_EXECUTOR = "pulumi-language-python-exec"

# Measured 193 s on 2 cores with nothing cached; a slow network or one core may take far longer.
_BUILD_DEADLINE_SECONDS = 2400.0
# Another builder may be at it, for as long as a whole build takes.
_LOCK_DEADLINE_SECONDS = 2400.0
_GO_DEADLINE_SECONDS = 120.0
_PROGRESS_EVERY_SECONDS = 5.0


class BuildError(Exception):
    """The tools cannot be built here; the message says why."""


@dataclass(frozen=True, slots=True)
class _Tool:
    module: str
    """Folder under tools/."""
    package: str
    binary: str
    version: str


_TOOLS = (
    _Tool("pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", "pulumi", CLI_VERSION),
    _Tool(
        "language-host",
        f"{_SDK}/python/cmd/pulumi-language-python",
        "pulumi-language-python",
        HOST_VERSION,
    ),
)


def ensure_built(
    repository: Path, environment: Mapping[str, str], progress: Callable[[str], None]
) -> Path:
    """The folder with `pulumi`, the language host and its executor, built when it is not there.

    Raises BuildError when Go is missing or too old, or when a build fails.
    """
    go, go_version = _find_go(environment)
    cache = repository / CACHE_FOLDER
    folder = cache / _key(repository, go_version)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)

    def waiting() -> None:
        progress("another process is building the tools; waiting for it")

    try:
        with locked(cache / "build.lock", _LOCK_DEADLINE_SECONDS, waiting):
            if not folder.is_dir():
                _build_into(folder, repository, go, environment, progress)
    except TimeoutError as error:
        raise BuildError(str(error)) from None
    return folder


def _build_into(
    folder: Path,
    repository: Path,
    go: Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
) -> None:
    """Build in a temporary folder and rename, so that `folder` is complete or absent."""
    _remove_leftovers(folder.parent)
    workshop = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
    try:
        env = _go_environment(environment)
        progress(
            "building the Pulumi CLI and its Python language host:"
            " about 4 minutes on 2 cores the first time"
        )
        # One after the other: the CLI's build uses every core by itself, and the two share most
        # of the standard library's build cache.
        for tool in _TOOLS:
            _build(tool, repository, workshop, go, env, progress)
        _install_executor(repository, workshop, go, env)
        (workshop / PINNED_HOST_MARK).write_text(f"{HOST_VERSION}\n", encoding="utf-8")
        workshop.chmod(0o755)
        workshop.rename(folder)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _build(
    tool: _Tool,
    repository: Path,
    workshop: Path,
    go: Path,
    env: Mapping[str, str],
    progress: Callable[[str], None],
) -> None:
    flags = f"-s -w -X {_VERSION_SYMBOL}=v{tool.version}"
    command = [
        go,
        "build",
        "-mod=readonly",
        "-trimpath",
        "-tags=osusergo,grpcnotrace",
        f"-ldflags={flags}",
        f"-o={workshop / tool.binary}",
        tool.package,
    ]
    what = f"building {tool.binary} {tool.version}"
    progress(what)
    watch = _every_few_seconds(progress, what)
    _go(command, repository / "tools" / tool.module, env, _BUILD_DEADLINE_SECONDS, watch)


def _install_executor(repository: Path, workshop: Path, go: Path, env: Mapping[str, str]) -> None:
    """The host starts programs through a script of the newer SDK; the module zip lost its mode."""
    command = [go, "list", "-mod=readonly", "-m", "-f={{.Dir}}", _SDK]
    answer = _go(command, repository / "tools" / "pulumi", env, _GO_DEADLINE_SECONDS)
    source = Path(answer.stdout.strip()) / "python" / "cmd" / _EXECUTOR
    if not source.is_file():
        raise BuildError(f"{source} is missing from the module {_SDK}")
    target = workshop / _EXECUTOR
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _go(
    command: Sequence[str | Path],
    cwd: Path,
    env: Mapping[str, str],
    deadline_seconds: float,
    watch: Callable[[float], None] | None = None,
) -> process.Completed:
    try:
        done = process.run(
            command, cwd=cwd, env=env, deadline_seconds=deadline_seconds, watch=watch
        )
    except (OSError, process.DeadlineError) as error:
        raise BuildError(f"go {command[1]} in {cwd}: {error}") from error
    if done.exit_code != 0:
        last_lines = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise BuildError(f"go {command[1]} in {cwd} failed:\n{last_lines}")
    return done


def _go_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what would change the build.

    GOTOOLCHAIN=local, because another toolchain would be downloaded behind the user's back and
    the cache key names the Go that was found; GOFLAGS, GOWORK and the target's variables are left
    out, because they change or forbid the build; GOPROXY and its kin stay as the user set them.
    """
    dropped = {"GOFLAGS", "GOOS", "GOARCH", "GOEXPERIMENT", "GOBIN", "GO111MODULE", "GODEBUG"}
    kept = {key: value for key, value in environment.items() if key not in dropped}
    # GOENV=off would drop a proxy the user configured with `go env -w`, so single flags are set.
    return {
        **kept,
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
    }


def _find_go(environment: Mapping[str, str]) -> tuple[Path, str]:
    minimum = ".".join(str(part) for part in GO_MINIMUM[:2])
    found = shutil.which("go", path=environment.get("PATH"))
    if found is None:
        raise BuildError(f"no go on PATH to build one (Go {minimum} or newer is needed)")
    answer = subprocess.run(
        [found, "env", "GOVERSION"],
        env={**environment, "GOTOOLCHAIN": "local"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_GO_DEADLINE_SECONDS,
        check=False,
    )
    version = answer.stdout.strip()
    numbers = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", version)
    if answer.returncode != 0 or not numbers:
        raise BuildError(f"{found} does not tell its version: {answer.stderr.strip()[:200]}")
    if tuple(int(part or 0) for part in numbers.groups()) < GO_MINIMUM:
        raise BuildError(f"{found} is {version}, and Go {minimum} or newer is needed to build one")
    return Path(found), version


def _key(repository: Path, go_version: str) -> str:
    """Changes whenever a build would give something else."""
    content = hashlib.sha256(f"{go_version} {sys.platform} {CLI_VERSION} {HOST_VERSION}".encode())
    for tool in _TOOLS:
        for name in ("go.mod", "go.sum"):
            path = repository / "tools" / tool.module / name
            if not path.is_file():
                raise BuildError(f"{path} is missing, so the pinned tools cannot be built")
            content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _remove_leftovers(cache: Path) -> None:
    """Clear what an interrupted build left; the lock is held, so nobody works in it."""
    for leftover in cache.glob("building-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _every_few_seconds(progress: Callable[[str], None], what: str) -> Callable[[float], None]:
    next_at = _PROGRESS_EVERY_SECONDS

    def watch(elapsed_seconds: float) -> None:
        nonlocal next_at
        if elapsed_seconds >= next_at:
            progress(f"{what}: {elapsed_seconds:.0f} s")
            next_at = elapsed_seconds + _PROGRESS_EVERY_SECONDS

    return watch
