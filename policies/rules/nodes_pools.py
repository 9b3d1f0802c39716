"""What node pools buy, when they give it back, and when their nodes are ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml

from policies.reading.node_pools import (
    SIZE,
    TYPE,
    is_auto_mode,
    is_gpu_pool,
    is_node_pool,
    is_node_pool_type,
    requirements_in,
    taints_in,
)
from policies.reading.peer_mirrors import is_chart
from policies.reading.scheduling import Requirement
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    is_true,
    judge_each,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.rule import Finding, ResourceRule, Settings, StackRule

_METAL_SIZES = Path(__file__).resolve().parent.parent / "data" / "metal_gpu_sizes.yaml"
_AUTO_MODE_SIZE = "eks.amazonaws.com/instance-size"
_HYPERVISOR = "karpenter.k8s.aws/instance-hypervisor"
# Default of NodePool spec.disruption.consolidationPolicy, karpenter.sh/v1.
_DEFAULT_POLICY = "WhenEmptyOrUnderutilized"
_NO_NODES = frozenset({"0", "0%"})
# Taints whose owner takes them off once its agent runs on the node.
_AGENT_TAINT_SUFFIX = "/agent-not-ready"
_AGENT_TAINT_PREFIXES = (
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "ignore-taint.cluster-autoscaler.kubernetes.io/",
    "readiness.k8s.io/",
)
_CILIUM_TAINT = "node.cilium.io/agent-not-ready"
_CILIUM_CONFIG = "cilium-config"


def _judge_metal(resource: Resource, _: Settings) -> Iterator[str]:
    if not is_gpu_pool(resource):
        return
    requirements = requirements_in(resource)
    named = sorted(
        value
        for item in requirements
        if item.operator == "In" and item.key in (TYPE, SIZE)
        for value in item.values
        if _is_metal(value) and all(other.allows(value) for other in _on(requirements, item.key))
    )
    open_to = [] if _names_sizes(requirements) else _metal_left_open(requirements)
    if named or open_to:
        key = _AUTO_MODE_SIZE if is_auto_mode(resource) else SIZE
        how = f"name {', '.join(named)}" if named else f"leave {', '.join(open_to)} open"
        yield (
            f"spec.template.spec.requirements of NodePool {resource.object_name} {how}. A "
            "bare-metal instance takes 5 to 10 minutes to boot where a virtual one takes well "
            "under one, at the same price, and every cold start on it waits. Add "
            f"{{key: {key}, operator: NotIn, values: [metal]}}, or name the virtual sizes."
        )


def _is_metal(value: str) -> bool:
    return "metal" in value.rsplit(".", 1)[-1]


def _on(requirements: Sequence[Requirement], key: str) -> Iterator[Requirement]:
    return (item for item in requirements if item.key == key)


def _names_sizes(requirements: Sequence[Requirement]) -> bool:
    return any(item.operator == "In" and item.key in (TYPE, SIZE) for item in requirements)


@cache
def _metal_gpu_sizes() -> Mapping[str, Mapping[str, str]]:
    table = yaml.safe_load(_METAL_SIZES.read_text(encoding="utf-8"))["sizes"]
    # Karpenter gives bare metal an empty hypervisor label.
    same = {SIZE: "metal", _HYPERVISOR: "", "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia"}
    return {name: {**labels, **same, TYPE: name} for name, labels in table.items()}


def _metal_left_open(requirements: Sequence[Requirement]) -> list[str]:
    return [
        name
        for name, labels in _metal_gpu_sizes().items()
        if all(item.allows(labels[item.key]) for item in requirements if item.key in labels)
    ]


def _judge_consolidation(resource: Resource, _: Settings) -> Iterator[str]:
    spec = mapping_at(resource.properties, "spec")
    # A static pool keeps its number of nodes, so nothing is consolidated.
    if at(spec, "replicas") is not None or not is_gpu_pool(resource):
        return
    disruption = mapping_at(spec, "disruption")
    stated = at(disruption, "consolidationPolicy")
    if stated == "WhenEmpty" or at(disruption, "consolidateAfter") == "Never":
        return
    if any(map(_forbids_consolidation, list_at(disruption, "budgets"))):
        return
    found = f"={stated}" if stated else f" is not set, and its default is {_DEFAULT_POLICY}"
    yield (
        f"spec.disruption.consolidationPolicy{found} in GPU NodePool {resource.object_name}. "
        "Karpenter weighs CPU and memory requests, never what a GPU does, so it moves serving "
        "pods off busy nodes and each one starts cold again. Set consolidationPolicy: WhenEmpty."
    )


def _forbids_consolidation(budget: object) -> bool:
    """Whether a disruption budget allows no node to be emptied for being underused, ever."""
    reasons = list_at(budget, "reasons")
    return (
        str(at(budget, "nodes", default="")).removesuffix(".0") in _NO_NODES
        and at(budget, "schedule") is None
        and (not reasons or "Underutilized" in texts(reasons))
    )


def _judge_startup_taints(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    node_pools = list(filter(is_node_pool, resources))
    if not node_pools:
        return
    agents, undecided = gather(resources, _agents)

    def judge(node_pool: Resource) -> Iterator[Finding]:
        startup = {text_at(taint, "key") for taint in taints_in(node_pool, "startupTaints")}
        lasting = {text_at(taint, "key") for taint in taints_in(node_pool)}
        for key in sorted(filter(_is_agent_taint, lasting)):
            yield Finding(node_pool, _lasting(node_pool, key))
        for agent, key in agents:
            if key not in startup | lasting:
                yield Finding(node_pool, _undeclared(node_pool, key, agent))
        if undecided:
            raise NotYetKnown(*undecided)

    yield from judge_each(node_pools, judge)


def _is_agent_taint(key: str) -> bool:
    return key.endswith(_AGENT_TAINT_SUFFIX) or key.startswith(_AGENT_TAINT_PREFIXES)


def _lasting(node_pool: Resource, key: str) -> str:
    return (
        f"NodePool {node_pool.object_name} has {key!r} under spec.template.spec.taints. Its agent "
        "takes it off once the node is ready, but Karpenter believes that a taint there stays: "
        "pods that do not tolerate it get no node from this pool, and those that do start before "
        "the agent. Move it to spec.template.spec.startupTaints."
    )


def _undeclared(node_pool: Resource, key: str, agent: str) -> str:
    return (
        f"NodePool {node_pool.object_name} does not list {key!r} under "
        f"spec.template.spec.startupTaints, and {agent} puts it on every new node until its agent "
        "runs. Karpenter then sees a pod that still does not fit and buys a second GPU node for "
        "it. Add the taint to startupTaints, with effect NoSchedule."
    )


def _agents(resource: Resource) -> Iterator[tuple[str, str]]:
    """What sets a taint on new nodes by itself, and the key of that taint."""
    key = None
    if is_chart(resource):
        key = _taint_of_chart(resource)
    elif resource.kind == "ConfigMap":
        key = _taint_of_config(resource)
    if key:
        yield f"Cilium ({resource.name})", key


def _taint_of_chart(resource: Resource) -> str | None:
    chart = str(at(resource.properties, "chart", default=""))
    if chart.rstrip("/").rsplit("/", 1)[-1] != "cilium":
        return None
    values = mapping_at(resource.properties, "values")
    operator = mapping_at(values, "operator")
    # The chart sets the taint unless it is told not to, or told not to remove it.
    sets_taint = at(operator, "setNodeTaints", default=at(operator, "removeNodeTaints"))
    if str(sets_taint).lower() == "false":
        return None
    return text_at(values, "agentNotReadyTaintKey", default=_CILIUM_TAINT)


def _taint_of_config(resource: Resource) -> str | None:
    if resource.object_name != _CILIUM_CONFIG:
        return None
    data = mapping_at(resource.properties, "data")
    if not is_true(at(data, "set-cilium-node-taints")):
        return None
    return text_at(data, "agent-not-ready-taint-key", default=_CILIUM_TAINT)


FORBID_METAL = ResourceRule(
    code="CS108",
    name="karpenter-nodepool-forbid-metal-sizes",
    concern="nodes",
    title="GPU pools buy no bare metal",
    description="A NodePool for GPU nodes must not allow bare-metal instance sizes.",
    severity="medium",
    tags=("karpenter", "cold-start"),
    remediation="Add a requirement karpenter.k8s.aws/instance-size NotIn [metal], or name the "
    "virtual instance types or sizes the pool may buy.",
    reason="EC2 boots a bare-metal instance in minutes, and it costs what the largest virtual "
    "size costs.",
    links=(
        "https://github.com/aws/karpenter-provider-aws/pull/4994",
        "https://karpenter.sh/docs/reference/instance-types/",
    ),
    level="advisory",
    production="advisory",
    development="advisory",
    reads=is_node_pool_type,
    judge=_judge_metal,
)

REQUIRE_EMPTY_CONSOLIDATION = ResourceRule(
    code="CS109",
    name="karpenter-nodepool-require-empty-consolidation",
    concern="nodes",
    title="Busy GPU nodes are never consolidated",
    description="A NodePool for GPU nodes must consolidate empty nodes only.",
    severity="high",
    tags=("karpenter", "cold-start", "reliability"),
    remediation="Set spec.disruption.consolidationPolicy: WhenEmpty, or a budget of 0 nodes for "
    "the reason Underutilized.",
    reason="Consolidation looks at CPU and memory requests, so a node whose GPU is busy can count "
    "as underused.",
    links=(
        "https://github.com/defilantech/LLMKube/issues/658",
        "https://karpenter.sh/docs/concepts/disruption/#consolidation",
    ),
    level="advisory",
    development="advisory",
    reads=is_node_pool_type,
    judge=_judge_consolidation,
)

REQUIRE_STARTUP_TAINTS = StackRule(
    code="CS110",
    name="karpenter-nodepool-require-startup-taints",
    concern="nodes",
    title="Taints that go away are startup taints",
    description="A taint that an agent puts on new nodes, or takes off them, must be among the "
    "startupTaints of every NodePool.",
    severity="high",
    tags=("karpenter", "cold-start", "cost"),
    remediation="List the agent's taint under spec.template.spec.startupTaints of each NodePool, "
    "and not under taints.",
    reason="Karpenter plans with the taints it is told: one that appears later makes it buy "
    "another node for the same pod, one that it believes to stay makes it buy none.",
    links=(
        "https://karpenter.sh/docs/concepts/nodepools/#cilium-startup-taint",
        "https://github.com/aws/karpenter-provider-aws/issues/6355",
        "https://github.com/chanzuckerberg/cztack/pull/895",
    ),
    judge=_judge_startup_taints,
)
