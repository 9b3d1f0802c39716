"""What the stack costs an hour: idle, and with every pool at its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from coldstart.catalog import Catalog
from coldstart.planning.model import (
    ClusterPlan,
    CostLine,
    CostPlan,
    ModelPlan,
    NetworkPlan,
    PoolPlan,
)
from coldstart.spec.model import Layer, NatGateways, StackSpec

HOURS_PER_MONTH = 730
INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "sts", "ec2", "eks-auth")
"""Interface endpoints of the network component; each is billed per zone."""


def cost_plan(
    spec: StackSpec,
    network: NetworkPlan,
    cluster: ClusterPlan,
    pools: Mapping[str, PoolPlan],
    models: Mapping[str, ModelPlan],
    catalog: Catalog,
) -> CostPlan:
    """Compute, control plane, network and disks at list prices; traffic and storage use left out.

    A position without a price in the catalog is named in `unpriced`, never counted as zero.
    """
    lines: list[CostLine] = []
    unpriced: list[str] = []
    if Layer.INFRA in spec.layers:
        _fixed(lines, unpriced, spec, network, catalog)
    for label, kind, idle, most in _nodes(spec, cluster, pools, models, catalog):
        price = catalog.price(spec.region, kind)
        if price is None or price.on_demand_usd_per_hour is None:
            unpriced.append(f"{label} ({kind} in {spec.region})")
            continue
        each = price.on_demand_usd_per_hour
        lines.append(
            CostLine(f"{label}: {idle} to {most} x {kind}", idle * each, most * each, price.source)
        )
    for pool in pools.values():
        idle, most = _pool_nodes(pool, models)
        try:
            each = _volume_usd_per_hour(pool, spec, catalog)
        except LookupError:
            unpriced.append(f"volumes of {pool.name} (in {spec.region})")
            continue
        source = catalog.fixed_price("gp3_gb_month").source
        lines.append(CostLine(f"volumes of {pool.name}", idle * each, most * each, source))
    return CostPlan(tuple(lines), tuple(unpriced))


def _fixed(
    lines: list[CostLine],
    unpriced: list[str],
    spec: StackSpec,
    network: NetworkPlan,
    catalog: Catalog,
) -> None:
    gateways = spec.network.zones if network.nat_gateways.value is NatGateways.PER_ZONE else 1
    for key, name, count in (
        ("eks_control_plane", "control plane", 1),
        ("nat_gateway_hour", f"NAT gateways: {gateways}", gateways),
        (
            "interface_endpoint_hour",
            f"interface endpoints: {len(INTERFACE_ENDPOINTS)} x {spec.network.zones} zones",
            len(INTERFACE_ENDPOINTS) * spec.network.zones,
        ),
    ):
        price = catalog.fixed_price(key)
        if spec.region not in price.usd_by_region:
            unpriced.append(f"{name} (in {spec.region})")
            continue
        each = price.usd(spec.region) * count
        lines.append(CostLine(name, each, each, price.source))


def _nodes(
    spec: StackSpec,
    cluster: ClusterPlan,
    pools: Mapping[str, PoolPlan],
    models: Mapping[str, ModelPlan],
    catalog: Catalog,
) -> list[tuple[str, str, int, int]]:
    rows: list[tuple[str, str, int, int]] = []
    if Layer.INFRA in spec.layers:
        rows.append(
            (
                "system nodes",
                cluster.system_instance_type,
                cluster.system_nodes,
                cluster.system_nodes,
            )
        )
    for pool in pools.values():
        idle, most = _pool_nodes(pool, models)
        rows.append((f"pool {pool.name}", _expected_type(pool, models, spec, catalog), idle, most))
    return rows


def _expected_type(
    pool: PoolPlan, models: Mapping[str, ModelPlan], spec: StackSpec, catalog: Catalog
) -> str:
    """The dearest type Karpenter is expected to start for a model of the pool."""

    def price(name: str) -> float:
        found = catalog.price(spec.region, name)
        return (found and found.on_demand_usd_per_hour) or 0.0

    expected = [m.expected_instance_type for m in models.values() if m.pool == pool.name]
    return max(expected, key=price) if expected else pool.instance_types[0]


def _pool_nodes(pool: PoolPlan, models: Mapping[str, ModelPlan]) -> tuple[int, int]:
    gpus = sum(m.least_gpus for m in models.values() if m.pool == pool.name)
    idle = math.ceil(gpus / pool.gpus_per_node) + pool.warm_nodes
    return min(idle, pool.max_nodes), pool.max_nodes * len(pool.capacity.value)


def _volume_usd_per_hour(pool: PoolPlan, spec: StackSpec, catalog: Catalog) -> float:
    def usd(key: str) -> float:
        return catalog.fixed_price(key).usd(spec.region)

    base_iops = catalog.limit("gp3_baseline_iops").value
    base_rate = catalog.limit("gp3_baseline_mib_per_second").value
    return (
        sum(
            v.size_gib * usd("gp3_gb_month")
            + max(0.0, v.iops - base_iops) * usd("gp3_iops_month")
            + max(0.0, v.throughput_mib_per_second - base_rate) * usd("gp3_mib_per_second_month")
            for v in pool.volumes
        )
        / HOURS_PER_MONTH
    )


def node_usd_per_hour(
    pool: PoolPlan, instance_type: str, spec: StackSpec, catalog: Catalog
) -> float | None:
    """One running node of a pool with its volumes, on demand; None where a price is not known."""
    price = catalog.price(spec.region, instance_type)
    if price is None or price.on_demand_usd_per_hour is None:
        return None
    try:
        return price.on_demand_usd_per_hour + _volume_usd_per_hour(pool, spec, catalog)
    except LookupError:
        return None
