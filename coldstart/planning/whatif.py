"""Which lever to turn next: every change of a stack file that could help, planned and priced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coldstart.catalog import Catalog, InstanceType
from coldstart.planning.cold_start import Case, ColdStart, predict, with_measurements_of
from coldstart.planning.cost import HOURS_PER_MONTH, node_usd_per_hour
from coldstart.planning.levers import snapshot_usd_per_month
from coldstart.planning.model import StackPlan
from coldstart.planning.plan import PlanFailedError, plan_stack
from coldstart.spec.model import AUTO, ImageDelivery, NodePoolSpec, StackSpec
from coldstart.units import format_seconds

SOME_SNAPSHOT = "snap-00000000000000000"
"""Stands for the snapshot that tools/image-snapshot would make."""
_BELOW_NOTICE_SECONDS = 0.5
MOST_BEST = 4
"""Changes that people are shown: those after them cost more for less."""


@dataclass(frozen=True, slots=True)
class NextLever:
    """One change that could be made: what it saves on a start, and what it costs an hour.

    `change` is by key of the stack file. `usd_per_hour` is on top of what is paid now while one
    replica runs, negative where it is cheaper, None without a price. `obstacle` says why the plan
    would be refused; nothing is saved then.
    """

    change: Mapping[str, str]
    saved_seconds: float
    usd_per_hour: float | None
    obstacle: str | None = None

    @property
    def name(self) -> str:
        """The change in one line, by the last part of each key; `auto` only where it is all."""
        told = {k: v for k, v in self.change.items() if v != AUTO} or self.change
        shown = {k: "snap-…" if v == SOME_SNAPSHOT else v for k, v in told.items()}
        return ", ".join(f"{key.rpartition('.')[2]}: {value}" for key, value in shown.items())

    @property
    def seconds_per_usd(self) -> float | None:
        """Seconds saved for each dollar an hour; None where it costs nothing or has no price."""
        usd = self.usd_per_hour
        return self.saved_seconds / usd if usd is not None and usd > 0 else None

    @property
    def gain(self) -> str:
        """Seconds, price and seconds for each dollar, in words."""
        saved, rate = format_seconds(self.saved_seconds), self.seconds_per_usd
        if self.usd_per_hour is None:
            return f"{saved} saved, price unknown"
        if rate is None:
            return f"{saved} saved, for nothing"
        return f"{saved} saved, ${self.usd_per_hour:.2f}/h, {rate:,.0f} s a dollar"


def best_levers(spec: StackSpec, name: str, catalog: Catalog) -> tuple[NextLever, ...]:
    """The first few of `next_levers`, without those that the plan would refuse."""
    found = next_levers(spec, name, catalog)
    return tuple(row for row in found if row.obstacle is None)[:MOST_BEST]


def next_levers(spec: StackSpec, name: str, catalog: Catalog) -> tuple[NextLever, ...]:
    """What the stack file could still turn on for one model, the best per dollar first.

    Free changes come before paid ones, those without a price and those that cannot work last.
    Changes that save less than half a second are left out. KeyError for an unknown model; raises
    PlanFailedError when the stack itself cannot be planned.
    """
    model = spec.models[name]
    pools = {model.node_pool: spec.node_pools[model.node_pool]}
    now = plan_stack(
        spec.model_copy(update={"models": {name: model}, "node_pools": pools}), catalog
    )
    # A budget is no reason against a faster start, and what was measured is taken over below.
    free = model.model_copy(update={"measurements": {}, "cold_start_budget": None})
    alone = spec.model_copy(update={"models": {name: free}, "node_pools": pools})
    start = now.models[name].start
    seconds = _seconds(now, name, start, catalog)
    usd = _usd_per_hour(now, name, catalog)
    found = []
    for change, changed in _changes(alone, name, now, catalog):
        try:
            then = plan_stack(changed, catalog)
        except PlanFailedError as error:
            found.append(NextLever(change, 0.0, None, error.errors[0].message))
            continue
        saved = seconds - _seconds(then, name, start, catalog)
        if saved < _BELOW_NOTICE_SECONDS:
            continue
        price = _usd_per_hour(then, name, catalog)
        more = None if usd is None or price is None else round(price - usd, 6)
        found.append(NextLever(change, saved, more))
    return tuple(sorted(found, key=_rank))


def _rank(lever: NextLever) -> tuple[int, float]:
    if lever.obstacle is not None:
        return 3, 0.0
    if lever.usd_per_hour is None:
        return 2, -lever.saved_seconds
    per_usd = lever.seconds_per_usd
    return (0, -lever.saved_seconds) if per_usd is None else (1, -per_usd)


def _seconds(plan: StackPlan, name: str, measured: ColdStart, catalog: Catalog) -> float:
    """The next replica's start, on a warm node where one is kept."""
    model = plan.models[name]
    case = Case.WARM_NODE if plan.pools[model.pool].warm_nodes else Case.NEXT_REPLICA
    return predict(with_measurements_of(measured, model.start), catalog, case).total_seconds


def _usd_per_hour(plan: StackPlan, name: str, catalog: Catalog) -> float | None:
    model = plan.models[name]
    pool = plan.pools[model.pool]
    each = node_usd_per_hour(pool, model.expected_instance_type, plan.spec, catalog)
    if each is None:
        return None
    usd = each * (1 + pool.warm_nodes)
    if pool.image_delivery.value is ImageDelivery.SNAPSHOT:
        try:
            month = snapshot_usd_per_month(model.start, plan.spec.region, catalog)
        except LookupError:
            return None
        usd += month / HOURS_PER_MONTH
    return usd


def _changes(
    spec: StackSpec, name: str, plan: StackPlan, catalog: Catalog
) -> Iterator[tuple[Mapping[str, str], StackSpec]]:
    model = spec.models[name]
    pool = spec.node_pools[model.node_pool]
    for values in _pool_changes(pool, plan, name, catalog):
        changed = pool.model_copy(update=values)
        yield (
            _told(f"nodePools.{model.node_pool}", values),
            spec.model_copy(update={"node_pools": {model.node_pool: changed}}),
        )
    for field in ("weights", "load_format", "compile_cache"):
        if getattr(model, field) != AUTO:
            changed_model = model.model_copy(update={field: AUTO})
            yield (
                _told(f"models.{name}", {field: AUTO}),
                spec.model_copy(update={"models": {name: changed_model}}),
            )


def _pool_changes(
    pool: NodePoolSpec, plan: StackPlan, name: str, catalog: Catalog
) -> Iterator[dict[str, Any]]:
    model = plan.models[name]
    if plan.pools[model.pool].warm_nodes == 0:
        yield {"warm_nodes": 1}
    if plan.pools[model.pool].image_delivery.value is not ImageDelivery.SNAPSHOT:
        yield {
            "os": AUTO,
            "local_storage": AUTO,
            "image": ImageDelivery.SNAPSHOT,
            "image_snapshot": SOME_SNAPSHOT,
        }
    wishes = [f for f in ("os", "local_storage", "image") if getattr(pool, f) != AUTO]
    if wishes:
        yield dict.fromkeys(wishes, AUTO)
    expected = catalog.instance(model.expected_instance_type)
    for other in _faster_types(expected, catalog):
        yield {"instance_types": (other.name,)}


def _faster_types(expected: InstanceType, catalog: Catalog) -> list[InstanceType]:
    """Types with as many of the same GPU and more network, the least network first."""
    found = [
        other
        for other in catalog.instance_types.values()
        if (other.accelerator, other.accelerator_count, other.arch)
        == (expected.accelerator, expected.accelerator_count, expected.arch)
        and other.network_mbps > expected.network_mbps
        and other.size != "metal"
    ]
    return sorted(found, key=lambda t: (t.network_mbps, t.name))


def _told(path: str, values: Mapping[str, Any]) -> dict[str, str]:
    alias = {name: field.alias or name for name, field in NodePoolSpec.model_fields.items()}
    shown = {
        key: ", ".join(value) if isinstance(value, tuple) else str(value)
        for key, value in values.items()
    }
    return {f"{path}.{alias.get(key, _camel(key))}": value for key, value in shown.items()}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)
