"""What `coldstart explain` says, and that it says the truth about other values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stack_examples import ROOT, planned
from typer.testing import CliRunner

from coldstart.catalog import load
from coldstart.cli.app import app
from coldstart.cli.completion import DECISIONS
from coldstart.planning import plan_stack
from coldstart.planning.explain import UnknownTopicError, explain
from coldstart.planning.figures import PHASES
from coldstart.planning.levers import levers
from coldstart.planning.override import NotAKeyError, effect, with_value
from coldstart.planning.percentiles import percentiles
from coldstart.planning.whatif import best_levers, next_levers
from coldstart.spec import load_stack
from coldstart.spec.model import ImageDelivery, OperatingSystem, WeightsPath
from coldstart.units import format_seconds

PLAN = planned()


def told(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["explain", *arguments])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def data(*arguments: str) -> dict[str, Any]:
    return json.loads(told(*arguments, "--json"))


def test_a_decision_has_its_value_reason_figures_and_key() -> None:
    out = told("eks-prod", "qwen3-8b", "weights")
    for words in (
        "models.qwen3-8b.weights: local",
        "16.4 GB reach local NVMe while the engine image is still pulled",
        "qwen3-8b: weights to local NVMe",
        "run-ai/runai-model-streamer",
        "stream: 16.4 GB go from the object store",
        "would give qwen3-8b: cold start +47 s; cost same",
        "set models.qwen3-8b.weights in stacks/Pulumi.eks-prod.yaml:",
    ):
        assert words in out


def test_a_value_that_would_be_refused_says_by_which_rule() -> None:
    rejected = {r["value"]: r for r in data("eks-prod", "qwen3-8b", "image")["rejected"]}
    refused = rejected["snapshot"]["effect"]["refused"][0]
    assert refused["path"] == "nodePools.l40s.image"
    assert "no imageSnapshot is named" in refused["message"]


@pytest.mark.parametrize("path", [p for p, _ in PLAN.decisions()])
def test_the_effect_of_a_value_is_what_planning_with_it_gives(path: str) -> None:
    decision = dict(PLAN.decisions())[path]
    for other in decision.rejected:
        try:
            found = effect(PLAN, path, other.value)
        except NotAKeyError:
            continue
        if found.refused:
            continue
        again = plan_stack(with_value(PLAN.spec, path, other.value))
        assert dict(again.decisions())[path].value == other.value
        for slower in found.slower:
            before, now = PLAN.models[slower.model], again.models[slower.model]
            expected = now.cold_start.total_seconds - before.cold_start.total_seconds
            assert slower.cold_start_seconds == pytest.approx(expected)
        assert found.idle_usd_per_hour == pytest.approx(
            again.cost.idle_usd_per_hour - PLAN.cost.idle_usd_per_hour
        )


def test_the_chosen_value_changes_nothing() -> None:
    found = effect(PLAN, "models.qwen3-8b.weights", WeightsPath.LOCAL)
    assert not found.refused
    assert all(s.cold_start_seconds == s.first_node_seconds == 0 for s in found.slower)


@pytest.mark.parametrize(
    "path",
    ["models.qwen3-8b", "models.nobody.weights", "models.qwen3-8b.nothing", "nodePools", "x.y"],
)
def test_a_path_that_is_no_key_is_refused(path: str) -> None:
    with pytest.raises(NotAKeyError):
        with_value(PLAN.spec, path, ImageDelivery.PEER)


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(NotAKeyError, match="does not take"):
        with_value(PLAN.spec, "models.qwen3-8b.weights", "by pigeon")


def test_setting_a_key_leaves_the_rest_of_the_stack_alone() -> None:
    spec = with_value(PLAN.spec, "nodePools.l40s.os", OperatingSystem.AL2023)
    assert spec.node_pools["l40s"].os is OperatingSystem.AL2023
    assert spec.node_pools["a100"] == PLAN.spec.node_pools["a100"]
    assert spec.models == PLAN.spec.models
    assert PLAN.spec.node_pools["l40s"].os == "auto"


@pytest.mark.parametrize("topic", DECISIONS)
@pytest.mark.parametrize("stack", ["eks-prod", "eks-dev", "eks-prod-workload"])
def test_everything_a_shell_offers_can_be_explained(stack: str, topic: str) -> None:
    plan = plan_stack(load_stack(ROOT, stack))
    for model in plan.models:
        found = explain(plan, model, topic, load())
        assert found.reason and found.path
        assert found.key or found.follows
        assert all(figure.value and figure.source for figure in found.figures)


def test_a_shell_offers_everything_that_can_be_explained() -> None:
    with pytest.raises(UnknownTopicError) as caught:
        explain(PLAN, "qwen3-8b", "nothing", load())
    listed = str(caught.value).partition("choose from: ")[2]
    assert tuple(listed.split(", ")) == DECISIONS


def test_every_phase_of_a_decision_exists_in_some_timeline() -> None:
    known = {p.key for m in PLAN.models.values() for p in (*m.cold_start.phases,)} | {"mount"}
    assert {key for keys in PHASES.values() for key in keys} <= known


@pytest.mark.parametrize(
    "word",
    [
        "compileCache",
        "compile-cache",
        "compile_cache",
        "COMPILECACHE",
        "models.qwen3-8b.compileCache",
    ],
)
def test_a_decision_may_be_written_in_other_ways(word: str) -> None:
    assert explain(PLAN, "qwen3-8b", word, load()).path == "models.qwen3-8b.compileCache"


def test_a_pool_is_explained_with_the_models_on_it() -> None:
    found = explain(PLAN, "l40s", "os", load())
    assert found.path == "nodePools.l40s.os"
    assert found.models == ("qwen3-8b",)
    assert "cold start +66 s" in told("eks-prod", "l40s", "os")


def test_what_has_no_key_says_what_it_follows_from() -> None:
    assert "nodePools.l40s.maxNodes" in told("eks-prod", "qwen3-8b", "rollout")


@pytest.mark.parametrize(
    ("model", "topic", "words"),
    [
        ("qwen3-8b", "wieghts", 'did you mean "weights"?'),
        ("qwen3-8b", "wieghts", "choose from: natGateways"),
        ("qwen3-8", "weights", 'did you mean "qwen3-8b"?'),
        ("l40s", "weights", "'weights' is nothing that is decided for l40s"),
        ("qwen3-8b", "models.qwen3-32b.weights", "is nothing that is decided for qwen3-8b"),
    ],
)
def test_an_unknown_word_gets_the_nearest_one(model: str, topic: str, words: str) -> None:
    done = CliRunner().invoke(app, ["explain", "eks-prod", model, topic])
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_levers_are_explained_with_what_they_save_and_cost_and_what_to_turn_next() -> None:
    found = explain(PLAN, "qwen3-8b", "levers", load())
    own = levers(PLAN, "qwen3-8b", load())
    best = best_levers(PLAN.spec, "qwen3-8b", load())
    assert [(f.name, f.value) for f in found.figures] == [
        *((f"{row.key}: {row.value}", row.gain) for row in own.rows),
        *((f"not used: {row.name}", row.gain) for row in best),
    ]
    assert f"next: {best[0].name}: {best[0].gain}" in found.reason
    assert {f.name: f.value for f in found.figures}["warmNodes: 1"] == (
        "42 s saved, 3 min 54 s alone, $1.87/h, 23 s a dollar"
    )


def test_no_lever_is_offered_that_the_plan_would_refuse() -> None:
    every = next_levers(PLAN.spec, "qwen3-32b", load())
    refused = [row.name for row in every if row.obstacle is not None]
    assert refused == ["image: snapshot, imageSnapshot: snap-…"]
    shown = explain(PLAN, "qwen3-32b", "levers", load())
    assert not any(refused[0] in figure.name for figure in shown.figures)


def test_a_cold_start_is_explained_with_its_percentiles_and_levers() -> None:
    found = explain(PLAN, "qwen3-8b", "coldStart", load())
    spread = percentiles(PLAN.models["qwen3-8b"].cold_start)
    half, most = map(format_seconds, (spread.p50_seconds, spread.p95_seconds))
    assert f"half of all starts take at most {half}, 95 % at most {most}" in found.reason
    assert [f.name for f in found.figures if f.name.startswith("os:")] == ["os: bottlerocket"]
    baseline = explain(PLAN, "qwen3-8b", "baseline", load())
    assert not any(f.name.startswith("os:") for f in baseline.figures)
