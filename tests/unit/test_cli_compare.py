"""What `coldstart compare` says of two plans, and when it ends with 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import L40S, SMALL, planned
from typer.testing import CliRunner, Result

from coldstart.cli.app import app
from coldstart.cli.difference import (
    difference,
    headline,
    over_limits,
    parse_plan,
    signed_seconds,
    signed_usd,
)
from coldstart.report import summary

Change = Callable[[dict[str, Any]], object]


def plan_data(changes: Mapping[Any, Any] | None = None) -> dict[str, Any]:
    return json.loads(json.dumps(summary(planned(changes))))


def changed(change: Change) -> dict[str, Any]:
    data = plan_data()
    change(data)
    return data


def slower_and_dearer(data: dict[str, Any]) -> None:
    model = data["models"]["qwen3-8b"]
    model["coldStart"]["totalSeconds"] += 12
    model["firstNode"]["totalSeconds"] += 12
    data["cost"]["idleUsdPerHour"] += 3


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Result]:
    def run(before: dict[str, Any], after: dict[str, Any], *options: str) -> Result:
        files = []
        for name, data in (("base", before), ("head", after)):
            file = tmp_path / f"{name}.json"
            file.write_text(json.dumps(data), encoding="utf-8")
            files.append(str(file))
        return CliRunner().invoke(app, ["compare", *files, *options])

    return run


def test_the_typical_cost_is_compared_where_both_plans_know_it(compare) -> None:
    before, after = plan_data(), plan_data()
    before["cost"]["typicalUsdPerHour"], after["cost"]["typicalUsdPerHour"] = 30.0, 42.5
    done = compare(before, after, "--fail-over-usd", "12")
    assert done.exit_code == 1
    assert "cost typical +$12.50/h" in done.stdout
    assert "cost typical rises by $12.50/h, more than the allowed $12.00/h" in done.stderr
    assert "typical" not in compare(plan_data(), after).stdout


def test_a_start_that_is_slower_and_a_dearer_hour_are_told_with_their_sign(compare) -> None:
    done = compare(plan_data(), changed(slower_and_dearer))
    assert done.exit_code == 0
    first = done.stdout.splitlines()[0]
    assert first == "eks-prod: qwen3-8b: cold start +12 s; cost idle +$3.00/h."


def test_a_faster_start_and_a_cheaper_hour_have_a_minus() -> None:
    before, after = (parse_plan(data, "x") for data in (changed(slower_and_dearer), plan_data()))
    assert headline(difference(before, after)) == (
        "qwen3-8b: cold start -12 s; cost idle -$3.00/h."
    )


def test_a_first_node_of_its_own_is_told_beside_the_cold_start() -> None:
    def later(data: dict[str, Any]) -> None:
        data["models"]["qwen3-8b"]["firstNode"]["totalSeconds"] += 30

    found = difference(parse_plan(plan_data(), "x"), parse_plan(changed(later), "y"))
    assert headline(found) == "qwen3-8b: first node +30 s."


@pytest.mark.parametrize("output", ["text", "markdown"])
def test_nothing_changed_is_said_in_words(compare, output: str) -> None:
    done = compare(plan_data(), plan_data(), "--format", output, "--fail-over-seconds", "0")
    assert done.exit_code == 0
    assert "Nothing changes: the same cold starts, cost and decisions." in done.stdout


def test_two_stacks_are_compared_by_name() -> None:
    done = CliRunner().invoke(app, ["compare", "eks-prod", "eks-dev"])
    assert done.exit_code == 0
    for words in (
        "eks-prod → eks-dev",
        "new: models.qwen3-1-7b",
        "gone: models.qwen3-32b",
        "gone: nodePools.a100",
        "network.natGateways: per-zone → one",
    ):
        assert words in done.stdout


def test_a_file_is_compared_with_a_stack(tmp_path: Path) -> None:
    file = tmp_path / "base.json"
    file.write_text(json.dumps(plan_data()))
    done = CliRunner().invoke(app, ["compare", str(file), "eks-prod", "--json"])
    assert json.loads(done.stdout)["same"] is True


def test_a_changed_decision_is_shown_with_both_reasons(compare) -> None:
    done = compare(plan_data(), plan_data({(*L40S, "image"): "registry"}), "--json")
    decisions = {d["path"]: d for d in json.loads(done.stdout)["decisions"]}
    change = decisions["nodePools.l40s.image"]
    assert (change["before"]["value"], change["after"]["value"]) == ("parallel", "registry")
    assert "chunks and layers at once" in change["before"]["reason"]
    assert change["after"]["reason"].startswith("named in the stack file")


def test_decisions_of_a_model_that_is_gone_are_not_repeated_one_by_one() -> None:
    def without(data: dict[str, Any]) -> None:
        del data["models"]["qwen3-8b"]
        kept = [d for d in data["decisions"] if not d["path"].startswith("models.qwen3-8b.")]
        data["decisions"] = kept

    found = difference(parse_plan(plan_data(), "x"), parse_plan(changed(without), "y"))
    assert found.removed == ("models.qwen3-8b",)
    assert found.decisions == ()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--fail-over-seconds", "11"), 1, "cold start rises by 12 s, more than the allowed 11 s"),
        (("--fail-over-seconds", "12"), 0, ""),
        (("--fail-over-usd", "2.5"), 1, "cost idle rises by $3.00/h, more than the allowed $2.50"),
        (("--fail-over-usd", "3"), 0, ""),
        (("--fail-over-seconds", "60", "--fail-over-usd", "0"), 1, "cost idle rises"),
    ],
)
def test_a_limit_that_is_exceeded_ends_with_1(compare, options, code: int, words: str) -> None:
    done = compare(plan_data(), changed(slower_and_dearer), *options)
    assert done.exit_code == code, done.stderr
    assert words in done.stderr
    assert bool(done.stderr) == bool(words)


def test_an_improvement_never_breaks_a_limit(compare) -> None:
    limits = ("--fail-over-seconds", "0", "--fail-over-usd", "0")
    assert compare(changed(slower_and_dearer), plan_data(), *limits).exit_code == 0


def test_a_node_without_a_price_counts_as_dearer_by_an_unknown_amount(compare) -> None:
    def unpriced(data: dict[str, Any]) -> None:
        data["cost"]["unpriced"] = ["pool l40s (g9.xlarge in us-west-2)"]

    done = compare(plan_data(), changed(unpriced), "--fail-over-usd", "100")
    assert done.exit_code == 1
    assert "unknown amount: no price for pool l40s (g9.xlarge in us-west-2)" in done.stderr


def test_the_comment_has_a_table_folds_decisions_and_names_broken_limits(compare) -> None:
    after = plan_data({(*L40S, "image"): "registry", (*SMALL, "coldStartBudget"): "9m"})
    done = compare(plan_data(), after, "--format", "markdown", "--fail-over-seconds", "5")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "<!-- coldstart compare eks-prod -->"
    assert "|  | Before | After | Change |" in lines
    assert any(line.startswith("- :x: qwen3-8b: cold start rises by 32 s") for line in lines)
    assert "<details><summary>1 decision changed</summary>" in lines
    assert lines[-1] == "</details>"


def test_a_name_in_a_plan_can_be_no_markup_of_the_comment(compare) -> None:
    def hostile(data: dict[str, Any]) -> None:
        found = next(d for d in data["decisions"] if d["path"] == "nodePools.l40s.image")
        found["value"] = "a|b <img src=x> @team #12 [x](http://y) `c`"

    out = compare(plan_data(), changed(hostile), "--format", "markdown").stdout
    for raw in ("<img", "@team", " #12", "[x](", "a|b", " `c`"):
        assert raw not in out


@given(st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_a_change_has_the_sign_of_its_figure(amount: float) -> None:
    for words in (signed_seconds(amount), signed_usd(amount)):
        if words != "same":
            assert words[0] == ("+" if amount > 0 else "-")
    assert (signed_seconds(amount) == "same") == (abs(amount) < 0.05)


@given(st.floats(0, 1e4), st.floats(0, 1e4))
@settings(deadline=None)
def test_a_looser_limit_never_fails_what_a_tighter_one_passes(one: float, other: float) -> None:
    found = difference(parse_plan(BEFORE, "x"), parse_plan(AFTER, "y"))
    tight, loose = sorted((one, other))
    assert len(over_limits(found, loose, loose)) <= len(over_limits(found, tight, tight))


BEFORE, AFTER = plan_data(), changed(slower_and_dearer)
