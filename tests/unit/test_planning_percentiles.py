"""Percentiles come through the graph, and what was measured takes the place of what was read."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import L40S, SMALL, planned, refused
from test_planning_timeline import CATALOG, every_start, faster

from coldstart.planning import Phase, timeline
from coldstart.planning import percentiles as module
from coldstart.planning.cold_start import MEASURED, PHASES, Case, baseline, predict
from coldstart.planning.distribution import Distribution, from_measurement, from_range
from coldstart.planning.percentiles import percentile, percentiles, sampled_ends

Z95 = 1.6448536269514722
SECONDS = st.floats(0.1, 1000)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    low, middle, high = sorted(draw(SECONDS) for _ in range(3))
    return Distribution(low, middle, high, draw(st.sampled_from((0.0, 50.0))))


@st.composite
def spread_graphs(draw: st.DrawFn) -> tuple[Phase, ...]:
    phases = []
    for number in range(draw(st.integers(1, 7))):
        before = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        spread = draw(st.none() | distributions())
        seconds = spread.seconds(0) if spread else draw(SECONDS)
        after = tuple(f"p{index}" for index in sorted(before))
        phases.append(Phase(f"p{number}", f"phase {number}", seconds, after, "drawn", spread))
    return tuple(phases)


@settings(max_examples=60, deadline=None)
@given(distributions())
def test_a_distribution_goes_through_its_three_points(found: Distribution) -> None:
    points = (found.p05_seconds, found.p50_seconds, found.p95_seconds)
    for score, point in zip((-Z95, 0.0, Z95), points, strict=True):
        assert found.seconds(score) == pytest.approx(max(found.floor_seconds, point))


@settings(max_examples=60, deadline=None)
@given(distributions(), st.floats(-3, 3), st.floats(0, 3))
def test_a_higher_share_of_starts_never_takes_less(
    found: Distribution, score: float, more: float
) -> None:
    assert 0 <= found.seconds(score) <= found.seconds(score + more) + 1e-9


def test_a_phase_that_may_take_no_time_at_all_is_drawn_all_the_same() -> None:
    found = from_measurement(0, 10)
    assert [found.seconds(z) for z in (-Z95, 0.0)] == [0, 0]
    assert found.seconds(Z95) == pytest.approx(10)


@pytest.mark.parametrize("points", [(3, 2, 4), (1, 2, 1), (-1, 2, 3), (1, 2, math.inf)])
def test_points_that_are_no_distribution_are_refused(points: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three ascending durations"):
        Distribution(*points)


def test_a_published_range_is_carried_over_in_proportion_and_none_is_invented() -> None:
    assert from_range(90, 30, 45, 60) == Distribution(60, 90, 120)
    assert from_range(90, None, 45, 60) == Distribution(90, 90, 120)
    assert from_range(90, None, 45, None) is None


@settings(max_examples=60, deadline=None)
@given(spread_graphs())
def test_percentiles_lie_between_the_longest_phase_and_the_sum(phases: tuple[Phase, ...]) -> None:
    found = percentiles(timeline(phases))
    assert found.p50_seconds <= found.p95_seconds <= found.p99_seconds
    slow = sum(p.spread.seconds(4) if p.spread else p.seconds for p in phases)
    fast = max(p.spread.seconds(-4) if p.spread else p.seconds for p in phases)
    assert fast - 1e-6 <= found.p50_seconds and found.p99_seconds <= slow + 1e-6
    ends = list(sampled_ends(timeline(phases)).values())
    assert found.p99_seconds <= max(map(max, ends))


@settings(max_examples=60, deadline=None)
@given(spread_graphs(), st.integers(0, 6), st.floats(1, 3))
def test_a_phase_that_takes_longer_at_every_percentile_shortens_no_percentile(
    phases: tuple[Phase, ...], which: int, factor: float
) -> None:
    slower = list(phases)
    phase = phases[which % len(phases)]
    points = ("p05_seconds", "p50_seconds", "p95_seconds", "floor_seconds")
    spread = phase.spread and Distribution(*(factor * getattr(phase.spread, p) for p in points))
    slower[which % len(phases)] = replace(phase, seconds=phase.seconds * factor, spread=spread)
    now, then = percentiles(timeline(phases)), percentiles(timeline(slower))
    assert then.p50_seconds >= now.p50_seconds - 1e-6
    assert then.p95_seconds >= now.p95_seconds - 1e-6


def test_two_phases_at_once_count_by_the_longer_and_in_turn_by_their_sum() -> None:
    varies = Distribution(5, 10, 20)
    one = Phase("a", "a", 10, (), "x", varies)
    beside, after = (Phase("b", "b", 10, before, "x", varies) for before in ((), ("a",)))
    alone = percentiles(timeline([one]))
    both, turns = percentiles(timeline([one, beside])), percentiles(timeline([one, after]))
    assert alone.p50_seconds == pytest.approx(10, rel=0.02)
    assert alone.p95_seconds == pytest.approx(20, rel=0.03)
    # The longer of two: its median is where one alone has sqrt(1/2), z = 0.545.
    assert both.p50_seconds == pytest.approx(varies.seconds(0.545), rel=0.04)
    assert both.p95_seconds < turns.p95_seconds < 2 * alone.p95_seconds


def test_phases_without_a_published_range_are_named_and_count_as_constant() -> None:
    still = timeline([Phase("a", "a", 7, (), "x"), Phase("b", "b", 0, ("a",), "x")])
    assert percentiles(still) == module.Percentiles(7, 7, 7, ("a",))


def test_more_samples_move_the_percentiles_by_less_than_two_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [planned().models[name].first_node for name in ("qwen3-8b", "qwen3-32b")]
    few = [percentiles(line) for line in lines]
    monkeypatch.setattr(module, "SAMPLES", 8192)
    module._scores.cache_clear()
    module._percentiles.cache_clear()
    many = [percentiles(line) for line in lines]
    module._scores.cache_clear()
    module._percentiles.cache_clear()
    for one, other in zip(few, many, strict=True):
        assert one.p50_seconds == pytest.approx(other.p50_seconds, rel=0.02)
        assert one.p95_seconds == pytest.approx(other.p95_seconds, rel=0.02)


def test_the_same_timeline_always_has_the_same_percentiles() -> None:
    line = planned().models["qwen3-8b"].cold_start
    module._percentiles.cache_clear()
    first = percentiles(line)
    module._percentiles.cache_clear()
    assert percentiles(line) == first
    assert percentile([3, 1, 2], 0.5) == 2


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(every_start()), st.floats(1, 100), st.floats(1, 100))
def test_more_bandwidth_makes_no_percentile_longer(start, network: float, rates: float) -> None:
    mbps = round(start.instance.network_mbps * network)
    wider = replace(start, instance=start.instance.model_copy(update={"network_mbps": mbps}))
    for plan in (predict, baseline):
        now = percentiles(plan(start, CATALOG))
        for line in (plan(wider, CATALOG), plan(start, faster(CATALOG, rates))):
            assert percentiles(line).p95_seconds <= now.p95_seconds + 1e-6
            assert percentiles(line).p50_seconds <= now.p50_seconds + 1e-6


# Cases.


def test_from_zero_is_pushed_and_the_next_replica_is_polled() -> None:
    for start in every_start():
        zero, first = (predict(start, CATALOG, c) for c in (Case.FROM_ZERO, Case.FIRST_NODE))
        assert zero.phases[0].key == "wake" and zero.phases[1].after == ("wake",)
        polled = CATALOG.figure("signal.keda.prometheus").seconds_p50
        pushed = CATALOG.figure("signal.keda.push").seconds_p50
        assert polled and pushed
        assert first.total_seconds - zero.total_seconds == pytest.approx(polled - pushed)


def test_a_warm_node_is_never_slower_than_a_fresh_one_and_the_baseline_is_the_slowest() -> None:
    for start in every_start():
        lines = {case: predict(start, CATALOG, case).total_seconds for case in Case}
        assert lines[Case.WARM_NODE] == min(lines.values())
        assert lines[Case.NEXT_REPLICA] <= lines[Case.FIRST_NODE]
        assert max(lines.values()) <= baseline(start, CATALOG).total_seconds


# Measurements.


def measured(**seconds: tuple[str, str]) -> dict:
    given = {key: {"p50": p50, "p95": p95} for key, (p50, p95) in seconds.items()}
    return {(*SMALL, "measurements"): given}


def test_a_measured_phase_takes_the_place_of_the_published_one_and_says_so() -> None:
    model = planned(measured(node=("41s", "66s"), load=("2s", "3s"))).models["qwen3-8b"]
    for line in (model.cold_start, model.first_node, model.from_zero):
        node = line.phase("node")
        assert (node.seconds, node.p95_seconds, node.source) == (41, pytest.approx(66), MEASURED)
        assert line.phase("load").seconds == 2
        assert line.phase("process").source != MEASURED


def test_a_measurement_is_of_the_plan_and_does_not_change_its_baseline() -> None:
    plain = planned().models["qwen3-8b"]
    changes = measured(node=("1s", "2s"), image=("1s", "2s"), stage=("1s", "2s"), load=("1s", "2s"))
    model = planned(changes | {(*L40S, "os"): "bottlerocket"}).models["qwen3-8b"]
    assert model.baseline.total_seconds == plain.baseline.total_seconds
    imports = planned(measured(process=("1s", "2s"))).models["qwen3-8b"]
    assert imports.baseline.phase("process").source == MEASURED
    assert model.warm_node.phase("image").seconds == 0


def test_the_startup_probe_covers_a_start_without_archive_though_the_archive_was_measured() -> None:
    quick = planned(measured(compile=("1s", "2s"))).models["qwen3-8b"]
    assert quick.cold_start.phase("compile").seconds == 1
    assert quick.probe == planned().models["qwen3-8b"].probe


def test_a_measurement_can_break_a_budget() -> None:
    assert "4 min 0 s cannot be kept" in refused(measured(node=("200s", "300s")))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("imge", '"imge" is no phase of a cold start; did you mean "image"?'),
        ("xyzzy", "Phases: " + ", ".join(PHASES) + "."),
        ("mount", "this plan has no such phase (driver and mount of the shared file system)"),
        ("device", "it has signal, wake, node, stager, stage, image, process"),
    ],
)
def test_a_measurement_of_no_phase_is_an_error_with_those_there_are(key: str, says: str) -> None:
    said = refused(measured(**{key: ("1s", "2s")}))
    assert f"models.qwen3-8b.measurements.{key}" in said.replace("\n", " ")
    assert says in said


def test_every_phase_of_every_plan_can_be_measured() -> None:
    seen = {p.key for s, c in product(every_start(), Case) for p in predict(s, CATALOG, c).phases}
    al2023 = {
        phase.key
        for start in every_start("p4d.24xlarge", "Qwen/Qwen3-32B")
        for phase in predict(start, CATALOG).phases
    }
    assert seen | al2023 == set(PHASES)
