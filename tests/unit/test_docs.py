"""The documents say what the code has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from coldstart.cli import reference
from coldstart.cli.app import app
from coldstart.spec import model

ROOT = Path(__file__).resolve().parents[2]
SPECS = [
    kind
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__name__.endswith("Spec")
]
NOT_WRITTEN = {"stack", "region"}
"""What the stack's name and aws:region give."""


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.__name__)
def test_every_key_of_the_stack_file_is_documented(kind: type[BaseModel]) -> None:
    text = (ROOT / "docs/stack-file.md").read_text()
    documented = set(re.findall(r"`(?:\w+\.)?(\w+)[`.:]", text))
    keys = {field.alias or name for name, field in kind.model_fields.items()} - NOT_WRITTEN
    assert keys <= documented


@pytest.mark.parametrize(
    "path", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/commands.md", "docs/ci.md"]
)
def test_links_lead_somewhere(path: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / path).read_text())
    assert [link for link in links if not (ROOT / path).parent.joinpath(link).exists()] == []


def test_the_readme_shows_the_dev_stack_as_it_is() -> None:
    shown = re.search(r"```yaml\n(config:.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load(
        (ROOT / "stacks/Pulumi.eks-dev.yaml").read_text()
    )


def test_the_page_of_commands_is_what_help_says() -> None:
    assert (ROOT / "docs/commands.md").read_text() == reference.page(), (
        "write it anew: python -m coldstart.cli.reference"
    )


@pytest.mark.parametrize("path", ["README.md", "docs/ci.md", "docs/stack-file.md"])
def test_commands_that_a_page_names_exist(path: str) -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    text = (ROOT / path).read_text()
    named = set(re.findall(r"(?:`|^ *|-m |[|;] )coldstart ([a-z]+)", text, re.MULTILINE))
    assert named and named <= known


def test_pulumi_yaml_declares_every_key_that_is_no_secret() -> None:
    declared = set(yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"])
    keys = {f.alias or name for name, f in model.StackSpec.model_fields.items()} - NOT_WRITTEN
    assert declared == keys


def test_the_page_of_proofs_is_what_the_tests_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.proof", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
