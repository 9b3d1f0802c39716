"""What each lever of a plan is worth: alone, missed from all the others, and per dollar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coldstart.catalog import Catalog
from coldstart.planning.cold_start import (
    Case,
    ColdStart,
    altered,
    baseline,
    predict,
    without_levers,
)
from coldstart.planning.cost import HOURS_PER_MONTH, node_usd_per_hour
from coldstart.planning.model import ModelPlan, PoolPlan, StackPlan
from coldstart.planning.purchase import on_demand
from coldstart.planning.timeline import Timeline
from coldstart.spec.model import ImageDelivery, OperatingSystem, WeightsPath
from coldstart.units import GIB, format_seconds

_FIELDS = {
    "os": "operating_system",
    "image": "image_delivery",
    "weights": "weights",
    "loadFormat": "parallel_loader",
    "compileCache": "compile_cache",
}
WARM_NODES = "warmNodes"


@dataclass(frozen=True, slots=True)
class Lever:
    """One lever that the plan uses, by its key in the stack file.

    `alone_seconds` is what it saves on the baseline by itself, `lost_seconds` what a start takes
    longer without it while all others stay; the two differ where levers cover one another.
    `needs` are levers it cannot do without: they come and go with it. `usd_per_hour` is paid while
    one node runs (None: no price known), and `paid_for` says for what.
    """

    key: str
    value: str
    alone_seconds: float
    lost_seconds: float
    needs: tuple[str, ...]
    usd_per_hour: float | None
    paid_for: str

    @property
    def seconds_per_usd(self) -> float | None:
        """Seconds lost without it for each dollar an hour; None when it is free or unpriced."""
        return self.lost_seconds / self.usd_per_hour if self.usd_per_hour else None

    @property
    def gain(self) -> str:
        """Seconds beside the others and alone, and the price, in words."""
        saved, alone = format_seconds(self.lost_seconds), format_seconds(self.alone_seconds)
        text = f"{saved} saved, {alone} alone"
        if self.usd_per_hour is None:
            return f"{text}, price unknown"
        rate = self.seconds_per_usd
        price = "" if rate is None else f", ${self.usd_per_hour:.2f}/h, {rate:,.0f} s a dollar"
        return text + price


@dataclass(frozen=True, slots=True)
class Levers:
    """The levers of one model between the start without any and the start with all.

    `together` is on a fresh node; `warm` the same on a warm one, None without warm capacity.
    """

    none: Timeline
    together: Timeline
    warm: Timeline | None
    rows: tuple[Lever, ...]

    @property
    def saved_seconds(self) -> float:
        """What all levers save together."""
        return self.none.total_seconds - self.together.total_seconds


def levers(plan: StackPlan, name: str, catalog: Catalog, case: Case = Case.NEXT_REPLICA) -> Levers:
    """Every lever of a model that differs from the baseline, on a fresh node as `case` says.

    Only the warm node itself is judged on a warm node, where the others would have little left to
    save. KeyError for a model the plan does not have.
    """
    model = plan.models[name]
    pool = plan.pools[model.pool]
    used = _used(model, pool)
    fresh = frozenset(used) - {WARM_NODES}

    def seconds(chosen: frozenset[str]) -> float:
        return _line(model.start, chosen, catalog, case).total_seconds

    nothing = seconds(frozenset())
    rows = []
    for key, value in used.items():
        needs = _needs(key, model.start)
        dependants = {other for other in used if key in _needs(other, model.start)}
        others = fresh - {key} - dependants
        usd, paid_for = _COSTS[key](plan, model, pool, catalog)
        rows.append(
            Lever(
                key,
                value,
                nothing - seconds(frozenset({key, *needs})),
                seconds(others) - seconds(fresh | {key}),
                needs,
                usd,
                paid_for,
            )
        )
    return Levers(
        baseline(model.start, catalog, case),
        _line(model.start, fresh, catalog, case),
        model.warm_node if pool.warm_nodes else None,
        tuple(rows),
    )


def _used(model: ModelPlan, pool: PoolPlan) -> dict[str, str]:
    """Levers whose value is not the baseline's; weights are one also where only the order is."""
    plain, start = without_levers(model.start), model.start
    shown = {
        "os": str(start.operating_system),
        "image": str(start.image_delivery),
        "weights": str(start.weights),
        "loadFormat": model.load_format.value,
        "compileCache": str(start.compile_cache),
    }
    used = {
        key: shown[key]
        for key, name in _FIELDS.items()
        if key == "weights" or getattr(start, name) != getattr(plain, name)
    }
    return used | ({WARM_NODES: str(pool.warm_nodes)} if pool.warm_nodes else {})


def _needs(key: str, start: ColdStart) -> tuple[str, ...]:
    if key == "image" and start.image_delivery is ImageDelivery.SNAPSHOT:
        return ("os",) if start.operating_system is OperatingSystem.BOTTLEROCKET else ()
    if key == "weights" and start.weights is WeightsPath.STREAM:
        return ("loadFormat",)
    return ()


def _line(start: ColdStart, chosen: frozenset[str], catalog: Catalog, case: Case) -> Timeline:
    plain = without_levers(start)
    changes = {
        name: getattr(start if key in chosen else plain, name) for key, name in _FIELDS.items()
    }
    return predict(
        altered(start, **changes),
        catalog,
        Case.WARM_NODE if WARM_NODES in chosen else case,
        in_turn="weights" not in chosen,
    )


_Cost = Callable[[StackPlan, ModelPlan, PoolPlan, Catalog], tuple[float | None, str]]


def _free(why: str) -> _Cost:
    return lambda *_: (0.0, why)


def _image_cost(
    plan: StackPlan, model: ModelPlan, pool: PoolPlan, catalog: Catalog
) -> tuple[float | None, str]:
    region = plan.spec.region
    iops, rate = (
        catalog.limit(key).value for key in ("gp3_baseline_iops", "gp3_baseline_mib_per_second")
    )
    more_iops = sum(max(0.0, volume.iops - iops) for volume in pool.volumes)
    more_rate = sum(max(0.0, v.throughput_mib_per_second - rate) for v in pool.volumes)
    said = f"{more_iops:g} IOPS and {more_rate:g} MiB/s of gp3 above what is included"
    try:
        usd = more_iops * catalog.fixed_price("gp3_iops_month").usd(region)
        usd += more_rate * catalog.fixed_price("gp3_mib_per_second_month").usd(region)
        source = catalog.fixed_price("gp3_iops_month").source
        if model.start.image_delivery is ImageDelivery.SNAPSHOT:
            usd += snapshot_usd_per_month(model.start, region, catalog)
            said += ", and the snapshot"
            source = catalog.fixed_price("ebs_snapshot_gb_month").source
    except LookupError as error:
        return None, str(error)
    return usd / HOURS_PER_MONTH, f"{said}: {source}" if usd else "no price of its own"


def snapshot_usd_per_month(start: ColdStart, region: str, catalog: Catalog) -> float:
    """What a snapshot of the unpacked image costs; LookupError without a price in the region."""
    image = catalog.image("engine")
    unpacked = start.image_bytes * (image.unpacked_bytes or 0) / (image.compressed_bytes or 1)
    return unpacked / GIB * catalog.fixed_price("ebs_snapshot_gb_month").usd(region)


def _weights_cost(
    plan: StackPlan, model: ModelPlan, pool: PoolPlan, catalog: Catalog
) -> tuple[float | None, str]:
    if model.start.weights is not WeightsPath.SHARED:
        return 0.0, "local disks come with the instance, the bucket holds the weights anyway"
    price = catalog.fixed_price("efs_gb_month")
    try:
        usd = model.weight_bytes / GIB * price.usd(plan.spec.region)
    except LookupError as error:
        return None, str(error)
    return usd / HOURS_PER_MONTH, f"weights kept on EFS, reads not counted: {price.source}"


def _warm_cost(
    plan: StackPlan, model: ModelPlan, pool: PoolPlan, catalog: Catalog
) -> tuple[float | None, str]:
    kind = model.expected_instance_type
    each = node_usd_per_hour(pool, kind, plan.spec, catalog)
    if each is None:
        return None, f"no price for {kind} in {plan.spec.region}"
    price = on_demand(kind, plan.spec, catalog)
    source = price.source if price else ""
    return pool.warm_nodes * each, f"{pool.warm_nodes} x {kind} with its volumes: {source}"


_COSTS: Mapping[str, _Cost] = {
    "os": _free("no price of its own"),
    "image": _image_cost,
    "weights": _weights_cost,
    "loadFormat": _free("part of the engine image"),
    "compileCache": _free("an archive of some hundred MB in the bucket, under a cent an hour"),
    WARM_NODES: _warm_cost,
}
