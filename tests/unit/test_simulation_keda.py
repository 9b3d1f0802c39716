"""KEDA's rules, row by row.

Sources are kedacore/keda v2.20.2: pkg/scaling/executor/scale_scaledobjects.go (RequestScale and
below), pkg/fallback/fallback.go, pkg/scaling/scale_handler.go; "seen" is what the real KEDA did in
tests/cluster/test_keda.py and test_keda_http.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from coldstart.simulation.keda import (
    Fallback,
    FallbackBehavior,
    Keda,
    ScaledObject,
    Signal,
    Trigger,
    Window,
    scheduled,
)

WAITING = Trigger("waiting", Signal.WAITING, 5.0)
CACHE = Trigger("kv-cache", Signal.KV_CACHE, 80.0, 1.0)
STRICT = Trigger("waiting", Signal.WAITING, 5.0, null_is_zero=False)


def keda(**fields: Any) -> Keda:
    given = {"triggers": (WAITING, CACHE), "cooldown_seconds": 300, **fields}
    return Keda(ScaledObject(**given))


@pytest.mark.parametrize(
    ("values", "replicas"),
    [
        # seen: test_figures_wake_a_model_only_above_the_activation_thresholds
        ((0, 0), 0),
        ((0, 1), 0),
        ((0, 1.2), 1),
        ((1, 0), 1),
        # ignoreNullValues: nothing measured is nothing to do
        ((None, None), 0),
    ],
)
def test_a_model_wakes_only_strictly_above_an_activation_threshold(
    values: Sequence[float | None], replicas: int
) -> None:
    assert keda().poll(0, 0, values) == replicas


@pytest.mark.parametrize(
    ("fields", "replicas", "expected"),
    [
        ({}, 0, 1),  # scaleFromZeroOrIdle: 1 without a minReplicaCount
        ({"min_replicas": 3}, 0, 3),  # scaleFromZeroOrIdle: minReplicaCount
        ({"min_replicas": 3, "idle_replicas": 1}, 1, 3),  # below the minimum while idle
        ({"min_replicas": 3, "idle_replicas": 1}, 4, 4),  # above it the HPA decides
        ({}, 2, 2),
    ],
)
def test_activity_brings_the_least_number_and_leaves_the_rest_to_the_autoscaler(
    fields: dict[str, Any], replicas: int, expected: int
) -> None:
    assert keda(**fields).poll(0, replicas, (1, 0)) == expected


@pytest.mark.parametrize(
    ("fields", "replicas", "expected"),
    [
        ({}, 4, 0),  # scaleToZeroOrIdle goes to zero from any number
        ({"min_replicas": 2, "idle_replicas": 0}, 4, 0),
        ({"min_replicas": 2, "idle_replicas": 1}, 4, 1),
        ({"min_replicas": 2, "idle_replicas": 1}, 1, 1),
        ({"min_replicas": 2}, 4, 4),  # without an idle number KEDA takes nothing away
        ({"min_replicas": 2}, 1, 2),  # and mends what is below the minimum
    ],
)
def test_after_the_cooldown_an_idle_model_rests(
    fields: dict[str, Any], replicas: int, expected: int
) -> None:
    operator = keda(**fields)
    operator.activate(0, 1)
    assert operator.poll(301, replicas, (0, 0)) == expected


def test_the_cooldown_begins_with_the_last_activity_and_must_be_over() -> None:
    """seen: test_a_model_is_laid_to_rest_when_its_cooldown_is_over_and_not_before."""
    operator = keda()
    assert operator.poll(100, 0, (1, 0)) == 1
    assert operator.poll(200, 1, (0, 5)) == 1
    assert operator.poll(500, 1, (0, 0)) == 1
    assert operator.poll(500.1, 1, (0, 0)) == 0


def test_a_new_model_rests_only_after_the_initial_cooldown() -> None:
    """seen: test_a_new_model_is_not_laid_to_rest_before_it_could_have_started."""
    operator = keda(initial_cooldown_seconds=600, cooldown_seconds=1)
    assert operator.poll(599, 1, (0, 0)) == 1
    assert operator.poll(601, 1, (0, 0)) == 0


def test_a_push_wakes_at_once_and_counts_as_activity() -> None:
    operator = keda()
    assert operator.activate(7, 0) == 1
    assert operator.last_active == 7


@pytest.mark.parametrize(
    ("fallback", "replicas", "expected"),
    [
        # seen: test_an_outage_of_prometheus_wakes_a_sleeping_model_only_with_a_fallback
        (Fallback(3, 1), 0, 1),
        (None, 0, 0),
        # RequestScale: an error without fallback, or with one of some replicas, lays nobody to rest
        (None, 2, 2),
        (Fallback(100, 1), 2, 2),
        (Fallback(100, 0), 2, 0),
    ],
)
def test_an_outage_wakes_only_with_a_fallback_and_lays_nobody_to_rest(
    fallback: Fallback | None, replicas: int, expected: int
) -> None:
    operator = keda(triggers=(STRICT,), fallback=fallback)
    found = [operator.poll(second, replicas, (None,)) for second in range(1000, 1008)]
    assert found[-1] == expected


@pytest.mark.parametrize(
    ("behavior", "replicas", "stands_for"),
    [
        (FallbackBehavior.STATIC, 5, 2),
        (FallbackBehavior.CURRENT, 5, 5),
        (FallbackBehavior.CURRENT_IF_HIGHER, 5, 5),
        (FallbackBehavior.CURRENT_IF_HIGHER, 1, 2),
        (FallbackBehavior.CURRENT_IF_LOWER, 5, 2),
        (FallbackBehavior.CURRENT_IF_LOWER, 1, 1),
    ],
)
def test_after_more_failures_than_allowed_a_trigger_stands_for_replicas(
    behavior: FallbackBehavior, replicas: int, stands_for: int
) -> None:
    """seen: test_a_prometheus_that_fails_takes_no_replica_away (more than 3 failures)."""
    operator = keda(triggers=(STRICT,), fallback=Fallback(3, 2, behavior))
    values = [operator.metrics((None,), replicas)[0].value for _ in range(4)]
    assert values == [None, None, None, 5.0 * stands_for]
    assert operator.metrics((7.0,), replicas)[0].value == 7.0
    assert operator.metrics((None,), replicas)[0].value is None


def test_with_one_trigger_failing_an_active_one_wakes_but_is_not_noted_above_zero() -> None:
    operator = keda(triggers=(STRICT, CACHE))
    assert operator.poll(10, 0, (None, 50)) == 1
    assert operator.last_active == 10
    assert operator.poll(20, 1, (None, 50)) == 1
    assert operator.last_active == 10


def test_the_autoscaler_is_never_told_less_than_one_replica() -> None:
    """GetHPAMinReplicas."""
    assert [ScaledObject((WAITING,), min_replicas=n).hpa_min_replicas for n in (0, 1, 4)] == [
        1,
        1,
        4,
    ]


@pytest.mark.parametrize(
    ("second", "replicas"), [(50, 0), (99.9, 0), (100, 2), (101, 2), (150, 3), (199, 2), (200, 0)]
)
def test_a_schedule_asks_for_its_replicas_inside_its_window(second: float, replicas: int) -> None:
    """cron_scaler.go: inside while the next end comes before the next start, which robfig/cron v3
    (spec.go, Next) gives as a later second than now."""
    assert scheduled((Window(100, 200, 2), Window(140, 160, 3)), second) == replicas
