"""What every rule must carry, what the pack may import, and that the reference is current."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import jsonschema
import pytest
from pulumi_policy import EnforcementLevel, StackValidationPolicy

from policies.pack import policies
from policies.reading.gpus import families
from policies.reference import DEFAULT_FOLDER, INDEX, PAGES, left_over, main, reference
from policies.rule import Concern, Level, Severity, StackRule
from policies.rules import RULES

PACK = Path(__file__).resolve().parents[2] / "policies"


CONCERN_BY_HUNDRED = dict(zip("123456789", get_args(Concern), strict=True))
CONTROL = re.compile(
    r"CIS (EKS|GKE|AKS|Kubernetes) \d+\.\d+\.\d+ \d+(\.\d+)+|Pod Security (baseline|restricted)"
)


def test_rule_names_are_unique_and_say_service_resource_verb_and_what():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) >= 12
    for name in names:
        assert re.fullmatch(r"[a-z0-9]+-[a-z0-9]+-(forbid|require|limit)-[a-z0-9-]+", name), name


def test_codes_are_unique_and_the_registry_is_in_their_order():
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes) and codes == sorted(codes)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_hundred_of_a_code_is_the_rules_concern(rule):
    assert re.fullmatch(r"CS\d{3}", rule.code)
    assert rule.concern == CONCERN_BY_HUNDRED[rule.code[2]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_tells_what_it_asks_why_and_what_to_do(rule):
    assert rule.description.endswith(".") and rule.reason.endswith(".")
    assert rule.remediation.endswith(".") and len(rule.remediation) > 40
    assert rule.tags and rule.title and not rule.title.endswith(".")
    assert rule.severity in get_args(Severity)
    assert {rule.level, rule.production, rule.development} <= set(get_args(Level))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_names_where_its_fact_is_published(rule):
    assert rule.links and len(set(rule.links)) == len(rule.links)
    for link in rule.links:
        address = urlsplit(link)
        assert address.scheme == "https" and "." in address.netloc and address.path.strip("/"), link


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_framework_names_a_version_and_a_control(rule):
    assert all(CONTROL.fullmatch(control) for control in rule.frameworks), rule.frameworks


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_option_defaults_fulfil_their_own_schema(rule):
    for option in rule.options:
        jsonschema.validate(option.default, dict(option.schema))
        assert option.schema["default"] == option.default and option.meaning


def test_the_pack_offers_every_rule_with_its_metadata():
    for rule, policy in zip(RULES, policies(), strict=True):
        assert policy.name == rule.name and policy.display_name == rule.title
        assert policy.enforcement_level is EnforcementLevel(rule.level)
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
        # Only the command checks a configuration file; the engine does it for the pack.
        own = allowed | ({"jsonschema"} if path.parent.name == "lint" else set())
        assert _imports(path) <= own, path


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


def test_the_index_of_the_reference_is_current():
    written = (DEFAULT_FOLDER / INDEX).read_text(encoding="utf-8")
    assert written == reference()[INDEX], "run: python -m policies.reference"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_page_of_a_rule_is_current(rule):
    page = f"{PAGES}/{rule.name}.md"
    written = (DEFAULT_FOLDER / page).read_text(encoding="utf-8")
    assert written == reference()[page], "run: python -m policies.reference"


def test_no_page_is_left_of_a_rule_that_is_gone():
    assert left_over(DEFAULT_FOLDER) == [], "run: python -m policies.reference"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_page_shows_what_fails_what_the_rule_says_and_what_passes(rule):
    page = reference()[f"{PAGES}/{rule.name}.md"]
    failing, passing = page.split("## Fails")[1].split("## Passes")
    assert "```yaml" in failing and "\n> " in failing
    assert "```yaml" in passing.split("## Sources")[0]
    assert all(f"<{link}>" in page for link in rule.links)


def test_writing_the_reference_removes_pages_of_rules_that_are_gone(tmp_path, capsys):
    (tmp_path / PAGES).mkdir()
    stale = tmp_path / PAGES / "kubernetes-pod-forbid-nothing.md"
    stale.write_text("# gone\n")
    assert left_over(tmp_path) == [stale]
    assert main([str(tmp_path)]) == 0
    assert str(len(RULES)) in capsys.readouterr().out
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    assert found == set(reference())
