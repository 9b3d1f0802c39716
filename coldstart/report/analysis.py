"""What a plan says beyond its decisions, as numbers for pictures and tables.

Nothing is computed here that the plan's own arithmetic does not know: results are only arranged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from coldstart.capacity.breakeven import Case, Costs, curve
from coldstart.capacity.sizing import ReplicaCapacity, replicas_for
from coldstart.capacity.warm import WarmCosts, warm_curve
from coldstart.catalog import Catalog, TokenPrice
from coldstart.planning import StackPlan
from coldstart.planning.alternatives import replica_usd_per_hour
from coldstart.planning.levers import levers
from coldstart.planning.load import ESTIMATE
from coldstart.planning.model import ModelPlan
from coldstart.planning.operation_plan import LoadPlan
from coldstart.planning.warm import surges_of
from coldstart.planning.whatif import best_levers
from coldstart.report.series import (
    BreakEven,
    CapacityPlan,
    CapacityRow,
    Crossing,
    Curve,
    LeverRow,
    Levers,
    Pictures,
    SimulationRun,
    TimePoint,
    WarmCurve,
    WarmPoint,
)
from coldstart.units import format_seconds

if TYPE_CHECKING:
    from coldstart.simulation.result import SimulationResult

MOST_OFFERS = 3
"""Serverless prices in one picture, the cheapest: it has four styles of line."""
MOST_STEPS = 40
"""Numbers of replicas in one picture, above which only every second, third … is drawn."""
HOURS = 3600


def pictures(
    plan: StackPlan,
    catalog: Catalog,
    *,
    models: Sequence[str] = (),
    simulations: Mapping[str, SimulationResult] | None = None,
    traces: Mapping[str, str] | None = None,
) -> Pictures:
    """Everything a report can show of `models` (all when none is named) beside the plan.

    Capacity, warm capacity and break-even are of models with traffic, and where prices are known.
    `simulations` are by model, `traces` what was replayed, in words. KeyError for a model the plan
    does not have.
    """
    names = tuple(models) or tuple(plan.models)
    results, told = simulations or {}, traces or {}
    loaded = [(name, load) for name in names if (load := plan.models[name].load) is not None]
    warm = (warm_of(plan, name, load) for name, load in loaded)
    even = (break_even_of(plan, name, load, catalog) for name, load in loaded)
    return Pictures(
        levers=tuple(levers_of(plan, name, catalog) for name in names),
        capacity=tuple(capacity_of(plan.models[name], load) for name, load in loaded),
        warm=tuple(found for found in warm if found is not None),
        break_even=tuple(found for found in even if found is not None),
        simulations=tuple(
            simulation_of(plan, name, results[name], told.get(name, ""))
            for name in names
            if name in results
        ),
    )


def levers_of(plan: StackPlan, name: str, catalog: Catalog) -> Levers:
    """What the plan uses, by what a start takes longer without it; then what it could use."""
    found = levers(plan, name, catalog)
    used = [
        LeverRow(
            f"{row.key}: {row.value}",
            True,
            row.alone_seconds,
            row.lost_seconds,
            row.usd_per_hour,
            row.seconds_per_usd,
            "; ".join(
                [
                    *([f"comes with {', '.join(row.needs)}"] if row.needs else []),
                    row.paid_for.partition(": ")[0],
                ]
            ),
        )
        for row in found.rows
    ]
    unused = [
        LeverRow(
            row.name,
            False,
            None,
            row.saved_seconds,
            row.usd_per_hour,
            row.seconds_per_usd,
            "of a start on a warm node" if found.warm is not None else "",
        )
        for row in best_levers(plan.spec, name, catalog)
    ]
    return Levers(
        name,
        found.none.total_seconds,
        found.together.total_seconds,
        None if found.warm is None else found.warm.total_seconds,
        (*sorted(used, key=lambda row: -row.saved_seconds), *unused),
    )


def capacity_of(model: ModelPlan, load: LoadPlan) -> CapacityPlan:
    """The rate that so many replicas keep, up to the limit or the peak, and the two rates named."""
    replica, kept = load.replica, load.targets is not None
    most = max(model.scaling.max_replicas, load.peak_replicas)
    steps = range(1, most + 1, -(-most // MOST_STEPS))
    rates = {n * replica.requests_per_second for n in (*steps, most)}
    rates |= {0.0, load.requests_per_second, load.peak_requests_per_second}
    peak, targets = load.peak_requests_per_second, load.targets
    goal = (
        "at full throughput, since no slo is given"
        if targets is None
        else f"with a first token within {_short(targets.ttft_seconds)} and further ones within "
        f"{_short(targets.tpot_seconds)} for {targets.percentile:g} % of requests"
    )
    return CapacityPlan(
        model.name,
        tuple(_capacity_row(rate, replica, kept=kept) for rate in sorted(rates)),
        load.requests_per_second,
        peak if peak > load.requests_per_second else None,
        model.scaling.max_replicas,
        replica.percentile,
        f"One replica carries {replica.requests_per_second:.3g} a second {goal}; {ESTIMATE}.",
    )


def _capacity_row(rate: float, replica: ReplicaCapacity, *, kept: bool) -> CapacityRow:
    # A rate that was itself made by multiplication must not ask for one replica more.
    replicas = replicas_for(rate * (1 - 1e-9), replica)
    each = rate / replicas
    return CapacityRow(
        rate,
        replicas,
        each / replica.throughput_per_second,
        replica.ttft_seconds(each) if kept and each > 0 else None,
    )


def warm_of(plan: StackPlan, name: str, load: LoadPlan) -> WarmCurve | None:
    """What replicas kept above the mean's cost and leave violated; None without rises or a price.

    The least shown are those that mean traffic keeps running.
    """
    model = plan.models[name]
    pool, costs = plan.pools[model.pool], model.warm_costs
    surges = surges_of(load, model.scaling.max_replicas)
    if costs is None or not surges:
        return None
    choices = warm_curve(surges, costs, usd_per_violated_second=0.0, nodes=pool.warm_nodes)
    points = tuple(
        WarmPoint(c.replicas, c.idle_usd_per_hour, c.violated_seconds_per_hour)
        for c in choices
        if c.replicas >= load.replicas
    )
    kept = max(model.scaling.min_replicas, load.replicas)
    chosen = kept if kept <= points[-1].warm_replicas else None
    return WarmCurve(name, points, chosen, _warm_words(model, load, costs, pool.warm_nodes))


def _warm_words(model: ModelPlan, load: LoadPlan, costs: WarmCosts, warm_nodes: int) -> str:
    mean, peak = load.requests_per_second, load.peak_requests_per_second
    rises = f"the rises that random arrivals make above {mean:g} requests a second"
    if peak > mean:
        rises += f", and a jump to the peak of {peak:g} {_times(load.peaks_per_day)} a day"
    words = (
        f"scaling.min is {model.scaling.min_replicas}, mean traffic keeps {load.replicas} running. "
        f"A rise of demand is served late until its replicas are ready: after "
        f"{format_seconds(costs.warm_start_seconds)} on a warm node, "
        f"{format_seconds(costs.cold_start_seconds)} on a fresh one. Counted are {rises}; each "
        "counts as a start, although a replica just started stays for a while."
    )
    if warm_nodes:
        words += f" Warm nodes, whose cost is included: {warm_nodes}."
    return words


def _times(per_day: float) -> str:
    return "once" if per_day == 1 else f"{per_day:g} times"


def break_even_of(plan: StackPlan, name: str, load: LoadPlan, catalog: Catalog) -> BreakEven | None:
    """Replicas by the hour against tokens by the piece; None without both prices."""
    usd = replica_usd_per_hour(plan, name, catalog)
    traffic = plan.spec.models[name].traffic
    prices = catalog.token_prices_of(plan.models[name].repository)
    if usd is None or traffic is None or not prices:
        return None
    cases = sorted(
        (
            (price, _case(usd, price, traffic.prompt_tokens.mean, traffic.output_tokens.mean, load))
            for price in prices
        ),
        key=lambda pair: pair[1].request_usd,
    )[:MOST_OFFERS]
    capacity = load.replica.requests_per_second
    reached = [
        (price.provider, case.break_even_requests_per_second)
        for price, case in cases
        if case.break_even_requests_per_second <= capacity
    ]
    end = 1.25 * max(load.peak_requests_per_second, *(rate for _, rate in reached), 0.0)
    rates = _rates(end, capacity)
    lines = {price.provider: curve(case, rates=rates) for price, case in cases}
    first = next(iter(lines.values()))
    model = plan.models[name]
    left_out = len(prices) - len(cases)
    cheapest = cases[0][1]
    remark = (
        f"{traffic.prompt_tokens.mean:,.0f} tokens in and {traffic.output_tokens.mean:,.0f} out. "
        f"A replica is priced by its GPUs ({model.fit.gpus} of {model.expected_instance_type}) and "
        f"takes {capacity * HOURS:,.0f} requests an hour, then another is added; the stack file "
        f"expects {load.requests_per_second * HOURS:,.0f}."
    )
    if cheapest.break_even_requests_per_second > capacity:
        needed = cheapest.break_even_requests_per_hour
        remark += f" Against {cases[0][0].provider} it would have to take {needed:,.0f}."
    if left_out:
        remark += f" {left_out} dearer offers are left out."
    return BreakEven(
        name,
        "requests an hour",
        _line(f"Replicas on {model.expected_instance_type}", first, dedicated=True),
        tuple(_line(provider, points) for provider, points in lines.items()),
        tuple(Crossing(provider, rate * HOURS, usd) for provider, rate in reached),
        remark,
    )


def _case(
    usd: float, price: TokenPrice, prompt_tokens: float, output_tokens: float, load: LoadPlan
) -> Case:
    return Case(
        usd,
        price.input_usd_per_million,
        price.output_usd_per_million,
        prompt_tokens,
        output_tokens,
        load.replica.requests_per_second,
    )


def _rates(end: float, capacity: float) -> list[float]:
    """Rates a second up to `end`: both sides of every step to another replica, or even ones."""
    steps = int(end / capacity)
    even = {end * step / MOST_STEPS for step in range(1, MOST_STEPS + 1)}
    if steps > MOST_STEPS:
        return sorted(even)
    sides = {n * capacity * side for n in range(1, steps + 1) for side in (1, 1 + 1e-9)}
    return sorted({end / MOST_STEPS, *sides, end})


def _line(name: str, points: Sequence[Costs], *, dedicated: bool = False) -> Curve:
    """Of each rate; without any request one replica is paid for, and no token."""
    found = [
        (
            p.requests_per_second * HOURS,
            p.dedicated_usd_per_hour if dedicated else p.by_token_usd_per_hour,
        )
        for p in points
    ]
    return Curve(name, ((0.0, found[0][1] if dedicated else 0.0), *found))


def simulation_of(
    plan: StackPlan, name: str, result: SimulationResult, trace: str = ""
) -> SimulationRun:
    """A simulation by interval: replicas as they were when it began, the rest as it went."""
    slo = plan.spec.models[name].slo
    return SimulationRun(
        name,
        tuple(
            TimePoint(
                before.seconds,
                after.arrivals_per_second,
                before.wanted_replicas,
                before.ready_replicas,
                after.waiting,
                after.ttft_p95_seconds,
            )
            for before, after in pairwise(result.series)
        ),
        slo.ttft if slo else None,
        _totals(result),
        trace,
    )


def _totals(result: SimulationResult) -> tuple[tuple[str, str], ...]:
    requests = result.requests
    lost = requests.rejected + requests.cut + requests.unfinished
    return (
        ("requests", f"{requests.arrived:,}"),
        ("not served", f"{lost:,}"),
        *(
            [("objective kept", f"{result.slo_share:.1%} of requests")]
            if result.slo_share is not None
            else []
        ),
        ("most replicas ready", str(result.most_ready_replicas)),
        ("starts by node", ", ".join(f"{n} {kind}" for kind, n in result.cold_starts.items())),
        ("GPU hours", f"{result.gpu_hours:.2f}"),
        ("of them ready", f"{result.ready_gpu_hours:.2f}"),
        *([("cost", f"${result.cost_usd:.2f}")] if result.cost_usd is not None else []),
    )


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:g} s"
