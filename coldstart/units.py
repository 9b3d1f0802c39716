"""Durations, sizes and bandwidths as people write them (`120s`, `16Gi`, `300MiB/s`)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "Ki": KIB,
    "Mi": MIB,
    "Gi": GIB,
    "Ti": TIB,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": TIB,
}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
"""More digits are a slip, and would leave the numbers that floats hold exactly."""
_DURATION_PART = re.compile(_NUMBER + "(ms|s|m|h|d)")
_QUANTITY = re.compile(_NUMBER + r"\s*([A-Za-z]+)")


def parse_duration_seconds(value: object) -> float:
    """Seconds in `"90s"`, `"2m"`, `"1h30m"` or `"500ms"`.

    Raises ValueError for a bare number, since 120 could mean seconds or minutes.
    """
    if isinstance(value, str):
        text = value.strip()
        parts = _DURATION_PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise ValueError("is not a duration; write it with a unit, for example 120s, 5m or 1h30m")


def parse_bytes(value: object) -> int:
    """Bytes in `"16Gi"`, `"16GiB"` (binary) or `"16GB"` (decimal).

    Raises ValueError for a bare number or an unknown unit.
    """
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        number, unit = match.groups()
        if unit in _BYTES:
            return round(float(number) * _BYTES[unit])
    raise ValueError("is not a size; write it with a unit, for example 200Gi or 500GB")


def parse_mib_per_second(value: object) -> float:
    """MiB per second in `"300MiB/s"`, `"1GB/s"` or `"10Gbps"` (bits, decimal).

    Raises ValueError for anything without a rate unit.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.endswith("/s"):
            try:
                return parse_bytes(text[:-2]) / MIB
            except ValueError:
                pass
        elif match := re.fullmatch(_NUMBER + r"\s*(M|G)bps", text):
            return float(match[1]) * {"M": 10**6, "G": 10**9}[match[2]] / 8 / MIB
    raise ValueError("is not a bandwidth; write for example 300MiB/s, 1GB/s or 10Gbps")


def format_seconds(seconds: float) -> str:
    """`93.4` as `93 s`, `150` as `2 min 30 s`; one decimal below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


def format_bytes(count: float) -> str:
    """Decimal megabytes or gigabytes, as registries and model cards state them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def go_duration(seconds: float) -> str:
    """Whole seconds in the form Kubernetes objects read (`93s`), rounded up."""
    return f"{-int(-seconds // 1)}s"


DurationSeconds = Annotated[float, BeforeValidator(parse_duration_seconds)]
SizeBytes = Annotated[int, BeforeValidator(parse_bytes)]
BandwidthMibPerSecond = Annotated[float, BeforeValidator(parse_mib_per_second)]
