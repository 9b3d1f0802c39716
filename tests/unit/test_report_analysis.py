"""What a report shows beside the plan is what the plan's own arithmetic says."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_scenes import fixed, trace
from stack_examples import SMALL, planned
from typer.testing import CliRunner

from coldstart.capacity.sizing import replicas_for
from coldstart.capacity.warm import warm_choice
from coldstart.catalog import Catalog, load
from coldstart.cli.app import app
from coldstart.planning import LoadPlan, StackPlan, plan_stack
from coldstart.planning.alternatives import replica_usd_per_hour
from coldstart.planning.levers import levers
from coldstart.planning.warm import surges_of
from coldstart.planning.whatif import best_levers
from coldstart.report.analysis import capacity_of, pictures
from coldstart.report.break_even import by_token_of
from coldstart.report.series import Pictures
from coldstart.simulation import simulate
from coldstart.spec import load_stack

ROOT = Path(__file__).parents[2]
CATALOG = load()
NAME = "qwen3-8b"
TRAFFIC: dict[str, Any] = {
    "requestsPerSecond": 2,
    "peakRequestsPerSecond": 9,
    "promptTokens": {"mean": 1500, "p95": 4500},
    "outputTokens": {"mean": 300, "p95": 900},
}
LOAD = {(*SMALL, "traffic"): TRAFFIC, (*SMALL, "slo"): {"ttft": "2s", "tpot": "50ms"}}
LOADED = planned(LOAD)
STACK_LINES = """      traffic:
        requestsPerSecond: 1
        peakRequestsPerSecond: 4
        promptTokens: {mean: 1500}
        outputTokens: {mean: 300}
"""


def shown(plan: StackPlan = LOADED, catalog: Catalog = CATALOG, **more: Any) -> Pictures:
    return pictures(plan, catalog, **more)


def load_of(plan: StackPlan) -> LoadPlan:
    found = plan.models[NAME].load
    assert found is not None
    return found


def test_without_traffic_only_levers_are_shown() -> None:
    found = shown(planned())
    assert [item.model for item in found.levers] == ["qwen3-32b", "qwen3-8b"]
    assert found == Pictures(levers=found.levers)


def test_only_the_models_asked_for_are_shown() -> None:
    found = shown(models=["qwen3-32b"])
    assert [item.model for item in found.levers] == ["qwen3-32b"]
    assert found.capacity == found.warm == found.break_even == ()


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-32b"])
def test_levers_are_those_of_the_plan_and_then_the_best_that_are_left(name: str) -> None:
    found = next(item for item in shown().levers if item.model == name)
    own = levers(LOADED, name, CATALOG)
    used = {row.lever: row for row in found.rows if row.used}
    assert {
        key: (row.alone_seconds, row.saved_seconds, row.usd_per_hour, row.seconds_per_usd)
        for key, row in used.items()
    } == {
        f"{row.key}: {row.value}": (
            row.alone_seconds,
            row.lost_seconds,
            row.usd_per_hour,
            row.seconds_per_usd,
        )
        for row in own.rows
    }
    saved = [row.saved_seconds for row in used.values()]
    assert saved == sorted(saved, reverse=True)
    rest = [row for row in found.rows if not row.used]
    assert [(row.lever, row.saved_seconds, row.usd_per_hour) for row in rest] == [
        (row.name, row.saved_seconds, row.usd_per_hour)
        for row in best_levers(LOADED.spec, name, CATALOG)
    ]
    assert (found.none_seconds, found.together_seconds) == (
        own.none.total_seconds,
        own.together.total_seconds,
    )


def test_capacity_goes_up_to_the_limit_and_names_both_rates() -> None:
    (found,) = shown().capacity
    replica = load_of(LOADED).replica
    assert (found.expected_per_second, found.peak_per_second) == (2, 9)
    assert found.most_replicas == LOADED.models[NAME].scaling.max_replicas == 6
    at = {row.arrivals_per_second: row for row in found.rows}
    assert [at[n * replica.requests_per_second].replicas for n in range(1, 7)] == list(range(1, 7))
    assert (at[2].replicas, at[9].replicas) == (
        load_of(LOADED).replicas,
        load_of(LOADED).peak_replicas,
    )


@settings(max_examples=50, deadline=None)
@given(rate=st.floats(0.1, 200.0), more=st.floats(0.0, 50.0), limit=st.integers(1, 200))
def test_every_capacity_row_is_what_sizing_says(rate: float, more: float, limit: int) -> None:
    model = LOADED.models[NAME]
    model = dataclasses.replace(
        model, scaling=dataclasses.replace(model.scaling, max_replicas=limit)
    )
    replica = load_of(LOADED).replica
    peak = rate + more
    asked = dataclasses.replace(
        load_of(LOADED),
        requests_per_second=rate,
        peak_requests_per_second=peak,
        replicas=replicas_for(rate, replica),
        peak_replicas=replicas_for(peak, replica),
    )
    found = capacity_of(model, asked)
    rates = [row.arrivals_per_second for row in found.rows]
    assert rates == sorted(rates) and {0.0, rate, peak} <= set(rates)
    assert len(rates) <= 45
    for row in found.rows[1:]:
        each = row.arrivals_per_second / row.replicas
        exact = replicas_for(row.arrivals_per_second, replica)
        assert row.replicas in (exact, exact - 1)
        assert each <= replica.requests_per_second * (1 + 1e-8)
        assert row.utilisation == each / replica.throughput_per_second
        assert row.ttft_seconds == replica.ttft_seconds(each)
        assert replica.ttft_seconds(each) < 2.0 + 1e-6


def test_without_targets_no_time_to_first_token_is_claimed() -> None:
    (found,) = shown(planned({(*SMALL, "traffic"): TRAFFIC})).capacity
    assert all(row.ttft_seconds is None for row in found.rows)
    assert "no slo is given" in found.remark


def test_a_rise_counts_only_above_what_mean_traffic_keeps_running() -> None:
    load = load_of(LOADED)
    found = surges_of(load, LOADED.models[NAME].scaling.max_replicas)
    assert found and all(surge.replicas > load.replicas for surge in found)
    assert found[-1].replicas == load.peak_replicas
    assert found[-1].per_day == 1.0


def test_warm_capacity_is_what_the_costs_of_the_plan_say() -> None:
    (found,) = shown().warm
    model, load = LOADED.models[NAME], load_of(LOADED)
    pool = LOADED.pools[model.pool]
    surges, priced = surges_of(load, model.scaling.max_replicas), model.warm_costs
    assert priced is not None
    assert [p.warm_replicas for p in found.points] == list(range(load.replicas, 7))
    for point in found.points:
        choice = warm_choice(surges, priced, replicas=point.warm_replicas, nodes=pool.warm_nodes)
        assert point.idle_usd_per_hour == choice.idle_usd_per_hour
        assert point.violated_seconds_per_hour == choice.violated_seconds_per_hour
    assert found.chosen_replicas == load.replicas > model.scaling.min_replicas
    assert "a jump to the peak of 9 once a day" in found.remark


def test_without_a_price_neither_warm_capacity_nor_break_even_is_shown() -> None:
    unpriced = dataclasses.replace(CATALOG, prices={})
    found = shown(planned(LOAD, catalog=unpriced), unpriced)
    assert found.warm == found.break_even == ()
    assert found.capacity


def test_a_break_even_is_shown_against_each_kind_of_price_that_is_known() -> None:
    def kinds(**without: Any) -> list[str]:
        found = shown(catalog=dataclasses.replace(CATALOG, **without)).break_even
        return [even.billed for even in found]

    assert kinds() == ["by the token", "by the second"]
    assert kinds(token_prices={}) == ["by the second"]
    assert kinds(gpu_second_prices={}) == ["by the token"]
    assert kinds(token_prices={}, gpu_second_prices={}) == []


def test_lines_by_the_second_are_those_of_the_breakeven_command(root: Path) -> None:
    words = ["--stack", "eks-prod", "--model", NAME, "--root", str(root), "--json"]
    told = json.loads(CliRunner().invoke(app, ["breakeven", *words]).stdout)
    plan = plan_stack(load_stack(root, "eks-prod"))
    _, found = shown(plan).break_even
    assert [line.name for line in found.serverless] == ["runpod", "modal"]
    at = {way["provider"]: way["breakEvenRequestsPerSecond"] for way in told["bySecond"]}
    assert {c.name: c.x for c in found.crossings} == {
        name: pytest.approx(3600 * rate) for name, rate in at.items()
    }
    usd = told["replicaUsdPerHour"]
    for crossing, line in zip(found.crossings, found.serverless, strict=True):
        assert dict(line.points)[crossing.x] == pytest.approx(usd)
        assert line.points[0] == (0.0, 0.0)
        heights = [y for _, y in line.points]
        assert heights == sorted(heights)
        assert line.points[-1][0] == pytest.approx(2 * max(c.x for c in found.crossings))
    cheapest = told["atRate"]["bySecondUsdPerHour"]
    assert f"runpod ${cheapest:.2f}" in found.remark


def test_gpus_by_the_second_that_are_never_dearer_are_drawn_to_the_peak() -> None:
    prices = {
        key: price.model_copy(update={"usd_per_second": price.usd_per_second / 2})
        for key, price in CATALOG.gpu_second_prices.items()
    }
    _, found = shown(catalog=dataclasses.replace(CATALOG, gpu_second_prices=prices)).break_even
    assert found.crossings == ()
    assert found.dedicated.points[-1][0] == pytest.approx(1.25 * 9 * 3600)
    assert {line.points[-1][0] for line in found.serverless} == {found.dedicated.points[-1][0]}


def test_every_price_of_a_break_even_is_among_the_sources(root: Path) -> None:
    code, page = report(root)
    assert code == 0, page
    sources = page.partition('id="sources"')[2]
    assert "novita, tokens of qwen3-8b" in sources
    assert "modal, seconds of nvidia-l40s-48gb" in sources
    assert 'href="https://modal.com/pricing"' in sources
    assert 'id="break-even-by-the-second-qwen3-8b"' in page


def dearer(factor: float) -> Catalog:
    """The catalog with tokens that cost so many times as much."""
    prices = {
        key: price.model_copy(
            update={
                "input_usd_per_million": price.input_usd_per_million * factor,
                "output_usd_per_million": price.output_usd_per_million * factor,
            }
        )
        for key, price in CATALOG.token_prices.items()
    }
    return dataclasses.replace(CATALOG, token_prices=prices)


def test_break_even_lines_are_what_requests_cost_by_the_hour_and_by_the_token() -> None:
    found, _ = shown().break_even
    usd = replica_usd_per_hour(LOADED, NAME, CATALOG)
    assert usd is not None
    capacity = load_of(LOADED).replica.requests_per_second
    assert [line.name for line in found.serverless] == ["novita", "siliconflow"]
    for x, y in found.dedicated.points[1:]:
        replicas = x / 3600 / capacity
        assert y / usd in (pytest.approx(int(replicas)), pytest.approx(int(replicas) + 1))
    novita = CATALOG.token_prices["novita", "Qwen/Qwen3-8B"]
    each = (1500 * novita.input_usd_per_million + 300 * novita.output_usd_per_million) / 1e6
    for x, y in found.serverless[0].points:
        assert y == pytest.approx(x * each)
    assert found.crossings == ()
    assert "Against novita it would have to take" in found.remark


def test_a_crossing_is_where_one_replica_costs_what_its_requests_do() -> None:
    catalog = dearer(5)
    found, _ = shown(catalog=catalog).break_even
    usd = replica_usd_per_hour(LOADED, NAME, catalog)
    assert len(found.crossings) == 2
    for crossing, line in zip(found.crossings, found.serverless, strict=True):
        slope = line.points[-1][1] / line.points[-1][0]
        assert crossing.usd_per_hour == usd == pytest.approx(crossing.x * slope)
        assert crossing.x < found.dedicated.points[-1][0]
    assert "would have to take" not in found.remark


def test_no_more_offers_are_drawn_than_lines_can_be_told_apart() -> None:
    big = ("coldstart:models", "qwen3-32b")
    found, _ = shown(
        planned({(*big, "traffic"): {**TRAFFIC, "peakRequestsPerSecond": 3}})
    ).break_even
    offers = CATALOG.token_prices_of("Qwen/Qwen3-32B")
    assert len(found.serverless) == 3 < len(offers)
    last = [line.points[-1][1] for line in found.serverless]
    assert last == sorted(last)
    assert f"{len(offers) - 3} dearer offers are left out" in found.remark


def test_both_sides_of_a_further_replica_are_drawn() -> None:
    found, _ = shown().break_even
    capacity = load_of(LOADED).replica.requests_per_second * 3600
    heights = [y for x, y in found.dedicated.points if x == pytest.approx(capacity)]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(2 * heights[0])


@pytest.mark.parametrize("capacity", [1.4591, 1.1, 0.1, 2.5538, 7.3])
def test_the_cost_of_replicas_goes_up_in_steps_and_never_in_a_slope(capacity: float) -> None:
    load = load_of(LOADED)
    replica = dataclasses.replace(load.replica, requests_per_second=capacity)
    load = dataclasses.replace(load, replica=replica, peak_requests_per_second=30 * capacity)
    found = by_token_of(LOADED, NAME, load, CATALOG)
    assert found is not None
    points = found.dedicated.points
    for (x, y), (next_x, next_y) in pairwise(points):
        assert y == next_y or next_x == pytest.approx(x, rel=1e-8)
    assert points[-1][1] == pytest.approx(38 * points[0][1])


def test_a_simulation_is_shown_by_interval_with_the_target_of_the_model() -> None:
    result = simulate(fixed(trace([(float(i), 100, 20) for i in range(60)])))
    moving = tuple(dataclasses.replace(p, ready_replicas=i) for i, p in enumerate(result.series))
    result = dataclasses.replace(result, series=moving)
    found = shown(simulations={NAME: result}, traces={NAME: "Sixty requests."})
    (run,) = found.simulations
    assert len(run.points) == len(result.series) - 1
    assert [p.seconds for p in run.points] == [p.seconds for p in result.series[:-1]]
    assert [p.ttft_p95_seconds for p in run.points] == [
        p.ttft_p95_seconds for p in result.series[1:]
    ]
    assert [p.replicas_ready for p in run.points] == [p.ready_replicas for p in result.series[:-1]]
    assert run.ttft_target_seconds == 2.0
    assert run.remark == "Sixty requests."
    assert dict(run.totals)["requests"] == "60"
    assert not [name for name, _ in run.totals if name.startswith("starts on")]
    started = dataclasses.replace(result, cold_starts={"first": 0, "fresh": 3, "warm": 6})
    (run,) = shown(simulations={NAME: started}).simulations
    assert [total for total in run.totals if total[0].startswith("starts on")] == [
        ("starts on a fresh node", "3"),
        ("starts on a warm node", "6"),
    ]
    assert shown(models=["qwen3-32b"], simulations={NAME: result}).simulations == ()


def test_each_interval_has_the_time_to_first_token_of_the_requests_that_came_in_it() -> None:
    result = simulate(fixed(trace([(0.5, 100, 20), (30.0, 50_000, 20)])))
    measured = [p.ttft_p95_seconds for p in result.series if p.ttft_p95_seconds is not None]
    assert len(measured) == 2
    assert result.ttft_seconds is not None
    assert max(measured) == result.ttft_seconds.most
    assert measured[0] < measured[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose eks-prod names the traffic of its last model, a small one."""
    text = (ROOT / "stacks/Pulumi.eks-prod.yaml").read_text(encoding="utf-8")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/Pulumi.eks-prod.yaml").write_text(text + STACK_LINES, encoding="utf-8")
    return tmp_path


def report(root: Path, *arguments: str) -> tuple[int, str]:
    page = root / "page.html"
    result = CliRunner().invoke(
        app, ["report", "eks-prod", "--root", str(root), "--output", str(page), *arguments]
    )
    return result.exit_code, page.read_text("utf-8") if result.exit_code == 0 else result.stderr


def test_the_report_of_a_model_with_traffic_has_every_section_but_a_simulation(
    root: Path,
) -> None:
    code, page = report(root)
    assert code == 0, page
    for key in ("levers", "capacity", "warm", "break-even"):
        assert f'href="#{key}"' in page
    assert 'href="#simulation"' not in page
    assert "half of all starts within" in page
    assert "Without any lever a start of qwen3-32b takes" in page


def test_a_model_left_out_of_the_report_is_left_out_of_its_pictures(root: Path) -> None:
    code, page = report(root, "--model", "qwen3-32b")
    assert code == 0, page
    assert 'href="#levers"' in page
    assert 'href="#capacity"' not in page
    assert "levers-qwen3-8b" not in page


def test_a_simulation_of_a_made_up_trace_says_that_it_is_made_up(root: Path) -> None:
    code, page = report(root, "--simulate", "qwen3-8b")
    assert code == 0, page
    assert 'href="#simulation"' in page
    assert "The trace is made up" in page
    assert "a rise to its peak of 4 requests a second" in page


def test_a_simulation_of_a_trace_names_its_file(root: Path) -> None:
    file = root / "small.csv"
    file.write_text("arrival_seconds,prompt_tokens,output_tokens\n1,100,20\n5,100,20\n")
    code, page = report(root, "--simulate", "qwen3-32b", "--trace", str(file))
    assert code == 0, page
    assert "The trace small.csv was replayed." in page


BAD = [
    (("--simulate", "qwen3-9b"), "--simulate: 'qwen3-9b' is none of them."),
    (("--trace", "x.csv"), "--simulate: which of them?"),
    (("--simulate", "qwen3-32b"), "no trace of qwen3-32b: give --trace FILE"),
    (
        ("--simulate", "qwen3-8b", "--model", "qwen3-32b"),
        "--simulate: qwen3-8b is not shown",
    ),
    (
        ("--simulate", "qwen3-8b", "--simulate", "qwen3-32b", "--trace", "x.csv"),
        "--trace: a trace is of one model",
    ),
    (("--simulate", "qwen3-8b", "--trace", "no-such.csv"), "no-such.csv: no such file"),
    (("--simulate", "qwen3-8b", "--starts-at", "noon"), "--starts-at: 'noon' is not a time"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_what_cannot_be_simulated_is_refused_in_one_clear_line(
    root: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, error = report(root, *arguments)
    assert (code, message in error) == (2, True), error
    assert len(error.splitlines()) == 1
