"""A simulated model asleep and awake: held requests, schedules, the autoscalers, draining."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldstart.simulation import (
    ReplicaInput,
    simulate,
)
from coldstart.simulation.keda import Signal, Trigger, Window
from tests.unit.simulation_scenes import (
    AWAKE,
    NODES,
    PACE,
    SLEEPY,
    ledger,
    scaled,
    steps,
    trace,
)


def test_the_first_request_wakes_the_model_and_waits_for_node_and_engine() -> None:
    given_ = scaled(trace([(100.0, 500, 1)]), horizon_seconds=3600)
    result = simulate(given_)
    assert result.ttft_seconds is not None
    assert result.ttft_seconds.most == pytest.approx(0.7 + 300 + 0.05)
    assert result.cold_starts == {"first": 1, "fresh": 0, "warm": 0}
    assert steps(given_) == [(0, 1, "held request"), (1, 0, "KEDA")]
    wake, rest = result.events
    assert wake.seconds == pytest.approx(100.7)
    # Active until the answer at 400.75 s, 300 s of cooldown, and up to a poll more.
    assert 400.75 + 300 < rest.seconds <= 400.75 + 300 + 5
    # 15 s of endpoint removal, then empty for 600 s.
    paid = rest.seconds + 15 + 600 - wake.seconds
    assert result.node_hours * 3600 == pytest.approx(paid)
    assert result.cost_usd == pytest.approx(paid / 1000)


def test_a_second_wake_finds_the_node_if_it_comes_before_the_node_is_given_back() -> None:
    for gap, start, kind in ((900.0, 50, "warm"), (3000.0, 300, "first")):
        rows = trace([(0.0, 500, 1), (gap, 500, 1)])
        ttft, _ = ledger(scaled(rows))
        assert ttft[1] == pytest.approx(0.7 + start + 0.05), kind


def test_short_requests_between_polls_keep_a_model_awake() -> None:
    """The add-on streams its activity to KEDA; it does not wait to be asked."""
    rows = trace([(second, 500, 1) for second in range(0, 4000, 100)])
    seldom = replace(SLEEPY, polling_seconds=60.0, cooldown_seconds=150.0)
    result = simulate(scaled(rows, scaling=seldom))
    assert [event.after for event in result.events] == [1]


def test_a_request_held_in_vain_counts_as_activity_until_it_is_given_up() -> None:
    slow = replace(NODES, max_nodes=1, first_start_seconds=2000)
    seldom = replace(SLEEPY, polling_seconds=100.0, cooldown_seconds=590.0)
    rows = trace([(0.0, 500, 1)])
    given_ = scaled(rows, nodes=slow, scaling=seldom, hold_seconds=500, horizon_seconds=3000)
    _, rest = simulate(given_).events
    assert 500 + 590 < rest.seconds <= 500 + 590 + 100


def test_the_autoscaler_remembers_that_a_model_slept() -> None:
    """Its first recommendation is of zero replicas, at its first sync; a window from then on holds
    nothing back that comes later."""
    slow = replace(SLEEPY.behavior, up=replace(SLEEPY.behavior.up, window_seconds=600.0))
    rows = trace([(1000.0, 500, 2000)] * 60)
    result = simulate(scaled(rows, scaling=replace(SLEEPY, behavior=slow), hold_seconds=3000))
    first = next(event for event in result.events if event.by == "HPA")
    assert first.seconds < 1000 + 0.7 + 15


def test_of_starting_replicas_the_newest_leaves_first() -> None:
    """controller_utils.go, ActivePodsWithRanks: newer pods go before older ones."""
    start = Trigger("schedule", Signal.CRON, 1.0, windows=(Window(10, 3000, 1),))
    more = Trigger("more", Signal.CRON, 1.0, windows=(Window(150, 190, 2),))
    down = replace(AWAKE.behavior.down, window_seconds=0.0)
    scaling = replace(SLEEPY, triggers=(start, more), behavior=replace(AWAKE.behavior, down=down))
    rows = trace([(300.0, 500, 1)])
    nodes = replace(NODES, first_start_seconds=350, fresh_start_seconds=800)
    result = simulate(scaled(rows, scaling=scaling, nodes=nodes))
    assert [(event.before, event.after) for event in result.events] == [(0, 1), (1, 2), (2, 1)]
    # The one asked for at 10 to 15 s is ready 350 s later, the other would be after 950 s.
    assert result.ttft_seconds is not None
    assert result.ttft_seconds.most < 15 + 350 - 300 + 1


def test_the_most_replicas_are_counted_between_two_points_of_the_curve() -> None:
    nightly = Trigger("schedule", Signal.CRON, 1.0, windows=(Window(1000, 1500, 4),))
    scaling = replace(SLEEPY, triggers=(*SLEEPY.triggers, nightly), cooldown_seconds=30.0)
    rows = trace([(0.0, 500, 1), (900_000.0, 500, 1)])
    result = simulate(scaled(rows, scaling=scaling))
    assert max(point.ready_replicas for point in result.series) < result.most_ready_replicas == 4


def test_without_a_push_a_sleeping_model_is_never_woken_by_its_own_metrics() -> None:
    """Why the plan puts a proxy in front: at zero replicas nothing exports a metric."""
    only_metrics = replace(SLEEPY, triggers=SLEEPY.triggers[:1])
    result = simulate(scaled(trace([(0.0, 500, 1)]), scaling=only_metrics))
    assert result.requests.rejected == 1
    assert result.scale_ups == 0


def test_a_request_is_held_no_longer_than_the_proxy_holds() -> None:
    rows = trace([(0.0, 500, 1), (200.0, 500, 1)])
    result = simulate(scaled(rows, hold_seconds=250))
    assert (result.requests.rejected, result.requests.served) == (1, 1)
    nobody = simulate(scaled(rows, hold_seconds=None))
    assert nobody.requests.rejected == 2


def test_a_schedule_has_replicas_ready_before_the_load() -> None:
    nightly = Trigger("schedule", Signal.CRON, 1.0, windows=(Window(500, 2000, 2),))
    scheduled = replace(SLEEPY, triggers=(*SLEEPY.triggers, nightly))
    rows = trace([(1000.0, 500, 1)])
    result = simulate(scaled(rows, scaling=scheduled))
    assert result.ttft_seconds is not None
    assert result.ttft_seconds.most == pytest.approx(0.05)
    assert result.most_ready_replicas == 2


def test_a_replica_that_is_taken_away_finishes_what_it_can_and_loses_the_rest() -> None:
    """Two replicas, one too many after the window; the drain is longer or shorter than an answer of
    about 22 s."""
    down = AWAKE.behavior.down
    quick = replace(AWAKE.behavior, down=replace(down, window_seconds=0.0))
    scaling = replace(AWAKE, behavior=quick)
    rows = trace([(0.0, 100, 2000), (0.0, 100, 2000)])
    for drain, cut in ((75.0, 0), (5.0, 1)):
        engine = ReplicaInput(PACE, 8, 50_000, 8_000, 0.0, drain)
        result = simulate(
            scaled(rows, replica=engine, scaling=scaling, initial_replicas=2, horizon_seconds=100)
        )
        assert result.scale_downs == 1
        assert (result.requests.cut, result.requests.served) == (cut, 2 - cut)
