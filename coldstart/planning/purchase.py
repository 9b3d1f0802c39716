"""How a pool's nodes are bought, and what an hour of one then costs."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.catalog import Catalog
from coldstart.planning.bill import MixLine
from coldstart.planning.model import PoolPlan
from coldstart.spec.model import CapacityType, StackSpec

STACK_FILE = "prices of the stack file"
RESERVED_AS_ON_DEMAND = (
    "reserved as on demand, which a capacity reservation costs, used or not (the catalog has no "
    "price of Savings Plans or capacity blocks)"
)
"""AWS bills an On-Demand Capacity Reservation at the on-demand rate whether or not an instance
runs in it (https://help.nops.io/inform/supported-recommendations/cancel-unused-capacity-reservation;
https://news.jatlink.uk/10679, 2026-05-07)."""


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What one node costs an hour on demand, and where that was read."""

    usd_per_hour: float
    source: str


@dataclass(frozen=True, slots=True)
class Nodes:
    """How many nodes of a pool run idle, at mean traffic (None when unknown) and at its limit."""

    idle: int
    typical: int | None
    maximum: int


def on_demand(kind: str, spec: StackSpec, catalog: Catalog) -> ListPrice | None:
    """The stack file's own price of `kind`, else the catalog's; None where neither has one."""
    own = spec.prices.instances.get(kind, {}).get(CapacityType.ON_DEMAND)
    if own is not None:
        return ListPrice(own, STACK_FILE)
    price = catalog.price(spec.region, kind)
    if price is None or price.on_demand_usd_per_hour is None:
        return None
    return ListPrice(price.on_demand_usd_per_hour, price.source)


def mix_line(
    pool: PoolPlan, kind: str, nodes: Nodes, spec: StackSpec, catalog: Catalog
) -> MixLine | None:
    """The prices of `kind` in the pool's capacity order; None without an on-demand price."""
    listed = on_demand(kind, spec, catalog)
    if listed is None:
        return None
    order = tuple(way for made in pool.capacity.value for way in made.capacity_types)
    assumed: list[str] = []
    usd = {way: _usd(way, kind, listed.usd_per_hour, spec, catalog, assumed) for way in order}
    low, high = min(usd.values()), max(usd.values())
    return MixLine(
        pool=pool.name,
        instance_type=kind,
        capacity=order,
        list_usd_per_hour=listed.usd_per_hour,
        low_usd_per_hour=low,
        high_usd_per_hour=high,
        expected_usd_per_hour=low if low == high else _expected(pool.name, usd, spec),
        idle_nodes=nodes.idle,
        typical_nodes=nodes.typical,
        maximum_nodes=nodes.maximum,
        assumed=tuple(assumed),
    )


def _usd(
    way: CapacityType,
    kind: str,
    listed_usd_per_hour: float,
    spec: StackSpec,
    catalog: Catalog,
    assumed: list[str],
) -> float:
    own = spec.prices.instances.get(kind, {}).get(way)
    if own is not None:
        return own
    if way is CapacityType.RESERVED:
        assumed.append(RESERVED_AS_ON_DEMAND)
    if way is CapacityType.SPOT:
        price = catalog.price(spec.region, kind)
        if price is not None and price.spot_usd_per_hour is not None:
            assumed.append(f"spot as quoted on {price.spot_date}")
            return price.spot_usd_per_hour
        assumed.append(f"spot as on demand (no spot price of {kind} in {spec.region})")
    return listed_usd_per_hour


def _expected(pool: str, usd: dict[CapacityType, float], spec: StackSpec) -> float | None:
    shares = spec.prices.shares.get(pool)
    if shares is None:
        return None
    percent = {CapacityType.ON_DEMAND: 100 - sum(shares.values()), **shares}
    return sum(usd[way] * percent[way] / 100 for way in percent if percent[way] > 0 and way in usd)
