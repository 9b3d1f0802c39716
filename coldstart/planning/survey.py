"""Which accelerators of the catalog hold a model: the whole plan is tried on each of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from coldstart.catalog import Accelerator, Catalog, InstanceType, Model
from coldstart.planning.plan import PlanFailedError, plan_stack
from coldstart.spec.model import StackSpec
from coldstart.spec.traffic import MOST_REPLICAS

POOL, MODEL = "gpu", "model"
MOST = MOST_REPLICAS
"""Replicas and nodes of the plans tried here, the most a stack file takes: no size stands in the
way of a fit."""
NO_REVISION = "0" * 40
"""Stands for the commit of a model that is not published under one; nothing is fetched here."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Fitting:
    """A model on one accelerator: the smallest nodes that hold it, or `obstacle`, why none does.

    `instance_types` are what a node pool must name, empty where `auto` finds them; `gpus` are those
    of one replica, `gpus_per_node` those of the instance; `usd_per_hour` is the on-demand price of
    one node, None where the catalog has none for the region. `peak_replicas` are those that the
    traffic among the wishes needs, 0 without traffic.
    """

    accelerator: str
    instance: str = ""
    instance_types: tuple[str, ...] = ()
    gpus: int = 0
    gpus_per_node: int = 0
    precision: str = ""
    max_model_len: int = 0
    kv_cache_tokens: int = 0
    usd_per_hour: float | None = None
    cold_start_seconds: float = 0.0
    first_node_seconds: float = 0.0
    peak_replicas: int = 0
    obstacle: str | None = None

    @property
    def replicas_per_node(self) -> int:
        """Replicas that one node has room for."""
        return self.gpus_per_node // self.gpus if self.gpus else 0

    def usd_per_hour_of(self, replicas: int) -> float | None:
        """What the nodes for so many replicas cost, on demand; None without a price."""
        if self.usd_per_hour is None or not self.replicas_per_node:
            return None
        return -(-replicas // self.replicas_per_node) * self.usd_per_hour


def survey(
    model: Model, region: str, catalog: Catalog, wishes: Mapping[str, Any] | None = None
) -> tuple[Fitting, ...]:
    """`model` on every accelerator in `region`; the cheapest node first, what does not fit last.

    `wishes` are further keys of the model in the stack file, such as `maxConcurrency`.
    """
    name = model.name if _REPOSITORY.fullmatch(model.name) else f"local/{_plain_name(model.name)}"
    known = replace(catalog, models={**catalog.models, name: model})
    revision = model.revision or NO_REVISION
    entry = {**(wishes or {}), "source": f"hf://{name}@{revision}", "nodePool": POOL}
    entry.setdefault("scaling", {"min": 1, "max": MOST})
    found = [_on(accelerator, entry, model, region, known) for accelerator in _offered(known)]
    return tuple(sorted(found, key=_cheapest_first))


def named_model(name: str, catalog: Catalog) -> Model:
    """A model of the catalog by its repository or the last part of it, case aside.

    Raises ValueError with the nearest one.
    """
    known = {full.rpartition("/")[2].lower(): full for full in catalog.models}
    known |= {full.lower(): full for full in catalog.models}
    found = known.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        hint = f'; did you mean "{known[near[0]]}"?' if near else ""
        names = ", ".join(catalog.models)
        raise ValueError(f"{name!r} is not in the model catalog{hint}\nit has: {names}")
    return catalog.models[found]


def _plain_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or MODEL


def _offered(catalog: Catalog) -> list[Accelerator]:
    """Accelerators that some instance type of the catalog carries."""
    carried = {t.accelerator for t in catalog.instance_types.values()}
    return [a for key, a in catalog.accelerators.items() if key in carried]


def _groups(accelerator: str, catalog: Catalog) -> Iterator[tuple[InstanceType, ...]]:
    """Instance types by the number of GPUs, fewest first; those with NVMe where there are any."""
    types = [t for t in catalog.instances_with(accelerator) if t.size != "metal"]
    for count in sorted({t.accelerator_count for t in types}):
        same = [t for t in types if t.accelerator_count == count]
        yield tuple([t for t in same if t.nvme_gb] or same)


def _on(
    accelerator: Accelerator,
    entry: Mapping[str, Any],
    model: Model,
    region: str,
    catalog: Catalog,
) -> Fitting:
    obstacle = "no instance type carries it"
    for number, types in enumerate(_groups(accelerator.key, catalog)):
        names = tuple(t.name for t in types) if number else ()
        pool: dict[str, Any] = {"accelerator": accelerator.key, "maxNodes": MOST}
        if names:
            pool["instanceTypes"] = list(names)
        spec = StackSpec.model_validate(
            {
                "stack": "survey",
                "region": region,
                "platform": "eks",
                "nodePools": {POOL: pool},
                "models": {MODEL: entry},
            }
        )
        try:
            plan = plan_stack(spec, catalog)
        except PlanFailedError as error:
            obstacle = error.errors[0].message.partition(". Use one of")[0]
            continue
        made = plan.models[MODEL]
        instance = catalog.instance(made.expected_instance_type)
        price = catalog.price(region, instance.name)
        return Fitting(
            accelerator=accelerator.key,
            instance=instance.name,
            instance_types=names,
            gpus=made.fit.gpus,
            gpus_per_node=instance.accelerator_count,
            precision=made.fit.precision,
            max_model_len=made.fit.max_model_len,
            kv_cache_tokens=made.fit.kv_cache_tokens,
            usd_per_hour=price.on_demand_usd_per_hour if price else None,
            cold_start_seconds=made.cold_start.total_seconds,
            first_node_seconds=made.first_node.total_seconds,
            peak_replicas=made.load.peak_replicas if made.load else 0,
        )
    return Fitting(accelerator.key, obstacle=obstacle)


def _cheapest_first(fitting: Fitting) -> tuple[bool, float, str]:
    unpriced = float("inf")
    price = unpriced if fitting.usd_per_hour is None else fitting.usd_per_hour
    return fitting.obstacle is not None, price, fitting.accelerator
