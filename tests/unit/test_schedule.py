"""Schedules become cron triggers that start early; days move with the hours."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.planning.decision import PlanError
from coldstart.planning.operation_plan import CronTrigger
from coldstart.planning.schedule import DAYS, WEEK_MINUTES, cron_triggers
from coldstart.spec.traffic import Day, ScheduleSpec


def schedule(days: list[str], start: str, until: str, **more: Any) -> ScheduleSpec:
    return ScheduleSpec.model_validate(
        {
            "days": days,
            "start": start,
            "until": until,
            "timezone": "Europe/Berlin",
            "replicas": 3,
            **more,
        }
    )


WEEKDAYS = ["mon", "tue", "wed", "thu", "fri"]


def triggers(*schedules: ScheduleSpec, lead: float = 200) -> tuple[CronTrigger, ...]:
    return cron_triggers("models.chat.scaling.schedules", schedules, lead)


def test_a_schedule_starts_early_by_the_lead_time_in_whole_minutes_and_ends_on_time() -> None:
    (found,) = triggers(schedule(WEEKDAYS, "08:30", "18:00"))
    assert found == CronTrigger(
        "schedule-0",
        "Europe/Berlin",
        "26 8 * * mon,tue,wed,thu,fri",
        "0 18 * * mon,tue,wed,thu,fri",
        3,
    )


def test_a_lead_over_midnight_moves_the_day_and_monday_is_preceded_by_sunday() -> None:
    (found,) = triggers(schedule(["mon", "thu"], "00:02", "07:00"))
    assert found.start == "58 23 * * wed,sun"
    assert found.end == "0 7 * * mon,thu"


def test_a_night_ends_on_the_next_day() -> None:
    (found,) = triggers(schedule(["sun"], "22:00", "06:00"))
    assert (found.start, found.end) == ("56 21 * * sun", "0 6 * * mon")


def test_every_day_is_a_star() -> None:
    (found,) = triggers(schedule([*DAYS], "08:00", "20:00"))
    assert (found.start, found.end) == ("56 7 * * *", "0 20 * * *")


def test_windows_that_touch_with_their_lead_become_one() -> None:
    """Ended on Tuesday at 07:58, KEDA would wait for Tuesday's next start, which has passed."""
    (found,) = triggers(schedule(["mon", "tue"], "08:00", "07:58"))
    assert (found.start, found.end) == ("56 7 * * mon", "58 7 * * wed")


def test_windows_joined_over_the_end_of_the_week_keep_their_own_trigger() -> None:
    joined, single = sorted(
        triggers(schedule(["sun", "mon", "wed"], "08:00", "07:58")), key=lambda t: t.start
    )[::-1]
    assert (joined.start, joined.end) == ("56 7 * * wed", "58 7 * * thu")
    assert (single.start, single.end) == ("56 7 * * sun", "58 7 * * tue")
    assert joined.name != single.name


def test_a_schedule_whose_pause_is_shorter_than_the_lead_is_refused_with_what_works() -> None:
    with pytest.raises(PlanError, match=r"never end; use scaling\.min: 3") as caught:
        triggers(schedule([*DAYS], "08:00", "07:58"))
    assert caught.value.path == "models.chat.scaling.schedules[0]"


def test_each_schedule_has_its_own_name_and_zone() -> None:
    one, two = triggers(
        schedule(["sat"], "08:00", "09:00"),
        schedule(["sat"], "10:00", "11:00", timezone="UTC", replicas=5),
    )
    assert (one.name, two.name) == ("schedule-0", "schedule-1")
    assert (two.timezone, two.desired_replicas) == ("UTC", 5)


def due(cron: str) -> list[int]:
    match = re.fullmatch(r"(\d+) (\d+) \* \* (\S+)", cron)
    assert match
    days = [*DAYS] if match[3] == "*" else [Day(day) for day in match[3].split(",")]
    return [DAYS.index(day) * 1440 + int(match[2]) * 60 + int(match[1]) for day in days]


def active(trigger: CronTrigger, minute: int) -> bool:
    """KEDA's rule: the next end comes before the next start."""
    until_start, until_end = (
        min((at - minute - 1) % WEEK_MINUTES for at in due(cron))
        for cron in (trigger.start, trigger.end)
    )
    return until_end < until_start


CLOCK = st.integers(0, 1439).map(lambda m: f"{m // 60:02}:{m % 60:02}")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([*map(str, DAYS)]), min_size=1, max_size=7, unique=True),
    CLOCK,
    CLOCK,
    st.integers(0, 1800),
    st.integers(0, WEEK_MINUTES - 1),
)
def test_by_kedas_rule_the_replicas_are_there_exactly_from_the_lead_to_the_end(
    days: list[str], start: str, until: str, lead: int, minute: int
) -> None:
    if start == until:
        return
    wish = schedule(days, start, until)
    early = -(-lead // 60)
    lasts = (wish.until - wish.start) % 1440 + early
    expected = any(
        (minute - (DAYS.index(day) * 1440 + wish.start - early)) % WEEK_MINUTES < lasts
        for day in wish.days
    )
    try:
        found = triggers(wish, lead=lead)
    except PlanError:
        assert len(days) == 7
        assert lasts >= 1440
        return
    assert any(active(trigger, minute) for trigger in found) == expected
