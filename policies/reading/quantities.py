"""Kubernetes quantities (`16Gi`, `500M`, `1e9`, `250m`) as numbers of their base unit."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

# Suffixes of resource.Quantity, kubernetes/apimachinery pkg/api/resource/suffix.go.
_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY = re.compile(
    r"\s*([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,2})?)\s*([a-zA-Z]{0,2})\s*"
)


def quantity(value: Any) -> Decimal | None:
    """The number a quantity stands for (bytes for memory), or None when it is not one."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return Decimal(str(value))
    match = _QUANTITY.fullmatch(str(value))
    if match is None or match[2] not in _FACTORS:
        return None
    try:
        return Decimal(match[1]) * _FACTORS[match[2]]
    except InvalidOperation:
        return None
