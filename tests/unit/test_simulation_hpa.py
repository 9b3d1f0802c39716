"""The HPA's rules, row by row, as upstream tests and the real controllers gave them.

"upstream" is kubernetes/kubernetes v1.36.3, pkg/controller/podautoscaler/horizontal_test.go, by
test and case; "seen" is what the real controller-manager 1.36 did in tests/cluster/test_keda.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldstart.simulation.hpa import (
    DEFAULT_BEHAVIOR,
    Behavior,
    ExternalMetric,
    Hpa,
    Policy,
    PolicyType,
    ScalingRules,
    Select,
    of_all_metrics,
    proposed_replicas,
)

NOW = 100_000.0
UP, DOWN = DEFAULT_BEHAVIOR.up, DEFAULT_BEHAVIOR.down


def rules(
    pods: int = 0,
    pods_period: float = 0,
    percent: int = 0,
    percent_period: float = 0,
    window: float = 0,
    select: Select = Select.MAX,
) -> ScalingRules:
    """As upstream's generateScalingRules."""
    found = []
    if pods:
        found.append(Policy(PolicyType.PODS, pods, pods_period))
    if percent:
        found.append(Policy(PolicyType.PERCENT, percent, percent_period))
    return ScalingRules(tuple(found), window, select)


def spread(changes: Sequence[int], seconds: float) -> list[tuple[float, int]]:
    """As upstream's generateEventsUniformDistribution: one change in the middle of each part."""
    part = seconds / len(changes)
    ages = [seconds - part * (index + 1) + part / 2 for index in range(len(changes))]
    return [(NOW - age, change) for age, change in zip(ages, changes, strict=True)]


MIX, FEW, MANY = (1, 5, 9), (2, 4, 6), (8, 12, 9, 11)
LIMITED = [
    # upstream case of TestScalingWithRules, now, wanted, bounds, up, down, added, removed, expected
    ("desired within range", 5, 7, (3, 8), UP, DOWN, (), (), 7),
    ("desired < minReplicas", 3, 1, (2, 8), UP, DOWN, (), (), 2),
    ("within range when minReplicas is 0", 1, 0, (0, 10), UP, DOWN, (), (), 0),
    ("maxReplicas < scaleUpLimit", 20, 1000, (1, 10), UP, DOWN, (), (), 10),
    ("more than maxReplicas", 100, 1000, (100, 150), UP, DOWN, (), (), 150),
    ("up, user percent policy", 3, 1000, (1, 2000), rules(percent=1, percent_period=60), DOWN,
     (), (), 4),
    ("up, default behavior", 10, 50, (1, 1000), UP, DOWN, (), (), 20),
    ("up, pods larger", 10, 500, (1, 1000), rules(100, 60, 100, 60), DOWN, (), (), 110),
    ("up, percent larger", 10, 500, (1, 1000), rules(2, 60, 100, 60), DOWN, (), (), 20),
    ("up, large pods", 10, 50, (1, 1000), rules(100, 60), DOWN, (), (), 50),
    ("up, pods limit", 10, 50, (1, 1000), rules(30, 60), DOWN, (), (), 40),
    ("up, percent limit", 10, 50, (1, 1000), rules(0, 0, 200, 60), DOWN, (), (), 30),
    ("down, percent larger", 100, 2, (1, 1000), UP, rules(20, 60, 1, 60, 300), (), (), 80),
    ("down, pods larger", 100, 2, (1, 1000), UP, rules(2, 60, 1, 60, 300), (), (), 98),
    ("down, minReplicas", 10, 0, (1, 1000), UP, rules(100, 60, window=300), (), (), 1),
    ("down, minReplicas, percent", 10, 2, (5, 1000), UP, rules(0, 0, 100, 60, 300), (), (), 5),
    ("down, pods limit", 10, 2, (1, 1000), UP, rules(5, 60, window=300), (), (), 5),
    ("down, percent limit", 10, 5, (1, 1000), UP, rules(0, 0, 50, 60, 300), (), (), 5),
    ("up, large pods, events", 100, 500, (1, 200), rules(300, 60), DOWN, MIX, (), 200),
    ("up, recent events forbid", 100, 500, (1, 1000), rules(5, 120), DOWN, MIX, (), 100),
    ("up, pods, events", 100, 500, (1, 1000), rules(150, 120), DOWN, MIX, (), 235),
    ("up, percent, events", 100, 500, (1, 1000), rules(0, 0, 200, 120), DOWN, MIX, (), 255),
    ("down, pods, events", 100, 2, (1, 1000), UP, rules(5, 120, window=300), (), MIX, 100),
    ("down, percent, events", 100, 0, (1, 1000), UP, rules(0, 0, 50, 120, 300), (), FEW, 56),
    ("down, up and down events", 10, 1, (1, 1000), UP, rules(0, 0, 50, 180), (2,), (4,), 6),
    ("down, events prevent", 100, 0, (1, 1000), UP, rules(0, 0, 10, 120, 300), (), (10,) * 3, 100),
    ("down, below zero", 10, 5, (1, 1000), UP, rules(0, 0, 1000, 120, 300), (), (10,) * 3, 5),
    ("up, outdated events", 100, 200, (1, 1000), rules(1000, 60), DOWN, MANY, (), 200),
    ("down, outdated events", 100, 5, (1, 1000), UP, rules(1000, 60, window=300), (), MANY, 5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "now", "wanted", "bounds", "up", "down", "added", "removed", "expected"),
    LIMITED,
    ids=[row[0] for row in LIMITED],
)
def test_policies_limit_a_step_as_upstream_says(
    case: str,
    now: int,
    wanted: int,
    bounds: tuple[int, int],
    up: ScalingRules,
    down: ScalingRules,
    added: Sequence[int],
    removed: Sequence[int],
    expected: int,
) -> None:
    hpa = Hpa(*bounds, Behavior(up, down))
    for changes, name in ((added, "added"), (removed, "removed")):
        if changes:
            hpa.remember(**{name: spread(changes, 120)})
    assert hpa.limited(NOW, now, wanted) == expected, case


CHANGES = (Policy(PolicyType.PODS, 3, 60), Policy(PolicyType.PERCENT, 50, 60))


@pytest.mark.parametrize(
    ("select", "most", "fewest"),
    [
        # of 10: 3 pods or 5 of 50 %
        (Select.MAX, 15, 5),
        (Select.MIN, 13, 7),
        (Select.DISABLED, 10, 10),
    ],
)
def test_of_several_policies_the_chosen_change_counts(
    select: Select, most: int, fewest: int
) -> None:
    """autoscaling/v2: Max is the policy that changes most, Min the one that changes least."""
    chosen = ScalingRules(CHANGES, 0.0, select)
    hpa = Hpa(1, 1000, Behavior(chosen, chosen))
    assert (hpa.limited(NOW, 10, 100), hpa.limited(NOW, 10, 1)) == (most, fewest)


def test_what_was_asked_for_asleep_holds_back_the_first_step_of_a_slow_window() -> None:
    """recordInitialRecommendation comes before the replicas are looked at: the 0 of a sleeping
    model is the lowest of the window."""
    hpa = Hpa(1, 10, Behavior(rules(10, 15, window=60), rules(10, 15)))
    assert hpa.reconcile(NOW, 0, ()) == 0
    assert hpa.reconcile(NOW + 15, 1, [ExternalMetric(50, 5)]) == 1
    assert hpa.reconcile(NOW + 61, 1, [ExternalMetric(50, 5)]) == 10


STABILIZED = [
    # upstream case of TestNormalizeDesiredReplicasWithBehavior: minutes ago, now, wanted, windows
    ("empty, down", (), 100, 5, 0, 0, 5),
    ("simple down", ((2, 4), (1, 5)), 100, 3, 0, 180, 5),
    ("simple up", ((2, 4), (1, 5)), 1, 7, 300, 0, 4),
    ("no down stabilization", ((2, 1), (1, 2)), 100, 3, 300, 0, 3),
    ("no up stabilization", ((2, 4), (1, 5)), 1, 3, 0, 300, 3),
    ("no down, old ones", ((10, 10), (9, 9)), 100, 3, 0, 0, 3),
    ("no up, old ones", ((10, 10), (9, 9)), 1, 100, 0, 0, 100),
    ("down, old ones", ((10, 10), (1, 4), (2, 5), (9, 9)), 100, 3, 0, 180, 5),
    ("up, old ones", ((100, 10), (1, 6), (2, 5), (3, 9)), 1, 100, 300, 0, 5),
    ("no up when the last goes down", ((100, 2), (3, 3)), 2, 1, 300, 300, 2),
    ("no down when the last goes up", ((100, 2), (3, 1)), 2, 3, 300, 300, 2),
]


@pytest.mark.parametrize(
    ("case", "history", "now", "wanted", "up_window", "down_window", "expected"),
    STABILIZED,
    ids=[row[0] for row in STABILIZED],
)
def test_windows_stabilise_a_recommendation_as_upstream_says(
    case: str,
    history: Sequence[tuple[float, int]],
    now: int,
    wanted: int,
    up_window: float,
    down_window: float,
    expected: int,
) -> None:
    hpa = Hpa(1, 1000, Behavior(rules(window=up_window), rules(window=down_window)))
    hpa.remember(recommended=[(NOW - 60 * minutes, count) for minutes, count in history])
    assert hpa.stabilized(NOW, now, wanted) == expected, case


@pytest.mark.parametrize(
    ("total", "target", "replicas", "expected"),
    [
        (8.6, 2.222, 3, 4),  # upstream TestScaleUpPerPodCMExternal
        (8.6, 3.0, 5, 3),  # upstream TestScaleDownPerPodCMExternal
        (8.6, 2.2, 4, 4),  # upstream TestTolerancePerPodCMExternal
        # seen: test_the_next_replica_comes_a_tenth_above_the_threshold_and_not_below
        *((5, 5, 1, 1), (88, 80, 1, 1), (6, 5, 1, 2), (11, 5, 2, 2)),
        *((176, 80, 2, 2), (177, 80, 2, 3), (16, 5, 3, 3), (17, 5, 3, 4), (352, 80, 4, 4)),
        # seen: test_a_full_cache_asks_for_the_next_replica_up_to_a_threshold_of_90_percent
        *((100, 90, 1, 2), (100, 91, 1, 1)),
        # No pod yet: the ratio is infinite, or not a number, and never within the tolerance
        *((22, 20, 0, 2), (20, 20, 0, 1), (0, 20, 0, 0)),
    ],
)
def test_a_metric_asks_for_its_total_over_the_target_outside_a_tenth(
    total: float, target: float, replicas: int, expected: int
) -> None:
    assert proposed_replicas(ExternalMetric(total, target), replicas) == expected


def test_the_metric_that_asks_for_most_counts() -> None:
    metrics = (ExternalMetric(5, 5), ExternalMetric(161, 80))  # seen: load (5, 161)
    assert of_all_metrics(metrics, 1) == 3


@pytest.mark.parametrize(
    ("values", "replicas", "expected"),
    [
        ((None, None), 3, None),
        ((None, 5), 3, None),  # upstream TestNoScaleDownOneMetricEmpty
        ((None, 25), 3, 5),  # upstream TestScaleUpOneMetricEmpty
        ((None, 15), 3, 3),
    ],
)
def test_a_metric_that_fails_takes_no_replica_away(
    values: Sequence[float | None], replicas: int, expected: int | None
) -> None:
    assert of_all_metrics([ExternalMetric(v, 5) for v in values], replicas) == expected


def test_at_zero_the_autoscaler_does_nothing() -> None:
    """Upstream TestZeroReplicas: the target is disabled, KEDA alone wakes it."""
    assert Hpa(1, 5, DEFAULT_BEHAVIOR).reconcile(NOW, 0, [ExternalMetric(100, 5)]) == 0


@pytest.mark.parametrize(("replicas", "expected"), [(2, 3), (10, 5)])
def test_too_few_or_too_many_replicas_are_mended_without_metrics(
    replicas: int, expected: int
) -> None:
    """Upstream TestTooFewReplicas and TestTooManyReplicas."""
    assert Hpa(3, 5, DEFAULT_BEHAVIOR).reconcile(NOW, replicas, [ExternalMetric(None, 5)]) == (
        expected
    )


def played(hpa: Hpa, replicas: int, totals: Sequence[float], step: float = 15) -> list[int]:
    """Replicas after each sync."""
    found = []
    for index, total in enumerate(totals):
        replicas = hpa.reconcile(NOW + step * index, replicas, [ExternalMetric(total, 5)])
        found.append(replicas)
    return found


def planned(max_replicas: int, window: float = 300, period: float = 162) -> Hpa:
    """With the behavior that render.pods.scale_behavior gives."""
    up = rules(-(-max_replicas // 2), 15)
    return Hpa(1, max_replicas, Behavior(up, rules(1, period, window=window, select=Select.MIN)))


def test_half_of_the_maximum_is_added_at_once_and_the_maximum_is_never_exceeded() -> None:
    """Seen: sizes [5, 8] of a model with max 8."""
    assert played(planned(8), 1, [10_000] * 3) == [5, 8, 8]


def test_nothing_is_taken_away_inside_the_window_then_one_by_one_down_to_the_minimum() -> None:
    """Seen: with a window of 5 s and a period of 3 s, sizes [5, 4, 3] of a model with min 3."""
    hpa = Hpa(3, 5, Behavior(rules(3, 15), rules(1, 3, window=5, select=Select.MIN)))
    assert played(hpa, 5, [24, 0, 0, 0, 0, 0, 0, 0, 0, 0], step=1) == [5] * 5 + [4] * 3 + [3] * 2


def test_a_pause_shorter_than_the_window_costs_no_replica() -> None:
    assert played(planned(5), 3, [15, 0, 0, 0, 15, 0, 0]) == [3] * 7


def test_a_change_is_forgotten_early_when_its_own_direction_needs_its_place() -> None:
    """storeScaleEvent replaces a change that is outdated for its own policies, although the longer
    period of the other direction would still count it."""
    kept = Hpa(1, 50, Behavior(rules(5, 15), rules(1, 600)))
    kept.remember(added=[(NOW, 5), (NOW + 16, 5)])
    hpa = Hpa(1, 50, Behavior(rules(5, 15), rules(1, 600)))
    replicas = hpa.reconcile(NOW, 1, [ExternalMetric(30, 5)])
    replicas = hpa.reconcile(NOW + 16, replicas, [ExternalMetric(55, 5)])
    assert replicas == 11
    # With both changes 600 s ago there was 1 replica and 0 are allowed; with the second alone, 5.
    assert kept.limited(NOW + 60, 11, 2) == 2
    assert hpa.limited(NOW + 60, 11, 2) == 5


@given(
    st.lists(st.floats(0, 1000), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_replicas_stay_within_bounds_and_never_fall_below_the_load_in_a_quiet_moment(
    totals: list[float], first: int, most: int
) -> None:
    hpa = planned(most)
    sizes = played(hpa, min(first, most), totals)
    assert all(1 <= size <= most for size in sizes)
    assert all(after >= before - 1 for before, after in pairwise(sizes))


@pytest.mark.parametrize(
    ("case", "waiting", "cache_use", "replicas", "rule", "expected"),
    [
        # 42 for four replicas is within a tenth of ten each, and 0.91 of 0.85.
        ("spike", 42, 0.72, 4, 5, 4),
        ("cache pressure", 2, 0.91, 5, 6, 5),
        ("quiet", 0, 0.12, 5, 4, 4),
        ("twice the spike", 84, 0.72, 4, 5, 5),
    ],
)
def test_an_hpa_waits_where_a_rule_of_thresholds_adds_a_replica(
    case: str, waiting: float, cache_use: float, replicas: int, rule: int, expected: int
) -> None:
    """Three scenarios of GPUAutoscaler, "GPU Serving & Autoscaling" (leetllm.com), and its outputs.

    It adds or takes one replica, for more than ten requests waiting or a KV cache used to more than
    85 %: as targets of an HPA these are left alone within the tolerance of a tenth.
    """
    hpa = Hpa(1, 20, Behavior(rules(1, 15), rules(1, 15)))
    metrics = [ExternalMetric(waiting, 10), ExternalMetric(cache_use * replicas, 0.85)]
    assert hpa.reconcile(NOW, replicas, metrics) == expected, case
    assert expected <= rule
