"""Who can reach the control plane."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    first_mapping,
    is_true,
    list_at,
    texts,
)
from policies.rule import ResourceRule, Settings

_VPC_CONFIG_FIELDS = {
    "aws:eks/cluster:Cluster": "vpcConfig",
    "aws-native:eks:Cluster": "resourcesVpcConfig",
}


def _reads(resource_type: str) -> bool:
    return resource_type in _VPC_CONFIG_FIELDS


def _judge(resource: Resource, _: Settings) -> Iterator[str]:
    block = _VPC_CONFIG_FIELDS[resource.type]
    config = first_mapping(at(resource.properties, block, default={}))
    # EKS opens the public endpoint, to everyone, when nothing is said.
    if not is_true(at(config, "endpointPublicAccess", default=True)):
        return
    blocks = list_at(config, "publicAccessCidrs")
    reach = _open_to_the_world(blocks) if blocks else "publicAccessCidrs is not set"
    if reach:
        yield (
            f"{block}.endpointPublicAccess is on and {reach}, so the whole internet can reach "
            "the cluster's API. Set endpointPublicAccess=false with endpointPrivateAccess=true, "
            "or list your own address ranges in publicAccessCidrs."
        )


def _open_to_the_world(blocks: list[Any]) -> str | None:
    """Why a list of address ranges is everyone, or None; unknown items decide nothing open."""
    known_blocks: list[Any] = []
    undecided: list[tuple[str, ...]] = []
    for block in blocks:
        try:
            known_blocks.extend(texts([block]))
        except NotYetKnown as unknown:
            undecided.extend(unknown.paths)
    if _covers_everything(known_blocks):
        return f"publicAccessCidrs={known_blocks}"
    if undecided:
        raise NotYetKnown(*undecided)
    return None


def _covers_everything(blocks: list[str]) -> bool:
    networks: dict[int, list[Any]] = {4: [], 6: []}
    for block in blocks:
        try:
            network = ipaddress.ip_network(block.strip(), strict=False)
        except ValueError:
            continue
        networks[network.version].append(network)
    # Collapsing also sees the whole internet written as two halves.
    return any(
        merged.prefixlen == 0
        for same_version in networks.values()
        for merged in ipaddress.collapse_addresses(same_version)
    )


FORBID_OPEN_ENDPOINT = ResourceRule(
    name="eks-cluster-forbid-open-endpoint",
    title="The cluster's API is not open to the world",
    description="A public EKS endpoint must be limited to stated address ranges.",
    severity="critical",
    tags=("aws", "eks", "security", "network"),
    remediation="Set vpcConfig.endpointPublicAccess to false, or give publicAccessCidrs the "
    "ranges of your offices and runners; never 0.0.0.0/0 or ::/0.",
    reason="An open endpoint leaves credentials as the only barrier; EKS opens it by default.",
    reads=_reads,
    judge=_judge,
)
