"""The cold start as a Gantt chart: the plan above its baseline, on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from coldstart.report.frame import NARROW, Size, Spec, text, values, whole
from coldstart.report.palette import LIGHT
from coldstart.report.series import ColdStartGantt, GanttRow, StartLine
from coldstart.units import format_seconds

LABEL_PIXELS = 190
TAKES_PIXELS = 64
CRITICAL, BESIDE = "on the critical path", "beside it"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A phase in the row that is its own."""

    row: str
    phase: GanttRow


def gantt_spec(gantt: ColdStartGantt, size: Size) -> Spec:
    """Vega-Lite of the picture; the critical path is filled and joined, the rest hollow."""
    total = max(gantt.plan.total_seconds, gantt.baseline.total_seconds, gantt.budget_seconds or 0)
    left = 0 if size is NARROW else LABEL_PIXELS
    width = size.pixels - left - 16
    starts = (("plan", gantt.plan), ("baseline", gantt.baseline))
    placed = {key: _placed(key, line) for key, line in starts}
    rows = ["key", *(["budget"] if gantt.budget_seconds else [])]
    for key, _ in starts:
        rows += [
            *(["gap"] if key == "baseline" else []),
            f"{key}.head",
            *(p.row for p in placed[key]),
        ]
    step = 30 if size.narrow else 24
    y = {
        "field": "row",
        "type": "nominal",
        "axis": None,
        "scale": {"domain": rows, "paddingInner": 0, "paddingOuter": 0},
    }
    x = {
        "field": "from",
        "type": "quantitative",
        "scale": {"domain": [0, total], "nice": False},
        "axis": {
            "title": "seconds from the cause of the scaling signal",
            "titleAnchor": "start",
            "tickCount": 5 if size.narrow else 8,
        },
    }
    layers = [_bars(placed, x, y, size)]
    if not size.narrow:
        layers.append(_joints(placed, x, y))
    if gantt.budget_seconds:
        layers += _budget(gantt.budget_seconds, total, rows[-1], x, y)
    layers += _labels(placed, x, y, size, total, width)
    layers += _heads(gantt, y, left)
    layers += _key(y, left)
    return whole(
        {
            "width": width,
            "height": step * len(rows),
            "autosize": "none",
            "padding": {"left": left, "right": 16, "top": 4, "bottom": 44},
            "layer": layers,
        }
    )


def _placed(key: str, line: StartLine) -> list[_Placed]:
    return [_Placed(f"{key}.{i}", row) for i, row in enumerate(line.rows)]


def _bars(placed: dict[str, list[_Placed]], x: Spec, y: Spec, size: Size) -> Spec:
    rows = [
        {
            "row": p.row,
            "from": p.phase.start_seconds,
            "to": p.phase.end_seconds,
            "critical": p.phase.critical,
        }
        for part in placed.values()
        for p in part
    ]
    filled = {"test": "datum.critical", "value": LIGHT["first"]}
    return {
        "data": values(rows),
        "mark": {
            "type": "bar",
            "height": 8 if size.narrow else 12,
            "yOffset": 7 if size.narrow else 0,
            "cornerRadius": 1,
            "strokeWidth": 1.25,
            "minBandSize": 2,
        },
        "encoding": {
            "x": x,
            "x2": {"field": "to"},
            "y": y,
            "fill": {"condition": filled, "value": LIGHT["paper"]},
            "stroke": {"condition": filled, "value": LIGHT["soft"]},
            "strokeDash": {
                "condition": {"test": "datum.critical", "value": [1, 0]},
                "value": [3, 2],
            },
        },
    }


def _joints(placed: dict[str, list[_Placed]], x: Spec, y: Spec) -> Spec:
    """A hairline from the end of each critical phase to the one that waits for it."""
    rows = []
    for part in placed.values():
        path = [p for p in part if p.phase.critical]
        rows += [
            {"row": a.row, "until": b.row, "from": a.phase.end_seconds} for a, b in pairwise(path)
        ]
    return {
        "data": values(rows),
        "mark": {
            "type": "rule",
            "color": LIGHT["first"],
            "strokeWidth": 1.25,
        },
        "encoding": {
            "x": x,
            "y": {**y, "bandPosition": 0.5},
            "y2": {"field": "until", "bandPosition": 0.5},
        },
    }


def _labels(
    placed: dict[str, list[_Placed]], x: Spec, y: Spec, size: Size, total: float, width: int
) -> list[Spec]:
    """Phase names at the left and durations beside the bars; above them where it is narrow."""
    layers = []
    for critical in (True, False):
        style = _type(critical)
        found = [p for part in placed.values() for p in part if p.phase.critical is critical]
        takes = [format_seconds(p.phase.seconds) for p in found]
        if size.narrow:
            names = [
                {"row": p.row, "text": f"{p.phase.phase}, {t}"}
                for p, t in zip(found, takes, strict=True)
            ]
            layers += text(names, {"y": y, "x": {"value": 0}}, align="left", dy=-6, **style)
            continue
        names = [{"row": p.row, "text": p.phase.phase} for p in found]
        at = {"y": y, "x": {"value": -12}}
        layers += text(names, at, align="right", limit=LABEL_PIXELS - 14, **style)
        for before in (False, True):
            rows = [
                {
                    "row": p.row,
                    "from": p.phase.start_seconds if before else p.phase.end_seconds,
                    "text": t,
                }
                for p, t in zip(found, takes, strict=True)
                if (p.phase.end_seconds / total * width > width - TAKES_PIXELS) is before
            ]
            side = {"align": "right", "dx": -6} if before else {"align": "left", "dx": 6}
            layers += text(rows, {"x": x, "y": y}, color=LIGHT["soft"], **side)
    return layers


def _heads(gantt: ColdStartGantt, y: Spec, left: int) -> list[Spec]:
    rows = [
        {"row": f"{key}.head", "text": f"{line.name}: {format_seconds(line.total_seconds)}"}
        for key, line in (("plan", gantt.plan), ("baseline", gantt.baseline))
    ]
    at = {"y": y, "x": {"value": -left}}
    return text(rows, at, align="left", fontWeight="bold", fontSize=14)


def _budget(seconds: float, total: float, last: str, x: Spec, y: Spec) -> list[Spec]:
    """The budget as a dashed line through both starts, named in a row of its own."""
    label = [{"row": "budget", "from": seconds, "text": f"budget {format_seconds(seconds)}"}]
    right = seconds > total / 2
    return [
        {
            "data": values([{"from": seconds, "row": "budget", "until": last}]),
            "mark": {
                "type": "rule",
                "color": LIGHT["limit"],
                "strokeDash": [6, 4],
                "strokeWidth": 1.5,
            },
            "encoding": {
                "x": x,
                "y": {**y, "bandPosition": 0},
                "y2": {"field": "until", "bandPosition": 1},
            },
        },
        *text(
            label,
            {"x": x, "y": y},
            color=LIGHT["limit"],
            align="right" if right else "left",
            dx=-6 if right else 6,
        ),
    ]


def _key(y: Spec, left: int) -> list[Spec]:
    """What filled and hollow bars mean, in the first row."""
    layers = []
    for offset, words, critical in ((0, CRITICAL, True), (150, BESIDE, False)):
        sign = {
            "data": values([{"row": "key"}]),
            "mark": {
                "type": "point",
                "shape": "square",
                "size": 90,
                "opacity": 1,
                "fill": LIGHT["first" if critical else "paper"],
                "stroke": LIGHT["first" if critical else "soft"],
                "strokeDash": [1, 0] if critical else [3, 2],
                "strokeWidth": 1.25,
            },
            "encoding": {"y": {**y, "bandPosition": 0.5}, "x": {"value": offset + 6 - left}},
        }
        row = [{"row": "key", "text": words}]
        at = {"y": y, "x": {"value": offset + 18 - left}}
        layers += [sign, *text(row, at, align="left", **_type(critical))]
    return layers


def _type(critical: bool) -> Spec:
    if critical:
        return {"color": LIGHT["ink"]}
    return {"color": LIGHT["soft"], "fontStyle": "italic"}
