"""What a user may say of load: traffic, objectives, replicas and when, adapters, measurements."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from coldstart.spec.base import AUTO, Auto, Spec
from coldstart.spec.fields import (
    ClockMinutes,
    Count,
    RequestsPerSecond,
    TimesPerDay,
    TimeZone,
    UsdPerSecond,
)
from coldstart.units import DurationSeconds


class Day(StrEnum):
    """A day of the week, as cron names it."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


MOST_REPLICAS = 1000
"""Of one model in one stack; a slip of the keyboard asks for more."""


class ScheduleSpec(Spec):
    """Replicas that are ready from one time of day to another, on some days of the week.

    `until` before `start` ends on the next day. The lead time a cold start needs is added by the
    planner, so `start` is when traffic comes.
    """

    days: tuple[Day, ...] = Field(default=tuple(Day), min_length=1)
    start: ClockMinutes
    until: ClockMinutes
    timezone: TimeZone
    replicas: Count = Field(ge=1, le=MOST_REPLICAS)

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.start == self.until:
            raise ValueError("start and until are the same time; scaling.min holds all day")
        if len(set(self.days)) != len(self.days):
            raise ValueError("days must name each day at most once")
        return self


LEAST_COOLDOWN_SECONDS = 30
MOST_COOLDOWN_SECONDS = 86_400


class ScalingSpec(Spec):
    """Replica bounds, and the load one replica takes before the next is asked for.

    `waiting_requests` is auto-derived from the model's traffic and SLO where both are given, `min`
    where a violated second has a price; else it is 1.
    """

    min: Annotated[Count, Field(ge=0, le=MOST_REPLICAS)] | Auto = AUTO
    max: Count = Field(ge=1, le=MOST_REPLICAS)
    waiting_requests: Annotated[Count, Field(ge=1, le=10_000)] | Auto = AUTO
    # The autoscaler acts when a figure is a tenth over its target, and a cache is full at 100 %.
    kv_cache_percent: Count = Field(default=80, ge=10, le=90)
    cooldown: (
        Annotated[DurationSeconds, Field(ge=LEAST_COOLDOWN_SECONDS, le=MOST_COOLDOWN_SECONDS)]
        | Auto
    ) = AUTO
    schedules: tuple[ScheduleSpec, ...] = Field(default=(), max_length=20)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min != AUTO and self.min > self.max:
            raise ValueError(f"min {self.min} exceeds max {self.max}")
        if any(schedule.replicas > self.max for schedule in self.schedules):
            raise ValueError(f"a schedule asks for more replicas than max {self.max}")
        return self


class LengthSpec(Spec):
    """Tokens of a prompt or an answer: the mean, and what 95 % stay below."""

    mean: Count = Field(ge=1, le=10_000_000)
    p95: Count | None = Field(default=None, ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 is not None and self.p95 < self.mean:
            raise ValueError(f"p95 {self.p95} is below the mean {self.mean}")
        return self


IdleGap = Annotated[DurationSeconds, Field(gt=0, le=30 * 86_400)]
"""From the end of the last request to the next one; a month without any is no traffic."""


class TrafficSpec(Spec):
    """What a model is expected to be asked: arrivals a second, lengths in tokens.

    `peaks_per_day` says how often the rate jumps from its mean to its peak, `idle_gaps` how long
    the model was without a request, as measured.
    """

    requests_per_second: RequestsPerSecond
    peak_requests_per_second: RequestsPerSecond | None = None
    peaks_per_day: TimesPerDay = 1.0
    idle_gaps: Annotated[tuple[IdleGap, ...], Field(min_length=1, max_length=1000)] | None = None
    prompt_tokens: LengthSpec
    output_tokens: LengthSpec

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        peak = self.peak_requests_per_second
        if peak is not None and peak < self.requests_per_second:
            raise ValueError(
                f"peakRequestsPerSecond {peak:g} is below requestsPerSecond "
                f"{self.requests_per_second:g}"
            )
        if peak is None and "peaks_per_day" in self.model_fields_set:
            raise ValueError("peaksPerDay goes with peakRequestsPerSecond, which is missing")
        return self


class SloSpec(Spec):
    """What `percentile` of requests must keep: time to first token, time per output token.

    `usd_per_violated_second` is what a second costs in which all of them miss it, as they do while
    demand waits for replicas to start; where a share of them waits, that share of it.
    """

    ttft: DurationSeconds = Field(gt=0, le=3600)
    tpot: DurationSeconds = Field(gt=0, le=60)
    percentile: Count = Field(default=95, ge=50, le=99)
    usd_per_violated_second: UsdPerSecond | None = None


class LoraSpec(Spec):
    """LoRA adapters one replica serves beside the base model, and the largest rank of them."""

    adapters: Count = Field(ge=1, le=1024)
    rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16


class MeasuredSpec(Spec):
    """Seconds of a cold-start phase as measured on the user's own clusters."""

    p50: DurationSeconds
    p95: DurationSeconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 < self.p50:
            raise ValueError("p95 is below p50")
        return self
