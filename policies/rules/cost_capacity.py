"""GPUs that are paid for and used by nobody: idle ones on a node, warm nodes, dear purchases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from policies.reading.gpu_demand import Demand, demands_in
from policies.reading.gpu_instances import Instance, allowed_instances
from policies.reading.node_pools import TYPE, is_gpu_pool, is_node_pool, requirements_in
from policies.reading.replicas import scaling_in
from policies.reading.scheduling import Pool, Requirement, pool_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    text_at,
)
from policies.rule import Finding, Option, Settings, StackRule

_BUDGET_USD_PER_HOUR = 50
_HOURS_PER_MONTH = 730
_CAPACITY_TYPE = "karpenter.sh/capacity-type"
_GKE_COUNT = "cloud.google.com/gke-accelerator-count"


@dataclass(frozen=True)
class _Stack:
    """GPU workloads and NodePools of a stack, and what is not known of them yet."""

    demands: Sequence[Demand]
    pools: Sequence[Pool]
    undecided: tuple[tuple[str, ...], ...]

    def pools_for(self, demand: Demand) -> list[Pool]:
        return [pool for pool in self.pools if demand.placement.can_run_on(pool)]


def _stack(resources: Sequence[Resource]) -> _Stack:
    demands, unknown_demands = demands_in(resources, scaling_in(resources))
    pools, unknown_pools = gather(
        filter(is_node_pool, resources), lambda node_pool: [pool_of(node_pool)]
    )
    return _Stack(demands, pools, unknown_demands + unknown_pools)


def _judge_whole_node(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    stack = _stack(resources)
    idle_gpus = int(settings["allowedIdleGpus"])

    def judge(demand: Demand) -> Iterator[Finding]:
        if demand.holds_place or demand.gpus is None:
            return
        smallest = _smallest_node(stack, demand)
        if smallest is None or smallest[0] <= demand.gpus + idle_gpus:
            return
        if stack.undecided:
            raise NotYetKnown(*stack.undecided)
        wanted = _gpus_wanted_beside(stack, demand)
        if wanted is None or wanted + idle_gpus >= smallest[0]:
            return
        workload = demand.workload
        yield Finding(
            workload,
            f"{workload.kind} {workload.object_name} asks for {demand.gpus} "
            f"GPU{'s' if demand.gpus > 1 else ''} per pod, the smallest node it can get "
            f"({smallest[1]}) has {smallest[0]}, and all that runs there wants {wanted} at the "
            f"most: {smallest[0] - wanted} GPUs are paid for and idle. Allow a smaller instance, "
            "raise tensor parallelism, or let another model share the pool.",
        )

    yield from judge_each(stack.demands, judge)
    if stack.undecided and not stack.demands:
        raise NotYetKnown(*stack.undecided)


def _smallest_node(stack: _Stack, demand: Demand) -> tuple[int, str] | None:
    """GPUs and name of the smallest node a pod can land on; None where nobody can tell."""
    found: list[tuple[int, str]] = []
    for pool in stack.pools_for(demand):
        for conditions in demand.placement.options_on(pool):
            open_types = _fitting(demand, (*pool.requirements, *conditions))
            if not open_types:
                return None
            found += [(item.gpus, item.name) for item in open_types]
    if found:
        return min(found)
    for conditions in demand.placement.alternatives:
        named = _named_by_pod(demand, conditions)
        if named is None:
            return None
        found.append(named)
    return min(found, default=None)


def _named_by_pod(demand: Demand, conditions: Sequence[Requirement]) -> tuple[int, str] | None:
    for item in conditions:
        if item.operator != "In" or not item.values:
            continue
        if item.key == _GKE_COUNT and all(value.isdecimal() for value in item.values):
            count = min(map(int, item.values))
            return count, f"{_GKE_COUNT}={count}"
        if item.key == TYPE:
            found = _fitting(demand, conditions)
            return min(((one.gpus, one.name) for one in found), default=None)
    return None


def _fitting(demand: Demand, requirements: Sequence[Requirement]) -> list[Instance]:
    return [item for item in allowed_instances(requirements) if item.gpus >= (demand.gpus or 0)]


def _gpus_wanted_beside(stack: _Stack, demand: Demand) -> int | None:
    """GPUs that a workload and all that may share its nodes want; None where nobody can tell."""
    names = {pool.name for pool in stack.pools_for(demand)}
    total = 0
    for other in stack.demands:
        if other.holds_place:
            continue
        shares = names and any(pool.name in names for pool in stack.pools_for(other))
        same = other.placement.alternatives == demand.placement.alternatives
        if other is not demand and not (shares if names else same):
            continue
        if other.most_gpus is None:
            return None
        total += other.most_gpus
    return total


def _judge_warm(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    stack = _stack(resources)
    budget_usd = float(settings["maximumUsdPerHour"])
    held, undecided = gather(
        (demand for demand in stack.demands if demand.holds_place),
        lambda demand: _cost(stack, demand),
    )
    total_usd = sum(cost.usd_per_hour for cost in held)
    if total_usd > budget_usd:
        dearest = max(held, key=lambda cost: cost.usd_per_hour)
        yield Finding(
            dearest.workload,
            f"Pause pods of this stack hold GPU nodes for at least {total_usd:.2f} USD per hour "
            f"({total_usd * _HOURS_PER_MONTH:,.0f} USD per month), and the budget is "
            f"{budget_usd:.2f}: {'; '.join(cost.told for cost in held)}. "
            "Hold fewer nodes, hold them in busy hours only, or raise maximumUsdPerHour.",
        )
    elif stack.undecided or undecided:
        raise NotYetKnown(*stack.undecided, *undecided)


@dataclass(frozen=True)
class _Cost:
    workload: Resource
    usd_per_hour: float
    told: str


def _cost(stack: _Stack, demand: Demand) -> Iterator[_Cost]:
    """What the nodes of pause pods cost at least, at the list price on demand."""
    if demand.gpus is None or demand.bounds is None or demand.bounds.minimum < 1:
        return
    replicas = demand.bounds.minimum
    options = [
        (math.ceil(replicas * demand.gpus / item.gpus) * item.usd_per_hour, item)
        for pool in stack.pools_for(demand)
        if not _buys_spot_only(pool)
        for conditions in demand.placement.options_on(pool)
        for item in _fitting(demand, (*pool.requirements, *conditions))
        if item.usd_per_hour is not None
    ]
    if options:
        usd, item = min(options, key=lambda option: option[0])
        workload = demand.workload
        yield _Cost(
            workload,
            usd,
            f"{workload.kind} {workload.object_name} with {replicas} x {demand.gpus} GPUs on "
            f"{item.name} takes {usd:.2f}",
        )


def _buys_spot_only(pool: Pool) -> bool:
    return any(
        item.key == _CAPACITY_TYPE and item.operator == "In" and set(item.values) == {"spot"}
        for item in pool.requirements
    )


def _judge_spot(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    allowed = [str(pattern) for pattern in settings["spotPools"]]
    node_pools = list(filter(is_node_pool, resources))

    def cheaper(node_pool: Resource) -> Iterator[tuple[str, str]]:
        if not _on_demand_only(node_pool):
            yield _class_of(node_pool)

    with_spot, undecided = gather(node_pools, cheaper)

    def judge(node_pool: Resource) -> Iterator[Finding]:
        name = node_pool.object_name
        if not any(fnmatchcase(name, pattern) for pattern in allowed):
            return
        if not is_gpu_pool(node_pool) or not _on_demand_only(node_pool):
            return
        # A static pool is capacity to count on.
        if at(node_pool.properties, "spec", "replicas") is not None:
            return
        # A pool beside it buys the same nodes cheaper first.
        if _class_of(node_pool) in with_spot:
            return
        if undecided:
            raise NotYetKnown(*undecided)
        stated = any(item.key == _CAPACITY_TYPE for item in requirements_in(node_pool))
        yield Finding(
            node_pool,
            f"GPU NodePool {name} buys on demand only"
            f"{'' if stated else f', which is what no requirement on {_CAPACITY_TYPE} means'}, "
            "though it may run on spot: most GPU nodes cost about half there. "
            f"Set {{key: {_CAPACITY_TYPE}, operator: In, values: [spot, on-demand]}}; Karpenter "
            "takes spot first and on demand where there is none.",
        )

    yield from judge_each(node_pools, judge)


def _class_of(node_pool: Resource) -> tuple[str, str]:
    reference = at(node_pool.properties, "spec", "template", "spec", "nodeClassRef")
    return text_at(reference, "kind"), text_at(reference, "name")


def _on_demand_only(node_pool: Resource) -> bool:
    """Karpenter adds on-demand to a NodePool that says nothing of its capacity."""
    wanted = [item for item in requirements_in(node_pool) if item.key == _CAPACITY_TYPE]
    if not wanted:
        return True
    return not any(all(item.allows(kind) for item in wanted) for kind in ("spot", "reserved"))


REQUIRE_WHOLE_NODE = StackRule(
    code="CS807",
    name="kubernetes-pod-require-whole-node",
    concern="cost",
    title="No GPU of a node is bought to stay idle",
    description="The GPU workloads that can run on a pool must be able to fill its smallest node.",
    severity="medium",
    tags=("kubernetes", "karpenter", "cost"),
    remediation="Let the pool buy an instance with fewer GPUs, use more GPUs per pod, or let "
    "other workloads run on the same pool.",
    reason="A node is paid for whole: a pod with one GPU on a node with eight pays for seven idle "
    "ones.",
    links=(
        "https://karpenter.sh/docs/reference/instance-types/",
        "https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/",
    ),
    level="advisory",
    production="advisory",
    development="advisory",
    options=(
        Option(
            "allowedIdleGpus",
            {"type": "integer", "minimum": 0, "default": 0},
            0,
            "GPUs of a node that may stay idle.",
        ),
    ),
    judge=_judge_whole_node,
)

LIMIT_WARM_COST = StackRule(
    code="CS804",
    name="kubernetes-pod-limit-warm-capacity-cost",
    concern="cost",
    title="Warm nodes stay within their hourly budget",
    description="The GPU nodes that pause pods hold must not cost more per hour than the budget, "
    "at the list price of the cheapest instances that fit.",
    severity="medium",
    tags=("kubernetes", "karpenter", "cost"),
    remediation="Lower the replicas of the pause pods, scale them by a schedule, or set this "
    "policy's maximumUsdPerHour to what warm capacity may cost.",
    reason="A warm node costs as much as a busy one, at every hour, and no request shows it.",
    links=(
        "https://aws.amazon.com/ec2/pricing/on-demand/",
        "https://karpenter.sh/docs/reference/instance-types/",
    ),
    level="advisory",
    development="advisory",
    options=(
        Option(
            "maximumUsdPerHour",
            {"type": "number", "minimum": 0, "default": _BUDGET_USD_PER_HOUR},
            _BUDGET_USD_PER_HOUR,
            "Most that warm GPU nodes of one stack may cost, in USD per hour.",
        ),
    ),
    judge=_judge_warm,
)

REQUIRE_SPOT = StackRule(
    code="CS805",
    name="karpenter-nodepool-require-spot",
    concern="cost",
    title="GPU pools buy spot where spot is allowed",
    description="A GPU NodePool that may run on spot must not buy on demand only.",
    severity="low",
    tags=("karpenter", "cost", "development"),
    remediation="Add spot to the values of karpenter.sh/capacity-type, or name the pools that may "
    "run on spot in this policy's spotPools.",
    reason="A development model that is interrupted starts again; the difference in price is paid "
    "every hour.",
    links=(
        "https://karpenter.sh/docs/concepts/nodepools/#capacity-type",
        "https://aws.amazon.com/ec2/spot/pricing/",
    ),
    level="disabled",
    production="disabled",
    development="advisory",
    options=(
        Option(
            "spotPools",
            {"type": "array", "items": {"type": "string"}, "default": ["*"]},
            ["*"],
            "NodePools that may run on spot, as names with * for any part.",
        ),
    ),
    judge=_judge_spot,
)
