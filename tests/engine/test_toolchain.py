"""Which CLI is used, when one is built, and what is said when neither is possible."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from coldstart.engine import ToolchainError, ensure
from coldstart.engine.build import CACHE_FOLDER
from coldstart.engine.bundles import CLI_VERSION
from coldstart.engine.toolchain import CLI_VERSIONS

# Stands in for Go: "builds" by writing its name, and notes each call with the flags it saw.
FAKE_GO = """#!/bin/sh
case "$1" in
env) echo "${FAKE_GO_VERSION:-go1.26.8}" ;;
mod) echo '{"Dir": "%(sdk)s"}' ;;
build)
  echo "build $GOFLAGS $GOTOOLCHAIN" >> %(log)s
  [ -z "$FAKE_GO_FAILS" ] || { echo "no such module" >&2; exit 1; }
  for argument in "$@"; do case "$argument" in -o=*) echo built > "${argument#-o=}" ;; esac; done ;;
esac
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that holds only the pins."""
    for module in ("pulumi", "language-host"):
        folder = tmp_path / "repository" / "tools" / module
        folder.mkdir(parents=True)
        (folder / "go.mod").write_text(f"module {module}\n")
        (folder / "go.sum").write_text("")
    return tmp_path / "repository"


@pytest.fixture
def with_go(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has the fake Go and nothing of Pulumi."""
    sdk = tmp_path / "sdk"
    (sdk / "python" / "cmd").mkdir(parents=True)
    (sdk / "python" / "cmd" / "pulumi-language-python-exec").write_text("#!/usr/bin/env python\n")
    _script(tmp_path / "go-bin" / "go", FAKE_GO % {"sdk": sdk, "log": tmp_path / "log"})
    return {"PATH": f"{tmp_path / 'go-bin'}:/usr/bin:/bin"}


def _script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _pulumi(folder: Path, version: str, *, host: bool = True) -> Path:
    if host:
        _script(folder / "pulumi-language-python", "#!/bin/sh\n")
    return _script(folder / "pulumi", f"#!/bin/sh\necho v{version}\n")


def _builds(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_cli_on_path_is_used_when_its_version_is_in_range(
    tmp_path: Path, repository: Path
) -> None:
    _pulumi(tmp_path / "bin", "3.270.1")
    found = ensure(_ignore, repository=repository, environment={"PATH": str(tmp_path / "bin")})
    assert (found.pulumi, found.version) == (tmp_path / "bin" / "pulumi", "3.270.1")
    assert found.runs_policy_folders


@pytest.mark.parametrize("version", ["3.258.9", "4.0.0"])
def test_a_cli_out_of_range_is_passed_over_and_one_is_built(
    version: str, tmp_path: Path, repository: Path, with_go: dict[str, str]
) -> None:
    assert tuple(int(part) for part in version.split(".")) not in CLI_VERSIONS
    _pulumi(tmp_path / "bin", version)
    path = f"{tmp_path / 'bin'}:{with_go['PATH']}"
    found = ensure(_ignore, repository=repository, environment={**with_go, "PATH": path})
    assert found.version == CLI_VERSION
    assert f"is version {version}" in found.origin
    assert not found.runs_policy_folders


def test_a_cli_without_a_language_host_is_passed_over(
    tmp_path: Path, repository: Path, with_go: dict[str, str]
) -> None:
    _pulumi(tmp_path / "bin", "3.259.0", host=False)
    path = f"{tmp_path / 'bin'}:{with_go['PATH']}"
    found = ensure(_ignore, repository=repository, environment={"PATH": path})
    assert "no pulumi-language-python beside it" in found.origin


def test_missing_go_and_missing_cli_give_one_message_with_both_ways_out(
    tmp_path: Path, repository: Path
) -> None:
    with pytest.raises(ToolchainError) as refusal:
        ensure(_ignore, repository=repository, environment={"PATH": str(tmp_path)})
    message = str(refusal.value)
    assert "no pulumi on PATH" in message
    assert "no go on PATH" in message
    assert "pulumi.com/docs/install" in message
    assert "go.dev/dl" in message


def test_an_old_go_is_refused_with_the_version_that_would_work(
    repository: Path, with_go: dict[str, str]
) -> None:
    old = {**with_go, "FAKE_GO_VERSION": "go1.24.1"}
    with pytest.raises(ToolchainError, match=r"go1\.24\.1, and Go 1\.26 or newer"):
        ensure(_ignore, repository=repository, environment=old)


def test_the_variable_names_a_binary_and_nothing_else_is_tried(
    tmp_path: Path, repository: Path
) -> None:
    missing = {"COLDSTART_PULUMI": str(tmp_path / "none"), "PATH": "/usr/bin:/bin"}
    with pytest.raises(ToolchainError, match=r"COLDSTART_PULUMI=.*not an executable file"):
        ensure(_ignore, repository=repository, environment=missing)
    named = {**missing, "COLDSTART_PULUMI": str(_pulumi(tmp_path / "own", "3.259.0"))}
    found = ensure(_ignore, repository=repository, environment=named)
    assert found.language_host_folder == tmp_path / "own"


def test_a_build_happens_once_and_ignores_odd_go_settings(
    tmp_path: Path, repository: Path, with_go: dict[str, str]
) -> None:
    odd = {**with_go, "GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "go1.99.0", "GOOS": "plan9"}
    first = ensure(_ignore, repository=repository, environment=odd)
    second = ensure(_ignore, repository=repository, environment=odd)
    assert first == second
    assert _builds(tmp_path) == ["build -buildvcs=false local"] * 2
    executor = first.language_host_folder / "pulumi-language-python-exec"
    assert os.access(executor, os.X_OK)


def test_another_pin_means_another_build_and_another_go_does_not(
    repository: Path, with_go: dict[str, str]
) -> None:
    first = ensure(_ignore, repository=repository, environment=with_go)
    newer = {**with_go, "FAKE_GO_VERSION": "go1.27.0"}
    assert ensure(_ignore, repository=repository, environment=newer) == first
    (repository / "tools" / "pulumi" / "go.sum").write_text("changed\n")
    assert ensure(_ignore, repository=repository, environment=with_go).pulumi != first.pulumi


def test_what_was_built_is_used_after_go_is_gone(repository: Path, with_go: dict[str, str]) -> None:
    first = ensure(_ignore, repository=repository, environment=with_go)
    without_go = {"PATH": "/usr/bin:/bin"}
    assert ensure(_ignore, repository=repository, environment=without_go) == first


def test_a_failed_build_leaves_nothing_that_looks_finished(
    tmp_path: Path, repository: Path, with_go: dict[str, str]
) -> None:
    with pytest.raises(ToolchainError, match="no such module"):
        ensure(_ignore, repository=repository, environment={**with_go, "FAKE_GO_FAILS": "1"})
    assert [path.name for path in (repository / CACHE_FOLDER).iterdir()] == ["pulumi.lock"]


def test_what_a_killed_build_left_is_cleared_by_the_next(
    repository: Path, with_go: dict[str, str]
) -> None:
    leftover = repository / CACHE_FOLDER / "building-pulumi-killed"
    leftover.mkdir(parents=True)
    found = ensure(_ignore, repository=repository, environment=with_go)
    assert not leftover.exists()
    assert found.pulumi.exists()


def test_two_builders_at_once_build_once(
    tmp_path: Path, repository: Path, with_go: dict[str, str]
) -> None:
    found: list[Path] = []

    def one() -> None:
        found.append(ensure(_ignore, repository=repository, environment=with_go).pulumi)

    builders = [threading.Thread(target=one) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(timeout=60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(_builds(tmp_path)) == 2, "one build of the CLI and one of the host"


def test_progress_says_what_is_built_and_how_long_it_may_take(
    repository: Path, with_go: dict[str, str]
) -> None:
    said: list[str] = []
    ensure(said.append, repository=repository, environment=with_go)
    assert "about 4 minutes on 2 cores" in said[0]
    assert any(line.startswith("building pulumi 3.259.0") for line in said)


def _ignore(_: str) -> None:
    return None
