"""The toolchain (built when there is none) and copies of the fixture programs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coldstart.engine import Rehearsal, Toolchain, ensure
from tests.program.harness import run_program

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """A CLI that works; its progress goes where pytest shows it for a failure."""
    return ensure(lambda line: print(line, file=sys.stderr))  # noqa: T201


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """Gives a writable copy of a fixture program by its name."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(FIXTURES / name, tmp_path / name))

    return copy


@pytest.fixture
def rehearse(tmp_path: Path, toolchain: Toolchain) -> Callable[[Path], Rehearsal]:
    """Opens a rehearsal of a project in the test's own folder."""

    def start(project: Path) -> Rehearsal:
        return Rehearsal(project, toolchain, folder=tmp_path / "rehearsal")

    return start


@pytest.fixture(scope="module")
def creates_of_eks_dev() -> int:
    """Creates of a clean up, counted without the engine."""
    resources = run_program("eks-dev").resources
    return sum(r.custom and not r.type.startswith("pulumi:") for r in resources)
