"""The whole simulator: no request is lost, a seed repeats a run, what cannot be is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from coldstart.capacity.lengths import Lengths
from coldstart.simulation import (
    NodeInput,
    ReplicaInput,
    Routing,
    SimulationError,
    SimulationInput,
    SloInput,
    simulate,
)
from coldstart.simulation.keda import Signal, Trigger
from coldstart.simulation.series import POINTS
from coldstart.simulation.synthetic import burst
from tests.unit.simulation_scenes import (
    NODES,
    PACE,
    SLEEPY,
    fixed,
    scaled,
    trace,
)


def busy(**overrides: Any) -> SimulationInput:
    """Bursts, sleep, spot nodes and short queues: every way a request can end."""
    requests = burst(
        0.05, 6.0, 4000, Lengths(400, 1200), Lengths(200, 600), every_seconds=2000, seed=4
    )
    fields = {
        "nodes": replace(NODES, interruptions_per_node_hour=3.0, notice_seconds=5),
        "queue_limit": 30,
        "slo": SloInput(2.0, 0.02),
        "patience_seconds": 2.0,
        "replica": ReplicaInput(PACE, 8, 20_000, 2_000, 2, 10),
    }
    return scaled(requests, **{**fields, **overrides})


@pytest.mark.parametrize("routing", list(Routing))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_request_is_served_rejected_cut_or_unfinished(routing: Routing, seed: int) -> None:
    result = simulate(busy(routing=routing, seed=seed))
    found = result.requests
    assert found.arrived == found.served + found.rejected + found.cut + found.unfinished
    assert found.served > 0 and found.rejected > 0
    assert result.slo_share is not None and 0 <= result.slo_share <= found.served / found.arrived
    assert result.ready_gpu_hours <= result.gpu_hours


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = (simulate(busy(seed=seed)).data() for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_short_last_step_of_the_curves_makes_no_peak_and_the_first_requests_count() -> None:
    """400.5 s in steps of 2 s end with half a second, in which one request comes."""
    rows = trace([(second / 2, 10, 1) for second in range(802)])
    series = simulate(fixed(rows, replica=ReplicaInput(PACE, 4), horizon_seconds=400)).series
    assert max(point.arrivals_per_second for point in series) == pytest.approx(2.0, rel=0.3)
    at_once = simulate(fixed(trace([(0.0, 500, 1)] * 3), replica=ReplicaInput(PACE, 4))).series
    assert at_once[0].ttft_p95_seconds is None
    assert max(p.ttft_p95_seconds or 0.0 for p in at_once[1:]) == pytest.approx(0.15)


def test_curves_are_bounded_and_in_order_and_lose_no_peak() -> None:
    told: list[float] = []
    given_ = fixed(
        trace([(0.0, 10, 100)] * 50 + [(5000.0, 10, 100)]), replica=ReplicaInput(PACE, 1)
    )
    result = simulate(given_, told.append)
    times = [point.seconds for point in result.series]
    assert times == sorted(times) and len(times) < POINTS
    assert max(point.waiting for point in result.series) == result.most_waiting == 49
    arrived = sum(
        after.arrivals_per_second * (after.seconds - before.seconds)
        for before, after in pairwise(result.series)
    )
    assert arrived == pytest.approx(51)
    assert told == sorted(told) and told[-1] <= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial_replicas": 5}, "5 replicas at the start; the pool holds 0 to 4"),
        ({"scaling": None}, "no replica and no autoscaler serve nobody"),
        ({"scaling": replace(SLEEPY, min_replicas=9)}, "min_replicas 9 exceeds max_replicas 4"),
        ({"scrape_seconds": 0}, "scrape_seconds and sync_seconds must be above 0"),
        ({"sync_seconds": math.nan}, "scrape_seconds and sync_seconds must be above 0"),
        (
            {"scaling": replace(SLEEPY, polling_seconds=0.0)},
            "polling_seconds 0 must be above 0",
        ),
        (
            {"scaling": replace(SLEEPY, triggers=(Trigger("few", Signal.WAITING, 0.0004),))},
            "trigger 'few': target 0.0004 must be at least 0.001",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        scaled(trace([(0.0, 1, 1)]), **fields)


def test_parts_that_cannot_be_are_refused() -> None:
    for make, message in (
        (lambda: NodeInput(gpus_per_node=2, gpus_per_replica=4), "does not fit on a node of 2"),
        (lambda: NodeInput(max_nodes=1, warm_nodes=2), "2 warm nodes of at most 1"),
        (lambda: NodeInput(fresh_start_seconds=-1), "must be 0 or more"),
        (lambda: ReplicaInput(PACE, 0), "max_num_seqs 0"),
        (lambda: ReplicaInput(PACE, 1, kv_cache_tokens=0), "hold no request"),
    ):
        with pytest.raises(SimulationError, match=message):
            make()
