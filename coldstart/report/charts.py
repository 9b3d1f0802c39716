"""Curves as Vega-Lite: warm capacity, break-even, capacity plan, simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from coldstart.report.frame import TEXT_PIXELS, Size, Spec, amount, spread, text, values, whole
from coldstart.report.palette import LIGHT
from coldstart.report.series import (
    BreakEven,
    CapacityPlan,
    SimulationRun,
    WarmCurve,
    thinned,
)

AXIS_PIXELS = 52
NAMES_PIXELS = 180
KEY_PIXELS = 17
LETTER_PIXELS = 7.5
"""Of a letter on average in a wide typeface."""
STYLES = (("first", [1, 0]), ("second", [7, 3]), ("third", [2, 2]), ("fourth", [9, 3, 2, 3]))
"""Colour and dash of a picture's lines, in order; a fifth line begins again."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel, broken where y is None.

    `style` counts into STYLES; `shape` is Vega-Lite's interpolation.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    style: int = 0
    shape: str = "linear"
    dots: bool = False

    @property
    def last(self) -> float | None:
        """The y value at the right end."""
        return self.points[-1][1] if self.points else None


@dataclass(frozen=True, slots=True)
class Mark:
    """A straight line at a value of one axis, with its name."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: what is drawn, and what is marked across it.

    `counted` when y is a number of things, `keyed` when lines do not end at the right.
    """

    title: str
    lines: tuple[Line, ...]
    across: tuple[Mark, ...] = ()
    upright: tuple[Mark, ...] = ()
    spots: tuple[tuple[float, float, str], ...] = ()
    height: int = 150
    counted: bool = False
    keyed: bool = False

    @property
    def most(self) -> float:
        """Upper end of the y axis, with room for what stands above the highest point."""
        found = [y for line in self.lines for _, y in line.points if y is not None]
        found += [mark.at for mark in self.across]
        return max(found, default=0.0) * 1.08 or 1.0


def warm_spec(curve: WarmCurve, size: Size) -> Spec:
    """Cost of warm replicas above the seconds an objective is violated, on one x axis."""
    points = curve.points
    lines = [
        Line("kept warm", [(p.warm_replicas, p.idle_usd_per_hour) for p in points], 0, dots=True)
    ]
    priced = [
        (float(p.warm_replicas), p.total_usd_per_hour)
        for p in points
        if p.total_usd_per_hour is not None
    ]
    if priced:
        lines.append(Line("violations priced", priced, 1, dots=True))
    violated = Line(
        "violated", [(p.warm_replicas, p.violated_seconds_per_hour) for p in points], 2, dots=True
    )
    chosen = curve.chosen_replicas
    marks = () if chosen is None else (Mark(f"chosen: {chosen}", chosen),)
    return _panels(
        (
            Panel("US dollars an hour", tuple(lines), upright=marks),
            Panel(
                "Seconds violated, each hour",
                (violated,),
                upright=tuple(replace(mark, name="") for mark in marks),
                height=110,
            ),
        ),
        "replicas kept warm",
        size,
        counted=True,
    )


def break_even_spec(even: BreakEven, size: Size) -> Spec:
    """What is paid by the hour against what is paid by the token, with every crossing."""
    dedicated = Line(even.dedicated.name, even.dedicated.points, 0)
    serverless = [
        Line(curve.name, curve.points, i) for i, curve in enumerate(even.serverless, start=1)
    ]
    spots = tuple((c.x, c.usd_per_hour, amount(c.x)) for c in even.crossings)
    panel = Panel(
        "US dollars an hour", (dedicated, *serverless), spots=spots, height=240, keyed=True
    )
    return _panels((panel,), even.load, size)


def capacity_spec(plan: CapacityPlan, size: Size) -> Spec:
    """Replicas that an arrival rate asks for, as stairs."""
    points = [(row.arrivals_per_second, float(row.replicas)) for row in plan.rows]
    across = (
        ()
        if plan.most_replicas is None
        else (Mark(f"limit {plan.most_replicas}", plan.most_replicas),)
    )
    rates = (("expected", plan.expected_per_second), ("peak", plan.peak_per_second))
    upright = tuple(
        Mark(f"{name} {amount(rate)}", rate) for name, rate in rates if rate is not None
    )
    panel = Panel(
        "Replicas",
        (Line("needed", points, 0, "step-before", dots=len(points) <= 40),),
        across,
        upright,
        height=200,
        counted=True,
    )
    return _panels((panel,), "requests a second", size)


def simulation_spec(run: SimulationRun, size: Size) -> Spec:
    """Arrivals, replicas, queue and TTFT over the same minutes, one above the other."""
    points = thinned(run.points)

    def line(name: str, field: str, style: int = 0, shape: str = "step-after") -> Line:
        found = [(p.seconds / 60, getattr(p, field)) for p in points]
        return Line(name, found, style, shape)

    target = run.ttft_target_seconds
    return _panels(
        (
            Panel("Requests a second", (line("arrivals", "arrivals_per_second"),), height=90),
            Panel(
                "Replicas",
                (
                    line("wanted", "replicas_wanted", 1),
                    line("ready", "replicas_ready", 0),
                ),
                height=110,
                counted=True,
            ),
            Panel("Requests waiting", (line("queue", "queued"),), height=90),
            Panel(
                "Time to first token, p95, seconds",
                (line("TTFT", "ttft_p95_seconds", shape="linear"),),
                () if target is None else (Mark(f"target {target:g} s", target),),
                height=110,
            ),
        ),
        "minutes",
        size,
    )


def _panels(panels: Sequence[Panel], x_title: str, size: Size, *, counted: bool = False) -> Spec:
    """Panels above each other over one x axis; `counted` when x is a number of things."""
    width = size.pixels - AXIS_PIXELS - max(_ends_pixels(panel, size) for panel in panels)
    reach = [x for panel in panels for line in panel.lines for x, _ in line.points]
    reach += [mark.at for panel in panels for mark in panel.upright]
    axis: Spec = {"title": x_title, "titleAnchor": "start", "tickCount": 4 if size.narrow else 8}
    if counted:
        axis |= {"values": _counts(max(reach), 5 if size.narrow else 10), "format": "d"}
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"domain": [min(0.0, *reach), max(reach)], "nice": False},
    }
    unlabelled = {**axis, "title": None, "labels": False}
    drawn = [
        _panel(panel, {**x, "axis": axis if panel is panels[-1] else unlabelled}, width, size)
        for panel in panels
    ]
    return whole(
        {
            "padding": {"left": 4, "right": 4, "top": 4, "bottom": 8},
            "autosize": {"type": "pad"},
            "vconcat": drawn,
        }
    )


def _ends_pixels(panel: Panel, size: Size) -> int:
    """Room at the right for the names of lines, or for half an axis label."""
    if len(panel.lines) < 2 or _has_key(panel, size):
        return 20
    longest = max(len(line.name) for line in panel.lines)
    return min(NAMES_PIXELS, 16 + round(LETTER_PIXELS * longest))


def _counts(most: float, about: int) -> list[int]:
    """Whole numbers from zero to `most`, about so many of them."""
    return list(range(0, int(most) + 1, max(1, round(most / about))))


def _has_key(panel: Panel, size: Size) -> bool:
    """Whether lines are named in rows above the axes instead of at their ends."""
    return len(panel.lines) > 1 and (size.narrow or panel.keyed)


def _panel(panel: Panel, x: Spec, width: int, size: Size) -> Spec:
    y_axis: Spec = {
        "title": None,
        "tickCount": 4,
        "minExtent": AXIS_PIXELS - 8,
        "maxExtent": AXIS_PIXELS - 8,
    }
    if panel.counted:
        y_axis |= {"format": "d", "values": _counts(panel.most, 5)}
    y = {
        "field": "y",
        "type": "quantitative",
        "scale": {"domain": [0, panel.most], "nice": False},
        "axis": y_axis,
    }
    layers: list[Spec] = []
    for mark in panel.across:
        layers.append(_rule({"y": mark.at}, {"y": y}))
    for mark in panel.upright:
        layers.append(_rule({"x": mark.at}, {"x": x}))
    for line in panel.lines:
        layers += _line(line, x, y)
    if _has_key(panel, size):
        layers += _key(panel, width)
    elif len(panel.lines) > 1:
        layers += _ends(panel, width)
    layers += _spots(panel, x, y, width)
    layers += _mark_names(panel, x, y)
    return {"title": panel.title, "width": width, "height": panel.height, "layer": layers}


def _line(line: Line, x: Spec, y: Spec) -> list[Spec]:
    colour, dash = STYLES[line.style % len(STYLES)]
    data = values([{"x": a, "y": b} for a, b in line.points])
    stroke = {
        "type": "line",
        "interpolate": line.shape,
        "color": LIGHT[colour],
        "strokeDash": dash,
        "strokeWidth": 2,
    }
    layers: list[Spec] = [{"data": data, "mark": stroke, "encoding": {"x": x, "y": y}}]
    if line.dots:
        dots = {"type": "point", "filled": True, "opacity": 1, "size": 34, "color": LIGHT[colour]}
        layers.append({"data": data, "mark": dots, "encoding": {"x": x, "y": y}})
    return layers


def _key(panel: Panel, width: int) -> list[Spec]:
    """A row for each line above the axes: a piece of it, and its name."""
    layers: list[Spec] = []
    for i, line in enumerate(panel.lines):
        colour, dash = STYLES[line.style % len(STYLES)]
        y = {"value": -KEY_PIXELS * (len(panel.lines) - i) + 2}
        piece = {
            "type": "rule",
            "color": LIGHT[colour],
            "strokeDash": dash,
            "strokeWidth": 2,
        }
        layers.append(
            {
                "data": values([{}]),
                "mark": piece,
                "encoding": {"x": {"value": 0}, "x2": {"value": 28}, "y": y},
            }
        )
        name = [{"text": line.name}]
        style = {"align": "left", "color": LIGHT[colour], "limit": width - 36}
        layers += text(name, {"x": {"value": 36}, "y": y}, **style)
    return layers


def _ends(panel: Panel, width: int) -> list[Spec]:
    """Each line's name at its end, moved apart where lines end together."""
    ends = [panel.height * (1 - (line.last or 0.0) / panel.most) for line in panel.lines]
    layers: list[Spec] = []
    for line, place in zip(
        panel.lines, spread(ends, TEXT_PIXELS + 4, 6, panel.height - 6), strict=True
    ):
        layers += text(
            [{"text": line.name}],
            {"x": {"value": width + 8}, "y": {"value": place}},
            align="left",
            color=LIGHT[STYLES[line.style % len(STYLES)][0]],
            limit=NAMES_PIXELS - 12,
        )
    return layers


def _rule(row: Spec, encoding: Spec) -> Spec:
    mark = {"type": "rule", "color": LIGHT["limit"], "strokeDash": [6, 4], "strokeWidth": 1.5}
    return {"data": values([row]), "mark": mark, "encoding": encoding}


def _mark_names(panel: Panel, x: Spec, y: Spec) -> list[Spec]:
    """Names of rules: above a level one at the left, beside an upright one at the other end.

    Without level ones upright names stand at the top, else at the foot, each in a row of its own.
    """
    layers: list[Spec] = []
    style = {"color": LIGHT["limit"]}
    for mark in panel.across:
        row, at = {"y": mark.at, "text": mark.name}, {"x": {"value": 6}, "y": y}
        layers += text([row], at, align="left", dy=-9, **style)
    low, high = x["scale"]["domain"]
    for i, mark in enumerate(panel.upright):
        if mark.name:
            place = panel.height - 10 - i * (TEXT_PIXELS + 4) if panel.across else 8
            row, at = {"x": mark.at, "text": mark.name}, {"x": x, "y": {"value": place}}
            late = mark.at > (low + high) / 2
            side = {"align": "right", "dx": -6} if late else {"align": "left", "dx": 6}
            layers += text([row], at, **side, **style)
    return layers


def _spots(panel: Panel, x: Spec, y: Spec, width: int) -> list[Spec]:
    """Crossings: a ring, and its x value below it, one row lower where it would touch another."""
    if not panel.spots:
        return []
    low, high = x["scale"]["domain"]
    ring = {
        "type": "point",
        "size": 90,
        "strokeWidth": 2,
        "opacity": 1,
        "fill": LIGHT["paper"],
        "stroke": LIGHT["ink"],
    }
    rows = [{"x": a, "y": b} for a, b, _ in panel.spots]
    layers: list[Spec] = [
        {"data": values(rows), "mark": ring, "encoding": {"x": x, "y": y}},
    ]
    taken: list[float] = []
    for a, b, name in sorted(panel.spots):
        begin = (a - low) / (high - low) * width
        level = next((i for i, end in enumerate(taken) if begin > end), len(taken))
        taken[level : level + 1] = [begin + LETTER_PIXELS * len(name) + 8]
        room = panel.height * b / panel.most
        down = 16 + level * (TEXT_PIXELS + 4)
        row = {"x": a, "y": b, "text": name}
        dy = down if down + 8 < room else -down
        layers += text([row], {"x": x, "y": y}, align="left", dx=2, dy=dy, fontWeight="bold")
    return layers
