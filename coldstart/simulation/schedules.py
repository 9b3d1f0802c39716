"""Schedules of a stack file as cron triggers in seconds of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from coldstart.simulation.inputs import SimulationError
from coldstart.simulation.keda import Signal, Trigger, Window
from coldstart.spec.traffic import Day, ScheduleSpec


def cron_triggers(
    schedules: Sequence[ScheduleSpec],
    starts_at: datetime | None,
    seconds: float,
    lead_seconds: float,
) -> tuple[Trigger, ...]:
    """One trigger for each schedule, begun `lead_seconds` early.

    Times of day are local ones, so that a window moves with daylight saving time.

    Raises SimulationError where there are schedules and nobody says when the trace starts.
    """
    if schedules and starts_at is None:
        raise SimulationError(
            "the model has schedules, and the trace says seconds only: give the time at which it "
            "starts (--starts-at 2026-03-02T00:00:00Z), or ISO times in the trace"
        )
    return tuple(
        Trigger(
            f"schedule-{index}",
            Signal.CRON,
            target=1.0,
            windows=_windows(schedule, starts_at, seconds, lead_seconds),
        )
        for index, schedule in enumerate(schedules)
        if starts_at is not None
    )


def _windows(
    schedule: ScheduleSpec, starts_at: datetime, seconds: float, lead_seconds: float
) -> tuple[Window, ...]:
    zone = ZoneInfo(schedule.timezone)
    # The evening before may reach into the trace.
    day = starts_at.astimezone(zone).date() - timedelta(days=1)
    last = (starts_at + timedelta(seconds=seconds)).astimezone(zone).date() + timedelta(days=1)
    names = list(Day)
    found = []
    while day <= last:
        if names[day.weekday()] in schedule.days:
            ends = day + timedelta(days=schedule.until < schedule.start)
            start, end = (
                (
                    datetime.combine(date, time(*divmod(minutes, 60)), zone).astimezone(UTC)
                    - starts_at
                ).total_seconds()
                for date, minutes in ((day, schedule.start), (ends, schedule.until))
            )
            if end > 0:
                found.append(Window(start - lead_seconds, end, schedule.replicas))
        day += timedelta(days=1)
    return tuple(found)
