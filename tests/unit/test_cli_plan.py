"""What `coldstart plan` prints: for people, for machines, and how it fails.

COLDSTART_UPDATE_GOLDEN=1 writes the expected texts anew; read the difference before you keep it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bad_stacks import STACKS
from typer.testing import CliRunner

from coldstart.cli.app import app
from coldstart.planning import plan_stack
from coldstart.report import stack_outputs, summary
from coldstart.spec import load_stack

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "plan"
EVERY_STACK = sorted(file.name.split(".")[1] for file in STACKS.glob("Pulumi.*.yaml"))


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.stderr
    return "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("eks-prod", ("plan", "eks-prod")),
        ("eks-prod-why", ("plan", "eks-prod", "--why")),
        ("eks-dev", ("plan", "eks-dev")),
    ],
)
def test_the_plan_reads_as_expected(name: str, arguments: tuple[str, ...]) -> None:
    file, text = GOLDEN / f"{name}.txt", printed(*arguments)
    if os.environ.get("COLDSTART_UPDATE_GOLDEN") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), (
        "the plan changed; COLDSTART_UPDATE_GOLDEN=1 writes the new text"
    )


def test_reasons_for_what_was_turned_down_are_shown_when_asked_for() -> None:
    assert "not snapshot: local-disk RAID0 on p4d.24xlarge" in printed("plan", "--why")
    assert "not snapshot" not in printed("plan")


@pytest.mark.parametrize("stack", EVERY_STACK)
def test_json_says_what_the_text_says(stack: str) -> None:
    found = json.loads(printed("plan", stack, "--json"))
    assert found == json.loads(json.dumps(summary(plan_stack(load_stack(ROOT, stack)))))
    text = printed("plan", stack)
    for decision in found["decisions"]:
        assert decision["path"] in text
    for name in found["models"]:
        assert f"Cold start of {name} on " in text


@pytest.mark.parametrize("stack", EVERY_STACK)
def test_outputs_are_plain_data_that_agree_with_the_plan(stack: str) -> None:
    plan = plan_stack(load_stack(ROOT, stack))
    outputs = stack_outputs(plan)
    assert json.loads(json.dumps(outputs)) == outputs
    for name, seconds in outputs["coldStart"].items():
        assert seconds == round(plan.models[name].cold_start.total_seconds, 1)
    for name, detail in outputs["coldStartDetails"].items():
        model = plan.models[name]
        assert detail["budgetSeconds"] == model.budget_seconds
        assert detail["p50Seconds"] <= detail["p95Seconds"]
        assert set(detail["phases"]) == {phase.key for phase in model.first_node.phases}
    assert outputs["coldStart"].keys() == outputs["coldStartDetails"].keys() == plan.models.keys()
    assert set(outputs["decisions"]) == {path for path, _ in plan.decisions()}


def test_phases_of_a_timeline_in_json_follow_its_critical_path() -> None:
    found = json.loads(printed("plan", "eks-prod", "--json"))
    for model in found["models"].values():
        line = model["coldStart"]
        on_path = {p["key"]: p["seconds"] for p in line["phases"]}
        total = sum(on_path[key] for key in line["criticalPath"])
        assert total == pytest.approx(line["totalSeconds"], abs=0.1 * len(on_path))
        assert all(phase["source"] for phase in line["phases"])
        assert model["baseline"]["totalSeconds"] > line["totalSeconds"]


def test_every_case_of_a_start_is_in_json_with_its_percentiles() -> None:
    plan = plan_stack(load_stack(ROOT, "eks-prod"))
    for name, model in summary(plan)["models"].items():
        for key, line in (
            ("coldStart", plan.models[name].cold_start),
            ("firstNode", plan.models[name].first_node),
            ("fromZero", plan.models[name].from_zero),
            ("warmNode", plan.models[name].warm_node),
            ("baseline", plan.models[name].baseline),
        ):
            found = model[key]
            assert found["totalSeconds"] == round(line.total_seconds, 1)
            assert found["p50Seconds"] <= found["p95Seconds"] <= found["p99Seconds"]
            keys = {phase["key"] for phase in found["phases"]}
            assert set(found["withoutSpread"]) < keys
            assert all(phase["p95Seconds"] >= phase["seconds"] for phase in found["phases"])


def test_cost_lines_sum_to_the_totals() -> None:
    cost = json.loads(printed("plan", "eks-prod", "--json"))["cost"]
    for kind in ("idleUsdPerHour", "maximumUsdPerHour"):
        assert sum(line[kind] for line in cost["lines"]) == pytest.approx(cost[kind], abs=1e-3)
    assert cost["unpriced"] == []


def test_check_says_what_it_found() -> None:
    assert printed("check") == "stacks/Pulumi.eks-prod.yaml: node pools: 2, models: 2, ok\n"
    found = json.loads(printed("check", "eks-dev", "--json"))
    assert found == {"stack": "eks-dev", "file": "stacks/Pulumi.eks-dev.yaml", "ok": True}


@pytest.mark.parametrize("command", ["plan", "check", "preview", "rehearse"])
def test_an_unknown_stack_ends_every_command_with_the_one_that_was_meant(command: str) -> None:
    result = CliRunner().invoke(app, [command, "eks-pord"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        'stacks/Pulumi.eks-pord.yaml: there is no such file; did you mean "eks-prod"?\n'
    )


def test_help_names_every_command_with_an_example() -> None:
    for command in ("plan", "check", "preview", "rehearse"):
        assert f"Example: coldstart {command}" in printed(command, "--help")
