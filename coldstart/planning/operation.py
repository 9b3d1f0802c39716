"""How a replica starts, rolls over and stops: probe, rollout, drain."""

from __future__ import annotations

import math

from coldstart.capacity.drain import (
    earlier,
    finish_share,
    notice_window,
    spot_notice_seconds,
    stop_window,
)
from coldstart.catalog import Catalog, EngineVersion
from coldstart.planning.cold_start import ColdStart, predict
from coldstart.planning.decision import Decision, Rejection
from coldstart.planning.model import PoolPlan
from coldstart.planning.operation_plan import DrainPlan, LoadPlan, ProbePlan, RolloutPlan
from coldstart.spec.model import CapacityType, ModelSpec, Platform
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


def probe_plan(worst: ColdStart, engine: EngineVersion, catalog: Catalog) -> ProbePlan:
    """Covers a start whose golden archive is missing, with room, and never less than vLLM waits."""
    line = predict(worst, catalog)
    covers = math.ceil(line.total_seconds - line.end("image"))
    budget = max(PROBE_SAFETY_FACTOR * covers, engine.ready_timeout_seconds_default)
    return ProbePlan(PROBE_PERIOD_SECONDS, math.ceil(budget / PROBE_PERIOD_SECONDS), covers)


CLOUDS = {Platform.EKS: "aws"}
"""Whose spot notice counts, by platform."""


def drain_plan(
    model_spec: ModelSpec,
    pool: PoolPlan,
    platform: Platform,
    catalog: Catalog,
    load: LoadPlan | None = None,
) -> DrainPlan:
    """Time for the longest request, and which of the running ones finish."""
    shutdown = math.ceil(model_spec.max_request_duration)
    grace = ENDPOINT_REMOVAL_SECONDS + shutdown + TEARDOWN_SECONDS
    spot = any(CapacityType.SPOT in p.capacity_types for p in pool.capacity.value)
    notice = int(spot_notice_seconds(CLOUDS[platform], catalog)) if spot else None
    orderly = stop_window(ENDPOINT_REMOVAL_SECONDS, shutdown)
    share = None if load is None else finish_share(load.durations, orderly.running_seconds)
    reason = f"requests of up to {format_seconds(shutdown)} finish"
    if share is not None:
        reason += f", {_percent(share)} of those that run when a replica stops"
    after_notice = None
    if notice is not None:
        window = earlier(orderly, notice_window(notice, ENDPOINT_REMOVAL_SECONDS, TEARDOWN_SECONDS))
        if load is not None:
            after_notice = finish_share(load.durations, window.running_seconds)
        if grace > notice:
            reason += (
                f"; a spot interruption leaves {notice} s, so there only those of up to "
                f"{window.arriving_seconds:.0f} s do"
                + (f", {_percent(after_notice)} of the running ones" if after_notice else "")
                + ": clients must retry the rest"
            )
    return DrainPlan(ENDPOINT_REMOVAL_SECONDS, shutdown, grace, notice, reason, share, after_notice)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 0.9995 else "nearly all"


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
