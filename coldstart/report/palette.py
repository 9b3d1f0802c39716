"""Colours of pictures and pages, once for light and once for dark.

Lines share their colours with their labels, so all have a contrast of at least 4.5 on `paper` and
on `sheet`. They differ in lightness as well as in hue, to be told apart with every common colour
blindness; every line also has its own dash. tests/unit/test_report_palette.py computes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "paper": "#fdfdfb",
        "sheet": "#f3f4f1",
        "ink": "#1b2631",
        "soft": "#51606e",
        "rule": "#d5dadd",
        "first": "#0b5cbf",
        "second": "#955f0a",
        "third": "#0d4531",
        "fourth": "#5a0f78",
        "limit": "#c2216b",
    }
)
DARK: Mapping[str, str] = MappingProxyType(
    {
        "paper": "#14191f",
        "sheet": "#1d242c",
        "ink": "#e8ecef",
        "soft": "#a9b5c0",
        "rule": "#3a444e",
        "first": "#8fbbe8",
        "second": "#f3dfb8",
        "third": "#3fe07f",
        "fourth": "#c66bf5",
        "limit": "#f0667a",
    }
)
