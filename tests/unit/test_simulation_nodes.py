"""The simulated node pool: limits, warm nodes, shared nodes, interruptions, starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldstart.simulation import (
    simulate,
)
from tests.unit.simulation_scenes import (
    AWAKE,
    NODES,
    SLEEPY,
    ledger,
    scaled,
    trace,
)


def test_a_replica_beyond_the_pools_limit_waits_for_a_node() -> None:
    rows = trace([(0.0, 500, 4000)] * 200)
    small = replace(NODES, max_nodes=2)
    result = simulate(scaled(rows, scaling=AWAKE, initial_replicas=1, nodes=small))
    assert result.most_nodes == result.most_ready_replicas == 2
    assert max(point.wanted_replicas for point in result.series) == 4
    assert result.requests.served == 200


def test_a_warm_node_makes_the_next_start_warm_and_is_replaced() -> None:
    rows = trace([(0.0, 500, 3000)] * 20)
    kept = replace(NODES, warm_nodes=1)
    given_ = scaled(rows, scaling=replace(AWAKE, max_replicas=2), initial_replicas=1, nodes=kept)
    result = simulate(given_)
    assert result.cold_starts == {"first": 0, "fresh": 0, "warm": 1}
    assert result.most_nodes == 3
    cold = simulate(replace(given_, nodes=NODES))
    assert cold.cold_starts == {"first": 0, "fresh": 1, "warm": 0}


def test_a_node_that_falls_empty_stays_when_it_is_the_warm_one() -> None:
    rows = trace([(0.0, 500, 3000)] * 20)
    kept = replace(NODES, max_nodes=2, warm_nodes=1)
    scaling = replace(AWAKE, max_replicas=2)
    given_ = scaled(rows, scaling=scaling, initial_replicas=1, nodes=kept, horizon_seconds=3600)
    result = simulate(given_)
    assert result.scale_downs == 1
    assert result.node_hours == pytest.approx(2.0)
    let_go = simulate(replace(given_, nodes=replace(kept, warm_nodes=0)))
    assert let_go.series[-1].nodes == 1


def test_replicas_share_a_node_with_room_and_the_second_comes_no_later_than_the_node() -> None:
    nodes = replace(NODES, gpus_per_node=8, gpus_per_replica=4, max_nodes=1)
    rows = trace([(0.0, 500, 3000)] * 30)
    result = simulate(scaled(rows, nodes=nodes, scaling=replace(SLEEPY, max_replicas=2)))
    assert (result.most_nodes, result.most_ready_replicas) == (1, 2)
    assert result.gpu_hours == pytest.approx(8 * result.node_hours)


def test_an_interrupted_node_costs_the_requests_that_do_not_finish_within_the_notice() -> None:
    rows = trace([(float(second), 100, 2000) for second in range(0, 7200, 30)])
    often = replace(NODES, interruptions_per_node_hour=4.0, notice_seconds=10)
    given_ = scaled(rows, scaling=AWAKE, initial_replicas=1, nodes=often)
    result = simulate(given_)
    assert result.requests.cut > 0
    assert result.cold_starts["fresh"] + result.cold_starts["first"] > 2
    longer = simulate(replace(given_, nodes=replace(often, notice_seconds=60)))
    assert longer.requests.cut < result.requests.cut


def test_a_warm_node_that_is_taken_away_is_replaced_with_the_notice() -> None:
    often = replace(NODES, warm_nodes=1, interruptions_per_node_hour=1.0)
    result = simulate(scaled(trace([(36_000.0, 500, 1)]), nodes=often, hold_seconds=None))
    assert result.most_nodes > 1


def test_starts_spread_around_the_same_median() -> None:
    rows = trace([(index * 5000.0, 500, 1) for index in range(300)])
    wide = replace(NODES, start_p95_over_p50=2.0)
    ttft, _ = ledger(scaled(rows, nodes=wide, hold_seconds=4000))
    ordered = sorted(ttft)
    assert ordered[150] == pytest.approx(301, rel=0.1)
    assert ordered[285] / ordered[150] == pytest.approx(2.0, rel=0.2)
