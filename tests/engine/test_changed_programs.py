"""Programs that are built with a text of their main package replaced."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from coldstart.engine import build
from coldstart.engine.bundles import Binary, Bundle, Change

SOURCE = """package main

import "fmt"

func main() { fmt.Printf("0.0.0.0:%d", port) }
"""
SECOND = "package main\n\nconst port = 7\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "tools" / "toy"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module toy\n\ngo 1.26.0\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text(SOURCE)
    (folder / "port.go").write_text(SECOND)
    return tmp_path


def built(monkeypatch: pytest.MonkeyPatch, repository: Path, times: int) -> Path:
    change = Change('"0.0.0.0:%d"', '"127.0.0.1:%d"', times)
    toy = Binary("toy", "toy", ".", change=change)
    bundles: Mapping[str, Bundle] = {"toy": Bundle("a toy", 1, (toy,))}
    monkeypatch.setattr(build, "BUNDLES", bundles)
    return build.ensure_built("toy", repository, os.environ, lambda _: None)


def test_a_program_is_built_with_the_text_replaced_and_its_source_left_alone(
    monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    folder = built(monkeypatch, repository, times=1)
    said = subprocess.run([folder / "toy"], capture_output=True, text=True, check=True).stdout
    assert said == "127.0.0.1:7"
    assert (repository / "tools" / "toy" / "main.go").read_text() == SOURCE
    assert [path.name for path in folder.iterdir()] == ["toy"]


def test_a_text_that_is_there_another_number_of_times_stops_the_build(
    monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    with pytest.raises(build.BuildError, match="1 times, not 2: correct the change of toy"):
        built(monkeypatch, repository, times=2)
    assert not list((repository / build.CACHE_FOLDER).glob("building-*"))
