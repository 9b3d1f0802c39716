"""The page on CI: its YAML parses, and every command of this project in it exists as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from coldstart.cli.app import app
from policies import presets
from policies.lint import baseline
from policies.lint.settings import settings_of
from policies.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
WORKFLOW, CONFIGURATION, BASELINE = (yaml.safe_load(block) for block in BLOCKS)
COMMAND = re.compile(r"python -m coldstart ([^`|>\n]+)")


def _steps() -> list[dict[str, Any]]:
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("words", sorted({found.strip() for found in COMMAND.findall(PAGE)}))
def test_a_command_of_the_page_has_arguments_that_exist(words: str):
    name, *arguments = shlex.split(words)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, list(arguments)) as context:
        assert context.params["preset"] in presets.PRESETS


def test_the_workflow_installs_what_the_repository_has():
    text = "\n".join(step.get("run", "") for step in _steps())
    for path in re.findall(r"\.coldstart/([\w./-]+)", text):
        made_there = path.startswith((".venv", "policies.json"))
        assert made_there or (ROOT / path).exists(), path
    folders = [step["working-directory"] for step in _steps() if "working-directory" in step]
    assert all(
        (ROOT / folder.removeprefix(".coldstart").lstrip("/")).is_dir() for folder in folders
    )


def test_every_action_is_pinned_by_commit_and_no_token_may_write_contents():
    used = [step["uses"] for step in _steps() if "uses" in step]
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    for job in WORKFLOW["jobs"].values():
        assert job["permissions"]["contents"] == "read"


def test_the_presets_command_prints_a_configuration(capsys: pytest.CaptureFixture[str]):
    assert "python -m policies.presets production" in PAGE
    assert presets.main(["production"]) == 0
    assert len(yaml.safe_load(capsys.readouterr().out)) == len(RULES)


def test_the_linter_imports_nothing_that_lies_in_the_pull_request():
    linting = [step for step in _steps() if "coldstart lint" in step.get("run", "")]
    assert len(linting) == 2
    assert all(step["env"]["PYTHONSAFEPATH"] == "1" for step in linting)


def test_the_configuration_of_the_page_is_accepted(tmp_path: Path):
    file = tmp_path / "policies.yaml"
    file.write_text(BLOCKS[1])
    settings = settings_of("production", file)
    assert {name for name in CONFIGURATION if name in settings.levels} == set(CONFIGURATION)


def test_the_baseline_of_the_page_is_accepted(tmp_path: Path):
    file = tmp_path / "accepted.yaml"
    file.write_text(BLOCKS[2])
    assert len(baseline.read(file)) == len(BASELINE["accepted"])


def test_the_versions_of_the_page_are_those_of_the_locked_requirements():
    locked = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"(?:pulumi-policy|pyyaml)==[\d.]+", PAGE)
    assert len(pinned) == 2
    assert all(f"{pin} " in locked for pin in pinned)
