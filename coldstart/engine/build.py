"""Build pinned tools from `tools/` into a cache, bundle by bundle."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coldstart.engine import process
from coldstart.engine.bundles import BUNDLES, Binary, Bundle, ModuleScript, Trim
from coldstart.engine.lock import locked
from coldstart.errors import UserError

GO_MINIMUM = (1, 26, 0)
"""The `go` line of tools/*/go.mod."""

CACHE_FOLDER = Path(".cache/bin")

# Measured 193 s for the slowest on 2 cores with nothing cached; a slow network or one core may
# take far longer.
_BUILD_DEADLINE_SECONDS = 2400.0
# Another builder may be at it, for as long as a whole build takes.
_LOCK_DEADLINE_SECONDS = 2400.0
_GO_DEADLINE_SECONDS = 120.0
_PROGRESS_EVERY_SECONDS = 5.0

Progress = Callable[[str], None]


class BuildError(UserError):
    """The tools cannot be built here; the message says why."""


def ensure_built(
    name: str, repository: Path, environment: Mapping[str, str], progress: Progress
) -> Path:
    """The folder with the binaries of bundle `name`, built when it is not there.

    Raises BuildError when Go is missing or too old, or when a build fails; KeyError for a bundle
    that does not exist.
    """
    bundle = BUNDLES[name]
    # Go runs in each module's folder, where a relative path would name another place.
    repository = repository.resolve()
    cache = repository / CACHE_FOLDER
    folder = cache / f"{name}-{_key(bundle, repository)}"
    if folder.is_dir():
        return folder
    go = _find_go(environment)
    cache.mkdir(parents=True, exist_ok=True)

    def waiting() -> None:
        progress(f"another process is building {bundle.title}; waiting for it")

    try:
        with locked(cache / f"{name}.lock", _LOCK_DEADLINE_SECONDS, waiting):
            if not folder.is_dir():
                _build_into(
                    folder, bundle, repository, (go, _go_environment(environment)), progress
                )
    except TimeoutError as error:
        raise BuildError(str(error)) from None
    return folder


def _build_into(
    folder: Path,
    bundle: Bundle,
    repository: Path,
    go: tuple[Path, Mapping[str, str]],
    progress: Progress,
) -> None:
    """Build in a temporary folder and rename, so that `folder` is complete or absent."""
    prefix = f"building-{folder.name.rpartition('-')[0]}-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        # The lock is held, so nobody works in it: a killed build left it.
        shutil.rmtree(leftover, ignore_errors=True)
    workshop = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        progress(f"building {bundle.title}: {_about(bundle.cold_build_seconds)} the first time")
        # One after the other: a build uses every core by itself.
        for binary in bundle.binaries:
            _build(binary, repository, workshop, go, progress)
        for script in bundle.scripts:
            _install_script(script, repository, workshop, go)
        for copies in workshop.glob("sources-*"):
            shutil.rmtree(copies)
        for mark, text in bundle.marks.items():
            (workshop / mark).write_text(text, encoding="utf-8")
        missing = [b.name for b in bundle.binaries if not (workshop / b.name).is_file()]
        if missing:
            raise BuildError(f"go build ended well, but left no {', '.join(missing)}")
        workshop.chmod(0o755)
        workshop.rename(folder)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _about(seconds: int) -> str:
    if seconds < 100:
        return f"about {seconds} s on 2 cores"
    return f"about {round(seconds / 60)} minutes on 2 cores"


def _build(
    binary: Binary,
    repository: Path,
    workshop: Path,
    go: tuple[Path, Mapping[str, str]],
    progress: Progress,
) -> None:
    flags = "-s -w"
    if binary.version_symbol:
        flags += f" -X {binary.version_symbol}=v{binary.version}"
    module = repository / "tools" / binary.module
    pins = _trimmed(binary.trim, module, workshop, go) if binary.trim else []
    command = [
        go[0],
        "build",
        "-mod=readonly",
        *pins,
        "-trimpath",
        # The linker would drop it anyway (-s -w); a tenth less to compile.
        "-gcflags=all=-dwarf=false",
        f"-tags={','.join(binary.tags)}",
        f"-ldflags={flags}",
        f"-o={workshop / binary.name}",
        *_sources(binary, module, workshop, go, pins),
    ]
    what = f"building {binary.name} {binary.version}".rstrip()
    progress(what)
    watch = _every_few_seconds(progress, what)
    _go(command, module, go[1], _BUILD_DEADLINE_SECONDS, watch)


def _sources(
    binary: Binary,
    module: Path,
    workshop: Path,
    go: tuple[Path, Mapping[str, str]],
    pins: Sequence[str],
) -> list[str | Path]:
    """What to build: the package, or changed copies of its files.

    Go's overlays may not replace files of published modules; a list of files may lie anywhere.
    """
    if binary.change is None:
        return [binary.package]
    form = "{{.Dir}}{{range .GoFiles}}\n{{.}}{{end}}"
    command = [go[0], "list", "-mod=readonly", *pins, f"-f={form}", binary.package]
    answer = _go(command, module, go[1], _GO_DEADLINE_SECONDS)
    folder, *names = answer.stdout.strip().splitlines()
    texts = {name: (Path(folder) / name).read_text(encoding="utf-8") for name in names}
    found = sum(text.count(binary.change.old) for text in texts.values())
    if found != binary.change.times:
        raise BuildError(
            f"{binary.package} has {binary.change.old!r} {found} times, not {binary.change.times}:"
            f" correct the change of {binary.name} in coldstart/engine/bundles.py"
        )
    copies = Path(tempfile.mkdtemp(prefix="sources-", dir=workshop))
    for name, text in texts.items():
        changed = text.replace(binary.change.old, binary.change.new)
        (copies / name).write_text(changed, encoding="utf-8")
    return [copies / name for name in names]


def _trimmed(
    trim: Trim, module: Path, workshop: Path, go: tuple[Path, Mapping[str, str]]
) -> list[str]:
    """Flags that build with a copy of the module in which the parts are left out."""
    folder = workshop / f"sources-{Path(trim.source_module).parent.name}"
    copies, pins = folder / "module", folder / "go.mod"
    if not pins.exists():
        source = _module_folder(trim.source_module, module, go)
        # Files of the module cache are read-only, and so would be their copies' folders.
        shutil.copytree(source, copies, copy_function=shutil.copyfile)
        _leave_out(trim, copies)
        replace = f"\nreplace {trim.source_module} => {copies}\n"
        shutil.copyfile(module / "go.sum", folder / "go.sum")
        pins.write_text((module / "go.mod").read_text(encoding="utf-8") + replace, encoding="utf-8")
    return [f"-modfile={pins}"]


def _leave_out(trim: Trim, copies: Path) -> None:
    for path in (copies, *(path for path in copies.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    there = {path.name: path for path in copies.glob(trim.files)}
    registry = copies / trim.registry
    text = registry.read_text(encoding="utf-8") if registry.is_file() else ""
    named = set(re.findall(trim.entry, text))
    unknown = {*trim.kept_files} - there.keys() | {*trim.kept_entries} - named
    if unknown:
        raise BuildError(
            f"{trim.source_module} has no {', '.join(sorted(unknown))}:"
            " correct what is kept of it in coldstart/engine/bundles.py"
        )
    for name, path in there.items():
        if name not in trim.kept_files:
            path.unlink()
    kept = re.sub(trim.entry, lambda m: m[0] if m[1] in trim.kept_entries else "", text)
    registry.write_text(kept, encoding="utf-8")


def _module_folder(source_module: str, module: Path, go: tuple[Path, Mapping[str, str]]) -> Path:
    # Once downloaded, a module need not be asked for again; the first time it must be.
    command = [go[0], "mod", "download", "-json", source_module]
    answer = _go(command, module, go[1], _BUILD_DEADLINE_SECONDS)
    return Path(json.loads(answer.stdout)["Dir"])


def _install_script(
    script: ModuleScript, repository: Path, workshop: Path, go: tuple[Path, Mapping[str, str]]
) -> None:
    module = repository / "tools" / script.module
    source = _module_folder(script.source_module, module, go) / script.path
    if not source.is_file():
        raise BuildError(f"{source} is missing from the module {script.source_module}")
    target = workshop / source.name
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
    the user may not want one; GOFLAGS, GOWORK and the target's variables are left
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


def _find_go(environment: Mapping[str, str]) -> Path:
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
    return Path(found)


def _key(bundle: Bundle, repository: Path) -> str:
    """Changes with every pin and every source of our own.

    The Go that is on PATH is left out: what is built stays usable when it is updated or gone.
    """
    built = (bundle.binaries, bundle.scripts, sorted(bundle.marks.items()))
    content = hashlib.sha256(f"{sys.platform} {platform.machine()} {built}".encode())
    sources: set[Path] = set()
    for binary in bundle.binaries:
        folder = repository / "tools" / binary.module
        for pin in (folder / "go.mod", folder / "go.sum"):
            if not pin.is_file():
                raise BuildError(f"{pin} is missing, so the pinned tools cannot be built")
            sources.add(pin)
        if binary.package.startswith("."):
            sources.update((folder / binary.package).glob("*.go"))
    for path in sorted(sources):
        content.update(f"\0{path.relative_to(repository)}\0".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def _every_few_seconds(progress: Progress, what: str) -> Callable[[float], None]:
    next_at = _PROGRESS_EVERY_SECONDS

    def watch(elapsed_seconds: float) -> None:
        nonlocal next_at
        if elapsed_seconds >= next_at:
            progress(f"{what}: {elapsed_seconds:.0f} s")
            next_at = elapsed_seconds + _PROGRESS_EVERY_SECONDS

    return watch
