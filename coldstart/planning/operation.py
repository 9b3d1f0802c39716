"""How a replica starts, scales, rolls over and stops: probe, scaling, rollout, drain."""

from __future__ import annotations

import math

from coldstart.catalog import Catalog, EngineVersion
from coldstart.planning.cold_start import ColdStart, predict
from coldstart.planning.decision import Decision, Rejection
from coldstart.planning.model import (
    DrainPlan,
    PoolPlan,
    ProbePlan,
    RolloutPlan,
    ScalingPlan,
    Trigger,
    WakePlan,
)
from coldstart.planning.timeline import Timeline
from coldstart.spec.model import AUTO, CapacityType, ModelSpec
from coldstart.units import format_seconds

PROBE_PERIOD_SECONDS = 2
"""A probe that fires every other second adds one second to a start on average; its budget is the
threshold's business."""
PROBE_SAFETY_FACTOR = 3
ENDPOINT_REMOVAL_SECONDS = 15
"""Until every proxy has dropped the endpoint; during its own drain vLLM still answers /health with
200 and new requests with 500 (vLLM launcher, --shutdown-timeout)."""
TEARDOWN_SECONDS = 15
"""Engine exit after the last request: 5 to 8 s seen without a GPU, more with NCCL."""
MIN_COOLDOWN_SECONDS = 300
POLLING_SECONDS = 5
DEFAULT_WAITING_REQUESTS = 5
"""Requests that wait per replica before the next is asked for, where no traffic is known."""


def probe_plan(worst: ColdStart, engine: EngineVersion, catalog: Catalog) -> ProbePlan:
    """Covers a start whose golden archive is missing, with room, and never less than vLLM waits."""
    line = predict(worst, catalog)
    covers = math.ceil(line.total_seconds - line.end("image"))
    budget = max(PROBE_SAFETY_FACTOR * covers, engine.ready_timeout_seconds_default)
    return ProbePlan(PROBE_PERIOD_SECONDS, math.ceil(budget / PROBE_PERIOD_SECONDS), covers)


def drain_plan(model_spec: ModelSpec, pool: PoolPlan, catalog: Catalog) -> DrainPlan:
    shutdown = math.ceil(model_spec.max_request_duration)
    grace = ENDPOINT_REMOVAL_SECONDS + shutdown + TEARDOWN_SECONDS
    spot = any(CapacityType.SPOT in p.capacity_types for p in pool.capacity.value)
    notice = int(catalog.limit("spot_interruption_notice_seconds").value) if spot else None
    reason = f"requests of up to {format_seconds(shutdown)} finish"
    if notice is not None and grace > notice:
        left = notice - ENDPOINT_REMOVAL_SECONDS - TEARDOWN_SECONDS
        reason += (
            f"; a spot interruption leaves {notice} s, so there only those of up to {left} s "
            "do: clients must retry the rest"
        )
    return DrainPlan(ENDPOINT_REMOVAL_SECONDS, shutdown, grace, notice, reason)


def scaling_plan(
    name: str, model_spec: ModelSpec, first: Timeline, concurrent_requests: int
) -> ScalingPlan:
    """`concurrent_requests` is what one replica runs at once; `first` its start on a new node."""
    bounds = model_spec.scaling
    chosen = f'{{namespace="{name}"}}'
    start_seconds = math.ceil(first.total_seconds)
    waiting = bounds.waiting_requests
    if waiting == AUTO:
        waiting = DEFAULT_WAITING_REQUESTS
    return ScalingPlan(
        min_replicas=bounds.min,
        max_replicas=bounds.max,
        polling_seconds=POLLING_SECONDS,
        cooldown_seconds=max(MIN_COOLDOWN_SECONDS, 2 * start_seconds),
        triggers=(
            Trigger(
                "waiting",
                f"sum(vllm:num_requests_waiting{chosen})",
                str(waiting),
                "0",
            ),
            Trigger(
                "kv-cache",
                f"100 * sum(vllm:kv_cache_usage_perc{chosen})",
                str(bounds.kv_cache_percent),
                "1",
            ),
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
        wake=WakePlan(concurrent_requests + waiting, PROBE_SAFETY_FACTOR * start_seconds)
        if bounds.min == 0
        else None,
    )


def rollout_plan(gpus: int, surge_gpus: int) -> Decision[RolloutPlan]:
    """How a replica of `gpus` GPUs is replaced when `surge_gpus` are free at full scale."""
    surge, scarce = RolloutPlan(1, 0), RolloutPlan(0, 1)
    if surge_gpus >= gpus:
        return Decision(
            surge,
            f"{surge_gpus} GPUs of the pool are free at full scale, so a new "
            "replica starts before an old one stops",
            (Rejection(scarce, "serves with one replica less during a rollout"),),
        )
    return Decision(
        scarce,
        f"at full scale {surge_gpus} GPUs of the pool are free and a replica "
        f"needs {gpus}: an extra one would wait for ever",
        (Rejection(surge, "the rollout would wait for a GPU that never comes"),),
    )
