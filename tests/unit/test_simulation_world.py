"""The whole simulator: engines, nodes, scaling, and that no request is lost."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.capacity.lengths import Lengths
from coldstart.capacity.speed import EngineSpeed
from coldstart.planning import StackPlan, plan_stack
from coldstart.simulation import (
    NodeInput,
    ReplicaInput,
    Routing,
    SimulationError,
    SimulationInput,
    SloInput,
    from_plan,
    simulate,
)
from coldstart.simulation.keda import ScaledObject, Signal, Trigger, Window
from coldstart.simulation.series import POINTS
from coldstart.simulation.synthetic import burst, poisson
from coldstart.simulation.world import World
from coldstart.spec import load_stack
from tests.unit.simulation_scenes import PACE, fixed, trace

ROOT = Path(__file__).parents[2]
NODES = NodeInput(
    gpus_per_node=1,
    max_nodes=4,
    first_start_seconds=300,
    fresh_start_seconds=200,
    warm_start_seconds=50,
    consolidate_after_seconds=600,
    usd_per_node_hour=3.6,
)
SLEEPY = ScaledObject(
    triggers=(
        Trigger("waiting", Signal.WAITING, 5.0),
        Trigger("held-requests", Signal.CONCURRENCY, 20.0),
    ),
    max_replicas=4,
    polling_seconds=5,
    cooldown_seconds=300,
)
AWAKE = replace(SLEEPY, min_replicas=1, triggers=SLEEPY.triggers[:1])


def scaled(requests: Any, **overrides: Any) -> SimulationInput:
    """A model that may sleep, asleep, unless told otherwise."""
    fields: dict[str, Any] = {
        "trace": requests,
        "replica": ReplicaInput(PACE, 8, 50_000, 8_000, 15, 75),
        "nodes": NODES,
        "scaling": SLEEPY,
        "initial_replicas": 0,
        "hold_seconds": 900,
    }
    return SimulationInput(**{**fields, **overrides})


def steps(given_: SimulationInput) -> list[tuple[int, int, str]]:
    return [(event.before, event.after, event.by) for event in simulate(given_).events]


def ledger(given_: SimulationInput) -> tuple[list[float], list[float]]:
    world = World(given_, lambda _: None)
    world.run()
    return list(world.ledger.ttft), list(world.ledger.tpot)


# One engine


def static_steps(lengths: list[int], slots: int) -> tuple[int, int]:
    """Batches that wait for their longest answer."""
    batches = [lengths[i : i + slots] for i in range(0, len(lengths), slots)]
    return sum(map(max, batches)), sum(slots * max(batch) - sum(batch) for batch in batches)


def test_the_seeds_replies_take_13_steps_in_static_batches_and_10_in_continuous_ones() -> None:
    """Seed 004: answers of 8, 2, 5 and 3 tokens in two places; empty places 8 and 2 steps long.

    The engine counts the token that ends the prompt as the first one, so here it is one more.
    """
    lengths = [8, 2, 5, 3]
    assert static_steps(lengths, 2) == (13, 8)
    rows = trace([(0.0, 1, length + 1) for length in lengths])
    engine = ReplicaInput(EngineSpeed(1e15, 1.0, 0.0), max_num_seqs=2)
    result = simulate(fixed(rows, replica=engine))
    assert result.seconds == pytest.approx(10)
    assert 2 * result.seconds - sum(lengths) == pytest.approx(2)


def test_a_request_alone_takes_its_prompt_and_then_a_step_for_each_further_token() -> None:
    ttft, tpot = ledger(fixed(trace([(3.0, 500, 11)]), replica=ReplicaInput(PACE, 4)))
    assert ttft == pytest.approx([0.05])
    assert tpot == pytest.approx([0.011])


def test_running_requests_slow_each_other_and_stand_still_while_a_prompt_is_read() -> None:
    """By hand: the first has had 0.95 s / 11 ms of tokens when the second comes, waits 0.05 s for
    its prompt, and shares steps of 12 ms with it to the end."""
    rows = trace([(0.0, 500, 101), (1.0, 500, 501)])
    ttft, tpot = ledger(fixed(rows, replica=ReplicaInput(PACE, 4)))
    shared = 100 - 0.95 / 0.011
    assert ttft == pytest.approx([0.05, 0.05])
    assert tpot[0] * 100 == pytest.approx(0.95 + 0.05 + shared * 0.012)
    assert tpot[1] * 500 == pytest.approx(shared * 0.012 + (500 - shared) * 0.011)


def test_a_request_waits_for_room_in_the_kv_cache_as_for_a_place() -> None:
    rows = trace([(0.0, 600, 401), (0.0, 600, 1), (0.0, 300, 1)])
    engine = ReplicaInput(PACE, 8, kv_cache_tokens=1_500)
    ttft, _ = ledger(fixed(rows, replica=engine))
    # 1001 + 601 tokens do not fit; the third, behind the second, waits with it.
    assert ttft[1] == pytest.approx(0.06 + 400 * 0.011 + 0.06)
    assert ttft[2] == pytest.approx(ttft[1] + 0.03)


@pytest.mark.parametrize("engine", [{"max_model_len": 1_000}, {"kv_cache_tokens": 1_000}])
def test_a_request_that_no_engine_can_hold_is_rejected(engine: dict[str, float]) -> None:
    rows = trace([(0.0, 800, 201), (0.0, 800, 200)])
    result = simulate(fixed(rows, replica=ReplicaInput(PACE, 8, **engine)))
    assert (result.requests.rejected, result.requests.served) == (1, 1)


# From zero and back


def test_the_first_request_wakes_the_model_and_waits_for_node_and_engine() -> None:
    given_ = scaled(trace([(100.0, 500, 1)]), horizon_seconds=3600)
    result = simulate(given_)
    assert result.ttft_seconds is not None
    assert result.ttft_seconds.most == pytest.approx(0.7 + 300 + 0.05)
    assert result.cold_starts == {"first": 1, "fresh": 0, "warm": 0}
    assert steps(given_) == [(0, 1, "held request"), (1, 0, "KEDA")]
    wake, rest = result.events
    assert wake.seconds == pytest.approx(100.7)
    # Last seen active at a poll before the answer, 300 s of cooldown, and up to a poll more.
    assert 400.7 + 300 - 5 < rest.seconds < 400.8 + 300 + 10
    # 15 s of endpoint removal, then empty for 600 s.
    paid = rest.seconds + 15 + 600 - wake.seconds
    assert result.node_hours * 3600 == pytest.approx(paid)
    assert result.cost_usd == pytest.approx(paid / 1000)


def test_a_second_wake_finds_the_node_if_it_comes_before_the_node_is_given_back() -> None:
    for gap, start, kind in ((900.0, 50, "warm"), (3000.0, 300, "first")):
        rows = trace([(0.0, 500, 1), (gap, 500, 1)])
        ttft, _ = ledger(scaled(rows))
        assert ttft[1] == pytest.approx(0.7 + start + 0.05), kind


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


# Nodes


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


def test_starts_spread_around_the_same_median() -> None:
    rows = trace([(index * 5000.0, 500, 1) for index in range(300)])
    wide = replace(NODES, start_p95_over_p50=2.0)
    ttft, _ = ledger(scaled(rows, nodes=wide, hold_seconds=4000))
    ordered = sorted(ttft)
    assert ordered[150] == pytest.approx(301, rel=0.1)
    assert ordered[285] / ordered[150] == pytest.approx(2.0, rel=0.2)


# Draining


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


# The whole


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


rows_of = st.lists(
    st.tuples(st.floats(0, 200), st.integers(1, 2_000), st.integers(1, 300)),
    min_size=1,
    max_size=60,
).map(sorted)


@settings(max_examples=40, deadline=None)
@given(rows_of, st.integers(1, 6), st.integers(1, 4))
def test_more_replicas_on_one_queue_never_delay_a_first_token_with_one_place_each(
    rows: list[tuple[float, int, int]], replicas: int, more: int
) -> None:
    def first_tokens(count: int) -> list[float]:
        return ledger(
            fixed(
                trace(rows),
                count,
                replica=ReplicaInput(PACE, 1),
                routing=Routing.SHARED_QUEUE,
            )
        )[0]

    for fewer, many in zip(first_tokens(replicas), first_tokens(replicas + more), strict=True):
        assert many <= fewer + 1e-6


@settings(max_examples=40, deadline=None)
@given(rows_of, st.integers(1, 6), st.sampled_from(list(Routing)))
def test_no_request_is_faster_than_alone_and_none_is_lost(
    rows: list[tuple[float, int, int]], replicas: int, routing: Routing
) -> None:
    ttft, tpot = ledger(
        fixed(trace(rows), replicas, replica=ReplicaInput(PACE, 4), routing=routing)
    )
    for (_, prompt, output), first, further in zip(rows, ttft, tpot, strict=True):
        assert first >= prompt / PACE.prefill_tokens_per_second - 1e-6
        assert math.isnan(further) if output == 1 else further >= PACE.tpot_seconds(1) - 1e-6


@settings(max_examples=30, deadline=None)
@given(rows_of, st.floats(1.0, 4.0))
def test_a_faster_engine_with_the_same_trace_is_done_no_later(
    rows: list[tuple[float, int, int]], factor: float
) -> None:
    quicker = EngineSpeed(PACE.prefill_tokens_per_second * factor, 0.01 / factor, 0.001 / factor)
    slow, quick = (
        simulate(fixed(trace(rows), replica=ReplicaInput(speed, 1))).seconds
        for speed in (PACE, quicker)
    )
    assert quick <= slow + 1e-6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial_replicas": 5}, "5 replicas at the start; the pool holds 0 to 4"),
        ({"scaling": None}, "no replica and no autoscaler serve nobody"),
        ({"scaling": replace(SLEEPY, min_replicas=9)}, "min_replicas 9 exceeds max_replicas 4"),
        ({"scrape_seconds": 0}, "scrape_seconds and sync_seconds must be above 0"),
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


# A plan


@pytest.fixture(scope="module")
def plan() -> StackPlan:
    return plan_stack(load_stack(ROOT, "eks-prod"))


def test_a_planned_model_is_simulated_with_its_own_bounds_starts_and_price(
    plan: StackPlan,
) -> None:
    requests = poisson(2.0, 600, Lengths(500), Lengths(100))
    given_ = from_plan(plan, "qwen3-8b", requests, PACE)
    model = plan.models["qwen3-8b"]
    assert given_.scaling is not None
    assert [t.signal for t in given_.scaling.triggers] == [Signal.WAITING, Signal.KV_CACHE]
    assert given_.initial_replicas == model.scaling.min_replicas
    assert given_.nodes.warm_nodes == plan.pools[model.pool].warm_nodes
    signal = model.cold_start.phase("signal").seconds
    assert given_.nodes.fresh_start_seconds == model.cold_start.total_seconds - signal
    assert given_.nodes.warm_start_seconds < given_.nodes.fresh_start_seconds
    assert given_.scaling.behavior.down.window_seconds == model.scaling.scale_down_window_seconds
    result = simulate(given_)
    assert result.requests.served == len(requests)
    assert result.cost_usd == pytest.approx(
        result.node_hours * (given_.nodes.usd_per_node_hour or 0)
    )


def test_a_model_that_is_not_there_is_refused_with_those_that_are(plan: StackPlan) -> None:
    with pytest.raises(
        SimulationError, match="'gpt' in stack eks-prod; it has qwen3-32b, qwen3-8b"
    ):
        from_plan(plan, "gpt", trace([(0.0, 1, 1)]), PACE)
