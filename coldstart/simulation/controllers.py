"""The loops around the rules: Prometheus scrapes, KEDA polls and is pushed, the HPA syncs."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from coldstart.simulation.clock import every, later
from coldstart.simulation.hpa import Hpa
from coldstart.simulation.keda import Keda, ScaledObject, Signal, scheduled

if TYPE_CHECKING:
    from coldstart.simulation.world import World

HPA, KEDA, PUSHED = "HPA", "KEDA", "held request"
"""Who asks for a number of replicas."""


class Controllers:
    """The autoscalers of one ScaledObject; they see the world only as it was last scraped.

    Each loop begins at a moment of its own within its first period, since in a cluster nobody
    starts them together.
    """

    def __init__(self, world: World, scaling: ScaledObject, rng: Random) -> None:
        self._world, self._scaling, self._rng = world, scaling, rng
        self._keda = Keda(scaling)
        self._hpa = Hpa(scaling.hpa_min_replicas, scaling.max_replicas, scaling.behavior)
        self._scraped: dict[Signal, float] = {}
        self._pushes = any(trigger.signal is Signal.CONCURRENCY for trigger in scaling.triggers)
        self._pushed = False

    def start(self) -> None:
        """Begin all loops."""
        given = self._world.given
        for seconds, act in (
            (given.scrape_seconds, self._scrape),
            (self._scaling.polling_seconds, self._poll),
            (given.sync_seconds, self._sync),
        ):
            every(self._world.environment, seconds, act, seconds * self._rng.random())

    def held(self) -> None:
        """A request is held by the proxy, which tells KEDA at once when there is no replica."""
        if self._world.wanted == 0 and self._pushes and not self._pushed:
            self._pushed = True
            later(self._world.environment, self._world.given.push_seconds, self._push)

    def _scrape(self) -> None:
        """What Prometheus knows until it asks again; nothing where nobody can be asked."""
        world = self._world
        if not world.scrapable:
            self._scraped = {}
            return
        room = world.given.replica.kv_cache_tokens
        self._scraped = {
            Signal.WAITING: float(world.queued),
            Signal.IN_FLIGHT: float(world.queued + sum(r.running for r in world.scrapable)),
            Signal.KV_CACHE: sum(100.0 * r.kv_tokens / room for r in world.scrapable),
        }

    def _values(self) -> list[float | None]:
        world, found = self._world, list[float | None]()
        for trigger in self._scaling.triggers:
            if trigger.signal is Signal.CRON:
                found.append(scheduled(trigger.windows, world.environment.now))
            elif trigger.signal is Signal.CONCURRENCY:
                found.append(float(world.in_flight))
            else:
                found.append(self._scraped.get(trigger.signal))
        return found

    def _poll(self) -> None:
        world = self._world
        if self._pushes and world.last_in_flight is not None:
            self._keda.noted(world.last_in_flight)
        world.scale(self._keda.poll(world.environment.now, world.wanted, self._values()), KEDA)

    def _push(self) -> None:
        world = self._world
        self._pushed = False
        if world.holds:
            world.scale(self._keda.activate(world.environment.now, world.wanted), PUSHED)

    def _sync(self) -> None:
        world = self._world
        # At zero the HPA looks at the replicas and asks for no metric.
        metrics = self._keda.metrics(self._values(), world.wanted) if world.wanted else ()
        world.scale(self._hpa.reconcile(world.environment.now, world.wanted, metrics), HPA)
