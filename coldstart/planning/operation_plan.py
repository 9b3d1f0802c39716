"""How replicas of a model start, scale, roll over and stop, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.capacity.lengths import Lengths
from coldstart.capacity.sizing import ReplicaCapacity, Targets
from coldstart.planning.decision import Decision


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """The startup probe: `period_seconds` × `failure_threshold` covers `covers_seconds`."""

    period_seconds: int
    failure_threshold: int
    covers_seconds: int


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a model is asked for, and what one replica of it does.

    `peaks_per_day` jumps lead from the mean rate to the peak, 0 where there is no peak. `targets`
    is None without an slo, `replica` then the most it can do. `durations` are the seconds a request
    runs in a full batch. `in_flight` requests are in a replica, on average, that takes as many a
    second as it may. `replicas` carry the mean rate, `peak_replicas` the peak; each has `stages` of
    a pipeline.
    """

    requests_per_second: float
    peak_requests_per_second: float
    peaks_per_day: float
    targets: Targets | None
    replica: ReplicaCapacity
    durations: Lengths
    in_flight: int
    replicas: int
    peak_replicas: int
    stages: int


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """How a replica stops without losing requests.

    Where traffic is known, `finish_share` of the running requests finish in an orderly stop and
    `notice_finish_share` after a spot notice.
    """

    endpoint_removal_seconds: int
    shutdown_timeout_seconds: int
    grace_seconds: int
    notice_seconds: int | None
    reason: str
    finish_share: float | None = None
    notice_finish_share: float | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """One KEDA Prometheus trigger."""

    name: str
    query: str
    threshold: str
    activation_threshold: str


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """One KEDA cron trigger: so many replicas from `start` to `end`, both cron lines."""

    name: str
    timezone: str
    start: str
    end: str
    desired_replicas: int


@dataclass(frozen=True, slots=True)
class WakePlan:
    """Waking from zero: a proxy in front holds requests, since no replica exports a metric then.

    `target_concurrency` is the held and running requests one replica is asked for;
    `hold_seconds` how long a request may wait for the first replica.
    """

    target_concurrency: int
    hold_seconds: int


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """The ScaledObject of one model.

    `wake` is set when the model may scale to zero. Without it an empty query result is an error
    that leads to the fallback; with it an empty result is what zero replicas look like.
    `minimum` replicas are kept whatever the load. `waiting_requests` per replica ask for the next;
    `replicas` is what the peak needs, None without traffic. Schedules begin `lead_seconds` early, a
    whole number of minutes.
    """

    minimum: Decision[int]
    max_replicas: int
    polling_seconds: int
    waiting_requests: Decision[int]
    cooldown: Decision[int]
    schedules: Decision[tuple[CronTrigger, ...]]
    lead_seconds: int
    triggers: tuple[Trigger, ...]
    fallback_replicas: int | None
    fallback_failures: int
    scale_up_pods: int
    scale_up_period_seconds: int
    scale_down_window_seconds: int
    scale_down_period_seconds: int
    wake: WakePlan | None = None
    replicas: Decision[int] | None = None

    @property
    def min_replicas(self) -> int:
        """Replicas that always run."""
        return self.minimum.value

    @property
    def cooldown_seconds(self) -> int:
        """How long the last replica idles before it is stopped."""
        return self.cooldown.value


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a new version replaces the old one, in replicas."""

    max_surge: int
    max_unavailable: int
