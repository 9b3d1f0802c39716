"""The figures a decision rests on, each with where it was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coldstart.catalog import Catalog
from coldstart.planning.model import ModelPlan, StackPlan
from coldstart.planning.purchase import on_demand
from coldstart.planning.warm import surges_of
from coldstart.spec.model import ModelSpec
from coldstart.units import format_seconds

PHASES: Mapping[str, tuple[str, ...]] = {
    "os": ("node", "device"),
    "localStorage": ("image", "stage"),
    "image": ("image",),
    "weights": ("mount", "stager", "stage", "load"),
    "loadFormat": ("load",),
    "compileCache": ("stager", "compile"),
}
"""Phases of the cold start that a decision decides about, by its key."""
MOST_RISES = 4
"""Sizes of rises that people are shown: the smallest, which come most often, and the largest."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number the decision rests on, with its unit in `value`, and where it was read."""

    name: str
    value: str
    source: str


def figures_of(
    key: str, plan: StackPlan, models: Sequence[ModelPlan], catalog: Catalog
) -> Iterator[Figure]:
    """The figures of the decision `key` (its short name) about these models."""
    for model in models:
        for phase in model.cold_start.phases:
            if phase.key in PHASES.get(key, ()):
                yield Figure(
                    f"{model.name}: {phase.name}", format_seconds(phase.seconds), phase.source
                )
    if key == "capacity":
        yield from _prices(plan, models, catalog)
    if key in ("min", "warmNodes", "cooldown"):
        for model in models:
            yield from _warm(model, plan.spec.models[model.name])
    if key == "natGateways":
        price = catalog.fixed_price("nat_gateway_hour")
        usd = price.usd_by_region.get(plan.spec.region)
        if usd is not None:
            yield Figure("one NAT gateway", f"${usd:g}/h", price.source)


def _prices(plan: StackPlan, models: Sequence[ModelPlan], catalog: Catalog) -> Iterable[Figure]:
    region = plan.spec.region
    for name in dict.fromkeys(m.expected_instance_type for m in models):
        listed, price = on_demand(name, plan.spec, catalog), catalog.price(region, name)
        if listed is not None:
            what = f"{name} on demand in {region}"
            yield Figure(what, f"${listed.usd_per_hour:,.2f}/h", listed.source)
        if price is not None and price.spot_usd_per_hour is not None:
            what = f"{name} spot in {region}"
            yield Figure(what, f"${price.spot_usd_per_hour:,.2f}/h", price.source)


def _warm(model: ModelPlan, spec: ModelSpec) -> Iterator[Figure]:
    """What an idle node costs, what a rise of demand waits for, and what a second of it costs."""
    costs, name = model.warm_costs, model.name
    if costs is not None:
        yield Figure(
            f"{name}: a node, {costs.replicas_per_node} of its replicas",
            f"${costs.usd_per_node_hour:,.2f}/h",
            f"{model.expected_instance_type} with its volumes, on demand",
        )
    for where, line in (
        ("a warm node", model.warm_node),
        ("a fresh node", model.cold_start),
        ("a first node", model.first_node),
    ):
        took = format_seconds(line.total_seconds)
        yield Figure(f"{name}: start on {where}", took, "predicted for this plan")
    if spec.slo is not None and spec.slo.usd_per_violated_second is not None:
        usd = spec.slo.usd_per_violated_second
        yield Figure(f"{name}: a violated second", f"${usd:g}", "slo.usdPerViolatedSecond")
    if model.load is None:
        return
    rises = surges_of(model.load, model.scaling.max_replicas)
    sizes = sorted({rise.replicas for rise in rises})
    for replicas in dict.fromkeys([*sizes[: MOST_RISES - 1], *sizes[-1:]]):
        often = sum(rise.per_day for rise in rises if rise.replicas == replicas)
        what = f"{name}: rises to {replicas} replicas"
        yield Figure(what, f"{often:.3g} a day", "random arrivals and peaks of traffic")
