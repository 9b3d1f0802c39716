"""Warm replicas and warm nodes as the optimum of what they cost against violated seconds.

A pool's models are weighed together, since a warm node serves whichever of them needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from coldstart.capacity.warm import (
    PoolChoice,
    Surge,
    WarmChoice,
    WarmCosts,
    WarmDemand,
    largest_surge,
    poisson_surges,
    pool_choice,
    warm_optimum,
)
from coldstart.catalog import Catalog, InstanceType
from coldstart.planning.cold_start import Case
from coldstart.planning.context import Context
from coldstart.planning.cost import node_usd_per_hour
from coldstart.planning.decision import NAMED, Decision, PlanError, Rejection
from coldstart.planning.model import ModelPlan, PoolPlan
from coldstart.planning.operation_plan import LoadPlan
from coldstart.planning.timeline import Timeline
from coldstart.spec.model import AUTO, ModelSpec, StackSpec
from coldstart.spec.traffic import ScalingSpec


@dataclass(frozen=True, slots=True)
class WarmPlan:
    """Warm capacity of one pool: its nodes, and by model the replicas that always run."""

    nodes: Decision[int]
    replicas: Mapping[str, Decision[int]]


def warm_costs(
    pool: PoolPlan,
    instance: InstanceType,
    gpus: int,
    starts: Mapping[Case, Timeline],
    spec: StackSpec,
    catalog: Catalog,
) -> WarmCosts | None:
    """What warm capacity for replicas of `gpus` GPUs costs and saves, by the plan's cold starts.

    None where the node or its volumes have no price.
    """
    usd_per_hour = node_usd_per_hour(pool, instance.name, spec, catalog)
    if usd_per_hour is None:
        return None
    warm, cold = starts[Case.WARM_NODE].total_seconds, starts[Case.NEXT_REPLICA].total_seconds
    per_node = max(1, instance.accelerator_count // gpus)
    return WarmCosts(usd_per_hour, per_node, min(warm, cold), cold)


def surges_of(load: LoadPlan, max_replicas: int) -> tuple[Surge, ...]:
    """Rises above the replicas that mean traffic keeps running anyway, as far as they may run.

    Random ones, and those to the peak where a peak is named.
    """
    replica = load.replica
    surges = poisson_surges(
        load.requests_per_second, replica.service_seconds, replica.concurrency, max_replicas
    )
    if load.peaks_per_day > 0:
        surges += (Surge(min(load.peak_replicas, max_replicas), load.peaks_per_day),)
    return tuple(surge for surge in surges if surge.replicas > load.replicas)


def warm_plan(pool: PoolPlan, models: Iterable[ModelPlan], context: Context) -> WarmPlan | None:
    """The warm capacity of a pool; None where no model on it prices a violated second.

    What the stack file names stays, the rest is chosen beside it. Raises PlanError for a model that
    prices violated seconds without traffic, or on nodes without a price.
    """
    specs, served = context.spec.models, tuple(models)
    priced = [model for model in served if specs[model.name].prices_violations]
    if not priced:
        return None
    wish = context.spec.node_pools[pool.name].warm_nodes
    demands = [_demand(model, specs[model.name]) for model in priced]
    others = sum(model.least_gpus for model in served if model not in priced)
    room = pool.max_nodes - math.ceil(others / pool.gpus_per_node)
    nodes = _useful_nodes(demands, room)
    free = warm_optimum(demands, nodes, room)
    best = free if wish == AUTO else pool_choice(demands, wish)
    replicas = {
        model.name: _replicas(model, demand, choice, specs[model.name].scaling)
        for model, demand, choice in zip(priced, demands, best.models, strict=True)
    }
    kept = sum(
        kept_replicas(model) * demand.costs.usd_per_replica_hour
        for model, demand in zip(priced, demands, strict=True)
    )
    found = _named_nodes(best, free, kept) if wish != AUTO else _nodes(demands, best, nodes, kept)
    return WarmPlan(found, replicas)


def _demand(model: ModelPlan, spec: ModelSpec) -> WarmDemand:
    path, load = f"models.{model.name}.slo.usdPerViolatedSecond", model.load
    if load is None or spec.slo is None or spec.slo.usd_per_violated_second is None:
        raise PlanError(
            path,
            "says what a rise of demand costs that is served late; how often demand rises follows "
            "from traffic, which is missing. Give the model's traffic, or leave this out",
        )
    if model.warm_costs is None:
        raise PlanError(
            path,
            f"cannot be weighed against idle nodes: {model.expected_instance_type} or its volumes "
            "have no price in this region. Leave it out and set scaling.min and warmNodes",
        )
    bounds = spec.scaling
    surges = surges_of(load, bounds.max)
    least = kept_replicas(model)
    most = max(least, largest_surge(surges))
    if bounds.min != AUTO:
        least = most = max(least, bounds.min)
    return WarmDemand(
        surges, model.warm_costs, spec.slo.usd_per_violated_second, range(least, most + 1)
    )


def kept_replicas(model: ModelPlan) -> int:
    """Replicas that mean traffic keeps running, whatever is kept warm beside them."""
    return min(model.load.replicas if model.load else 0, model.scaling.max_replicas)


def _useful_nodes(demands: Iterable[WarmDemand], room: int) -> range:
    """Numbers of warm nodes up to those that hold the largest rise, as far as the pool has room."""
    missing = (
        math.ceil((largest_surge(d.surges) - d.replicas[0]) / d.costs.replicas_per_node)
        for d in demands
    )
    return range(max(0, min(room, max(missing))) + 1)


def _replicas(
    model: ModelPlan, demand: WarmDemand, choice: WarmChoice, bounds: ScalingSpec
) -> Decision[int]:
    kept = kept_replicas(model)
    most = max(kept, largest_surge(demand.surges))
    free = replace(demand, replicas=range(kept, most + 1))

    def bill(found: WarmChoice) -> _Bill:
        idle = (found.replicas - kept) * demand.costs.usd_per_replica_hour
        return _Bill(idle, found.violated_seconds_per_hour, found.violated_usd_per_hour)

    def rejected(counts: Iterable[int]) -> tuple[Rejection[int], ...]:
        bills = {count: bill(demand.choice(count, choice.nodes)) for count in counts}
        return tuple(Rejection(n, found.beside(bill(choice))) for n, found in bills.items())

    awake = "mean traffic keeps" if bounds.min != 0 else "it may sleep; awake, mean traffic keeps"
    running = f"{awake} {kept} running; beyond them {bill(choice).words}"
    best = free.best_replicas(choice.nodes).replicas
    if bounds.min != AUTO:
        other = () if best == choice.replicas else (best,)
        return Decision(bounds.min, f"{NAMED}; {running}", rejected(other))
    others = {kept, best - 1, best + 1}.intersection(free.replicas) - {best}
    return Decision(
        best,
        f"{running}, the least at ${demand.usd_per_violated_second:g} a violated second",
        rejected(sorted(others)),
    )


def _nodes(
    demands: Sequence[WarmDemand], best: PoolChoice, nodes: range, kept_usd_per_hour: float
) -> Decision[int]:
    chosen = _pool_bill(best, kept_usd_per_hour)
    others = {0, best.nodes - 1, best.nodes + 1}.intersection(nodes) - {best.nodes}
    return Decision(
        best.nodes,
        f"with the warm replicas beside them {chosen.words}, the least",
        tuple(
            Rejection(
                count, _pool_bill(pool_choice(demands, count), kept_usd_per_hour).beside(chosen)
            )
            for count in sorted(others)
        ),
    )


def _named_nodes(best: PoolChoice, free: PoolChoice, kept_usd_per_hour: float) -> Decision[int]:
    chosen = _pool_bill(best, kept_usd_per_hour)
    other = _pool_bill(free, kept_usd_per_hour).beside(chosen)
    return Decision(
        best.nodes,
        f"{NAMED}; with the warm replicas beside them {chosen.words}",
        () if free.nodes == best.nodes else (Rejection(free.nodes, other),),
    )


@dataclass(frozen=True, slots=True)
class _Bill:
    """What warm capacity beyond mean traffic costs an hour, idle and in violated seconds."""

    idle_usd: float
    violated_seconds: float
    violated_usd: float

    @property
    def usd(self) -> float:
        return self.idle_usd + self.violated_usd

    @property
    def words(self) -> str:
        return (
            f"idle capacity costs {_usd(self.idle_usd)} and {self.violated_seconds:.3g} violated "
            f"seconds {_usd(self.violated_usd)} an hour"
        )

    def beside(self, chosen: _Bill) -> str:
        """The words, and how much more than what was chosen it is."""
        more = self.usd - chosen.usd
        return f"{self.words}, {_usd(abs(more))} {'more' if more >= 0 else 'less'} in all"


def _pool_bill(choice: PoolChoice, kept_usd_per_hour: float) -> _Bill:
    return _Bill(
        choice.idle_usd_per_hour - kept_usd_per_hour,
        choice.violated_seconds_per_hour,
        choice.violated_usd_per_hour,
    )


def _usd(amount: float) -> str:
    """Dollars and cents, and what is less than a cent in two digits."""
    return f"${amount:,.2f}" if amount >= 0.01 or amount < 1e-9 else f"${amount:.2g}"
