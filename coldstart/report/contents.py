"""From a plan's summary and whatever else is known to pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldstart.report.pictures import (
    Picture,
    break_even_picture,
    capacity_picture,
    gantt_picture,
    simulation_picture,
    warm_picture,
)
from coldstart.report.series import ColdStartGantt, GanttRow, Pictures, StartLine


def gantts(found: Mapping[str, Any]) -> tuple[ColdStartGantt, ...]:
    """The cold start of every model of `report.summary`."""
    return tuple(
        ColdStartGantt(
            name,
            start_line("This plan", model["coldStart"]),
            start_line("Without these levers", model["baseline"]),
            model["budgetSeconds"],
        )
        for name, model in found["models"].items()
    )


def start_line(name: str, line: Mapping[str, Any]) -> StartLine:
    """One timeline of `report.summary`."""
    return StartLine(
        name,
        tuple(
            GanttRow(
                phase["name"],
                phase["startSeconds"],
                phase["seconds"],
                phase["key"] in line["criticalPath"],
                phase["source"],
            )
            for phase in line["phases"]
        ),
        line["p50Seconds"],
        line["p95Seconds"],
    )


def all_pictures(found: Mapping[str, Any], more: Pictures | None = None) -> list[Picture]:
    """Every picture of a report, in the order of the page."""
    more = more or Pictures()
    return [
        *(gantt_picture(item) for item in gantts(found)),
        *(capacity_picture(item) for item in more.capacity),
        *(warm_picture(item) for item in more.warm),
        *(break_even_picture(item) for item in more.break_even),
        *(simulation_picture(item) for item in more.simulations),
    ]
