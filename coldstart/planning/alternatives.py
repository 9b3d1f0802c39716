"""A model of a stack against serverless offers: the figures that a break-even takes."""

from __future__ import annotations

from coldstart.capacity.breakeven import GpuBySecond
from coldstart.catalog import Catalog, GpuSecondPrice
from coldstart.planning.model import StackPlan
from coldstart.planning.purchase import on_demand


def replica_usd_per_hour(plan: StackPlan, model: str, catalog: Catalog) -> float | None:
    """What the GPUs of one replica cost an hour on demand: its share of the node it is expected on.

    None where neither the stack file nor the catalog has a price.
    """
    planned = plan.models[model]
    price = on_demand(planned.expected_instance_type, plan.spec, catalog)
    if price is None:
        return None
    gpus = catalog.instance(planned.expected_instance_type).accelerator_count
    return price.usd_per_hour * planned.fit.gpus / gpus


def gpu_by_second(
    plan: StackPlan,
    model: str,
    price: GpuSecondPrice,
    request_seconds: float,
    start_seconds: float | None = None,
    idle_seconds: float | None = None,
) -> GpuBySecond:
    """A worker of a serverless platform with the GPUs of one replica. Raises as `GpuBySecond`.

    Unless told otherwise it starts in the time from container start to ready that the plan predicts
    without a golden archive, and idles as long as the platform does by default.
    """
    planned = plan.models[model]
    return GpuBySecond(
        usd_per_second=price.usd_per_second * planned.fit.gpus,
        request_seconds=request_seconds,
        start_seconds=planned.predicted_startup_seconds if start_seconds is None else start_seconds,
        idle_seconds=price.idle_seconds if idle_seconds is None else idle_seconds,
        bills_start=price.bills_start,
        rounding_seconds=price.rounding_seconds,
    )
