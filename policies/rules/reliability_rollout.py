"""Whether a rollout leaves somebody serving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.gpu_demand import GPU, Demand, demands_in
from policies.reading.node_pools import is_node_pool
from policies.reading.quantities import quantity
from policies.reading.replicas import Bounds, scaling_in
from policies.reading.scheduling import pool_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    judge_each,
    known,
    mapping_at,
    text_at,
    whole,
)
from policies.rule import Finding, Settings, StackRule

# Defaults of spec.strategy.rollingUpdate, apps/v1 Deployment.
_DEFAULT_SHARE = "25%"


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    demands, undecided_demands = demands_in(resources, scaling_in(resources))
    node_pools = list(filter(is_node_pool, resources))

    def judge(demand: Demand) -> Iterator[Finding]:
        workload, bounds = demand.workload, demand.bounds
        if workload.kind != "Deployment" or demand.holds_place or bounds is None:
            return
        # Without a selector it is a patch, and the rest of the strategy stands elsewhere.
        if not mapping_at(workload.properties, "spec", "selector"):
            return
        gone = _all_gone(workload, bounds)
        if gone is None:
            return
        if _no_room_for_one_more(node_pools, demands, demand):
            return
        if undecided_demands:
            raise NotYetKnown(*undecided_demands)
        yield Finding(
            workload,
            f"Deployment {workload.object_name} may have {bounds.minimum} "
            f"replica{'s' if bounds.minimum > 1 else ''} ({bounds.told}), and {gone}: a rollout "
            "stops all of them before a new one is ready, so nobody answers for a whole cold "
            "start. Set maxUnavailable: 0 and maxSurge: 1, with room for one more replica in the "
            "pool.",
        )

    yield from judge_each(demands, judge)
    if undecided_demands:
        raise NotYetKnown(*undecided_demands)


def _all_gone(workload: Resource, bounds: Bounds) -> str | None:
    """What takes all replicas down together; None where one is left, or none has to be."""
    if bounds.minimum < 1:
        return None
    strategy = mapping_at(workload.properties, "spec", "strategy")
    if text_at(strategy, "type", default="RollingUpdate") == "Recreate":
        return "spec.strategy.type is Recreate"
    rolling = mapping_at(strategy, "rollingUpdate")
    stated = at(rolling, "maxUnavailable", default=_DEFAULT_SHARE)
    away = _pods(stated, bounds.minimum)
    surge = at(rolling, "maxSurge", default=_DEFAULT_SHARE)
    if away == 0 and _is_none(surge):
        # Kubernetes takes one where neither allows a step.
        away = 1
    if away is None or away < bounds.minimum:
        return None
    told = stated if isinstance(stated, str) else whole(stated, 0)
    return f"spec.strategy.rollingUpdate.maxUnavailable is {told}"


def _pods(value: Any, replicas: int) -> int | None:
    """A number of pods, or a share of them rounded down."""
    if isinstance(value, str) and value.strip().endswith("%"):
        share = whole(value.strip()[:-1], -1)
        return None if share < 0 else replicas * share // 100
    pods = whole(value, -1)
    return None if pods < 0 else pods


def _is_none(value: Any) -> bool:
    return str(value).strip() in ("0", "0.0", "0%")


def _no_room_for_one_more(
    node_pools: Sequence[Resource], demands: Sequence[Demand], demand: Demand
) -> bool:
    """Whether the pools' limits leave no GPU for a surge at full scale: it would wait for ever."""
    mine = [item for item in node_pools if demand.placement.can_run_on(pool_of(item))]
    if not mine or demand.most_gpus is None or demand.gpus is None:
        return False
    room = 0
    for node_pool in mine:
        limits: Mapping[str, Any] = mapping_at(node_pool.properties, "spec", "limits")
        limit = quantity(known(limits.get(GPU)))
        if limit is None:
            return False
        room += whole(limit, 0)
    names = {item.object_name for item in mine}
    wanted = sum(
        other.most_gpus or 0
        for other in demands
        if other.workload.kind != "Job"
        and any(
            item.object_name in names and other.placement.can_run_on(pool_of(item)) for item in mine
        )
    )
    return wanted + demand.gpus > room


FORBID_DOWNTIME = StackRule(
    code="CS906",
    name="kubernetes-deployment-forbid-downtime-rollout",
    concern="reliability",
    title="A rollout leaves a replica serving",
    description="A Deployment that serves on GPUs must not lose all of its replicas during a "
    "rollout, where its pools have room for one more.",
    severity="medium",
    tags=("kubernetes", "reliability", "serving"),
    remediation="Use strategy RollingUpdate with maxUnavailable: 0 and maxSurge: 1, or two "
    "replicas at least; where the pool has no GPU to spare, raise its limits by one replica.",
    reason="With one replica, maxUnavailable: 1 and Recreate stop the old pod first, and the new "
    "one is ready only after a cold start.",
    links=(
        "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment",
        "https://github.com/digitalocean/scale-with-simplicity/tree/main/reference-architectures/vllm-nfs",
    ),
    # A surge needs a free GPU, and another stack may say that the pool has none.
    level="advisory",
    production="advisory",
    development="disabled",
    judge=_judge,
)
