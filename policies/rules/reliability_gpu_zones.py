"""Whether GPUs are looked for in more than one zone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.reading.cloud_pools import gpu_pools_of
from policies.reading.node_pools import is_gpu_pool, is_node_pool, requirements_in
from policies.reading.values import NotYetKnown, Resource, first_mapping, gather, judge_each, known
from policies.rule import Finding, Settings, StackRule

_ZONE = "topology.kubernetes.io/zone"
_CAPACITY_TYPE = "karpenter.sh/capacity-type"


@dataclass(frozen=True)
class _Zoned:
    """A GPU pool, where it may buy (None: anywhere), and whether it is bound to a place."""

    resource: Resource
    name: str
    field: str
    zones: tuple[str, ...] | None
    bound: bool


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    pools, undecided = gather(resources, _pools)
    everywhere = {zone for pool in pools for zone in pool.zones or ()}
    if len(everywhere) > 1 or any(pool.zones is None for pool in pools):
        return

    def judge(pool: _Zoned) -> Iterator[Finding]:
        if pool.bound or pool.zones is None:
            return
        if undecided:
            raise NotYetKnown(*undecided)
        yield Finding(
            pool.resource,
            f"GPU node pool {pool.name} buys in zone {pool.zones[0]} only ({pool.field}), and no "
            "other GPU pool of this stack buys elsewhere. GPUs sell out by zone, and then no "
            "replica starts however long it waits. Add a zone, or a second pool in another one.",
        )

    yield from judge_each(pools, judge)
    if undecided:
        raise NotYetKnown(*undecided)


def _pools(resource: Resource) -> Iterator[_Zoned]:
    if is_node_pool(resource):
        if is_gpu_pool(resource):
            yield _karpenter_pool(resource)
        return
    for pool in gpu_pools_of(resource):
        # EKS names subnets, and DigitalOcean has no zones.
        if resource.type.startswith(("gcp:", "azure-native:")):
            is_gke = resource.type.startswith("gcp:")
            yield _Zoned(
                resource,
                pool.name,
                "nodeLocations" if is_gke else "availabilityZones",
                pool.zones,
                bound=_is_bound(resource),
            )


def _karpenter_pool(node_pool: Resource) -> _Zoned:
    requirements = requirements_in(node_pool)
    wanted = [item for item in requirements if item.key == _ZONE]
    listed = [item for item in wanted if item.operator == "In"]
    zones = (
        tuple(value for value in listed[0].values if all(item.allows(value) for item in wanted))
        if listed
        else None
    )
    reserved = any(
        item.key == _CAPACITY_TYPE and item.operator == "In" and "reserved" in item.values
        for item in requirements
    )
    return _Zoned(
        node_pool,
        node_pool.object_name,
        f"spec.template.spec.requirements, {_ZONE}",
        zones or None,
        bound=reserved,
    )


def _is_bound(pool: Resource) -> bool:
    """Whether a pool follows a reservation or a placement, which lie in one zone."""
    node = first_mapping(pool.properties.get("nodeConfig"))
    reservation = first_mapping(node.get("reservationAffinity"))
    return bool(
        known(reservation.get("key"))
        or first_mapping(pool.properties.get("placementPolicy"))
        or known(pool.properties.get("capacityReservationGroupID"))
    )


REQUIRE_GPU_ZONES = StackRule(
    code="CS908",
    name="gpu-nodepool-require-zones",
    concern="reliability",
    title="GPUs are bought in more than one zone",
    description="The GPU node pools of a stack must not all buy in the same single zone, unless "
    "a reservation binds them to it.",
    severity="medium",
    tags=("karpenter", "gcp", "azure", "reliability"),
    remediation="List two zones or more that offer the GPU (nodeLocations, availabilityZones, or "
    "no zone in the NodePool's requirements), or add a pool in another zone.",
    reason="Capacity for GPUs differs by zone and hour; a pool with one zone has nowhere else to "
    "look.",
    links=(
        "https://karpenter.sh/docs/concepts/scheduling/#topology-spread",
        "https://cloud.google.com/kubernetes-engine/docs/concepts/types-of-clusters",
        "https://learn.microsoft.com/en-us/azure/aks/reliability-availability-zones-configure",
    ),
    level="advisory",
    production="advisory",
    development="disabled",
    judge=_judge,
)
