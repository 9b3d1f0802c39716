"""A cold start as a graph of phases; its length is the critical path, not the sum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coldstart.planning.distribution import Distribution


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: what it waits for, how long it takes, and where the figure comes from.

    `seconds` is the median; `spread` is None where the source states no range.
    """

    key: str
    name: str
    seconds: float
    after: tuple[str, ...]
    source: str
    spread: Distribution | None = None

    @property
    def p95_seconds(self) -> float:
        """What 95 % of starts stay below; the median where no range is known."""
        if self.spread is None:
            return self.seconds
        return max(self.spread.p95_seconds, self.spread.floor_seconds)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Phases with their start times, in seconds from the scaling signal's cause."""

    phases: tuple[Phase, ...]
    starts: dict[str, float]
    critical_path: tuple[str, ...]
    total_seconds: float

    def end(self, key: str) -> float:
        """When the phase is over; KeyError for a phase that is not in the timeline."""
        return self.starts[key] + self.phase(key).seconds

    def phase(self, key: str) -> Phase:
        """The phase of that key; KeyError when there is none."""
        for phase in self.phases:
            if phase.key == key:
                return phase
        raise KeyError(key)


def timeline(phases: Iterable[Phase]) -> Timeline:
    """Lay phases out as early as they can start.

    Raises ValueError for a negative duration, an unknown or later predecessor (so that cycles
    cannot be written) or an empty list.
    """
    ordered = tuple(phases)
    starts: dict[str, float] = {}
    ends: dict[str, float] = {}
    held_by: dict[str, str | None] = {}
    for phase in ordered:
        if phase.seconds < 0:
            raise ValueError(f"phase {phase.key} takes {phase.seconds} s")
        if missing := [key for key in phase.after if key not in ends]:
            raise ValueError(
                f"phase {phase.key} waits for {missing}, which does not come before it"
            )
        held_by[phase.key] = max(phase.after, key=lambda key: ends[key], default=None)
        starts[phase.key] = max((ends[key] for key in phase.after), default=0.0)
        ends[phase.key] = starts[phase.key] + phase.seconds
    if not ends:
        raise ValueError("a timeline needs at least one phase")
    last: str | None = max(ends, key=lambda key: ends[key])
    path: list[str] = []
    while last is not None:
        path.append(last)
        last = held_by[last]
    return Timeline(ordered, starts, tuple(reversed(path)), max(ends.values()))
