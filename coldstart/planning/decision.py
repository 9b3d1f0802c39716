"""A choice that explains itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
NAMED = "named in the stack file"
"""Why a value was chosen that the user gave."""


@dataclass(frozen=True, slots=True)
class Rejection(Generic[T]):
    """An alternative that was turned down, and why."""

    value: T
    reason: str


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What was chosen, why, and what was turned down with which reason."""

    value: T
    reason: str
    rejected: tuple[Rejection[T], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """A possible value: what it would cost in seconds, or the obstacle that rules it out."""

    value: T
    seconds: float = 0.0
    reason: str = ""
    obstacle: str | None = None


class PlanError(Exception):
    """A wish of the stack file that cannot work; `path` says which, the message what would."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}")


def choose(candidates: Iterable[Candidate[T]], *, path: str, wish: T | None = None) -> Decision[T]:
    """The fastest candidate without an obstacle, or the wished one when it has none.

    Equal times go to the earlier candidate. Raises PlanError when the wish has an obstacle, naming
    what would work instead, or when nothing is left, naming every obstacle.
    """
    table = list(candidates)
    open_ones = [candidate for candidate in table if candidate.obstacle is None]
    if wish is not None:
        wished = next(candidate for candidate in table if candidate.value == wish)
        if wished.obstacle is not None:
            works = ", ".join(str(candidate.value) for candidate in open_ones) or "nothing"
            raise PlanError(
                path,
                f'"{wish}" cannot be used: {wished.obstacle}.\nWhat would work: '
                f"auto{f' or {works}' if open_ones else ''}.",
            )
        best, why = wished, f"{NAMED}: {wished.reason}"
    elif open_ones:
        best = min(open_ones, key=lambda candidate: candidate.seconds)
        why = best.reason
    else:
        listed = "\n".join(f"{c.value}: {c.obstacle}" for c in table)
        raise PlanError(path, f"nothing works here:\n{listed}")
    return Decision(
        best.value,
        why,
        tuple(
            Rejection(
                c.value,
                c.obstacle
                if c.obstacle is not None
                else f"{c.reason} ({c.seconds:.0f} s against {best.seconds:.0f} s)",
            )
            for c in table
            if c is not best
        ),
    )
