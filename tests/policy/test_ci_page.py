"""The page on CI: its YAML parses, and every command of this project in it exists as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
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
WORKFLOW, PLANNING, CONFIGURATION, BASELINE = (yaml.safe_load(block) for block in BLOCKS)
COMMAND = re.compile(r"python -m coldstart ([^`|>)\n]+)")


def _steps(workflow: dict[str, Any] = WORKFLOW) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("words", sorted({found.strip() for found in COMMAND.findall(PAGE)}))
def test_a_command_of_the_page_has_arguments_that_exist(words: str):
    limits = next(s["env"] for s in _steps(PLANNING) if s.get("id") == "compare")
    name, *arguments = [limits.get(word.removeprefix("$"), word) for word in shlex.split(words)]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, list(arguments)) as context:
        assert context.params.get("preset", "baseline") in presets.PRESETS


def test_the_workflow_installs_what_the_repository_has():
    text = "\n".join(step.get("run", "") for step in _steps())
    for path in re.findall(r"\.coldstart/([\w./-]+)", text):
        made_there = path.startswith((".venv", "policies.json"))
        assert made_there or (ROOT / path).exists(), path
    folders = [step["working-directory"] for step in _steps() if "working-directory" in step]
    assert all(
        (ROOT / folder.removeprefix(".coldstart").lstrip("/")).is_dir() for folder in folders
    )


@pytest.mark.parametrize("workflow", [WORKFLOW, PLANNING], ids=lambda w: w["name"])
def test_every_action_is_pinned_by_commit_and_no_token_may_write_contents(workflow):
    used = [step["uses"] for step in _steps(workflow) if "uses" in step]
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    for job in workflow["jobs"].values():
        assert job["permissions"].get("contents", "none") in ("read", "none")
    for step in _steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_what_may_write_a_comment_runs_nothing_of_the_pull_request():
    assert PLANNING["permissions"] == {}
    for job in PLANNING["jobs"].values():
        writes = "write" in job["permissions"].values()
        runs_code = any("uses" in step or "coldstart " in step["run"] for step in job["steps"])
        holds_token = any("GH_TOKEN" in step.get("env", {}) for step in job["steps"])
        assert writes == holds_token == (not runs_code)


def test_no_text_of_the_pull_request_is_pasted_into_a_script():
    for step in _steps(PLANNING):
        assert "${{" not in step.get("run", "")


def test_the_go_of_the_page_builds_every_tool():
    asked = re.search(r"GOTOOLCHAIN=go([\d.]+)", PAGE)
    assert asked is not None
    needed = [
        re.search(r"^go ([\d.]+)$", file.read_text(), re.MULTILINE)
        for file in ROOT.glob("tools/*/go.mod")
    ]
    assert needed
    for found in needed:
        assert found is not None and _parts(found[1]) <= _parts(asked[1])


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _compared(folder: Path, before: str | None, after: str, limits: dict[str, str]) -> Any:
    """Run the page's own step where the base branch has `before` and the pull request `after`."""
    step = next(s for s in _steps(PLANNING) if s.get("id") == "compare")
    for place, text in ((folder, after), (folder / ".base", before)):
        (place / "stacks").mkdir(parents=True)
        for name in ("coldstart", ".venv"):
            (place / name).symlink_to(ROOT / name)
        if text is not None:
            (place / "stacks/Pulumi.mine.yaml").write_text(text)
    script = step["run"].replace('"$STACK"', f'"$STACK" {ROOT_FLAG}')
    output = folder / "output"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **step["env"], **limits, "STACK": "mine", "GITHUB_OUTPUT": str(output)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return done, output.read_text()


STACK = (ROOT / "stacks/Pulumi.eks-dev.yaml").read_text()
# Imported through a link the package would read the stacks of this checkout.
ROOT_FLAG = '--root "$PWD"'
DEADLINE_SECONDS = 120


def test_the_page_compares_a_pull_request_with_its_base(tmp_path: Path):
    dearer = STACK.replace("maxNodes: 2", "maxNodes: 4")
    done, output = _compared(tmp_path, STACK, dearer, {"DEARER": "0.5"})
    assert done.returncode == 1, done.stderr
    assert "cost at maximum rises by $1.6" in done.stderr
    head, first, *rest = output.splitlines()
    assert first == "<!-- coldstart compare mine -->"
    assert head.removeprefix("comment<<") == rest[-1]
    assert "**cost at maximum +$1.6" in output
    assert _compared(tmp_path / "again", STACK, dearer, {"DEARER": "5"})[0].returncode == 0


def test_the_page_shows_the_plan_of_a_stack_that_the_base_has_not(tmp_path: Path):
    done, output = _compared(tmp_path, None, STACK, {})
    assert done.returncode == 0, done.stderr
    assert output.splitlines()[1] == "<!-- coldstart plan mine -->"


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
    file.write_text(BLOCKS[2])
    settings = settings_of("production", file)
    assert {name for name in CONFIGURATION if name in settings.levels} == set(CONFIGURATION)


def test_the_baseline_of_the_page_is_accepted(tmp_path: Path):
    file = tmp_path / "accepted.yaml"
    file.write_text(BLOCKS[3])
    assert len(baseline.read(file)) == len(BASELINE["accepted"])


def test_the_versions_of_the_page_are_those_of_the_locked_requirements():
    locked = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"(?:pulumi-policy|pyyaml)==[\d.]+", PAGE)
    assert len(pinned) == 2
    assert all(f"{pin} " in locked for pin in pinned)
