"""Published modules that are built without some of their parts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coldstart.engine import build
from coldstart.engine.bundles import Binary, Bundle, Trim

PUBLISHED = "example.test/parts"
VERSION = "v1.0.0"
FILES = {
    "go.mod": f"module {PUBLISHED}\n\ngo 1.26.0\n",
    "main.go": """package main

import "example.test/parts/kinds"

func main() { kinds.Tell() }
""",
    "kinds/registry.go": """package kinds

import "fmt"

func Tell() {
	for _, name := range []string{"near", "far"} {
		fmt.Println(name, answer(name))
	}
}

func answer(name string) string {
	switch name {
	case "near":
		return near()
	case "far":
		return far()
	}
	return "unknown"
}
""",
    "kinds/near_kind.go": 'package kinds\n\nfunc near() string { return "here" }\n',
    # Does not compile, so that a build which succeeds has left it out.
    "kinds/far_kind.go": "package kinds\n\nfunc far() string { return 7 }\n",
}
TRIM = Trim(
    PUBLISHED,
    files="kinds/*_kind.go",
    kept_files=("near_kind.go",),
    registry="kinds/registry.go",
    entry=r'\tcase "(\w+)":\n\t\treturn .*\n',
    kept_entries=("near",),
)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Go whose only source of modules is a folder that publishes ours."""
    versions = tmp_path / "proxy" / PUBLISHED / "@v"
    versions.mkdir(parents=True)
    (versions / f"{VERSION}.info").write_text(json.dumps({"Version": VERSION}))
    (versions / f"{VERSION}.mod").write_text(FILES["go.mod"])
    with zipfile.ZipFile(versions / f"{VERSION}.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"{PUBLISHED}@{VERSION}/{name}", text)
    modules = tmp_path / "modules"
    yield {
        **os.environ,
        "GOPROXY": (tmp_path / "proxy").as_uri(),
        "GONOSUMDB": "*",
        "GOMODCACHE": str(modules),
    }
    for folder in (path for path in modules.rglob("*") if path.is_dir()):
        folder.chmod(0o755)
    shutil.rmtree(modules)


@pytest.fixture
def repository(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A repository whose tools pin the published module."""
    folder = tmp_path / "repository" / "tools" / "toy"
    folder.mkdir(parents=True)
    pins = f"module toy\n\ngo 1.26.0\n\nrequire {PUBLISHED} {VERSION}\n"
    (folder / "go.mod").write_text(pins)
    download = ["go", "mod", "download", "all"]
    subprocess.run(download, cwd=folder, env=environment, check=True, capture_output=True)
    return tmp_path / "repository"


def built(
    monkeypatch: pytest.MonkeyPatch, repository: Path, environment: dict[str, str], trim: Trim
) -> Path:
    toy = Binary("toy", "toy", PUBLISHED, trim=trim)
    monkeypatch.setattr(build, "BUNDLES", {"toy": Bundle("a toy", 1, (toy,))})
    return build.ensure_built("toy", repository, environment, lambda _: None)


def test_what_is_left_out_is_not_compiled_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch, repository: Path, environment: dict[str, str]
) -> None:
    folder = built(monkeypatch, repository, environment, TRIM)
    said = subprocess.run([folder / "toy"], capture_output=True, text=True, check=True).stdout
    assert said == "near here\nfar unknown\n"
    assert [path.name for path in folder.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("wrong", "missing"),
    [
        ({"kept_files": ("close_kind.go",)}, "close_kind.go"),
        ({"kept_entries": ("close",)}, "close"),
    ],
)
def test_a_part_that_the_module_does_not_have_stops_the_build(
    monkeypatch: pytest.MonkeyPatch,
    repository: Path,
    environment: dict[str, str],
    wrong: dict[str, tuple[str, ...]],
    missing: str,
) -> None:
    with pytest.raises(build.BuildError, match=f"{PUBLISHED} has no {missing}: correct"):
        built(monkeypatch, repository, environment, replace(TRIM, **wrong))
    assert not list((repository / build.CACHE_FOLDER).glob("building-*"))
