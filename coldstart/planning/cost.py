"""What the stack costs an hour: idle, at its models' mean traffic, with every pool at its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from coldstart.catalog import Catalog, InstanceType
from coldstart.planning.bill import CostLine, CostPlan, TokenCost
from coldstart.planning.model import ClusterPlan, ModelPlan, NetworkPlan, PoolPlan
from coldstart.planning.purchase import Nodes, mix_line, on_demand
from coldstart.spec.model import Layer, NatGateways, StackSpec

HOURS_PER_MONTH = 730
SECONDS_PER_HOUR = 3600
TOKENS_PER_PRICE = 1_000_000
INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "sts", "ec2", "eks-auth")
"""Interface endpoints of the network component; each is billed per zone."""


def cost_plan(
    spec: StackSpec,
    network: NetworkPlan,
    cluster: ClusterPlan,
    pools: Mapping[str, PoolPlan],
    models: Mapping[str, ModelPlan],
    catalog: Catalog,
    typical_replicas: Mapping[str, float] | None = None,
) -> CostPlan:
    """Compute, control plane, network and disks at list prices; traffic and storage use left out.

    `typical_replicas` are the replicas a model's mean traffic keeps running; a pool with a model
    that is not in it has no typical cost, and neither has the stack. A position without a price in
    the catalog is named in `unpriced`, never counted as zero.
    """
    rows: list[CostLine | str] = []
    replicas = typical_replicas or {}
    kinds = {name: _expected_type(pool, models, spec, catalog) for name, pool in pools.items()}
    nodes = {
        name: _pool_nodes(pool, catalog.instance(kinds[name]), models, spec, replicas)
        for name, pool in pools.items()
    }
    if Layer.INFRA in spec.layers:
        system = Nodes(cluster.system_nodes, cluster.system_nodes, cluster.system_nodes)
        rows += _fixed(spec, network, catalog)
        rows.append(_node_line("system nodes", cluster.system_instance_type, system, spec, catalog))
    machines = {
        name: _node_line(f"pool {name}", kinds[name], nodes[name], spec, catalog) for name in pools
    }
    disks = {name: _volume_line(pool, nodes[name], spec, catalog) for name, pool in pools.items()}
    rows += [*machines.values(), *disks.values()]
    mix = [mix_line(pool, kinds[name], nodes[name], spec, catalog) for name, pool in pools.items()]
    pool_usd = {name: _typical(machines[name], disks[name]) for name in pools}
    return CostPlan(
        lines=tuple(row for row in rows if isinstance(row, CostLine)),
        unpriced=tuple(row for row in rows if isinstance(row, str)),
        mix=tuple(line for line in mix if line is not None),
        tokens=_tokens(pool_usd, models, spec, replicas),
        untold=tuple(name for name in models if name not in replicas),
    )


def _fixed(spec: StackSpec, network: NetworkPlan, catalog: Catalog) -> list[CostLine | str]:
    gateways = spec.network.zones if network.nat_gateways.value is NatGateways.PER_ZONE else 1
    rows: list[CostLine | str] = []
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
            rows.append(f"{name} (in {spec.region})")
            continue
        each = price.usd(spec.region) * count
        rows.append(_line(name, Nodes(1, 1, 1), each, price.source))
    return rows


def _node_line(
    label: str, kind: str, nodes: Nodes, spec: StackSpec, catalog: Catalog
) -> CostLine | str:
    """The position of nodes, or what it would be called without a price."""
    price = on_demand(kind, spec, catalog)
    if price is None:
        return f"{label} ({kind} in {spec.region})"
    name = f"{label}: {nodes.idle} to {nodes.maximum} x {kind}"
    return _line(name, nodes, price.usd_per_hour, price.source)


def _volume_line(pool: PoolPlan, nodes: Nodes, spec: StackSpec, catalog: Catalog) -> CostLine | str:
    try:
        each = _volume_usd_per_hour(pool, spec, catalog)
    except LookupError:
        return f"volumes of {pool.name} (in {spec.region})"
    return _line(f"volumes of {pool.name}", nodes, each, catalog.fixed_price("gp3_gb_month").source)


def _line(name: str, nodes: Nodes, usd_per_hour: float, source: str) -> CostLine:
    return CostLine(
        name,
        nodes.idle * usd_per_hour,
        nodes.maximum * usd_per_hour,
        source,
        None if nodes.typical is None else nodes.typical * usd_per_hour,
    )


def _typical(*rows: CostLine | str) -> float | None:
    """Their typical cost together; None when one of them has none."""
    known = [row.typical_usd_per_hour for row in rows if isinstance(row, CostLine)]
    found = [usd for usd in known if usd is not None]
    return sum(found) if len(found) == len(rows) else None


def _expected_type(
    pool: PoolPlan, models: Mapping[str, ModelPlan], spec: StackSpec, catalog: Catalog
) -> str:
    """The dearest type Karpenter is expected to start for a model of the pool."""

    def price(name: str) -> float:
        found = on_demand(name, spec, catalog)
        return found.usd_per_hour if found else 0.0

    expected = [m.expected_instance_type for m in models.values() if m.pool == pool.name]
    return max(expected, key=price) if expected else pool.instance_types[0]


def _pool_nodes(
    pool: PoolPlan,
    kind: InstanceType,
    models: Mapping[str, ModelPlan],
    spec: StackSpec,
    replicas: Mapping[str, float],
) -> Nodes:
    """Nodes of `kind` for the least GPUs, for those of the mean traffic, and at the limit.

    Where another stack serves on the pool, its traffic is not known here.
    """
    served = [m for m in models.values() if m.pool == pool.name]
    most = pool.max_nodes * len(pool.capacity.value)

    def holding(gpus: int) -> int:
        return math.ceil(gpus / kind.accelerator_count) + pool.warm_nodes

    idle = min(holding(sum(m.least_gpus for m in served)), pool.max_nodes)
    known = Layer.WORKLOAD in spec.layers and all(m.name in replicas for m in served)
    if not known:
        return Nodes(idle, None, most)
    gpus = sum(_whole_replicas(m, replicas) * m.fit.gpus for m in served)
    return Nodes(idle, min(holding(gpus), most), most)


def _whole_replicas(model: ModelPlan, replicas: Mapping[str, float]) -> int:
    """A replica runs whole or not at all, and within the bounds of its scaling."""
    bounds = model.scaling
    return min(max(math.ceil(replicas[model.name]), bounds.min_replicas), bounds.max_replicas)


def _tokens(
    pool_usd: Mapping[str, float | None],
    models: Mapping[str, ModelPlan],
    spec: StackSpec,
    replicas: Mapping[str, float],
) -> tuple[TokenCost, ...]:
    """Per million tokens, for models with traffic on pools whose typical cost is known."""
    found: list[TokenCost] = []
    for pool, usd_per_hour in pool_usd.items():
        if usd_per_hour is None:
            continue
        counts = {m.name: _whole_replicas(m, replicas) for m in models.values() if m.pool == pool}
        gpus = {name: n * models[name].fit.gpus for name, n in counts.items()}
        for name, count in counts.items():
            traffic = spec.models[name].traffic
            if traffic is None or count == 0:
                continue
            usd = usd_per_hour * gpus[name] / sum(gpus.values())
            tokens_per_hour = (
                traffic.requests_per_second
                * (traffic.prompt_tokens.mean + traffic.output_tokens.mean)
                * SECONDS_PER_HOUR
            )
            found.append(TokenCost(name, count, usd, usd / tokens_per_hour * TOKENS_PER_PRICE))
    return tuple(found)


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
    """One running node of a pool with its volumes, on demand; None where a price is not known.

    The stack file's own price of the instance type comes before the catalog's.
    """
    price = on_demand(instance_type, spec, catalog)
    if price is None:
        return None
    try:
        return price.usd_per_hour + _volume_usd_per_hour(pool, spec, catalog)
    except LookupError:
        return None
