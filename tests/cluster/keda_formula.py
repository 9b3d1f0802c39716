"""How many replicas a load asks for: by the plan, and by the autoscaler with its tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from coldstart.planning import ScalingPlan

TOLERANCE = 0.1
"""kube-controller-manager, --horizontal-pod-autoscaler-tolerance, default."""
_ROUNDING = 1e-9


def planned(plan: ScalingPlan, figures: Sequence[float]) -> int:
    """As many replicas as each trigger needs at its threshold a replica, within the bounds."""
    needed = (
        math.ceil(figure / float(trigger.threshold) - _ROUNDING)
        for figure, trigger in zip(figures, plan.triggers, strict=True)
    )
    return min(plan.max_replicas, max(plan.min_replicas, 1, *needed))


def autoscaled(plan: ScalingPlan, figures: Sequence[float], replicas: int) -> int:
    """What the autoscaler makes of `replicas`, given time: within the tolerance all stays."""
    targets = [float(trigger.threshold) for trigger in plan.triggers]
    for _ in range(plan.max_replicas):
        wanted = [
            replicas
            if abs(figure / (target * replicas) - 1) <= TOLERANCE + _ROUNDING
            else math.ceil(figure / target - _ROUNDING)
            for figure, target in zip(figures, targets, strict=True)
        ]
        allowed = min(plan.max_replicas, replicas + plan.scale_up_pods)
        following = min(allowed, max(plan.min_replicas, 1, *wanted))
        if following == replicas:
            return replicas
        replicas = following
    raise ValueError(f"{figures} lead to no stable number of replicas")


def within_a_tenth(plan: ScalingPlan, figures: Sequence[float], replicas: int) -> bool:
    """Whether `replicas` have no more than a tenth above what the plan gives each of them."""
    return all(
        figure <= float(trigger.threshold) * replicas * (1 + TOLERANCE) + _ROUNDING
        for figure, trigger in zip(figures, plan.triggers, strict=True)
    )
