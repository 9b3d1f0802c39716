"""The structural difference of two sets of inputs, as a provider reports it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from offline.wire import Properties, plain

Kind = Literal["add", "delete", "update"]

_PLAIN_KEY = re.compile(r"^[A-Za-z_$][\w$]*$")


@dataclass(frozen=True, slots=True)
class Change:
    """One place where the inputs differ."""

    path: str
    kind: Kind

    def is_under(self, places: Iterable[str]) -> bool:
        """Whether the change is at or below one of `places`; the empty place is everywhere."""
        return any(
            not place
            or self.path == place
            or self.path.startswith((f"{place}.", f"{place}["))
            or place.startswith(f"{self.path}.")
            for place in places
        )

    @property
    def top_level(self) -> str:
        """The input the change belongs to."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


def compare(old: Properties, new: Properties) -> list[Change]:
    """Where `new` differs from `old`; secrets are compared by what they wrap."""
    return list(_compare(plain(old), plain(new), ""))


def _compare(old: Any, new: Any, path: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if key.startswith("__"):
                continue
            place = _below(path, key)
            if key not in old:
                yield Change(place, "add")
            elif key not in new:
                yield Change(place, "delete")
            else:
                yield from _compare(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            place = f"{path}[{index}]"
            if index >= len(old):
                yield Change(place, "add")
            elif index >= len(new):
                yield Change(place, "delete")
            else:
                yield from _compare(old[index], new[index], place)
    elif old != new:
        yield Change(path, "update")


def _below(path: str, key: str) -> str:
    if not _PLAIN_KEY.match(key):
        quoted = key.replace('"', '\\"')
        return f'{path}["{quoted}"]'
    return f"{path}.{key}" if path else key
