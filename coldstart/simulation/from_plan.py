"""A simulation of one model of a planned stack, as its own objects would run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from coldstart.capacity.speed import EngineSpeed
from coldstart.catalog import Catalog, load
from coldstart.planning.model import ModelPlan, PoolPlan, StackPlan
from coldstart.planning.percentiles import percentiles
from coldstart.planning.purchase import on_demand
from coldstart.planning.timeline import Timeline
from coldstart.render import pods
from coldstart.simulation.hpa import Behavior, Policy, PolicyType, ScalingRules, Select
from coldstart.simulation.inputs import (
    SPOT_NOTICE_SECONDS,
    NodeInput,
    ReplicaInput,
    Routing,
    SimulationError,
    SimulationInput,
    SloInput,
)
from coldstart.simulation.keda import (
    Fallback,
    FallbackBehavior,
    ScaledObject,
    Signal,
    Trigger,
)
from coldstart.simulation.schedules import cron_triggers
from coldstart.simulation.trace import Trace

_SIGNAL_PHASE = "signal"
"""The phase of a timeline that the simulation plays itself: from the load to the new pod."""


def from_plan(
    plan: StackPlan,
    model_name: str,
    trace: Trace,
    speed: EngineSpeed,
    *,
    catalog: Catalog | None = None,
    routing: Routing = Routing.RANDOM,
    usd_per_node_hour: float | None = None,
    start_p95_over_p50: float | None = None,
    interruptions_per_node_hour: float = 0.0,
    starts_at: datetime | None = None,
    seed: int = 1,
) -> SimulationInput:
    """What `simulate` is given for a model of a stack.

    The trace begins with the model at its `scaling.min` and warm nodes running. The model has its
    pool to itself. Requests reach replicas through a Service, hence `random`. A node costs what the
    stack file says, or the catalog on demand, where no price is given; starts spread as those of a
    further replica do, 1 for starts that all take the middle time. `starts_at` is the clock's
    second 0 for schedules, where the trace does not say it; each begins as early as in the plan.

    Raises SimulationError for a model that the stack does not have, or a missing clock.
    """
    model = plan.models.get(model_name)
    if model is None:
        known = ", ".join(plan.models) or "none"
        raise SimulationError(f"no model {model_name!r} in stack {plan.spec.stack}; it has {known}")
    known_catalog = catalog or load()
    if usd_per_node_hour is None:
        price = on_demand(model.expected_instance_type, plan.spec, known_catalog)
        usd_per_node_hour = price.usd_per_hour if price else None
    spec = plan.spec.models[model_name]
    slo, scaling = spec.slo, scaled_object(model)
    crons = cron_triggers(
        spec.scaling.schedules,
        trace.starts_at or starts_at,
        trace.seconds,
        model.scaling.lead_seconds,
    )
    wake = model.scaling.wake
    return SimulationInput(
        trace=trace,
        replica=_replica(model, speed),
        nodes=_nodes(
            model,
            plan.pools[model.pool],
            known_catalog.instance(model.expected_instance_type).accelerator_count,
            usd_per_node_hour,
            _start_spread(model) if start_p95_over_p50 is None else start_p95_over_p50,
            interruptions_per_node_hour,
        ),
        scaling=replace(scaling, triggers=(*scaling.triggers, *crons)),
        initial_replicas=model.scaling.min_replicas,
        routing=routing,
        hold_seconds=wake.hold_seconds if wake else None,
        slo=SloInput(slo.ttft, slo.tpot, slo.percentile) if slo else None,
        seed=seed,
    )


def scaled_object(model: ModelPlan) -> ScaledObject:
    """The model's ScaledObject, with the behavior as it is rendered."""
    scaling = model.scaling
    triggers = [
        Trigger(
            trigger.name,
            _signal(trigger.name),
            float(trigger.threshold),
            float(trigger.activation_threshold),
            null_is_zero=scaling.wake is not None,
        )
        for trigger in scaling.triggers
    ]
    if scaling.wake is not None:
        triggers.append(
            Trigger("held-requests", Signal.CONCURRENCY, scaling.wake.target_concurrency)
        )
    fallback = None
    if scaling.fallback_replicas is not None:
        fallback = Fallback(
            scaling.fallback_failures,
            scaling.fallback_replicas,
            FallbackBehavior.CURRENT_IF_HIGHER,
        )
    return ScaledObject(
        triggers=tuple(triggers),
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        polling_seconds=scaling.polling_seconds,
        cooldown_seconds=scaling.cooldown_seconds,
        initial_cooldown_seconds=pods.startup_budget_seconds(model),
        behavior=behavior_of(pods.scale_behavior(model)),
        fallback=fallback,
    )


def behavior_of(rendered: Mapping[str, Any]) -> Behavior:
    """An HPA's `behavior` as an object of autoscaling/v2."""
    return Behavior(_rules(rendered["scaleUp"]), _rules(rendered["scaleDown"]))


def _rules(rendered: Mapping[str, Any]) -> ScalingRules:
    return ScalingRules(
        tuple(
            Policy(PolicyType(policy["type"]), policy["value"], policy["periodSeconds"])
            for policy in rendered["policies"]
        ),
        rendered["stabilizationWindowSeconds"],
        Select(rendered["selectPolicy"]),
    )


def _signal(name: str) -> Signal:
    try:
        return Signal(name)
    except ValueError:
        raise SimulationError(
            f"trigger {name!r} measures what the simulation does not know; it knows "
            f"{', '.join(Signal)}"
        ) from None


def _replica(model: ModelPlan, speed: EngineSpeed) -> ReplicaInput:
    removal_seconds = model.drain.endpoint_removal_seconds
    return ReplicaInput(
        speed=speed,
        max_num_seqs=model.fit.max_num_seqs,
        kv_cache_tokens=model.fit.kv_cache_tokens,
        max_model_len=model.fit.max_model_len,
        removal_seconds=removal_seconds,
        drain_seconds=removal_seconds + model.drain.shutdown_timeout_seconds,
    )


def _nodes(
    model: ModelPlan,
    pool: PoolPlan,
    gpus_per_node: int,
    usd_per_node_hour: float | None,
    start_p95_over_p50: float,
    interruptions_per_node_hour: float,
) -> NodeInput:
    return NodeInput(
        gpus_per_node=gpus_per_node,
        gpus_per_replica=model.fit.gpus,
        max_nodes=pool.max_nodes,
        warm_nodes=pool.warm_nodes,
        first_start_seconds=start_seconds(model.first_node),
        fresh_start_seconds=start_seconds(model.cold_start),
        warm_start_seconds=start_seconds(model.warm_node),
        start_p95_over_p50=start_p95_over_p50,
        consolidate_after_seconds=pool.consolidate_after_seconds,
        usd_per_node_hour=usd_per_node_hour,
        interruptions_per_node_hour=interruptions_per_node_hour,
        notice_seconds=model.drain.notice_seconds or SPOT_NOTICE_SECONDS,
    )


def _start_spread(model: ModelPlan) -> float:
    found = percentiles(model.cold_start)
    return found.p95_seconds / found.p50_seconds


def start_seconds(line: Timeline) -> float:
    """From the pod to its first token: without the signal, which the simulation plays itself."""
    return line.total_seconds - line.end(_SIGNAL_PHASE)
