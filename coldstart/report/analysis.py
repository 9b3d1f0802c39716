"""What a plan says beyond its decisions, as numbers for pictures and tables.

Nothing is computed here that the plan's own arithmetic does not know: results are only arranged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from coldstart.capacity.sizing import ReplicaCapacity, replicas_for
from coldstart.capacity.warm import WarmCosts, warm_curve
from coldstart.catalog import Catalog
from coldstart.planning import StackPlan
from coldstart.planning.levers import levers
from coldstart.planning.load import estimate
from coldstart.planning.model import ModelPlan
from coldstart.planning.operation_plan import LoadPlan
from coldstart.planning.warm import surges_of
from coldstart.planning.whatif import best_levers
from coldstart.report.break_even import by_second_of, by_token_of
from coldstart.report.series import (
    CapacityPlan,
    CapacityRow,
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

MOST_STEPS = 40
"""Numbers of replicas in one picture, above which only every second, third … is drawn."""
NODES = {"first": "the first node", "fresh": "a fresh node", "warm": "a warm node"}
"""The nodes that replicas of a simulation start on, in words."""


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
    even = (
        found(plan, name, load, catalog)
        for name, load in loaded
        for found in (by_token_of, by_second_of)
    )
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
        f"One replica carries {replica.requests_per_second:.3g} a second {goal}; "
        f"{estimate(load.stages)}.",
    )


def _capacity_row(rate: float, replica: ReplicaCapacity, *, kept: bool) -> CapacityRow:
    replicas = replicas_for(rate, replica)
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
    words = _warm_words(model, load, costs, pool.warm_nodes)
    return WarmCurve(name, points, chosen, words)


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
        *(
            (f"starts on {NODES[kind]}", f"{count:,}")
            for kind, count in result.cold_starts.items()
            if count
        ),
        ("GPU hours", f"{result.gpu_hours:.2f}"),
        ("of them ready", f"{result.ready_gpu_hours:.2f}"),
        *([("cost", f"${result.cost_usd:.2f}")] if result.cost_usd is not None else []),
    )


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:g} s"
