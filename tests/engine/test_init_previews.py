"""What `coldstart init` writes previews in the real engine, and no policy objects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart.cli.app import app
from coldstart.engine import Toolchain
from tests.program.test_init_stacks import FLAGS

ROOT = Path(__file__).parents[2]
SKIPPED = shutil.ignore_patterns(
    ".git", ".venv", ".cache", "__pycache__", "tests", "tools", "stacks"
)


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_a_stack_file_that_init_wrote_previews_cleanly(
    environment: str, tmp_path: Path, toolchain: Toolchain
) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=SKIPPED)
    place = ("--root", str(project))
    made = CliRunner().invoke(
        app, ["init", *place, "--name", "chat", "--environment", environment, *FLAGS]
    )
    assert made.exit_code == 0, made.stderr
    assert "Next: coldstart preview chat" in made.stdout
    done = CliRunner().invoke(app, ["preview", "chat", *place, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["preview"]
    assert found["ok"]
    assert (found["violations"], found["errors"], found["warnings"]) == ([], [], [])
    assert set(found["changes"]) == {"create"}
    assert len([r for r in found["resources"] if r["type"].endswith(":NodePool")]) == 1
