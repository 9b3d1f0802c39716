"""KEDA's rules: the step from and to zero, activation, cooldown, fallback, schedules.

Read in kedacore/keda v2.20.2: `pkg/scaling/executor/scale_scaledobjects.go` (RequestScale),
`pkg/scaling/scale_handler.go` (polling, push scalers), `pkg/fallback/fallback.go`,
`pkg/scalers/prometheus_scaler.go` and `cron_scaler.go`, `apis/keda/v1alpha1/scaledobject_types.go`.
Above zero the number of replicas is the HPA's; what KEDA polls for decides zero or not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from coldstart.simulation.hpa import DEFAULT_BEHAVIOR, Behavior, ExternalMetric


class Signal(StrEnum):
    """What a trigger measures, over all replicas together.

    `waiting` requests, percent of `kv-cache` and requests `in-flight`, waiting or running, are
    scraped from replicas, `concurrency` is what the waking proxy holds and has passed on, `cron`
    the replicas a schedule asks for.
    """

    WAITING = "waiting"
    KV_CACHE = "kv-cache"
    IN_FLIGHT = "in-flight"
    CONCURRENCY = "concurrency"
    CRON = "cron"


class FallbackBehavior(StrEnum):
    """How many replicas a failing trigger stands for (scaledobject_types.go)."""

    STATIC = "static"
    CURRENT = "currentReplicas"
    CURRENT_IF_HIGHER = "currentReplicasIfHigher"
    CURRENT_IF_LOWER = "currentReplicasIfLower"


@dataclass(frozen=True, slots=True)
class Window:
    """From second to second of the trace, `replicas` are asked for."""

    start_seconds: float
    end_seconds: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger: its target per replica, and what it must exceed to count as active.

    `null_is_zero` is ignoreNullValues: an empty result is 0, otherwise an error.
    """

    name: str
    signal: Signal
    target: float
    activation: float = 0.0
    null_is_zero: bool = True
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Fallback:
    """After more than `failures` readings failed in a row, a trigger stands for replicas."""

    failures: int
    replicas: int
    behavior: FallbackBehavior = FallbackBehavior.STATIC


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """The fields of a ScaledObject that decide about replicas; defaults are KEDA's."""

    triggers: tuple[Trigger, ...]
    min_replicas: int = 0
    max_replicas: int = 100
    idle_replicas: int | None = None
    polling_seconds: float = 30.0
    cooldown_seconds: float = 300.0
    initial_cooldown_seconds: float = 0.0
    behavior: Behavior = DEFAULT_BEHAVIOR
    fallback: Fallback | None = None

    @property
    def hpa_min_replicas(self) -> int:
        """What the HPA is told: never less than one (GetHPAMinReplicas)."""
        return max(1, self.min_replicas)


class Keda:
    """One ScaledObject and what the operator remembers of it; it is created at `created`."""

    def __init__(self, spec: ScaledObject, created: float = 0.0) -> None:
        self.spec = spec
        self._created = created
        self.last_active: float | None = None
        self._failures = [0] * len(spec.triggers)

    def metrics(self, values: Sequence[float | None], replicas: int) -> list[ExternalMetric]:
        """What the HPA is given; `values` are as read, None where reading failed."""
        return [
            ExternalMetric(self._with_fallback(index, value, replicas)[0], trigger.target)
            for index, (trigger, value) in enumerate(zip(self.spec.triggers, values, strict=True))
        ]

    def poll(self, now: float, replicas: int, values: Sequence[float | None]) -> int:
        """One round of the scale loop: the replicas that are asked for from now on."""
        active = failed = False
        for index, (trigger, value) in enumerate(zip(self.spec.triggers, values, strict=True)):
            given, fallen_back = self._with_fallback(index, value, replicas)
            if given is None:
                failed = True
            # A fallback counts as activity (getScalerState).
            elif fallen_back or given > trigger.activation:
                active = True
        if active:
            return self.activate(now, replicas, failed=failed)
        return self._rest(now, replicas, failed)

    def activate(self, now: float, replicas: int, *, failed: bool = False) -> int:
        """What activity does, polled or pushed; a pushed inactivity does nothing.

        With another trigger failing, replicas that run already are not noted as active.
        """
        spec = self.spec
        if replicas == 0 or (spec.idle_replicas is not None and replicas < spec.min_replicas):
            self.last_active = now
            return max(1, spec.min_replicas)
        if not failed:
            self.last_active = now
        return replicas

    def noted(self, at: float) -> None:
        """Requests were in flight at this moment, while replicas ran.

        A push scaler does not wait for a poll: the add-on streams its activity every 200 ms, and
        each message counts (http-add-on v0.15.0, scaler/handlers.go, StreamIsActive; KEDA's
        startPushScalers).
        """
        self.last_active = at if self.last_active is None else max(at, self.last_active)

    def _rest(self, now: float, replicas: int, failed: bool) -> int:
        spec = self.spec
        if failed and (spec.fallback is None or spec.fallback.replicas != 0):
            return replicas
        if (spec.idle_replicas is not None and replicas > spec.idle_replicas) or (
            replicas > 0 and spec.min_replicas == 0
        ):
            return self._idle_replicas() if self._cooled_down(now) else replicas
        if spec.idle_replicas is None and replicas < spec.min_replicas:
            return spec.min_replicas
        return replicas

    def _idle_replicas(self) -> int:
        idle = self.spec.idle_replicas
        return self.spec.min_replicas if idle is None else idle

    def _cooled_down(self, now: float) -> bool:
        if self.last_active is None:
            return self._created + self.spec.initial_cooldown_seconds < now
        return self.last_active + self.spec.cooldown_seconds < now

    def _with_fallback(
        self, index: int, value: float | None, replicas: int
    ) -> tuple[float | None, bool]:
        trigger, fallback = self.spec.triggers[index], self.spec.fallback
        if value is None and trigger.null_is_zero:
            value = 0.0
        if value is not None:
            self._failures[index] = 0
            return value, False
        if fallback is None:
            return None, False
        self._failures[index] += 1
        if self._failures[index] <= fallback.failures:
            return None, False
        stands_for = {
            FallbackBehavior.STATIC: fallback.replicas,
            FallbackBehavior.CURRENT: replicas,
            FallbackBehavior.CURRENT_IF_HIGHER: max(replicas, fallback.replicas),
            FallbackBehavior.CURRENT_IF_LOWER: min(replicas, fallback.replicas),
        }[fallback.behavior]
        return trigger.target * stands_for, True


def scheduled(windows: Sequence[Window], now: float) -> float:
    """What a cron trigger says: its replicas inside the window, 0 outside (GetMetricsAndActivity).

    A window holds its first moment and not its last: inside is where the end comes before the next
    start, and the next start is always later than now. Overlapping windows are triggers of their
    own in KEDA, whose maximum counts.
    """
    return float(
        max((w.replicas for w in windows if w.start_seconds <= now < w.end_seconds), default=0)
    )
