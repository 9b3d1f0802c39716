"""Replicas from arrival rate, lengths and targets; thresholds; the capacity plan of seed 004."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.capacity.lengths import HEAVIEST_RATIO, Lengths
from coldstart.capacity.sizing import (
    MOST_IN_FLIGHT,
    ReplicaCapacity,
    Targets,
    UnreachableTargetError,
    WaitingThreshold,
    capacity_plan,
    in_flight_at,
    replica_capacity,
    replicas_for,
    waiting_threshold,
)
from coldstart.capacity.speed import EngineSpeed

SPEED = EngineSpeed(
    prefill_tokens_per_second=30_000, step_seconds=0.007, step_seconds_per_sequence=0.0003
)
PROMPT, OUTPUT = Lengths(1500, 4500), Lengths(300, 900)
TARGETS = Targets(ttft_seconds=2, tpot_seconds=0.05)


@dataclass(frozen=True)
class Size:
    """Replicas for a rate, and what each of them then does."""

    replicas: int
    each: float
    replica: ReplicaCapacity

    @property
    def utilisation(self) -> float:
        return self.each / self.replica.throughput_per_second

    @property
    def ttft_seconds(self) -> float:
        return self.replica.ttft_seconds(self.each)


def sized(
    rate: float = 4,
    targets: Targets = TARGETS,
    speed: EngineSpeed = SPEED,
    kv: int = 200_000,
    seqs: int = 64,
) -> Size:
    replica = replica_capacity(
        lambda _: speed, PROMPT, OUTPUT, targets, kv_cache_tokens=kv, max_num_seqs=seqs
    )
    replicas = replicas_for(rate, replica)
    return Size(replicas, rate / replicas, replica)


@pytest.mark.parametrize(("warm", "to_start", "waiting"), [(1, 19, 95), (3, 17, 85), (20, 0, 0)])
def test_the_capacity_plan_of_seed_004_is_reproduced(
    warm: int, to_start: int, waiting: int
) -> None:
    plan = capacity_plan(concurrent_requests=100, requests_per_replica=5, warm_replicas=warm)
    assert plan.target_replicas == 20
    assert plan.replicas_to_start == to_start
    assert plan.requests_waiting == waiting


def test_a_capacity_plan_refuses_replicas_that_take_no_request() -> None:
    with pytest.raises(ValueError, match="at least one request"):
        capacity_plan(10, 0, 1)


def test_lengths_are_lognormal_through_the_given_percentile() -> None:
    assert pytest.approx(4500) == PROMPT.percentile(95)
    assert PROMPT.share_below(4500) == pytest.approx(0.95)
    assert PROMPT.mean_up_to(1e12) == pytest.approx(1500)
    assert Lengths(100, 100).cv == 0
    assert Lengths(100).cv == pytest.approx(1)
    again = Lengths.with_cv(1500, PROMPT.cv)
    assert again.p95 == pytest.approx(4500)


def test_a_percentile_no_lognormal_has_still_is_the_percentile() -> None:
    heavy = Lengths(100, 100 * HEAVIEST_RATIO * 3)
    assert heavy.percentile(95) == pytest.approx(100 * HEAVIEST_RATIO * 3)
    assert heavy.sigma == pytest.approx(Lengths(100, 100 * HEAVIEST_RATIO).sigma)


@pytest.mark.parametrize("wrong", [(0, None), (10, 5)])
def test_lengths_that_cannot_be_are_refused(wrong: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match="mean"):
        Lengths(*wrong)


def test_the_size_keeps_its_targets_and_one_replica_less_does_not() -> None:
    size = sized(rate=20)
    assert size.replicas > 1
    assert size.ttft_seconds <= TARGETS.ttft_seconds
    fewer = 20 / (size.replicas - 1)
    assert fewer > size.replica.requests_per_second
    if fewer < size.replica.throughput_per_second:
        assert size.replica.ttft_seconds(fewer) > TARGETS.ttft_seconds


@pytest.mark.parametrize(
    ("bound", "limits"),
    [
        ("max-num-seqs", {"seqs": 8}),
        ("kv-cache", {"kv": 9_000}),
        ("tpot", {"targets": Targets(30, 0.012), "seqs": 512, "kv": 10**7}),
        ("ttft", {"targets": Targets(0.25, 0.5), "seqs": 256, "kv": 10**7}),
    ],
)
def test_what_binds_a_replica_is_named(bound: str, limits: dict[str, object]) -> None:
    assert sized(**limits).replica.bound == bound  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bound", "targets", "relief"),
    [("tpot", Targets(2, 0.005), Targets(2, 0.0074)), ("ttft", Targets(0.1, 1), Targets(0.5, 1))],
)
def test_a_target_no_number_of_replicas_keeps_is_refused_with_what_is_possible(
    bound: str, targets: Targets, relief: Targets
) -> None:
    with pytest.raises(UnreachableTargetError, match="cannot be kept") as caught:
        sized(targets=targets)
    assert caught.value.bound == bound
    assert sized(targets=relief).replicas >= 1


TARGET = st.builds(
    Targets,
    ttft_seconds=st.floats(0.5, 20),
    tpot_seconds=st.floats(0.01, 0.5),
    percentile=st.sampled_from([50, 90, 95, 99]),
)


@settings(max_examples=60, deadline=None)
@given(TARGET, st.floats(0.01, 500), st.floats(1, 5), st.integers(10_000, 10**6))
def test_more_traffic_never_needs_fewer_replicas_and_none_is_ever_overrun(
    targets: Targets, rate: float, factor: float, kv: int
) -> None:
    size, larger = (sized(r, targets, kv=kv) for r in (rate, rate * factor))
    assert larger.replicas >= size.replicas
    for found in (size, larger):
        assert found.utilisation < 1
        assert found.ttft_seconds <= targets.ttft_seconds * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(TARGET, st.floats(0.1, 100), st.floats(0.3, 1), st.sampled_from(["ttft", "tpot"]))
def test_a_stricter_target_never_needs_fewer_replicas(
    targets: Targets, rate: float, share: float, which: str
) -> None:
    stricter = Targets(
        targets.ttft_seconds * (share if which == "ttft" else 1),
        max(0.0085, targets.tpot_seconds * (share if which == "tpot" else 1)),
        targets.percentile,
    )
    try:
        assert sized(rate, stricter).replicas >= sized(rate, targets).replicas
    except UnreachableTargetError as error:
        assert error.bound in ("ttft", "tpot")


@settings(max_examples=60, deadline=None)
@given(TARGET, st.floats(0.1, 100), st.floats(1, 4))
def test_a_faster_engine_or_more_memory_never_needs_more_replicas(
    targets: Targets, rate: float, factor: float
) -> None:
    faster = EngineSpeed(
        SPEED.prefill_tokens_per_second * factor,
        SPEED.step_seconds / factor,
        SPEED.step_seconds_per_sequence / factor,
    )
    usual = sized(rate, targets).replicas
    assert sized(rate, targets, speed=faster).replicas <= usual
    assert sized(rate, targets, kv=400_000).replicas <= usual


@settings(max_examples=100, deadline=None)
@given(TARGET, st.integers(1, 300))
def test_what_so_many_replicas_carry_needs_no_more_of_them(targets: Targets, count: int) -> None:
    replica = sized(targets=targets).replica
    assert replicas_for(count * replica.requests_per_second, replica) == count
    assert replicas_for(count * replica.requests_per_second * 1.001, replica) == count + 1


def threshold(peak: float, start: float = 100, replicas: int = 1) -> WaitingThreshold:
    replica = replica_capacity(
        lambda _: SPEED, PROMPT, OUTPUT, TARGETS, kv_cache_tokens=200_000, max_num_seqs=64
    )
    return waiting_threshold(
        replica,
        TARGETS,
        replicas=replicas,
        peak_requests_per_second=peak,
        start_seconds=start,
        tolerance=0.1,
    )


def test_without_a_peak_the_queue_that_keeps_the_target_asks_with_the_tolerance_taken_off() -> None:
    found = threshold(peak=1)
    assert found.grown == 0
    assert found.requests == math.floor(found.tolerated / 1.1) > 1


def test_a_peak_that_outgrows_the_target_asks_at_the_first_waiting_request() -> None:
    found = threshold(peak=100)
    assert found.grown > found.tolerated
    assert found.requests == 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 50), st.floats(1, 3), st.floats(1, 600), st.integers(1, 20))
def test_a_higher_peak_or_a_slower_start_never_asks_later(
    peak: float, factor: float, start: float, replicas: int
) -> None:
    usual = threshold(peak, start, replicas).requests
    assert threshold(peak * factor, start, replicas).requests <= usual
    assert threshold(peak, start * factor, replicas).requests <= usual


@given(st.floats(0.01, 6))
@settings(deadline=None)
def test_requests_in_flight_are_the_rate_times_their_stay(rate: float) -> None:
    """Of n requests each waits for the prompts of the others between its tokens."""
    found = in_flight_at(rate, lambda _: SPEED, PROMPT, OUTPUT)

    def stay(running: int) -> float:
        reading = running * SPEED.prefill_seconds(PROMPT.mean)
        return reading + OUTPUT.mean * SPEED.tpot_seconds(running)

    assert found == 1 or found <= rate * stay(found)
    assert found + 1 > rate * stay(found + 1)
    assert found <= in_flight_at(rate + 0.1, lambda _: SPEED, PROMPT, OUTPUT)


def test_a_replica_at_its_throughput_has_its_whole_batch_in_flight() -> None:
    full = sized().replica
    found = in_flight_at(full.throughput_per_second, lambda _: SPEED, PROMPT, OUTPUT)
    assert abs(found - full.concurrency) <= 1


def test_what_no_replica_can_hold_is_not_counted_on() -> None:
    assert in_flight_at(1e9, lambda _: SPEED, PROMPT, OUTPUT) == MOST_IN_FLIGHT
