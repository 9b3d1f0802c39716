"""One engine in the simulator: batches, room in its cache, and what no trace can break."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.capacity.speed import EngineSpeed
from coldstart.simulation import (
    ReplicaInput,
    Routing,
    simulate,
)
from tests.unit.simulation_scenes import (
    PACE,
    fixed,
    ledger,
    trace,
)


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
