"""Colours of pictures and pages, once for light and once for dark.

The hues are told apart with every common colour blindness, and every line also has its own dash.
Text colours, which lines share with their labels, have a contrast of at least 4.5 on `paper`.
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
        "first": "#0b5c9e",
        "second": "#a84a00",
        "third": "#00705a",
        "fourth": "#7a3d9c",
        "limit": "#a3123f",
    }
)
DARK: Mapping[str, str] = MappingProxyType(
    {
        "paper": "#14191f",
        "sheet": "#1d242c",
        "ink": "#e8ecef",
        "soft": "#a9b5c0",
        "rule": "#3a444e",
        "first": "#74b7f0",
        "second": "#f2a65a",
        "third": "#5fc9ae",
        "fourth": "#cfa5ee",
        "limit": "#ff8fa8",
    }
)
