"""Warm replicas, warm nodes and the cooldown as decisions of the plan, by money."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bad_stacks import dumped, good, with_value
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import L40S, SMALL, C, planned, refused
from typer.testing import CliRunner

from coldstart.catalog import load
from coldstart.cli.app import app
from coldstart.planning import Decision, StackPlan
from coldstart.planning.cost import node_usd_per_hour
from coldstart.planning.explain import explain
from coldstart.planning.levers import levers
from coldstart.planning.load import replica_speed
from coldstart.planning.warm import kept_replicas, surges_of
from coldstart.simulation import from_plan
from coldstart.simulation.synthetic import Lengths, poisson

NAME = "qwen3-8b"
TRAFFIC: dict[str, Any] = {
    "requestsPerSecond": 2,
    "peakRequestsPerSecond": 8,
    "peaksPerDay": 4,
    "promptTokens": {"mean": 1500, "p95": 4500},
    "outputTokens": {"mean": 300, "p95": 900},
}
SLO = {"ttft": "2s", "tpot": "50ms"}
SOURCE = "hf://Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218"
ASLEEP = (f"{C}models", "qwen3-1-7b")


def priced(usd: float | None, scaling: Any = None, warm_nodes: Any = "auto", **traffic: Any) -> Any:
    """Changes of eks-prod: the small model with load and a price of a violated second."""
    return {
        (*SMALL, "traffic"): {**TRAFFIC, **traffic},
        (*SMALL, "slo"): SLO if usd is None else {**SLO, "usdPerViolatedSecond": usd},
        (*SMALL, "scaling"): scaling or {"max": 6},
        (*L40S, "warmNodes"): warm_nodes,
    }


def decided(plan: StackPlan, path: str) -> Decision[Any]:
    return dict(plan.decisions())[path]


def test_without_a_price_one_replica_runs_and_no_node_is_kept() -> None:
    plan = planned(priced(None))
    assert plan.models[NAME].scaling.min_replicas == 1
    assert plan.pools["l40s"].warm_nodes == 0
    told = dict(plan.decisions())
    assert f"models.{NAME}.scaling.min" not in told
    assert "nodePools.l40s.warmNodes" not in told


def test_dear_seconds_keep_replicas_warm_and_the_decision_shows_what_others_would_cost() -> None:
    plan = planned(priced(1.0))
    found = decided(plan, f"models.{NAME}.scaling.min")
    model = plan.models[NAME]
    kept = kept_replicas(model)
    assert model.scaling.min_replicas == found.value > kept
    assert f"mean traffic keeps {kept} running" in found.reason
    assert "the least at $1 a violated second" in found.reason
    assert {kept, found.value - 1} <= {other.value for other in found.rejected}
    assert all(" more in all" in other.reason for other in found.rejected)
    assert decided(plan, "nodePools.l40s.warmNodes").value == 0


def test_cheap_seconds_keep_no_more_than_mean_traffic_does() -> None:
    model = planned(priced(1e-4)).models[NAME]
    assert model.scaling.min_replicas == kept_replicas(model)


def test_what_is_set_by_hand_stays_and_shows_what_would_be_cheaper() -> None:
    plan = planned(priced(1.0, {"min": 1, "max": 6}, 1))
    minimum = decided(plan, f"models.{NAME}.scaling.min")
    nodes = decided(plan, "nodePools.l40s.warmNodes")
    assert (minimum.value, nodes.value) == (1, 1)
    assert minimum.reason.startswith("named in the stack file; mean traffic keeps")
    assert all(" less in all" in d.rejected[0].reason for d in (minimum, nodes))
    assert minimum.rejected[0].value > 1


def test_with_replicas_set_by_hand_nodes_are_kept_for_the_rises() -> None:
    plan = planned(priced(5.0, {"min": 1, "max": 6}))
    assert plan.pools["l40s"].warm_nodes > 0
    assert plan.models[NAME].scaling.min_replicas == 1


def test_nodes_never_exceed_what_the_pool_has_room_for() -> None:
    tight = {**priced(1000.0, {"min": 1, "max": 3}), (*L40S, "maxNodes"): 3}
    plan = planned({**tight, (*SMALL, "traffic"): {**TRAFFIC, "peakRequestsPerSecond": 4}})
    kept = kept_replicas(plan.models[NAME])
    assert plan.pools["l40s"].warm_nodes <= 3 - kept


def test_models_of_a_pool_share_its_warm_nodes() -> None:
    """Each alone would keep none; for several together nodes are worth their price."""
    alone = priced(0.5, {"min": 2, "max": 6}, requestsPerSecond=1)

    def with_others(count: int) -> StackPlan:
        changes = dict(alone)
        entry = {"nodePool": "l40s", "source": SOURCE, "scaling": {"min": 2, "max": 6}}
        entry |= {"traffic": changes[(*SMALL, "traffic")], "slo": changes[(*SMALL, "slo")]}
        for number in range(count):
            changes[(f"{C}models", f"other-{number}")] = entry
        changes[(*L40S, "maxNodes")] = 40
        return planned(changes)

    nodes = [with_others(count).pools["l40s"].warm_nodes for count in (0, 2, 5)]
    assert nodes == sorted(nodes)
    assert nodes[0] == 0 < nodes[-1]


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-3, 5), st.floats(1, 20), st.sampled_from([1, 4, 48]))
def test_a_dearer_violated_second_never_means_fewer_warm_replicas(
    usd: float, times: float, peaks: int
) -> None:
    few, many = (
        planned(priced(price, peaksPerDay=peaks)).models[NAME].scaling.min_replicas
        for price in (usd, times * usd)
    )
    assert few <= many <= 6


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 40), st.floats(1, 20))
def test_a_dearer_node_never_means_more_warm_replicas(usd: float, times: float) -> None:
    def least(price: float) -> int:
        own = {"instances": {"g6e.xlarge": {"on-demand": price}}}
        return planned({**priced(0.3), (f"{C}prices",): own}).models[NAME].scaling.min_replicas

    assert least(times * usd) <= least(usd)


def test_rises_are_those_above_the_mean_and_never_more_than_may_run() -> None:
    model = planned(priced(1.0, {"max": 5})).models[NAME]
    assert model.load is not None
    rises = surges_of(model.load, 3)
    assert {rise.replicas for rise in rises} == {3}
    assert sum(rise.per_day for rise in rises) >= 4


def test_warm_capacity_costs_what_the_stack_file_says_a_node_costs() -> None:
    own = {"instances": {"g6e.xlarge": {"on-demand": 0.5}}}
    plan = planned({**priced(1.0, warm_nodes=1), (f"{C}prices",): own})
    usd = node_usd_per_hour(plan.pools["l40s"], "g6e.xlarge", plan.spec, load())
    assert usd == pytest.approx(0.5, abs=0.02)
    costs = plan.models[NAME].warm_costs
    assert costs is not None
    assert costs.usd_per_node_hour == usd
    (warm,) = [row for row in levers(plan, NAME, load()).rows if row.key == "warmNodes"]
    assert warm.usd_per_hour == usd
    assert "prices of the stack file" in warm.paid_for
    trace = poisson(2, 60, Lengths(1500, 4500), Lengths(300, 900), seed=1)
    simulated = from_plan(plan, NAME, trace, replica_speed(plan, NAME, 1500, 300))
    assert simulated.nodes.usd_per_node_hour == 0.5


def test_the_simulator_begins_a_schedule_at_the_minute_the_cluster_does() -> None:
    wish = {"start": "08:30", "until": "18:00", "timezone": "UTC", "replicas": 2}
    plan = planned({(*SMALL, "scaling"): {"max": 6, "schedules": [wish]}})
    scaling = plan.models[NAME].scaling
    (cron,) = scaling.schedules.value
    minute, hour = map(int, cron.start.split()[:2])
    trace = poisson(2, 600, Lengths(1500, 4500), Lengths(300, 900), seed=1)
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    speed = replica_speed(plan, NAME, 1500, 300)
    found = from_plan(plan, NAME, trace, speed, starts_at=midnight).scaling
    assert found is not None
    (schedule,) = [trigger for trigger in found.triggers if trigger.windows]
    assert schedule.windows[-1].start_seconds % 86_400 == 3600 * hour + 60 * minute


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({(*SMALL, "slo"): {**SLO, "usdPerViolatedSecond": 1}}, "Give the model's traffic"),
        ({(*SMALL, "slo"): {**SLO, "usdPerViolatedSecond": 0}}, "greater than 0"),
        ({(*SMALL, "slo"): {**SLO, "usdPerViolatedSecond": 1e9}}, "less than or equal to 1000"),
        ({(*SMALL, "slo"): {**SLO, "usdPerViolatedSecond": True}}, "must be a number"),
        (
            {
                (*SMALL, "slo"): {**SLO, "usdPerViolatedSecond": 1},
                (*SMALL, "traffic"): TRAFFIC,
                ("aws:region",): "eu-south-2",
            },
            "have no price in this region. Leave it out and set scaling.min and warmNodes",
        ),
    ],
)
def test_a_price_that_cannot_be_used_is_refused_with_its_path(changes: Any, words: str) -> None:
    said = refused(changes)
    assert f"models.{NAME}.slo.usdPerViolatedSecond" in said
    assert words in said


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        ({"idleGaps": []}, "idleGaps: "),
        ({"idleGaps": [5]}, "idleGaps[0]: 5 is not a duration"),
        ({"idleGaps": ["0s"]}, "idleGaps[0]: "),
        ({"idleGaps": ["40d"]}, "less than or equal to 2592000"),
        ({"idleGaps": ["1s"] * 1001}, "at most 1000"),
        ({"peaksPerDay": 0}, "peaksPerDay: "),
        ({"peaksPerDay": 1e6}, "less than or equal to 1440"),
        ({"requestsPerSecond": True}, "must be a number"),
        ({"peakRequestsPerSecond": None, "peaksPerDay": 2}, "goes with peakRequestsPerSecond"),
    ],
)
def test_absurd_traffic_is_refused_with_its_path(traffic: dict[str, Any], words: str) -> None:
    wish = {**TRAFFIC, **traffic}
    said = refused({(*SMALL, "traffic"): {k: v for k, v in wish.items() if v is not None}})
    assert f"models.{NAME}.traffic" in said
    assert words in said


def asleep(gaps: list[str], slo: dict[str, Any] | None = None, **scaling: Any) -> StackPlan:
    changes: dict[Any, Any] = {
        (*ASLEEP, "scaling"): {"min": 0, "max": 2, **scaling},
        (*ASLEEP, "traffic"): {
            "requestsPerSecond": 0.002,
            "promptTokens": {"mean": 1500},
            "outputTokens": {"mean": 300},
            "idleGaps": gaps,
        },
    }
    if slo:
        changes[(*ASLEEP, "slo")] = slo
    return planned(changes, "eks-dev")


def cooldown(plan: StackPlan) -> Decision[int]:
    return decided(plan, "models.qwen3-1-7b.scaling.cooldown")


def test_a_measured_cooldown_covers_the_gaps_that_are_cheaper_than_a_start() -> None:
    found = cooldown(asleep(["40s"] * 30 + ["3h"]))
    assert found.value == 40 + 5, "one poll longer than the gap"
    assert "over the 31 measured gaps" in found.reason
    assert "1 cold start cost" in found.reason
    assert [other.value for other in found.rejected][-1] == 3 * 3600 + 5


def test_gaps_longer_than_a_start_is_worth_are_slept_through() -> None:
    assert cooldown(asleep(["2h", "3h"])).value == 30


def test_a_price_of_violated_seconds_keeps_the_model_awake_longer() -> None:
    gaps = ["10m", "20m", "3h", "12h"]
    values = [
        cooldown(asleep(gaps, {**SLO, "usdPerViolatedSecond": usd})).value
        for usd in (1e-6, 1e-3, 0.05, 1)
    ]
    assert values == sorted(values)
    assert values[0] < values[-1] == 12 * 3600 + 5


def test_an_slo_without_a_price_spares_no_more_gaps_than_it_says() -> None:
    gaps = ["2m"] * 36 + ["2h", "3h", "4h", "5h"]
    found = cooldown(asleep(gaps, {**SLO, "percentile": 95}))
    assert found.value == 3 * 3600 + 5
    assert "the slo spares 2 of them" in found.reason
    long = cooldown(asleep(["20d"], SLO))
    assert "only scaling.min: 1 does" in long.reason
    assert long.value <= 86_400


def test_a_named_cooldown_stays_and_gaps_of_a_model_that_never_sleeps_are_told_so() -> None:
    assert cooldown(asleep(["40s"], cooldown="17m")).value == 17 * 60
    awake = asleep(["40s"], min=1)
    assert "without effect: scaling.min 1 never sleeps" in cooldown(awake).reason


def test_gaps_without_a_price_of_the_node_are_refused() -> None:
    traffic = {
        "requestsPerSecond": 0.002,
        "promptTokens": {"mean": 1500},
        "outputTokens": {"mean": 300},
        "idleGaps": ["40s"],
    }
    said = refused({(*ASLEEP, "traffic"): traffic, ("aws:region",): "eu-south-2"}, "eks-dev")
    assert "models.qwen3-1-7b.traffic.idleGaps: cannot be weighed" in said
    assert "set scaling.cooldown" in said


@pytest.mark.parametrize("topic", ["min", "warmReplicas", "warmNodes"])
def test_warm_capacity_is_explained_on_its_figures(topic: str) -> None:
    found = explain(planned(priced(1.0)), NAME, topic, load())
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures[f"{NAME}: a violated second"] == "$1"
    assert f"{NAME}: start on a warm node" in figures
    assert any(name.startswith(f"{NAME}: rises to ") for name in figures)
    assert found.key is not None
    assert found.alternatives
    assert all(other.effect is not None for other in found.alternatives)


def test_another_minimum_is_planned_to_say_what_it_costs() -> None:
    plan = planned(priced(1.0))
    found = explain(plan, NAME, "min", load())
    fewest = found.alternatives[0]
    assert fewest.effect is not None
    saved = fewest.effect.idle_usd_per_hour
    assert saved < 0, "fewer replicas cost less idle"


def test_a_cooldown_has_a_key_and_its_alternatives_an_effect() -> None:
    found = explain(asleep(["40s"] * 30 + ["3h"]), "qwen3-1-7b", "cooldown", load())
    assert found.key == "models.qwen3-1-7b.scaling.cooldown"
    assert all(other.effect is not None for other in found.alternatives)


def test_plan_and_explain_show_warm_capacity(tmp_path: Path) -> None:
    config: Any = good("eks-prod")
    for key, value in priced(1.0).items():
        config = with_value(config, key, value)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.mine.yaml").write_bytes(dumped(config))
    run = CliRunner().invoke(app, ["plan", "mine", "--json", "--root", str(tmp_path)])
    assert run.exit_code == 0, run.stderr
    told = {d["path"]: d["value"] for d in json.loads(run.stdout)["decisions"]}
    expected = planned(priced(1.0)).models[NAME].scaling.min_replicas
    assert told[f"models.{NAME}.scaling.min"] == str(expected)
    assert told["nodePools.l40s.warmNodes"] == "0"
    run = CliRunner().invoke(app, ["explain", "mine", NAME, "min", "--root", str(tmp_path)])
    assert run.exit_code == 0, run.stderr
    assert "a violated second" in run.stdout
    assert "Turned down" in run.stdout
