"""What every picture shares: sizes, type, colours, and marks placed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coldstart.report.palette import LIGHT

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
TEXT_PIXELS = 12


@dataclass(frozen=True, slots=True)
class Size:
    """How wide the whole picture is, and whether labels stand above what they name."""

    pixels: int
    narrow: bool


WIDE = Size(720, narrow=False)
NARROW = Size(320, narrow=True)


def whole(body: Spec) -> Spec:
    """A complete specification: nothing of it is left to the library's own taste in colours."""
    axis = {
        "domain": False,
        "ticks": False,
        "labelColor": LIGHT["soft"],
        "labelFontSize": TEXT_PIXELS,
        "labelPadding": 6,
        "titleColor": LIGHT["soft"],
        "titleFontSize": TEXT_PIXELS,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelFlush": False,
        "gridColor": LIGHT["rule"],
    }
    return {
        "$schema": SCHEMA,
        "background": LIGHT["paper"],
        **body,
        "config": {
            "aria": False,
            "font": FONT,
            "axis": axis,
            "view": {"stroke": None},
            "title": {
                "anchor": "start",
                "color": LIGHT["ink"],
                "fontSize": TEXT_PIXELS,
                "fontWeight": "bold",
                "frame": "group",
                "offset": 10,
            },
            "text": {"color": LIGHT["ink"], "fontSize": TEXT_PIXELS},
            "concat": {"spacing": 22},
        },
    }


def values(rows: Sequence[Spec]) -> Spec:
    """Inline data."""
    return {"values": list(rows)}


def text(rows: Sequence[Spec], encoding: Spec, **mark: Any) -> list[Spec]:
    """Text marks on a halo, so that no line runs through the letters; every row has `text`."""
    body = {
        "data": values(rows),
        "encoding": {**encoding, "text": {"field": "text", "type": "nominal"}},
    }
    halo = {"stroke": LIGHT["paper"], "strokeWidth": 4}
    return [
        {**body, "mark": {"type": "text", "baseline": "middle", **mark, **extra}}
        for extra in (halo, {})
    ]


def spread(wanted: Sequence[float], gap: float, least: float, most: float) -> list[float]:
    """Places as near to the wanted ones as a gap between each two allows, in the given order.

    All lie between `least` and `most` where there is room for all of them.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed: dict[int, float] = {}
    floor = least
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + gap
    ceiling = most
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return [placed[i] for i in range(len(wanted))]


def amount(value: float) -> str:
    """A figure as people write it: no exponent, no more digits than help."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
