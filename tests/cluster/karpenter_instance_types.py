"""The catalog's EC2 instance types, as the kwok cloud provider of Karpenter reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coldstart.catalog import InstanceType, Price, load
from tests.cluster.scheduling_nodes import (
    EVICTION_SHARE,
    PODS,
    REGION,
    RESERVED_STORAGE_BYTES,
    ZONES,
    storage_bytes,
)

RESERVATION_LABEL = "karpenter.k8s.aws/capacity-reservation-id"
RESERVED_PRICE_DIVISOR = 10_000_000
"""karpenter-provider-aws v1.14.1, reserved_capacity_resolver.go: as good as free, order kept."""
KWOK_RESERVED_CPU_MILLICORES = 100
KWOK_RESERVED_MEMORY_MIB = 10
"""The kwok provider takes this off every type, and nothing else (kwok/cloudprovider/helpers.go);
added here beforehand, so that what it calls allocatable is the catalog's figure."""
AMPLE_STORAGE_BYTES = 10**12
"""On types that no pool names: nothing but the pool's own words may keep a pod off them."""


@dataclass(frozen=True)
class Reservation:
    """An On-Demand Capacity Reservation: `count` instances of one type in one zone."""

    id: str
    instance_type: str
    zone: str
    count: int


def instance_types(
    node_classes: Iterable[Mapping[str, Any]] = (),
    pools: Iterable[Mapping[str, Any]] = (),
    reservations: Iterable[Reservation] = (),
) -> list[dict[str, Any]]:
    """Every type of the region with a price, those that no pool asks for among them.

    Each is offered in every zone at the region's one price. A type's scratch space depends on the
    EC2NodeClass of the pool that buys it; the file knows one figure per type, so a type that two
    pools buy under different node classes is a ValueError.
    """
    storage = _storage(list(node_classes), list(pools))
    held = list(reservations)
    return [
        _entry(load().instance(name), price, storage.get(name, AMPLE_STORAGE_BYTES), held)
        for (region, name), price in load().prices.items()
        if region == REGION
    ]


def _entry(
    kind: InstanceType, price: Price, storage: int, held: list[Reservation]
) -> dict[str, Any]:
    offers = [
        _offer(amount, capacity, zone)
        for amount, capacity in (
            (price.on_demand_usd_per_hour, "on-demand"),
            (price.spot_usd_per_hour, "spot"),
        )
        if amount is not None
        for zone in ZONES
    ]
    offers += [
        _offer(
            (price.on_demand_usd_per_hour or 0) / RESERVED_PRICE_DIVISOR,
            "reserved",
            reservation.zone,
            reservation,
        )
        for reservation in held
        if reservation.instance_type == kind.name
    ]
    resources = {
        "cpu": f"{kind.allocatable_cpu_millicores + KWOK_RESERVED_CPU_MILLICORES}m",
        "memory": f"{kind.allocatable_memory_mib + KWOK_RESERVED_MEMORY_MIB}Mi",
        "pods": PODS,
        "ephemeral-storage": str(storage),
    }
    if kind.accelerator_count:
        resources["nvidia.com/gpu"] = str(kind.accelerator_count)
    return {
        "name": kind.name,
        "architecture": kind.arch,
        "operatingSystems": ["linux"],
        "resources": resources,
        "offerings": offers,
    }


def _offer(
    usd_per_hour: float, capacity: str, place: str, reservation: Reservation | None = None
) -> dict[str, Any]:
    named = (
        {"operator": "In", "values": [reservation.id]}
        if reservation
        else {"operator": "DoesNotExist"}
    )
    return {
        "Price": usd_per_hour,
        "ReservationCapacity": reservation.count if reservation else 0,
        "Requirements": [
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [capacity]},
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [place]},
            {"key": RESERVATION_LABEL, **named},
        ],
    }


def _storage(classes: list[Mapping[str, Any]], pools: list[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes that pods may write on a node, by type."""
    by_name = {item["metadata"]["name"]: dict(item["spec"]) for item in classes}
    found: dict[str, int] = {}
    for pool in pools:
        template = pool["spec"]["template"]["spec"]
        node_class = by_name[template["nodeClassRef"]["name"]]
        for name in named_types(pool):
            whole = storage_bytes(node_class, load().instance(name))
            usable = int(whole * (1 - EVICTION_SHARE)) - RESERVED_STORAGE_BYTES
            if found.setdefault(name, usable) != usable:
                raise ValueError(f"{name} has {found[name]} bytes in one pool, {usable} in another")
    return found


def named_types(pool: Mapping[str, Any]) -> list[str]:
    """The instance types a NodePool may buy."""
    return [
        value
        for requirement in pool["spec"]["template"]["spec"]["requirements"]
        if requirement["key"] == "node.kubernetes.io/instance-type"
        for value in requirement["values"]
    ]
