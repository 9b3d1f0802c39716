"""Schedules of the stack file as KEDA cron triggers that start early by the lead time.

The cron trigger is active while its next end comes before its next start, in its own time zone
(kedacore/keda v2.20.2, pkg/scalers/cron_scaler.go). Days are therefore moved with the hours, and
windows that would run into each other become one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from coldstart.planning.decision import PlanError
from coldstart.planning.operation_plan import CronTrigger
from coldstart.spec.traffic import Day, ScheduleSpec

DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
DAYS = tuple(Day)
Window = tuple[int, int]
"""First and last minute, from Monday 00:00; the last may lie in the next week."""


def cron_triggers(
    path: str, schedules: Sequence[ScheduleSpec], lead_seconds: float
) -> tuple[CronTrigger, ...]:
    """The triggers of all schedules.

    Raises PlanError for one whose pauses are shorter than the lead time: it would never end.
    """
    lead = math.ceil(lead_seconds / 60)
    return tuple(
        CronTrigger(
            name=f"schedule-{index}" + (f"-{part}" if part else ""),
            timezone=schedule.timezone,
            start=start,
            end=end,
            desired_replicas=schedule.replicas,
        )
        for index, schedule in enumerate(schedules)
        for part, (start, end) in enumerate(_crons(f"{path}[{index}]", schedule, lead))
    )


def _crons(path: str, schedule: ScheduleSpec, lead: int) -> list[tuple[str, str]]:
    windows = _merged(_windows(schedule, lead))
    if any(last - first >= WEEK_MINUTES for first, last in windows):
        raise PlanError(
            path,
            f"its pauses are not longer than the lead time of {lead} min that a cold start needs, "
            f"so it would never end; use scaling.min: {schedule.replicas}",
        )
    alike: dict[tuple[int, int], list[Window]] = {}
    for first, last in windows:
        alike.setdefault((first % DAY_MINUTES, last - first), []).append((first, last))
    return [
        (_cron(first for first, _ in group), _cron(last for _, last in group))
        for group in alike.values()
    ]


def _windows(schedule: ScheduleSpec, lead: int) -> list[Window]:
    lasts = (schedule.until - schedule.start) % DAY_MINUTES
    starts = (DAYS.index(day) * DAY_MINUTES + schedule.start for day in schedule.days)
    return sorted(
        ((start - lead) % WEEK_MINUTES, (start - lead) % WEEK_MINUTES + lead + lasts)
        for start in starts
    )


def _merged(windows: list[Window]) -> list[Window]:
    """Windows on the circle of the week, those that touch joined."""
    joined: list[Window] = []
    for first, last in windows:
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    if len(joined) > 1 and joined[-1][1] - WEEK_MINUTES >= joined[0][0]:
        _, last = joined.pop(0)
        joined[-1] = (joined[-1][0], max(joined[-1][1], last + WEEK_MINUTES))
    elif joined and joined[0][1] - joined[0][0] >= WEEK_MINUTES:
        joined = [(joined[0][0], joined[0][0] + WEEK_MINUTES)]
    return joined


def _cron(minutes: Iterable[int]) -> str:
    """One cron line for a time of day on some days."""
    week = sorted(minute % WEEK_MINUTES for minute in minutes)
    hour, minute = divmod(week[0] % DAY_MINUTES, 60)
    days = ",".join(DAYS[at // DAY_MINUTES] for at in week)
    return f"{minute} {hour} * * {'*' if len(week) == len(DAYS) else days}"
