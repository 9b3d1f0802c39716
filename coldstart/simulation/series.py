"""Curves over time, in a bounded number of points, and the scaling steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coldstart.simulation.clock import later

if TYPE_CHECKING:
    from coldstart.simulation.world import World

POINTS = 400
MOST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """At a second, somebody asked for another number of replicas."""

    seconds: float
    before: int
    after: int
    by: str


@dataclass(frozen=True, slots=True)
class Point:
    """The state at one second.

    Since the point before, `arrivals_per_second` is the mean and `waiting` the most at once;
    `ttft_p95_seconds` is of the requests that came since then, None where none was answered.
    """

    seconds: float
    arrivals_per_second: float
    waiting: int
    running: int
    ready_replicas: int
    wanted_replicas: int
    nodes: int
    ttft_p95_seconds: float | None = None


class Recorder:
    """Looks at the world at even steps; when there are too many points, every other one goes."""

    def __init__(self, world: World, progress: Callable[[float], None]) -> None:
        self._world, self._progress = world, progress
        self._points: list[Point] = []
        self._step = max(world.given.end_seconds, 1e-3) / (POINTS / 2)
        self._arrived = 0
        self.events: list[ScaleEvent] = []
        self.ups = self.downs = 0
        self.most_waiting = 0

    def start(self) -> None:
        """Record now and from now on; the steps grow, so each asks for the next."""
        self._record()
        self._progress(self._world.arrived / len(self._world.trace))
        later(self._world.environment, self._step, self.start)

    def scaled(self, event: ScaleEvent) -> None:
        """Note a step; the first ones by name, the others by number."""
        if event.after > event.before:
            self.ups += 1
        else:
            self.downs += 1
        if len(self.events) < MOST_EVENTS:
            self.events.append(event)

    def finish(self) -> None:
        """The state at the end; a last step that is short is no step of its own."""
        if self._points[-1].seconds == self._world.environment.now:
            return
        self._record()
        points = self._points
        if len(points) > 2 and points[-1].seconds - points[-2].seconds < self._step / 2:
            points[-2:] = [_joined(*points[-3:])]

    def points(self) -> tuple[Point, ...]:
        """All of them, in order."""
        return tuple(self._points)

    def _record(self) -> None:
        world = self._world
        now = world.environment.now
        since = now - self._points[-1].seconds if self._points else 0.0
        rate = (world.arrived - self._arrived) / since if since > 0 else 0.0
        self._arrived = world.arrived
        waiting = world.most_waiting()
        self.most_waiting = max(self.most_waiting, waiting)
        self._points.append(
            Point(
                now,
                rate,
                waiting,
                world.running,
                world.ready,
                world.wanted,
                len(world.pool),
            )
        )
        if len(self._points) >= POINTS:
            self._points = self._halved()
            self._step *= 2

    def _halved(self) -> list[Point]:
        """Pairs as one: the later state, the more waiting, the mean rate."""
        kept = [self._points[0]]
        for left, right in zip(self._points[1::2], self._points[2::2], strict=False):
            kept.append(_joined(kept[-1], left, right))
        return kept


def _joined(before: Point, left: Point, right: Point) -> Point:
    span = right.seconds - before.seconds
    arrived = left.arrivals_per_second * (left.seconds - before.seconds)
    arrived += right.arrivals_per_second * (right.seconds - left.seconds)
    rate = arrived / span if span else 0.0
    waiting = max(left.waiting, right.waiting)
    return replace(right, arrivals_per_second=rate, waiting=waiting)
