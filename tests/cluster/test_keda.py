"""The project's ScaledObjects, scaled by the real KEDA and the real autoscaler from figures that a
small server gives in Prometheus' place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from coldstart.planning import StackPlan
from tests.cluster.keda_formula import autoscaled, planned, within_a_tenth
from tests.cluster.keda_process import OPERATOR, external_metric
from tests.cluster.keda_scene import (
    SOONER,
    Model,
    Scene,
    condition,
    keda_scene,
    models_of,
    plan_of,
)

pytestmark = pytest.mark.proof("KEDA")

PROMETHEUS = "monitoring-prometheus.monitoring.svc:9090"
LOADS = (
    # Waiting requests and percent of KV cache, of all replicas together.
    *((waiting, 0) for waiting in (5, 6, 10, 11, 400)),
    *((0, percent) for percent in (88, 89, 160, 161, 300)),
    *((5, 161), (6, 60)),
)
ROWS = {f"row-{index}": load for index, load in enumerate(LOADS)}
NOT_SCALED = frozenset({"NetworkPolicy", "PodDisruptionBudget", "ResourceQuota", "Service"})
"""Left out where there are many models, to have them sooner."""
SHORT_WINDOW_SECONDS, SHORT_PERIOD_SECONDS = 5, 3
"""In place of the plan's 300 and 162 s, in the one test that waits for them; the window stays the
longer of the two, as the plan has it."""


@cache
def the_plan() -> StackPlan:
    usual = {"min": 1, "max": 5}
    named = ("told", "asked", "read", "steps", "held", "blind", "silent", "half-blind", "orphan")
    named += ("brim-90", "brim-91")
    return plan_of(
        dict.fromkeys(named, usual)
        # From one replica to all of them in one step.
        | {name: {"min": 1, "max": 3} for name in ROWS}
        | {"fast": {"min": 1, "max": 8}, "slow": {"min": 3, "max": 5}}
    )


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with keda_scene() as running:
        yield running


@pytest.fixture(scope="module")
def rendered(scene: Scene) -> dict[str, Model]:
    return models_of(scene, the_plan())


@pytest.fixture
def models(rendered: dict[str, Model]) -> Iterator[dict[str, Model]]:
    """Every model by its name; those a test has deployed are taken away after it."""
    yield rendered
    for model in rendered.values():
        if model.deployed:
            model.remove()


def started(model: Model, **overrides: Any) -> Model:
    """The model without load, once the autoscaler has seen that it has none."""
    model.load(0, 0)
    model.deploy({**SOONER, **overrides})
    model.await_hpa()
    if model.plan.scaling.min_replicas == 1:
        model.await_seen(0, 0)
    else:
        model.await_replicas(model.plan.scaling.min_replicas)
    return model


def test_the_autoscaler_that_keda_makes_says_what_the_plan_says(models: dict[str, Model]) -> None:
    model = started(models["told"])
    plan, spec = model.plan.scaling, model.hpa()["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (plan.min_replicas, plan.max_replicas)
    assert [metric["external"]["target"] for metric in spec["metrics"]] == [
        {"type": "AverageValue", "averageValue": trigger.threshold} for trigger in plan.triggers
    ]
    rendered = model.scaled_object["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    assert spec["behavior"] == rendered["behavior"]


def test_prometheus_is_asked_the_plans_queries_letter_for_letter_at_the_rendered_address(
    scene: Scene, models: dict[str, Model]
) -> None:
    model = started(models["asked"])
    model.await_rounds(2)
    own = {trigger.query for trigger in model.plan.scaling.triggers}
    every = {t.query for one in the_plan().models.values() for t in one.scaling.triggers}
    assert own <= scene.prometheus.queries() <= every
    assert scene.prometheus.odd_requests() == []
    assert scene.network.asked() == {PROMETHEUS}


def test_the_external_metrics_api_gives_what_prometheus_says(
    scene: Scene, models: dict[str, Model]
) -> None:
    model = started(models["read"])
    model.load(3, 41.5)
    names = scene.client.wait_for(
        lambda: model.status().get("externalMetricNames"), "the names of the metrics", 60
    )
    scene.client.wait_for(
        lambda: (
            [external_metric(scene.client, "read", name, "read") for name in names] == [3, 41.5]
        ),
        "the external metrics API to give both figures",
        60,
    )


def test_the_number_of_replicas_for_a_load_is_the_plans(models: dict[str, Model]) -> None:
    expected = {}
    for name, load in ROWS.items():
        plan = models[name].plan.scaling
        expected[load] = autoscaled(plan, load, replicas=1)
        short = within_a_tenth(plan, load, planned(plan, load) - 1)
        assert expected[load] in (planned(plan, load), planned(plan, load) - short)
        models[name].load(*load)
        models[name].deploy(without=NOT_SCALED)
    for name in ROWS:
        models[name].await_hpa()
    for name, load in ROWS.items():
        models[name].await_replicas(expected[load])
    seen = {load: models[name].await_seen(*load)["desiredReplicas"] for name, load in ROWS.items()}
    assert seen == expected


def test_the_next_replica_comes_a_tenth_above_the_threshold_and_not_below(
    models: dict[str, Model],
) -> None:
    model = started(models["steps"])
    steps = ((5, 0, 1), (0, 88, 1), (6, 0, 2), (11, 0, 2), (0, 176, 2), (0, 177, 3), (16, 264, 3))
    for waiting, percent, replicas in (*steps, (17, 0, 4), (22, 352, 4)):
        model.load(waiting, percent)
        found = model.await_seen(waiting, percent)["desiredReplicas"]
        assert found == replicas, (waiting, percent)


def test_half_of_the_maximum_is_added_at_once_and_the_maximum_is_never_exceeded(
    models: dict[str, Model],
) -> None:
    model = started(models["fast"])
    plan = model.plan.scaling
    model.load(10_000, 800)
    model.await_replicas(plan.max_replicas)
    status = model.await_seen(10_000, 800)
    assert condition(status, "ScalingLimited") == "True"
    model.await_sizes([1 + plan.scale_up_pods, plan.max_replicas])


def test_nothing_is_taken_away_inside_the_stabilisation_window(models: dict[str, Model]) -> None:
    model = started(models["held"])
    model.load(14, 0)
    model.await_replicas(3)
    model.load(0, 0)
    status = model.await_seen(0, 0)
    model.await_rounds(6)
    reasons = [item["reason"] for item in status["conditions"]]
    assert model.replicas() == 3
    assert "ScaleDownStabilized" in reasons


def test_after_the_window_replicas_go_one_by_one_down_to_the_minimum(
    models: dict[str, Model],
) -> None:
    model = models["slow"]
    advanced = copy.deepcopy(model.scaled_object["spec"]["advanced"])
    down = advanced["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    down["stabilizationWindowSeconds"] = SHORT_WINDOW_SECONDS
    (policy,) = down["policies"]
    assert policy["periodSeconds"] <= model.plan.scaling.scale_down_window_seconds
    policy["periodSeconds"] = SHORT_PERIOD_SECONDS
    started(model, advanced=advanced)
    model.load(24, 0)
    model.await_replicas(5)
    model.load(0, 0)
    model.await_replicas(3)
    model.await_seen(0, 0)
    model.await_sizes([5, 4, 3])


def test_a_prometheus_that_fails_takes_no_replica_away(models: dict[str, Model]) -> None:
    model = started(models["blind"])
    model.load(14, 0)
    model.await_replicas(3)
    model.blind()
    model.await_condition("Fallback", "True")
    failures = [one["numberOfFailures"] for one in model.status()["health"].values()]
    assert max(failures) > model.plan.scaling.fallback_failures
    model.await_rounds(6)
    assert model.replicas() == 3
    targets = [float(trigger.threshold) for trigger in model.plan.scaling.triggers]
    # Each query counts its failures for itself.
    model.await_averages(targets)
    model.load(17, 0)
    model.await_condition("Fallback", "False")
    model.await_replicas(4)


def test_an_empty_result_is_a_failure_for_a_model_that_never_sleeps(
    models: dict[str, Model],
) -> None:
    model = started(models["silent"])
    model.load(14, 0)
    model.await_replicas(3)
    model.load(None, None)
    model.await_condition("Fallback", "True")
    model.await_rounds(6)
    assert model.replicas() == 3


def test_while_one_query_fails_the_other_still_asks_for_replicas(
    scene: Scene, models: dict[str, Model]
) -> None:
    model = started(models["half-blind"])
    scene.prometheus.fails(model.queries["waiting"])
    model.await_condition("Fallback", "True")
    scene.prometheus.says(model.queries["kv-cache"], 230)
    model.await_replicas(3)


def test_replicas_stay_while_keda_is_down_and_scaling_goes_on_when_it_is_back(
    scene: Scene, models: dict[str, Model]
) -> None:
    model = started(models["orphan"])
    model.load(14, 0)
    model.await_replicas(3)
    scene.plane.kill(OPERATOR)
    model.load(17, 0)
    scene.keda.start_operator()
    model.await_replicas(4)
    model.await_sizes([3, 4])


@pytest.mark.parametrize(("percent", "replicas"), [(90, 2), (91, 1)])
def test_a_full_cache_asks_for_the_next_replica_up_to_a_threshold_of_90_percent(
    models: dict[str, Model], percent: int, replicas: int
) -> None:
    model = models[f"brim-{percent}"]
    _, cache_trigger = triggers = copy.deepcopy(model.scaled_object["spec"]["triggers"])
    cache_trigger["metadata"]["threshold"] = str(percent)
    started(model, triggers=triggers)
    model.load(0, 100)
    assert model.await_seen(0, 100)["desiredReplicas"] == replicas
