"""Who may import whom: the core knows no Pulumi, the judge knows nobody, one cloud is enough."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ("coldstart", "components", "policies", "offline")
DEADLINE_SECONDS = 60
RULES = {
    "coldstart": {"pulumi", "pulumi_*", "components", "offline"},
    "policies": {"coldstart", "components", "offline", "pulumi_aws", "pulumi_kubernetes"},
    # A cluster's client is no business of the program under test; its decisions are.
    "offline": {"components", "policies"}
    | {
        f"coldstart.{room}"
        for room in (
            "capacity",
            "catalog",
            "cli",
            "engine",
            "planning",
            "render",
            "report",
            "simulation",
        )
    }
    | {"coldstart.spec", "coldstart.units"},
    "components": {"offline", "policies", "coldstart.cli", "coldstart.engine"},
    "components/workload": {"pulumi_aws", "components.aws"},
    "components/contract.py": {"pulumi_aws", "components.aws", "components.workload"},
    "coldstart/units.py": {"coldstart", "policies"},
    # The commands ask the judge; nothing that decides does.
    "coldstart/report": {"policies", "coldstart.cli", "coldstart.engine"},
    "coldstart/controlplane": {"policies", "coldstart.cli", "coldstart.planning"},
    "coldstart/catalog": {"policies", "coldstart.spec", "coldstart.planning", "coldstart.render"},
    "coldstart/spec": {"policies", "coldstart.planning", "coldstart.render", "coldstart.cli"},
    # Arithmetic over catalog entries and numbers: it knows no stack and no plan.
    "coldstart/capacity": {
        f"coldstart.{room}" for room in ("cli", "engine", "planning", "render", "report", "spec")
    }
    | {"policies", "coldstart.simulation"},
    "coldstart/planning": {
        f"coldstart.{room}" for room in ("cli", "engine", "report", "simulation")
    }
    | {"policies"},
    "coldstart/simulation": {"policies", "coldstart.cli", "coldstart.engine", "coldstart.report"},
    "coldstart/render": {"policies", "coldstart.cli", "coldstart.engine", "coldstart.catalog"},
    "coldstart/engine": {"policies", "coldstart.cli", "coldstart.planning"},
}


def python_files(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports at run time, in functions too."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def breaks(name: str, rule: str) -> bool:
    if rule.endswith("*"):
        return name.startswith(rule[:-1])
    return name == rule or name.startswith(rule + ".")


@pytest.mark.parametrize("place", sorted(RULES))
def test_imports_go_one_way(place: str) -> None:
    files = python_files(place)
    assert files, f"{place} has no Python files: the rule guards nothing"
    found = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files
        for line, name in imported(file)
        if any(breaks(name, rule) for rule in RULES[place])
    ]
    assert not found, "\n".join(found)


def run_python(program: str, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


WITHOUT_PULUMI = """
import importlib, importlib.abc, json, pkgutil, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "pulumi" or name.startswith(("pulumi.", "pulumi_")):
            raise ImportError(f"{name} was imported by the core")
        return None

sys.meta_path.insert(0, Refuse())
import coldstart
names = [m.name for m in pkgutil.walk_packages(coldstart.__path__, "coldstart.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
from coldstart.planning import plan_stack
from coldstart.spec import load_stack
from pathlib import Path
plan_stack(load_stack(Path.cwd(), "eks-prod"))
print(json.dumps({"modules": names}))
"""


def test_the_core_imports_and_plans_with_no_pulumi_installed() -> None:
    names = run_python(WITHOUT_PULUMI)["modules"]
    assert {"coldstart.planning.plan", "coldstart.spec.load", "coldstart.cli.app"} <= set(names)


def test_only_the_chosen_platforms_sdk_is_in_reach_of_the_program() -> None:
    """No file of the program imports another cloud's SDK, and the cloud's only where it is used."""
    clouds = {
        name.partition(".")[0]
        for place in ("__main__.py", "components", "coldstart")
        for file in python_files(place)
        for _, name in imported(file)
        if name.startswith("pulumi_")
    }
    assert clouds <= {"pulumi_aws", "pulumi_kubernetes", "pulumi_random"}
    top = ast.parse((ROOT / "__main__.py").read_text(encoding="utf-8")).body
    at_start = {ast.unparse(n) for n in top if isinstance(n, ast.Import | ast.ImportFrom)}
    assert not [text for text in at_start if "components.aws" in text or "pulumi_aws" in text]


def test_the_check_itself_sees_every_kind_of_import(tmp_path: Path) -> None:
    file = ROOT / "tests" / "unit" / "sample.py"
    text = (
        "from typing import TYPE_CHECKING\nimport pulumi.runtime as r\n"
        "if TYPE_CHECKING:\n    import pulumi_gcp\n"
        "def f():\n    from components import aws\n    from . import units\n"
    )
    names = {name for _, name in imported_of(text, file)}
    assert {"pulumi.runtime", "components.aws", "tests.unit.units"} <= names
    assert "pulumi_gcp" not in names


def imported_of(text: str, file: Path) -> list[tuple[int, str]]:
    class Text(type(file)):
        def read_text(self, *_: object, **__: object) -> str:
            return text

    return list(imported(Text(file)))
