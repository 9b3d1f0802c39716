"""How many replicas run: what asks for the next, how long an idle one stays, when many are due."""

from __future__ import annotations

import math

from coldstart.capacity.sizing import waiting_threshold
from coldstart.capacity.warm import cold_share, cooldown_for_share_seconds
from coldstart.catalog import Catalog
from coldstart.planning.decision import Decision, Rejection
from coldstart.planning.load import replicas_decision
from coldstart.planning.model import CronTrigger, LoadPlan, ScalingPlan, Trigger, WakePlan
from coldstart.planning.operation import PROBE_SAFETY_FACTOR
from coldstart.planning.schedule import cron_triggers
from coldstart.spec.model import AUTO, ModelSpec, ScalingSpec
from coldstart.units import format_seconds

MIN_COOLDOWN_SECONDS = 300
MAX_COOLDOWN_SECONDS = 86_400
"""What the stack file may say at most."""
POLLING_SECONDS = 5
DEFAULT_WAITING_REQUESTS = 5
"""Requests that wait per replica before the next is asked for, where no traffic is known."""
MOST_WAITING_REQUESTS = 10_000
"""What the stack file may say at most."""


def scaling_plan(
    name: str,
    model_spec: ModelSpec,
    catalog: Catalog,
    *,
    first_start_seconds: float,
    next_start_seconds: float,
    lead_seconds: float,
    concurrent_requests: int,
    load: LoadPlan | None = None,
) -> ScalingPlan:
    """`concurrent_requests` is what one replica runs at once.

    `first_start_seconds` is a start on the first node of an empty cluster, `next_start_seconds` one
    on a further node, `lead_seconds` how long before its start a schedule asks for replicas.
    """
    bounds = model_spec.scaling
    chosen = f'{{namespace="{name}"}}'
    start_seconds = math.ceil(first_start_seconds)
    waiting = _waiting(bounds, load, next_start_seconds, catalog)
    return ScalingPlan(
        min_replicas=bounds.min,
        max_replicas=bounds.max,
        polling_seconds=POLLING_SECONDS,
        waiting_requests=waiting,
        cooldown=_cooldown(bounds, load, start_seconds),
        schedules=_schedules(f"models.{name}.scaling.schedules", bounds, lead_seconds),
        triggers=(
            Trigger(
                "waiting",
                f"sum(vllm:num_requests_waiting{chosen})",
                str(waiting.value),
                "0",
            ),
            Trigger(
                "kv-cache",
                f"100 * sum(vllm:kv_cache_usage_perc{chosen})",
                str(bounds.kv_cache_percent),
                "1",
            ),
            *_in_flight(chosen, load),
        ),
        # KEDA counts a fallback as activity, so an outage of Prometheus would wake every sleeping
        # model; without one it sleeps on, and held requests still wake it.
        fallback_replicas=bounds.min if bounds.min > 0 else None,
        fallback_failures=3,
        scale_up_pods=max(1, math.ceil(bounds.max / 2)),
        scale_up_period_seconds=15,
        scale_down_window_seconds=max(MIN_COOLDOWN_SECONDS, start_seconds),
        scale_down_period_seconds=max(60, start_seconds),
        # The proxy counts running requests too; a slow start must not end in a gateway timeout.
        wake=WakePlan(concurrent_requests + waiting.value, PROBE_SAFETY_FACTOR * start_seconds)
        if bounds.min == 0
        else None,
        replicas=None if load is None else replicas_decision(load, model_spec, next_start_seconds),
    )


def _in_flight(chosen: str, load: LoadPlan | None) -> tuple[Trigger, ...]:
    """Requests in a replica that keeps its targets, where traffic and targets are known.

    Nothing waits once enough replicas run: by waiting requests alone one is then taken away, and
    asked for again as soon as something waits. What runs says how many the load keeps busy.
    """
    if load is None or load.targets is None:
        return ()
    running, waiting = (f"sum(vllm:num_requests_{what}{chosen})" for what in ("running", "waiting"))
    return (Trigger("in-flight", f"{running} + {waiting}", str(load.in_flight), "0"),)


def _waiting(
    bounds: ScalingSpec, load: LoadPlan | None, start_seconds: float, catalog: Catalog
) -> Decision[int]:
    if bounds.waiting_requests != AUTO:
        return Decision(int(bounds.waiting_requests), "named in the stack file")
    if load is None or load.targets is None:
        return Decision(
            DEFAULT_WAITING_REQUESTS,
            "traffic and slo together would say how long a queue may grow; without them a few may "
            "wait",
        )
    # More than the peak needs are never running, and fewer than the mean needs not for long.
    running = min(max(bounds.min, load.replicas), bounds.max)
    found = waiting_threshold(
        load.replica,
        load.targets,
        replicas=running,
        peak_requests_per_second=load.peak_requests_per_second,
        start_seconds=start_seconds,
        tolerance=catalog.limit("hpa_tolerance").value,
    )
    keeps = (
        f"up to {found.tolerated:.0f} waiting requests per replica keep the first token within "
        f"{format_seconds(load.targets.ttft_seconds)}"
    )
    if found.grown == 0:
        reason = f"{keeps}; the autoscaler acts a tenth above this figure"
    elif found.grown < found.tolerated:
        reason = (
            f"{keeps}, of which {found.grown:.0f} arrive at the peak while the next replica starts "
            f"in {format_seconds(start_seconds)}; the autoscaler acts a tenth above this figure"
        )
    else:
        reason = (
            f"{keeps}, but at the peak {found.grown:.0f} arrive while the next replica starts in "
            f"{format_seconds(start_seconds)}: the first that waits asks for it, and only replicas "
            f"that are there before (scaling.min or a schedule, {load.peak_replicas} at the peak) "
            "keep the target"
        )
    chosen = min(found.requests, MOST_WAITING_REQUESTS)
    other = "sooner" if chosen > DEFAULT_WAITING_REQUESTS else "later"
    return Decision(
        chosen,
        reason,
        ()
        if chosen == DEFAULT_WAITING_REQUESTS
        else (
            Rejection(
                DEFAULT_WAITING_REQUESTS,
                f"the figure without traffic and slo asks {other} than these targets need",
            ),
        ),
    )


def _cooldown(bounds: ScalingSpec, load: LoadPlan | None, start_seconds: int) -> Decision[int]:
    """How long the last replica idles; it matters only to a model that may sleep."""
    awake = f"without effect: scaling.min {bounds.min} never sleeps"
    if bounds.cooldown != AUTO:
        named = "named in the stack file"
        return Decision(math.ceil(bounds.cooldown), f"{named}, {awake}" if bounds.min else named)
    usual = max(MIN_COOLDOWN_SECONDS, 2 * start_seconds)
    if bounds.min > 0:
        return Decision(usual, awake)
    if load is None or load.targets is None:
        return Decision(
            usual,
            f"twice a start of {format_seconds(start_seconds)} and never under "
            f"{MIN_COOLDOWN_SECONDS} s, so that a lull does not end in the next cold start",
        )
    rate, allowed = load.requests_per_second, 1 - load.targets.percentile / 100
    needed = cooldown_for_share_seconds(rate, start_seconds, allowed)
    seconds = math.ceil(min(max(needed, MIN_COOLDOWN_SECONDS), MAX_COOLDOWN_SECONDS))
    share = cold_share(rate, start_seconds, seconds)
    reason = (
        f"{_percent(share)} of requests at {rate:g}/s meet a cold start of "
        f"{format_seconds(start_seconds)}"
    )
    if needed > MAX_COOLDOWN_SECONDS:
        reason += f", more than the {_percent(allowed)} of the slo: only scaling.min: 1 keeps it"
    return Decision(
        seconds,
        reason,
        (
            Rejection(
                start_seconds,
                "idling would cost no more than the start it may save, but "
                f"{_percent(cold_share(rate, start_seconds, start_seconds))} of requests would "
                "meet one",
            ),
        )
        if seconds != start_seconds
        else (),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _schedules(
    path: str, bounds: ScalingSpec, lead_seconds: float
) -> Decision[tuple[CronTrigger, ...]]:
    if not bounds.schedules:
        return Decision((), "none is given")
    return Decision(
        cron_triggers(path, bounds.schedules, lead_seconds),
        f"each start is {math.ceil(lead_seconds / 60)} min early: 95 % of cold starts on "
        f"a first node take up to {format_seconds(lead_seconds)}",
    )
