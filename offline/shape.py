"""The form of a row in the AWS tables.

A text is a template over the resource's inputs (camelCase) and over `id`, `region`, `account`,
`partition`, `hex` (hexadecimal digits, `{hex:17}`) and `digits` (`{digits:12}`); digits depend on
the URN and the count of creates only. Shapes follow the "Attribute Reference" of
https://registry.terraform.io/providers/hashicorp/aws/latest/docs and the "forces new resource"
marks there; natural names are what the service itself keeps unique.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """How the stand-in makes one type of resource."""

    id: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    identity: str = "{id}"
    """The natural name: a second object with the same one is refused."""
    replaces: tuple[str, ...] = ()
    """Input paths that cannot change in place."""
    counts_updates: tuple[str, ...] = ()
    """Numeric outputs that grow by one with each update."""
