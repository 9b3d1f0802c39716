"""A cold start is as long as its critical path, and no lever that helps makes it longer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.catalog import Catalog, load
from coldstart.planning import Phase, Timeline, timeline
from coldstart.planning.cold_start import (
    PHASES,
    Case,
    ColdStart,
    baseline,
    interpolated,
    predict,
)
from coldstart.spec import CompileCache, ImageDelivery, OperatingSystem, WeightsPath

CATALOG = load()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Phase, ...]:
    count = draw(st.integers(1, 8))
    phases = []
    for number in range(count):
        before = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        seconds = draw(st.floats(0, 1000))
        after = tuple(f"p{i}" for i in sorted(before))
        phases.append(Phase(f"p{number}", f"phase {number}", seconds, after, "drawn"))
    return tuple(phases)


def assert_sound(line: Timeline) -> None:
    seconds = [phase.seconds for phase in line.phases]
    assert max(seconds) <= line.total_seconds + 1e-6
    assert line.total_seconds <= sum(seconds) + 1e-6
    path = [line.phase(key) for key in line.critical_path]
    assert path[0].after == () or line.starts[path[0].key] == 0
    assert all(before.key in after.after for before, after in pairwise(path))
    assert sum(phase.seconds for phase in path) == pytest.approx(line.total_seconds)
    assert line.end(line.critical_path[-1]) == pytest.approx(line.total_seconds)


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_the_critical_path_is_connected_and_sums_to_the_total(phases: tuple[Phase, ...]) -> None:
    assert_sound(timeline(phases))


@settings(max_examples=80, deadline=None)
@given(graphs(), st.integers(0, 7), st.floats(0, 100))
def test_a_longer_phase_never_makes_the_start_shorter(
    phases: tuple[Phase, ...], which: int, more: float
) -> None:
    slower = list(phases)
    chosen = which % len(phases)
    slower[chosen] = replace(phases[chosen], seconds=phases[chosen].seconds + more)
    assert timeline(slower).total_seconds >= timeline(phases).total_seconds - 1e-6


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_no_phase_starts_before_what_it_waits_for(phases: tuple[Phase, ...]) -> None:
    line = timeline(phases)
    for phase in phases:
        assert all(line.starts[phase.key] >= line.end(key) for key in phase.after)


def test_a_cycle_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="does not come before it"):
        timeline([Phase("a", "a", 1, ("b",), "x"), Phase("b", "b", 1, ("a",), "x")])


def test_a_negative_duration_and_an_empty_timeline_are_refused() -> None:
    with pytest.raises(ValueError, match="takes -1 s"):
        timeline([Phase("a", "a", -1, (), "x")])
    with pytest.raises(ValueError, match="at least one phase"):
        timeline([])


def faster(catalog: Catalog, factor: float) -> Catalog:
    """The same world with every rate times `factor`."""
    figures = {
        key: figure.model_copy(update={"bytes_per_second": figure.bytes_per_second * factor})
        if figure.bytes_per_second
        else figure
        for key, figure in catalog.figures.items()
    }
    return replace(catalog, figures=figures)


def every_start(instance: str = "g6e.xlarge", model: str = "Qwen/Qwen3-8B") -> list[ColdStart]:
    return [
        ColdStart(
            CATALOG.instance(instance), os, image, 9_000_000_000, CATALOG.model(model), way, mode
        )
        for os, image, way, mode in product(
            OperatingSystem, ImageDelivery, WeightsPath, CompileCache
        )
    ]


def test_every_way_to_start_has_a_sound_timeline_with_a_source_for_each_phase() -> None:
    for start, case in product(every_start(), Case):
        line = predict(start, CATALOG, case)
        assert_sound(line)
        assert all(phase.source for phase in line.phases)
        assert {phase.key for phase in line.phases} <= set(PHASES)
        assert line.phases[0].key == ("wake" if case is Case.FROM_ZERO else "signal")
        assert line.critical_path[-1] == "ready"


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(every_start()), st.floats(1, 100), st.floats(1, 100))
def test_more_bandwidth_never_makes_a_start_slower(
    start: ColdStart, network: float, rates: float
) -> None:
    mbps = round(start.instance.network_mbps * network)
    wider = replace(start, instance=start.instance.model_copy(update={"network_mbps": mbps}))
    catalog = faster(CATALOG, rates)
    for plan in (predict, baseline):
        now = plan(start, CATALOG).total_seconds
        assert plan(wider, CATALOG).total_seconds <= now + 1e-6
        assert plan(start, catalog).total_seconds <= now + 1e-6


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(every_start()), st.integers(0, 10**10))
def test_a_larger_image_never_starts_sooner(start: ColdStart, more: int) -> None:
    larger = replace(start, image_bytes=start.image_bytes + more)
    for case in Case:
        now = predict(start, CATALOG, case).total_seconds
        assert predict(larger, CATALOG, case).total_seconds >= now


def test_a_golden_cache_never_makes_a_start_slower_than_compiling() -> None:
    for start in every_start():
        if start.compile_cache is CompileCache.GOLDEN:
            cold = predict(replace(start, compile_cache=CompileCache.NONE), CATALOG)
            assert predict(start, CATALOG).total_seconds <= cold.total_seconds


def test_staging_runs_beside_the_image_pull_and_the_engine_waits_for_both() -> None:
    start = next(s for s in every_start() if s.weights is WeightsPath.LOCAL)
    line = predict(start, CATALOG)
    assert line.starts["stage"] == line.starts["image"]
    assert line.starts["process"] == max(line.end("stage"), line.end("image"))
    plain = baseline(start, CATALOG)
    assert plain.starts["image"] == plain.end("stage")


def test_a_peer_mirror_gives_the_first_node_nothing() -> None:
    for start in every_start():
        first = predict(start, CATALOG, Case.FIRST_NODE)
        stock = replace(start, image_delivery=ImageDelivery.REGISTRY)
        registry = predict(stock, CATALOG, Case.FIRST_NODE)
        if start.image_delivery is ImageDelivery.PEER:
            assert first.phase("image").seconds == registry.phase("image").seconds
            assert predict(start, CATALOG).phase("image").seconds < first.phase("image").seconds


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 500))
def test_a_figure_between_two_sizes_lies_between_their_figures(billion: float) -> None:
    for prefix in ("compile.cold.", "compile.warm.", "graphs."):
        known = [f.seconds_p50 for k, f in CATALOG.figures.items() if k.startswith(prefix)]
        seconds, source = interpolated(prefix, billion, CATALOG)
        assert min(s for s in known if s is not None) <= seconds
        assert seconds <= max(s for s in known if s is not None)
        assert source


# "The GPU Cold Starts Nobody Warns You About: Autoscaling LLM Inference on Kubernetes" counts
# 130 GB of weights over a 10 Gbps network as 104 seconds.
def test_130_gb_over_a_10_gbps_network_take_104_seconds() -> None:
    instance = CATALOG.instance("g6e.xlarge").model_copy(update={"network_mbps": 10_000})
    model = CATALOG.model("meta-llama/Llama-3.3-70B-Instruct")
    weights = {**model.weight_bytes, model.native_precision: 130 * 10**9}
    start = replace(
        next(s for s in every_start() if s.weights is WeightsPath.STREAM),
        instance=instance,
        model=model.model_copy(update={"weight_bytes": weights}),
    )
    assert predict(start, faster(CATALOG, 1000)).phase("load").seconds == pytest.approx(104)
