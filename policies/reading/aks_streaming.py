"""AKS node pools with artifact streaming, in every resource that can switch it on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.values import Resource, at, first_mapping, is_true, list_at, text_at

# Also the tokens of local SDKs, the only ones that know the property so far:
# azure-native_containerservice_v20260501:containerservice:AgentPool.
_AZURE = re.compile(r"azure-native\w*:containerservice(?:/\w+)?:(AgentPool|ManagedCluster)")
_AKS_GROUP = "karpenter.azure.com"
_GPU_SIZE = re.compile(r"standard_n[cdgv]", re.IGNORECASE)


@dataclass(frozen=True)
class StreamingPool:
    """Nodes that stream images; `node_class` is the AKSNodeClass, empty for a pool of AKS's own.

    `may_have_gpus` is false for machine sizes without one.
    """

    resource: Resource
    field: str
    name: str
    node_class: str
    may_have_gpus: bool


def streaming_pools_of(resource: Resource) -> Iterator[StreamingPool]:
    """The pools of a resource with artifact streaming. Raises NotYetKnown where that is open."""
    if resource.kind == "AKSNodeClass" and resource.group == _AKS_GROUP:
        if is_true(at(resource.properties, "spec", "artifactStreaming", "enabled")):
            name = resource.object_name
            yield StreamingPool(resource, "spec.artifactStreaming.enabled", name, name, True)
        return
    found = _AZURE.fullmatch(resource.type)
    if found is None:
        return
    if found[1] == "AgentPool":
        yield from _agent_pool(resource, resource.properties, "")
        return
    for index, profile in enumerate(list_at(resource.properties, "agentPoolProfiles")):
        yield from _agent_pool(resource, first_mapping(profile), f"agentPoolProfiles[{index}].")


def _agent_pool(
    resource: Resource, pool: Mapping[str, Any], prefix: str
) -> Iterator[StreamingPool]:
    profile = first_mapping(at(pool, "artifactStreamingProfile"))
    if is_true(at(profile, "enabled")):
        name = text_at(pool, "agentPoolName", default=text_at(pool, "name", default=resource.name))
        yield StreamingPool(
            resource,
            f"{prefix}artifactStreamingProfile.enabled",
            name,
            "",
            _GPU_SIZE.match(text_at(pool, "vmSize", default="standard_nc")) is not None,
        )
