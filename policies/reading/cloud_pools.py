"""GPU node pools of the clouds' own Kubernetes services, read alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.gpus import families
from policies.reading.values import (
    Resource,
    at,
    first_mapping,
    is_true,
    known,
    list_at,
    text_at,
    whole,
)

_EKS = "aws:eks/nodeGroup:NodeGroup"
_GKE = "gcp:container/nodePool:NodePool"
_DOKS = "digitalocean:index/kubernetesNodePool:KubernetesNodePool"
_DOKS_CLUSTER = "digitalocean:index/kubernetesCluster:KubernetesCluster"
_AKS = re.compile(r"azure-native:containerservice(?:/\w+)?:(AgentPool|ManagedCluster)")
_EC2_GPU = re.compile(r"(?:g|gr|p)\d")
# Machine series with GPUs: accelerator-optimized machines of GCP, N series of Azure.
_GCP_GPU = re.compile(r"(?:a[2-9]x?|g[24])-")
_AZURE_GPU = re.compile(r"standard_n[cdgv]", re.IGNORECASE)


@dataclass(frozen=True)
class CloudPool:
    """One GPU node pool; `maximum` is None where nothing limits it, `zones` where none is named.

    `fields` names what limits its size, for messages; a count per zone is multiplied already.
    """

    resource: Resource
    name: str
    fields: str
    autoscaled: bool
    minimum: int
    maximum: int | None
    zones: tuple[str, ...] | None = None


def is_cloud_pool_type(resource_type: str) -> bool:
    """Whether a type token can hold node pools of a cloud's Kubernetes service."""
    return resource_type in _READERS or _AKS.fullmatch(resource_type) is not None


def gpu_pools_of(resource: Resource) -> Iterator[CloudPool]:
    """The GPU node pools that a resource holds. Raises NotYetKnown for what decides and is open."""
    reader = _READERS.get(resource.type)
    if reader is not None:
        yield from reader(resource)
        return
    aks = _AKS.fullmatch(resource.type)
    if aks is None:
        return
    if aks[1] == "AgentPool":
        yield from _aks_pool(resource, resource.properties, "")
        return
    for index, profile in enumerate(list_at(resource.properties, "agentPoolProfiles")):
        yield from _aks_pool(resource, first_mapping(profile), f"agentPoolProfiles[{index}].")


def _eks_pool(resource: Resource) -> Iterator[CloudPool]:
    types = [str(known(item)) for item in list_at(resource.properties, "instanceTypes")]
    names = [item.split(".")[0] for item in types]
    if not names or not all(name in families() or _EC2_GPU.match(name) for name in names):
        return
    scaling = first_mapping(at(resource.properties, "scalingConfig"))
    yield CloudPool(
        resource,
        text_at(resource.properties, "nodeGroupName", default=resource.name),
        "scalingConfig.maxSize",
        autoscaled=True,
        minimum=whole(at(scaling, "minSize"), 0),
        maximum=_count(at(scaling, "maxSize")),
    )


def _gke_pool(resource: Resource) -> Iterator[CloudPool]:
    node = first_mapping(at(resource.properties, "nodeConfig"))
    if not list_at(node, "guestAccelerators") and not _GCP_GPU.match(text_at(node, "machineType")):
        return
    autoscaling = first_mapping(at(resource.properties, "autoscaling"))
    named = tuple(str(known(item)) for item in list_at(resource.properties, "nodeLocations"))
    location = text_at(resource.properties, "location")
    if not named and re.fullmatch(r".+-[a-z]", location):
        named = (location,)
    total = _count(at(autoscaling, "totalMaxNodeCount"))
    each = _count(at(autoscaling, "maxNodeCount"))
    if not autoscaling:
        each = _count(at(resource.properties, "nodeCount"))
    zones = max(1, len(named))
    field = "autoscaling.maxNodeCount" if autoscaling else "nodeCount"
    times = f" in each of {zones} zones" if zones > 1 else ""
    yield CloudPool(
        resource,
        text_at(resource.properties, "name", default=resource.name),
        "autoscaling.totalMaxNodeCount" if total is not None else f"{field}{times}",
        autoscaled=bool(autoscaling),
        minimum=whole(at(autoscaling, "minNodeCount"), 0),
        maximum=total if total is not None else (None if each is None else each * zones),
        zones=named or None,
    )


def _aks_pool(resource: Resource, pool: Mapping[str, Any], prefix: str) -> Iterator[CloudPool]:
    if not _AZURE_GPU.match(text_at(pool, "vmSize")):
        return
    autoscaled = is_true(at(pool, "enableAutoScaling"))
    named = tuple(str(known(item)) for item in list_at(pool, "availabilityZones"))
    name = text_at(pool, "agentPoolName", default=text_at(pool, "name", default=resource.name))
    yield CloudPool(
        resource,
        name,
        f"{prefix}{'maxCount' if autoscaled else 'count'}",
        autoscaled=autoscaled,
        minimum=whole(at(pool, "minCount"), 0),
        maximum=_count(at(pool, "maxCount" if autoscaled else "count")),
        zones=named or None,
    )


def _doks_pool(resource: Resource) -> Iterator[CloudPool]:
    yield from _droplets(resource, resource.properties, "")


def _doks_cluster(resource: Resource) -> Iterator[CloudPool]:
    pool = first_mapping(at(resource.properties, "nodePool"))
    yield from _droplets(resource, pool, "nodePool.")


def _droplets(resource: Resource, pool: Mapping[str, Any], prefix: str) -> Iterator[CloudPool]:
    if not text_at(pool, "size").startswith("gpu-"):
        return
    autoscaled = is_true(at(pool, "autoScale"))
    yield CloudPool(
        resource,
        text_at(pool, "name", default=resource.name),
        f"{prefix}{'maxNodes' if autoscaled else 'nodeCount'}",
        autoscaled=autoscaled,
        minimum=whole(at(pool, "minNodes"), 0),
        maximum=_count(at(pool, "maxNodes" if autoscaled else "nodeCount")),
    )


def _count(value: Any) -> int | None:
    """A number of nodes; None where none is stated or it is no number."""
    number = whole(value, -1)
    return None if number < 0 else number


_READERS: Mapping[str, Callable[[Resource], Iterator[CloudPool]]] = {
    _EKS: _eks_pool,
    _GKE: _gke_pool,
    _DOKS: _doks_pool,
    _DOKS_CLUSTER: _doks_cluster,
}
