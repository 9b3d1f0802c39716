"""How many replicas run: what asks for the next, how long an idle one stays, when many are due."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from coldstart.capacity.sizing import waiting_threshold
from coldstart.capacity.warm import (
    CooldownCost,
    WarmCosts,
    best_cooldown,
    break_even_idle_seconds,
    cold_share,
    cooldown_cost,
    cooldown_for_share_seconds,
    start_cost_usd,
)
from coldstart.catalog import Catalog
from coldstart.planning.cold_start import Case
from coldstart.planning.decision import NAMED, Decision, PlanError, Rejection
from coldstart.planning.load import replicas_decision
from coldstart.planning.model import ModelPlan
from coldstart.planning.operation import PROBE_SAFETY_FACTOR
from coldstart.planning.operation_plan import CronTrigger, LoadPlan, ScalingPlan, Trigger, WakePlan
from coldstart.planning.percentiles import percentiles
from coldstart.planning.schedule import cron_triggers
from coldstart.planning.timeline import Timeline
from coldstart.spec.model import AUTO, ModelSpec
from coldstart.spec.traffic import (
    LEAST_COOLDOWN_SECONDS,
    MOST_COOLDOWN_SECONDS,
    ScalingSpec,
    SloSpec,
)
from coldstart.units import format_seconds

MIN_COOLDOWN_SECONDS = 300
"""What KEDA waits by default (cooldownPeriod, KEDA 2.20 documentation, ScaledObject spec)."""
POLLING_SECONDS = 5
DEFAULT_MIN_REPLICAS = 1
"""Where nothing weighs idle replicas against users who wait."""
DEFAULT_WAITING_REQUESTS = 5
"""Requests that wait per replica before the next is asked for, where no traffic is known."""
MOST_WAITING_REQUESTS = 10_000
"""What the stack file may say at most."""


def scaling_plan(
    name: str,
    model_spec: ModelSpec,
    catalog: Catalog,
    starts: Mapping[Case, Timeline],
    concurrent_requests: int,
    load: LoadPlan | None,
    costs: WarmCosts | None,
    decided: Decision[int] | None = None,
) -> ScalingPlan:
    """How one model scales; `concurrent_requests` is what a replica runs at once.

    `decided` replicas always run; None takes what the stack file says, or 1. Raises PlanError for a
    schedule that would never end, and for idle gaps where `costs` are not known.
    """
    bounds, minimum = model_spec.scaling, decided or _default_minimum(model_spec.scaling)
    least, first, further = minimum.value, starts[Case.FIRST_NODE], starts[Case.NEXT_REPLICA]
    chosen = f'{{namespace="{name}"}}'
    start_seconds = math.ceil(first.total_seconds)
    waiting = _waiting(bounds, least, load, further.total_seconds, catalog)
    early_seconds = percentiles(first).p95_seconds if bounds.schedules else 0.0
    return ScalingPlan(
        minimum=minimum,
        max_replicas=bounds.max,
        polling_seconds=POLLING_SECONDS,
        waiting_requests=waiting,
        cooldown=_cooldown(f"models.{name}", model_spec, least, load, costs, start_seconds),
        schedules=_schedules(f"models.{name}.scaling.schedules", bounds, early_seconds),
        lead_seconds=60 * math.ceil(early_seconds / 60),
        triggers=_triggers(chosen, bounds, waiting.value, load),
        # KEDA counts a fallback as activity, so an outage of Prometheus would wake every sleeping
        # model; without one it sleeps on, and held requests still wake it.
        fallback_replicas=least if least > 0 else None,
        fallback_failures=3,
        scale_up_pods=max(1, math.ceil(bounds.max / 2)),
        scale_up_period_seconds=15,
        scale_down_window_seconds=max(MIN_COOLDOWN_SECONDS, start_seconds),
        scale_down_period_seconds=max(60, start_seconds),
        # The proxy counts running requests too; a slow start must not end in a gateway timeout.
        wake=WakePlan(concurrent_requests + waiting.value, PROBE_SAFETY_FACTOR * start_seconds)
        if least == 0
        else None,
        replicas=None if load is None else replicas_decision(load, least, further.total_seconds),
    )


def with_minimum(
    model: ModelPlan, model_spec: ModelSpec, catalog: Catalog, minimum: Decision[int]
) -> ModelPlan:
    """The model with another number of replicas that always run."""
    return replace(
        model,
        scaling=scaling_plan(
            model.name,
            model_spec,
            catalog,
            {Case.FIRST_NODE: model.first_node, Case.NEXT_REPLICA: model.cold_start},
            model.fit.max_num_seqs,
            model.load,
            model.warm_costs,
            minimum,
        ),
    )


def _default_minimum(bounds: ScalingSpec) -> Decision[int]:
    if bounds.min != AUTO:
        return Decision(bounds.min, NAMED)
    return Decision(DEFAULT_MIN_REPLICAS, "the model answers without a start")


def _triggers(
    chosen: str, bounds: ScalingSpec, waiting_requests: int, load: LoadPlan | None
) -> tuple[Trigger, ...]:
    return (
        Trigger("waiting", f"sum(vllm:num_requests_waiting{chosen})", str(waiting_requests), "0"),
        Trigger(
            "kv-cache",
            f"100 * sum(vllm:kv_cache_usage_perc{chosen})",
            str(bounds.kv_cache_percent),
            "1",
        ),
        *_in_flight(chosen, load),
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
    bounds: ScalingSpec,
    min_replicas: int,
    load: LoadPlan | None,
    start_seconds: float,
    catalog: Catalog,
) -> Decision[int]:
    if bounds.waiting_requests != AUTO:
        return Decision(int(bounds.waiting_requests), NAMED)
    if load is None or load.targets is None:
        return Decision(
            DEFAULT_WAITING_REQUESTS,
            "traffic and slo together would say how long a queue may grow; without them a few may "
            "wait",
        )
    # More than the peak needs are never running, and fewer than the mean needs not for long.
    running = min(max(min_replicas, load.replicas), bounds.max)
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


def _cooldown(
    path: str,
    model_spec: ModelSpec,
    min_replicas: int,
    load: LoadPlan | None,
    costs: WarmCosts | None,
    start_seconds: int,
) -> Decision[int]:
    """How long the last replica idles; it matters only to a model that may sleep."""
    bounds, traffic = model_spec.scaling, model_spec.traffic
    awake = f"without effect: scaling.min {min_replicas} never sleeps"
    if bounds.cooldown != AUTO:
        return Decision(math.ceil(bounds.cooldown), f"{NAMED}, {awake}" if min_replicas else NAMED)
    usual = max(MIN_COOLDOWN_SECONDS, 2 * start_seconds)
    if min_replicas > 0:
        return Decision(usual, awake)
    if traffic is not None and traffic.idle_gaps is not None:
        return _measured_cooldown(path, traffic.idle_gaps, model_spec.slo, costs, start_seconds)
    if load is None or load.targets is None:
        return Decision(
            usual,
            f"twice a start of {format_seconds(start_seconds)} and never under "
            f"{MIN_COOLDOWN_SECONDS} s, so that a lull does not end in the next cold start",
        )
    rate, allowed = load.requests_per_second, 1 - load.targets.percentile / 100
    needed = cooldown_for_share_seconds(rate, start_seconds, allowed)
    seconds = math.ceil(min(max(needed, MIN_COOLDOWN_SECONDS), MOST_COOLDOWN_SECONDS))
    share = cold_share(rate, start_seconds, seconds)
    reason = (
        f"{_percent(share)} of requests at {rate:g}/s meet a cold start of "
        f"{format_seconds(start_seconds)}"
    )
    if needed > MOST_COOLDOWN_SECONDS:
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


def _measured_cooldown(
    path: str,
    gaps_seconds: Sequence[float],
    slo: SloSpec | None,
    costs: WarmCosts | None,
    start_seconds: int,
) -> Decision[int]:
    """The cheapest cooldown over the measured gaps, by what idling and what a start costs.

    With a price for violated seconds a start costs them as well. Without one an slo stands for
    itself: no larger share of gaps than it spares may end in a start.
    """
    if costs is None:
        raise PlanError(
            f"{path}.traffic.idleGaps",
            "cannot be weighed: the node or its volumes have no price in this region. Leave them "
            "out, or set scaling.cooldown",
        )
    # What KEDA saw last may be as old as one poll.
    gaps = [gap + POLLING_SECONDS for gap in gaps_seconds]
    usd_per_hour, price = costs.usd_per_replica_hour, slo.usd_per_violated_second if slo else None
    start_usd = start_cost_usd(
        start_seconds,
        usd_per_hour,
        violated_seconds=start_seconds,
        usd_per_violated_second=price or 0.0,
    )
    spared = None if slo is None or price else len(gaps) * (100 - slo.percentile) // 100
    best = best_cooldown(
        gaps,
        start_usd=start_usd,
        idle_usd_per_hour=usd_per_hour,
        least_seconds=LEAST_COOLDOWN_SECONDS,
        most_seconds=MOST_COOLDOWN_SECONDS,
        most_starts=spared,
    )
    reason = f"{_over(best, len(gaps))}; a start costs ${start_usd:.2g}"
    if spared is not None:
        kept = best.starts <= spared
        reason += f" and the slo spares {spared} of them" + (
            "" if kept else ", which no cooldown keeps: only scaling.min: 1 does"
        )
    chosen = math.ceil(best.cooldown_seconds)
    return Decision(chosen, reason, _other_cooldowns(chosen, gaps, start_usd, usd_per_hour))


def _other_cooldowns(
    chosen: int, gaps: Sequence[float], start_usd: float, usd_per_hour: float
) -> tuple[Rejection[int], ...]:
    """As long as idling costs no more than a start, and as long as the longest gap."""
    even = break_even_idle_seconds(start_usd, usd_per_hour)
    others = {
        math.ceil(min(max(seconds, LEAST_COOLDOWN_SECONDS), MOST_COOLDOWN_SECONDS))
        for seconds in (even, max(gaps))
    }
    return tuple(
        Rejection(
            seconds,
            _over(
                cooldown_cost(gaps, seconds, start_usd=start_usd, idle_usd_per_hour=usd_per_hour),
                len(gaps),
            ),
        )
        for seconds in sorted(others - {chosen})
    )


def _over(cost: CooldownCost, gaps: int) -> str:
    measured = "the measured gap" if gaps == 1 else f"the {gaps} measured gaps"
    return (
        f"over {measured} {format_seconds(cost.idle_seconds)} of idling and {cost.starts} cold "
        f"start{'' if cost.starts == 1 else 's'} cost ${cost.usd:,.2f}"
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
