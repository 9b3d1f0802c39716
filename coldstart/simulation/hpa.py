"""The Horizontal Pod Autoscaler's rules, as the controller-manager of Kubernetes 1.36 has them.

Read in kubernetes/kubernetes v1.36.3: `pkg/controller/podautoscaler/horizontal.go` and
`replica_calculator.go`, defaults in `config/v1alpha1/defaults.go` beside them and in
`pkg/apis/autoscaling/v2/defaults.go`. Time is given, never read, so that a simulation can say it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SYNC_SECONDS = 15.0
"""--horizontal-pod-autoscaler-sync-period, default (config/v1alpha1/defaults.go)."""
TOLERANCE = 0.1
"""--horizontal-pod-autoscaler-tolerance, default (config/v1alpha1/defaults.go)."""
DOWN_WINDOW_SECONDS = 300.0
"""--horizontal-pod-autoscaler-downscale-stabilization, default (config/v1alpha1/defaults.go)."""
_MOST, _LEAST = 2**31 - 1, -(2**31)


class PolicyType(StrEnum):
    """What a policy's value counts (autoscaling/v2 HPAScalingPolicy.type)."""

    PODS = "Pods"
    PERCENT = "Percent"


class Select(StrEnum):
    """Which policy counts (autoscaling/v2 HPAScalingRules.selectPolicy)."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """No more than `value` pods or percent within `period_seconds`."""

    type: PolicyType
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """One direction of an HPA's behavior."""

    policies: tuple[Policy, ...]
    window_seconds: float
    select: Select = Select.MAX

    @property
    def longest_period_seconds(self) -> float:
        """After which a change counts for no policy."""
        return max((policy.period_seconds for policy in self.policies), default=0.0)


@dataclass(frozen=True, slots=True)
class Behavior:
    """Both directions of an HPA's behavior."""

    up: ScalingRules
    down: ScalingRules


DEFAULT_BEHAVIOR = Behavior(
    ScalingRules((Policy(PolicyType.PODS, 4, 15), Policy(PolicyType.PERCENT, 100, 15)), 0.0),
    ScalingRules((Policy(PolicyType.PERCENT, 100, 15),), DOWN_WINDOW_SECONDS),
)
"""What autoscaling/v2 fills in (pkg/apis/autoscaling/v2/defaults.go)."""


@dataclass(frozen=True, slots=True)
class ExternalMetric:
    """What an external metric said, None when it could not be read; target is per replica."""

    value: float | None
    target: float


@dataclass(slots=True)
class _Stamped:
    at: float
    replicas: int


def proposed_replicas(metric: ExternalMetric, replicas: int) -> int | None:
    """One metric's proposal: AverageValue, so the sum over the target (KEDA's metricType default).

    Within the tolerance of what there is, it stays (GetExternalPerPodMetricReplicas). The ratio is
    over status.replicas: while a model wakes and has no pod yet it is infinite, and no tolerance
    holds. None for a metric that could not be read. Quantities are whole thousandths, as KEDA
    writes them (quantityFromFloat64).
    """
    if metric.value is None:
        return None
    usage, target = round(metric.value * 1000), round(metric.target * 1000)
    if replicas and 1.0 - TOLERANCE <= usage / (target * replicas) <= 1.0 + TOLERANCE:
        return replicas
    return min(_MOST, math.ceil(usage / target))


def of_all_metrics(metrics: Sequence[ExternalMetric], replicas: int) -> int | None:
    """The highest proposal; None when all metrics fail, or one fails and the rest ask for less.

    computeReplicasForMetrics: a broken metric never takes a replica away.
    """
    proposals = [proposed_replicas(metric, replicas) for metric in metrics]
    known = [proposal for proposal in proposals if proposal is not None]
    if not known or (len(known) < len(proposals) and max(known) < replicas):
        return None
    return max(known)


def step_limit(
    replicas: int,
    added: Sequence[_Stamped],
    removed: Sequence[_Stamped],
    rules: ScalingRules,
    now: float,
    *,
    up: bool,
) -> int:
    """Most replicas, or going down fewest, that the policies allow.

    calculateScaleUpLimitWithScalingRules and calculateScaleDownLimitWithBehaviors.
    """
    if rules.select is Select.DISABLED:
        return replicas
    highest = up is not (rules.select is Select.MIN)
    choose, found = (max, _LEAST) if highest else (min, _MOST)
    for policy in rules.policies:
        start = _at_period_start(replicas, added, removed, policy, now)
        found = choose(found, _allowed(policy, start, up=up))
    return found


def _allowed(policy: Policy, start: int, *, up: bool) -> int:
    if policy.type is PolicyType.PODS:
        return start + policy.value if up else start - policy.value
    if up:
        # Rounded up, since a small fleet would otherwise never grow.
        return math.ceil(start * (1 + policy.value / 100))
    return int(start * (1 - policy.value / 100))


def _at_period_start(
    replicas: int,
    added: Sequence[_Stamped],
    removed: Sequence[_Stamped],
    policy: Policy,
    now: float,
) -> int:
    cutoff = now - policy.period_seconds
    return (
        replicas
        - sum(event.replicas for event in added if event.at > cutoff)
        + sum(event.replicas for event in removed if event.at > cutoff)
    )


class Hpa:
    """One HorizontalPodAutoscaler and what its controller remembers of it."""

    def __init__(self, min_replicas: int, max_replicas: int, behavior: Behavior) -> None:
        self.min_replicas, self.max_replicas = min_replicas, max_replicas
        self.behavior = behavior
        self._recommended: list[_Stamped] = []
        self._added: list[_Stamped] = []
        self._removed: list[_Stamped] = []

    def remember(
        self,
        recommended: Sequence[tuple[float, int]] = (),
        added: Sequence[tuple[float, int]] = (),
        removed: Sequence[tuple[float, int]] = (),
    ) -> None:
        """Recommendations and changes of the past, as pairs of second and replicas."""
        self._recommended += [_Stamped(*item) for item in recommended]
        self._added += [_Stamped(*item) for item in added]
        self._removed += [_Stamped(*item) for item in removed]

    def reconcile(self, now: float, replicas: int, metrics: Sequence[ExternalMetric]) -> int:
        """One sync: the replicas that are asked for from now on (reconcileAutoscaler)."""
        if not self._recommended:
            self._recommended.append(_Stamped(now, replicas))
        if replicas == 0:
            # "scaling is disabled since the replica count of the target is zero": KEDA's business.
            return 0
        if replicas > self.max_replicas:
            desired = self.max_replicas
        elif replicas < self.min_replicas:
            desired = self.min_replicas
        else:
            wanted = of_all_metrics(metrics, replicas)
            if wanted is None:
                return replicas
            desired = self.limited(now, replicas, self.stabilized(now, replicas, wanted))
        self._store(now, replicas, desired)
        return desired

    def stabilized(self, now: float, replicas: int, wanted: int) -> int:
        """Within the least and the most recommended lately (stabilizeRecommendationWithBehaviors).

        Up only to the lowest recommendation of the upper window, down only to the highest of the
        lower one; the new one is remembered as it was.
        """
        up, down = self.behavior.up.window_seconds, self.behavior.down.window_seconds
        lowest = highest = wanted
        for item in self._recommended:
            if item.at > now - up:
                lowest = min(lowest, item.replicas)
            if item.at > now - down:
                highest = max(highest, item.replicas)
        oldest = now - max(up, down)
        self._recommended = [item for item in self._recommended if item.at >= oldest]
        self._recommended.append(_Stamped(now, wanted))
        return min(max(replicas, lowest), highest)

    def limited(self, now: float, replicas: int, desired: int) -> int:
        """Within policies and bounds (convertDesiredReplicasWithBehaviorRate)."""
        if desired == replicas:
            return desired
        up = desired > replicas
        rules = self.behavior.up if up else self.behavior.down
        limit = step_limit(replicas, self._added, self._removed, rules, now, up=up)
        if up:
            return min(desired, self.max_replicas, max(limit, replicas))
        return max(desired, self.min_replicas, min(limit, replicas))

    def _store(self, now: float, replicas: int, desired: int) -> None:
        """Remember a change, in the place of one that counts no more (storeScaleEvent).

        That place is judged by the periods of its own direction, although the other direction's
        count it as well: a change may be forgotten before a longer period of theirs is over.
        """
        if desired == replicas:
            return
        up = desired > replicas
        events, rules = (
            (self._added, self.behavior.up) if up else (self._removed, self.behavior.down)
        )
        cutoff = now - rules.longest_period_seconds
        new = _Stamped(now, abs(desired - replicas))
        outdated = [index for index, event in enumerate(events) if event.at < cutoff]
        if outdated:
            events[outdated[-1]] = new
        else:
            events.append(new)
