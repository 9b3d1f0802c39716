"""What every rule must carry, what the pack may import, and that the reference is current."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from pulumi_policy import EnforcementLevel, StackValidationPolicy

from policies.pack import policies
from policies.reading.gpus import families
from policies.reference import DEFAULT_FILE, reference
from policies.rule import StackRule
from policies.rules import RULES

PACK = Path(__file__).resolve().parents[2] / "policies"


def test_rule_names_are_unique_and_say_service_resource_verb_and_what():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) == 12
    for name in names:
        assert re.fullmatch(r"[a-z0-9]+-[a-z0-9]+-(forbid|require|limit)-[a-z0-9-]+", name), name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_tells_what_it_asks_why_and_what_to_do(rule):
    assert rule.description.endswith(".") and rule.reason.endswith(".")
    assert rule.remediation.endswith(".") and len(rule.remediation) > 40
    assert rule.tags and not rule.title.endswith(".")
    assert rule.severity in ("high", "critical") and rule.level == "mandatory"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_option_defaults_fulfil_their_own_schema(rule):
    for option in rule.options:
        jsonschema.validate(option.default, dict(option.schema))
        assert option.schema["default"] == option.default and option.meaning


def test_the_pack_offers_every_rule_with_its_metadata():
    for rule, policy in zip(RULES, policies(), strict=True):
        assert policy.name == rule.name and policy.display_name == rule.title
        assert policy.enforcement_level is EnforcementLevel.MANDATORY
        assert policy.severity is not None and policy.severity.value == rule.severity
        assert policy.remediation_steps == rule.remediation and policy.tags
        assert isinstance(policy, StackValidationPolicy) == isinstance(rule, StackRule)
        options = policy.config_schema.properties if policy.config_schema else {}
        assert set(options) == {option.name for option in rule.options}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_the_judge_imports_neither_the_planner_nor_the_components():
    allowed = set(sys.stdlib_module_names) | {"policies", "yaml", "pulumi_policy"}
    for path in PACK.rglob("*.py"):
        assert _imports(path) <= allowed, path


def test_only_the_pack_knows_pulumi():
    knowing = {path.name for path in PACK.rglob("*.py") if "pulumi_policy" in _imports(path)}
    assert knowing == {"pack.py"}


def test_loading_the_rules_starts_no_server_and_no_pulumi():
    code = "import sys, policies.rules; sys.exit(any('pulumi' in name for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], cwd=PACK.parent, check=True, timeout=60)


def test_every_gpu_family_of_the_table_has_a_gpu_and_an_architecture():
    assert len(families()) > 15
    for family in families().values():
        assert family.gpu and re.fullmatch(r"(NVIDIA|AMD) \w+ \(.+\)", family.architecture)


def test_the_reference_is_current():
    written = DEFAULT_FILE.read_text(encoding="utf-8")
    assert written == reference(), "run: python -m policies.reference"
