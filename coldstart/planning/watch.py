"""From when on a start counts as slow: what a running cluster can see of the predicted phases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from coldstart.planning.model import ModelPlan
from coldstart.planning.percentiles import percentile, sampled_ends


@dataclass(frozen=True, slots=True)
class WatchedPhase:
    """One stretch of a pod's life, and the seconds after which it has taken too long.

    `key` is `node` (pod created to scheduled), `image` (to the engine's container started),
    `engine` (to ready) or `whole` (created to ready).
    """

    key: str
    p50_seconds: float
    p95_seconds: float
    threshold_seconds: int


@dataclass(frozen=True, slots=True)
class Watch:
    """The watched phases of one model. `budget_seconds` is what the budget leaves once the pod
    exists, None without a budget."""

    phases: tuple[WatchedPhase, ...]
    budget_seconds: float | None


def watch(model: ModelPlan) -> Watch:
    """The thresholds of a start on a first node.

    A phase is slow beyond its predicted 95th percentile, or beyond its share of the budget where
    that is more; the whole is slow when the budget is missed. The scaling signal is over before
    there is a pod, so its median is taken off the budget.
    """
    line = model.first_node
    ends = sampled_ends(line)
    order = [phase.key for phase in line.phases]
    bound = max(order.index(key) for key in ("node", "device", "mount") if key in order)
    moments = [ends[key] for key in (order[0], order[bound], "image", "ready")]
    stretches = {
        key: [end - start for start, end in zip(*pair, strict=True)]
        for key, pair in zip(("node", "image", "engine"), pairwise(moments), strict=True)
    }
    whole = [end - start for start, end in zip(moments[0], moments[-1], strict=True)]
    budget = None
    if model.budget_seconds is not None:
        budget = model.budget_seconds - line.phases[0].seconds
    medians = {key: percentile(values, 0.5) for key, values in stretches.items()}
    total = sum(medians.values())
    phases = []
    for key, values in stretches.items():
        p95 = percentile(values, 0.95)
        share = budget * medians[key] / total if budget and total else 0.0
        phases.append(WatchedPhase(key, medians[key], p95, math.ceil(max(p95, share, 1.0))))
    p95 = percentile(whole, 0.95)
    limit = p95 if budget is None else budget
    phases.append(WatchedPhase("whole", percentile(whole, 0.5), p95, math.ceil(limit)))
    return Watch(tuple(phases), budget)
