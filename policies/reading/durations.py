"""Durations as Go programs write them (`20ms`, `1s`, `1m30s`), in milliseconds."""

from __future__ import annotations

import re
from typing import Any

# Units of time.ParseDuration, package time of Go.
_MILLISECONDS = {
    "ns": 1e-6,
    "us": 1e-3,
    "µs": 1e-3,
    "μs": 1e-3,
    "ms": 1.0,
    "s": 1e3,
    "m": 60e3,
    "h": 3600e3,
}
_PART = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h)")


def milliseconds(value: Any) -> float | None:
    """How long a duration is, or None for what is none. Numbers without a unit are none."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return 0.0 if text == "0" else None
    return sum(float(part[1]) * _MILLISECONDS[part[2]] for part in parts)
