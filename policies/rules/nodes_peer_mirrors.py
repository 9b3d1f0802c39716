"""Peer mirrors on nodes that do not read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.nodes import NodeDefinition, node_definition
from policies.reading.peer_mirrors import (
    is_spegel,
    placement_of_spegel,
    pools_in,
    pools_of,
    writes_mirrors,
)
from policies.reading.scheduling import Placement
from policies.reading.values import (
    NotYetKnown,
    Resource,
    gather,
    judge_each,
)
from policies.rule import Finding, Settings, StackRule


def _judge_mirror_on_bottlerocket(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    nodes = [node for node in map(node_definition, resources) if node]
    if not nodes:
        return
    pools, undecided = gather(resources, pools_in)

    def judge(candidate: Resource) -> Iterator[Finding]:
        if is_spegel(candidate):
            placement = placement_of_spegel(candidate)
            yield from judge_each(nodes, lambda node: judge_node(candidate, placement, node))

    def judge_node(
        spegel: Resource, placement: Placement, node: NodeDefinition
    ) -> Iterator[Finding]:
        if not node.is_bottlerocket:
            return
        own_pools = pools_of(node, pools, undecided)
        reached = [pool.name for pool in own_pools if placement.can_run_on(pool)]
        if reached:
            yield from _on_bottlerocket(spegel, node, reached)
        elif undecided:
            raise NotYetKnown(*undecided)

    yield from judge_each(resources, judge)


def _on_bottlerocket(
    spegel: Resource, node: NodeDefinition, reached: Sequence[str]
) -> Iterator[Finding]:
    writes = writes_mirrors(spegel)
    if not writes and node.settings.peer_mirror_field:
        return
    problem = (
        "it writes mirrors below /etc/containerd, which Bottlerocket keeps for its own settings"
        if writes
        else f"{node.user_data_field} has no settings.container-registry.mirrors on loopback"
    )
    yield Finding(
        spegel,
        f"Spegel runs on {', '.join(reached)}, Bottlerocket nodes of {node.resource.kind} "
        f"{node.resource.object_name}, and {problem}. containerd there never asks it for an "
        "image. Keep Spegel off these nodes, use Amazon Linux 2023, or set "
        "spegel.containerdMirrorAdd=false with settings.container-registry.mirrors to "
        "http://127.0.0.1:30020 in the user data.",
    )


FORBID_MIRROR_ON_BOTTLEROCKET = StackRule(
    code="CS111",
    name="karpenter-nodeclass-forbid-peer-mirror-on-bottlerocket",
    concern="nodes",
    title="Spegel does not write mirrors on Bottlerocket",
    description="Spegel must not run on Bottlerocket nodes unless their user data names it as a "
    "mirror.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation="Keep Spegel to Amazon Linux 2023 pools with nodeSelector or affinity, or set "
    "spegel.containerdMirrorAdd=false and settings.container-registry.mirrors in the user data.",
    reason="Bottlerocket renders containerd's mirror files from its own settings, so what Spegel "
    "writes does not count.",
    links=(
        "https://github.com/bottlerocket-os/bottlerocket/issues/4710",
        "https://github.com/spegel-org/spegel/issues/47",
    ),
    judge=_judge_mirror_on_bottlerocket,
)
