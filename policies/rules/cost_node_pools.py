"""What Karpenter's GPU pools buy and keep: sizes nobody fills, nodes that never go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.gpu_instances import allowed_instances
from policies.reading.node_pools import is_gpu_pool, is_node_pool_type, requirements_in
from policies.reading.quantities import quantity
from policies.reading.values import Resource, at, known, list_at, mapping_at, texts, whole
from policies.rule import ResourceRule, Settings

_DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
_GPU = "nvidia.com/gpu"


def _judge_reachable(resource: Resource, _: Settings) -> Iterator[str]:
    spec = mapping_at(resource.properties, "spec")
    # A static pool keeps its number of nodes on purpose.
    if at(spec, "replicas") is not None or not is_gpu_pool(resource):
        return
    held = _what_holds_empty_nodes(spec)
    if held:
        yield (
            f"{held} in GPU NodePool {resource.object_name}, so a node that no pod uses any more "
            "is never given back, and the pool stays at the size of its busiest hour. "
            "Let empty nodes go: consolidateAfter of some minutes, and a budget for the reason "
            "Empty; hold nodes warm with pause pods, which show what they cost."
        )


def _what_holds_empty_nodes(spec: Mapping[str, Any]) -> str | None:
    disruption = mapping_at(spec, "disruption")
    if at(disruption, "consolidateAfter") == "Never":
        return "spec.disruption.consolidateAfter is Never"
    for index, budget in enumerate(map(known, list_at(disruption, "budgets"))):
        reasons = texts(list_at(budget, "reasons"))
        nodes = str(at(budget, "nodes", default="")).removesuffix(".0")
        concerns_empty = not reasons or "Empty" in reasons
        if concerns_empty and nodes in ("0", "0%") and at(budget, "schedule") is None:
            return f"spec.disruption.budgets[{index}] lets 0 nodes go at any time"
    stated = at(spec, "template", "metadata", "annotations", _DO_NOT_DISRUPT)
    if str(stated).lower() == "true":
        return f"spec.template.metadata.annotations puts {_DO_NOT_DISRUPT}=true on every node"
    return None


def _judge_usable(resource: Resource, _: Settings) -> Iterator[str]:
    spec = mapping_at(resource.properties, "spec")
    limits = mapping_at(spec, "limits")
    replicas, nodes = at(spec, "replicas"), known(limits.get("nodes"))
    if replicas is not None and nodes is not None and whole(replicas, 0) > whole(nodes, 0):
        yield (
            f"spec.replicas={whole(replicas, 0)} of NodePool {resource.object_name} is more than "
            f"spec.limits.nodes={whole(nodes, 0)}, so the pool never has the nodes it is to keep. "
            "Raise the limit, or lower the replicas."
        )
    limit = quantity(known(limits.get(_GPU)))
    # A limit of 0 takes a pool out of service, which is its purpose.
    if limit is None or limit <= 0 or not is_gpu_pool(resource):
        return
    open_types = allowed_instances(requirements_in(resource))
    smallest = min(open_types, key=lambda item: item.gpus, default=None)
    if smallest is not None and smallest.gpus > limit:
        yield (
            f"spec.limits of GPU NodePool {resource.object_name} allows {whole(limit, 0)} GPUs, "
            f"and the smallest instance its requirements leave open, {smallest.name}, has "
            f"{smallest.gpus}: Karpenter never buys a node, and every pod waits. Raise "
            f"{_GPU} to a multiple of {smallest.gpus}, or allow smaller instances."
        )


REQUIRE_REACHABLE_MINIMUM = ResourceRule(
    code="CS803",
    name="gpu-nodepool-require-reachable-minimum",
    concern="cost",
    title="An idle GPU pool can shrink",
    description="A GPU NodePool must let its empty nodes go.",
    severity="high",
    tags=("karpenter", "cost"),
    remediation="Set spec.disruption.consolidateAfter to some minutes, allow empty nodes in "
    "spec.disruption.budgets, and take do-not-disrupt off the node template.",
    reason="Scaling replicas to zero saves nothing while their nodes stay, and a GPU node costs "
    "the same idle as busy.",
    links=(
        "https://karpenter.sh/docs/concepts/disruption/#nodepool-disruption-budgets",
        "https://karpenter.sh/docs/concepts/disruption/#node-level-controls",
    ),
    level="advisory",
    development="advisory",
    reads=is_node_pool_type,
    judge=_judge_reachable,
)

REQUIRE_USABLE_LIMITS = ResourceRule(
    code="CS808",
    name="karpenter-nodepool-require-usable-limits",
    concern="cost",
    title="A pool's limit holds at least one node",
    description="The limits of a GPU NodePool must leave room for the smallest instance it may "
    "buy, and for the nodes it is to keep.",
    severity="high",
    tags=("karpenter", "cost", "cold-start"),
    remediation="Set spec.limits to a multiple of the GPUs of one node, or open the requirements "
    "to smaller instances.",
    reason="Karpenter counts a node against the limits before it buys it, so a limit below one "
    "node turns the pool off without a word.",
    links=(
        "https://karpenter.sh/docs/concepts/nodepools/#speclimits",
        "https://karpenter.sh/docs/reference/instance-types/",
    ),
    reads=is_node_pool_type,
    judge=_judge_usable,
)
