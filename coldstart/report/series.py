"""What the pictures of a report show, as plain numbers: one small type per picture.

Each has `key`, which names its file and its place in the page, and the numbers its table repeats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


def slug(text: str) -> str:
    """A text as the name of a file and of a place in a page: letters, digits, `-` and `.`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")


@dataclass(frozen=True, slots=True)
class GanttRow:
    """One phase of a start, in seconds from the scaling signal's cause."""

    phase: str
    start_seconds: float
    seconds: float
    critical: bool
    source: str = ""

    @property
    def end_seconds(self) -> float:
        """When the phase is over."""
        return self.start_seconds + self.seconds


@dataclass(frozen=True, slots=True)
class StartLine:
    """One start: a name such as "this plan", its phases in order, its percentiles where known."""

    name: str
    rows: tuple[GanttRow, ...]
    p50_seconds: float | None = None
    p95_seconds: float | None = None

    @property
    def total_seconds(self) -> float:
        """Until the last phase is over."""
        return max(row.end_seconds for row in self.rows)


@dataclass(frozen=True, slots=True)
class ColdStartGantt:
    """A model's start as planned, above the start it is compared with."""

    model: str
    plan: StartLine
    baseline: StartLine
    budget_seconds: float | None = None

    @property
    def key(self) -> str:
        """Name of the picture."""
        return slug(f"cold-start-{self.model}")


@dataclass(frozen=True, slots=True)
class LeverRow:
    """What one lever saves of a start, in seconds.

    `alone_seconds` on a start without any other, None for one that is not used; `saved_seconds`
    beside all that are used. `usd_per_hour` is what it costs, None where unknown, and
    `seconds_per_usd` what a dollar an hour saves, None where it is free or unknown.
    """

    lever: str
    used: bool
    alone_seconds: float | None
    saved_seconds: float
    usd_per_hour: float | None = None
    seconds_per_usd: float | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Levers:
    """The levers of one model, those in use before those that are not.

    `none_seconds` is a start without any, `together_seconds` with all in use on a fresh node,
    `warm_seconds` on a warm node where one is kept.
    """

    model: str
    none_seconds: float
    together_seconds: float
    warm_seconds: float | None
    rows: tuple[LeverRow, ...]


@dataclass(frozen=True, slots=True)
class WarmPoint:
    """A number of warm replicas: what they cost, and for how long an objective is violated.

    `total_usd_per_hour` adds the price put on violated seconds, where there is one.
    """

    warm_replicas: int
    idle_usd_per_hour: float
    violated_seconds_per_hour: float
    total_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class WarmCurve:
    """Cost against warm capacity of one model; `chosen_replicas` is what the plan keeps.

    `remark` says what was taken for granted.
    """

    model: str
    points: tuple[WarmPoint, ...]
    chosen_replicas: int | None = None
    remark: str = ""

    @property
    def key(self) -> str:
        """Name of the picture."""
        return slug(f"warm-capacity-{self.model}")


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through (x, y); its picture says what they are."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a serverless line reaches the dedicated one."""

    name: str
    x: float
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class BreakEven:
    """US dollars an hour against load, dedicated and serverless.

    `load` is the title of the x axis with its unit, such as "requests an hour", `billed` how the
    serverless ones are paid for. `remark` says what was taken for granted; `sources` are pairs of
    a price and where it was read.
    """

    model: str
    load: str
    dedicated: Curve
    serverless: tuple[Curve, ...]
    crossings: tuple[Crossing, ...] = ()
    remark: str = ""
    billed: str = "by the token"
    sources: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """Name of the picture."""
        return slug(f"break-even-{self.billed}-{self.model}")


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """What an arrival rate asks for, and what it then gets."""

    arrivals_per_second: float
    replicas: int
    utilisation: float | None = None
    ttft_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """Replicas against arrival rate of one model.

    `expected_per_second` and `peak_per_second` are the rates the stack file names, `most_replicas`
    its limit; `percentile` is the one that the seconds to first token of a row belong to.
    """

    model: str
    rows: tuple[CapacityRow, ...]
    expected_per_second: float | None = None
    peak_per_second: float | None = None
    most_replicas: int | None = None
    percentile: float = 95.0
    remark: str = ""

    @property
    def key(self) -> str:
        """Name of the picture."""
        return slug(f"capacity-{self.model}")


@dataclass(frozen=True, slots=True)
class TimePoint:
    """One interval of a simulation; `seconds` is its start.

    `ttft_p95_seconds` is None where no request was answered.
    """

    seconds: float
    arrivals_per_second: float
    replicas_wanted: float
    replicas_ready: float
    queued: float
    ttft_p95_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SimulationRun:
    """A replayed trace of one model over time, with totals as (name, text) for the page.

    `remark` says where the trace came from.
    """

    model: str
    points: tuple[TimePoint, ...]
    ttft_target_seconds: float | None = None
    totals: tuple[tuple[str, str], ...] = ()
    remark: str = ""

    @property
    def key(self) -> str:
        """Name of the picture."""
        return slug(f"simulation-{self.model}")


MOST_TIME_POINTS = 120
"""Points of a simulation in a picture and its table: more than that no one can tell apart."""


def thinned(points: Sequence[TimePoint], most: int = MOST_TIME_POINTS) -> tuple[TimePoint, ...]:
    """At most `most` points, each the summary of equally many neighbours.

    Arrivals are averaged; of replicas wanted, queue and TTFT the greatest, of replicas ready the
    least is kept, so that no bad moment is lost. Raises ValueError when `most` is not positive.
    """
    if most < 1:
        raise ValueError(f"most is {most}; at least 1 point is needed")
    size = -(-len(points) // most) or 1
    return tuple(_together(points[i : i + size]) for i in range(0, len(points), size))


def _together(points: Sequence[TimePoint]) -> TimePoint:
    answered = [p.ttft_p95_seconds for p in points if p.ttft_p95_seconds is not None]
    return TimePoint(
        seconds=points[0].seconds,
        arrivals_per_second=sum(p.arrivals_per_second for p in points) / len(points),
        replicas_wanted=max(p.replicas_wanted for p in points),
        replicas_ready=min(p.replicas_ready for p in points),
        queued=max(p.queued for p in points),
        ttft_p95_seconds=max(answered, default=None),
    )


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a report can show beside the plan; a part without data is left out of the page."""

    levers: tuple[Levers, ...] = ()
    capacity: tuple[CapacityPlan, ...] = ()
    warm: tuple[WarmCurve, ...] = ()
    break_even: tuple[BreakEven, ...] = ()
    simulations: tuple[SimulationRun, ...] = ()
