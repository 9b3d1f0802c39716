"""Everything at once: requests, replicas, nodes and the two controllers, on SimPy's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from operator import attrgetter
from random import Random
from typing import Any

from simpy import Environment
from simpy.events import Event

from coldstart.simulation.hpa import Hpa
from coldstart.simulation.inputs import Routing, SimulationInput
from coldstart.simulation.keda import Keda, Signal, scheduled
from coldstart.simulation.nodes import NodePool
from coldstart.simulation.replica import Ledger, Phase, Replica
from coldstart.simulation.series import Recorder, ScaleEvent

_LOAD = attrgetter("load")
_COUNTED = (Phase.PENDING, Phase.STARTING, Phase.READY)


class World:
    """One run. `run` plays it to the end; what happened is in `ledger`, `pool` and `recorder`."""

    def __init__(self, given: SimulationInput, progress: Callable[[float], None]) -> None:
        self.given, self.trace = given, given.trace
        self.environment = Environment()
        self._rng = Random(given.seed)
        self.ledger = Ledger(given.trace, self._settled)
        shared = given.routing is Routing.SHARED_QUEUE
        self._shared: deque[int] | None = deque() if shared else None
        self._held: deque[int] = deque()
        self._held_from: dict[int, float] = {}
        self._limit = given.queue_limit
        self.replicas: list[Replica] = []
        self._ready: list[Replica] = []
        self.wanted = given.initial_replicas
        self.pool = NodePool(
            self.environment, given.nodes, self._rng, self._interrupted, self._place_pending
        )
        self.recorder = Recorder(self, progress)
        self._next = 0
        self._done = self.environment.event()
        self._pushed = False
        self.held_requests = 0
        self._replica_seconds = 0.0
        self._scraped: dict[Signal, float | None] = {}
        scaling = given.scaling
        self._keda = Keda(scaling) if scaling else None
        self._hpa = (
            Hpa(scaling.hpa_min_replicas, scaling.max_replicas, scaling.behavior)
            if scaling
            else None
        )
        self._wakes = scaling is not None and any(
            trigger.signal is Signal.CONCURRENCY for trigger in scaling.triggers
        )

    def run(self) -> None:
        """From the first second until every request is over and the horizon reached."""
        environment = self.environment
        self._begin()
        first = environment.timeout(self.trace.arrivals[0])
        first.callbacks.append(self._arrive)
        scaling = self.given.scaling
        if scaling is not None:
            phase = self._rng.random
            # Nobody starts the loops together, so each has a phase of its own.
            self._every(self.given.scrape_seconds, self._scrape, phase())
            self._every(scaling.polling_seconds, self._poll, phase())
            self._every(self.given.sync_seconds, self._sync, phase())
        environment.process(self.recorder.process())
        patience = environment.timeout(self.given.end_seconds + self.given.patience_seconds)
        patience.callbacks.append(self._end)
        environment.run(until=self._done)
        self.recorder.finish()
        for replica in self.replicas:
            replica.forget()

    # Requests

    def _arrive(self, _: Event) -> None:
        request = self._next
        self._route(request)
        self._next = following = request + 1
        if following < len(self.trace.arrivals):
            delay = self.trace.arrivals[following] - self.environment.now
            event = self.environment.timeout(delay if delay > 0 else 0.0)
            event.callbacks.append(self._arrive)

    def _route(self, request: int) -> None:
        given = self.given
        needed = self.trace.prompt_tokens[request] + self.trace.output_tokens[request]
        if needed > given.replica.max_model_len or needed > given.replica.kv_cache_tokens:
            self.ledger.reject()
            return
        ready = self._ready
        if not ready:
            self._hold(request)
            return
        if given.routing is Routing.RANDOM:
            chosen = ready[int(self._rng.random() * len(ready))]
        else:
            chosen = ready[0] if len(ready) == 1 else min(ready, key=_LOAD)
        shared = self._shared
        if shared is None:
            if self._limit is not None and self._is_full(chosen.waiting, chosen.running):
                self.ledger.reject()
                return
            chosen.submit(request)
        elif chosen.running < given.replica.max_num_seqs:
            shared.append(request)
            chosen.pull()
        elif self._limit is not None and len(shared) >= self._limit:
            self.ledger.reject()
        else:
            shared.append(request)

    def _is_full(self, queue: deque[int], running: int) -> bool:
        """Whether a request would have to wait where as many wait as may."""
        assert self._limit is not None
        return len(queue) >= self._limit and (
            bool(queue) or running >= self.given.replica.max_num_seqs
        )

    def _hold(self, request: int) -> None:
        """No replica is ready: the proxy keeps the request, where there is one."""
        hold = self.given.hold_seconds
        if hold is None or (self._limit is not None and len(self._held) >= self._limit):
            self.ledger.reject()
            return
        now = self.environment.now
        if not self._held:
            self.environment.timeout(hold).callbacks.append(self._expire)
        self._held.append(request)
        self._held_from[request] = now
        self.held_requests += 1
        if self.wanted == 0 and self._wakes and not self._pushed:
            self._pushed = True
            self.environment.timeout(self.given.push_seconds).callbacks.append(self._push)

    def _expire(self, _: Event) -> None:
        hold, now = self.given.hold_seconds or 0.0, self.environment.now
        while self._held and self._held_from[self._held[0]] + hold <= now:
            del self._held_from[self._held.popleft()]
            self.ledger.reject()
        if self._held:
            left = self._held_from[self._held[0]] + hold - now
            self.environment.timeout(left).callbacks.append(self._expire)

    def _release_held(self) -> None:
        while self._held and self._ready:
            request = self._held.popleft()
            del self._held_from[request]
            self._route(request)

    # Replicas

    def _begin(self) -> None:
        started = [self._new_replica() for _ in range(self.given.initial_replicas)]
        self.pool.begin(started)
        for replica in started:
            self._set_ready(replica)

    def _new_replica(self) -> Replica:
        replica = Replica(
            self.environment,
            self.given.replica,
            self.trace,
            self.ledger,
            self._shared,
            self._drained,
        )
        self.replicas.append(replica)
        return replica

    def scale(self, replicas: int, by: str) -> None:
        """What a controller writes into the scale subresource."""
        if replicas == self.wanted:
            return
        self.recorder.scaled(ScaleEvent(self.environment.now, self.wanted, replicas, by))
        self.wanted = replicas
        self._follow()

    def _follow(self) -> None:
        """Make or take away replicas until there are as many as wanted."""
        present = [replica for replica in self.replicas if replica.phase in _COUNTED]
        for _ in range(self.wanted - len(present)):
            self._new_replica()
        surplus = len(present) - self.wanted
        if surplus > 0:
            for replica in sorted(present, key=_removal_order)[:surplus]:
                self._remove(replica, self.given.replica.drain_seconds)
        self._place_pending()

    def _place_pending(self) -> None:
        for replica in self.replicas:
            if replica.phase is Phase.PENDING:
                seconds = self.pool.place(replica)
                if seconds is None:
                    return
                replica.phase = Phase.STARTING
                event = self.environment.timeout(seconds, replica)
                event.callbacks.append(self._started)

    def _started(self, event: Event) -> None:
        replica: Replica = event.value
        if replica.phase is Phase.STARTING:
            self._set_ready(replica)

    def _set_ready(self, replica: Replica) -> None:
        replica.phase = Phase.READY
        replica.ready_at = self.environment.now
        self._ready.append(replica)
        if self._shared:
            replica.pull()
        self._release_held()

    def _remove(self, replica: Replica, drain_seconds: float) -> None:
        """A replica leaves: at once when it serves nothing, else as long as it may drain."""
        if replica.phase in (Phase.PENDING, Phase.STARTING):
            self._gone(replica)
            return
        self._ready.remove(replica)
        replica.phase, replica.shared = Phase.DRAINING, None
        stays = min(self.given.replica.removal_seconds, drain_seconds)
        replica.leaves_at = self.environment.now + stays
        if not replica.load:
            self._drained(replica)
        elif drain_seconds < float("inf"):
            self.environment.timeout(drain_seconds, replica).callbacks.append(self._leave)

    def _drained(self, replica: Replica) -> None:
        stays = max(0.0, replica.leaves_at - self.environment.now)
        self.environment.timeout(stays, replica).callbacks.append(self._leave)

    def _leave(self, event: Event) -> None:
        replica: Replica = event.value
        if replica.phase is Phase.GONE:
            return
        lost = replica.abandon()
        self._gone(replica)
        if lost:
            self.ledger.lose(lost)

    def _gone(self, replica: Replica) -> None:
        if replica.phase in (Phase.READY, Phase.DRAINING):
            self._replica_seconds += self.environment.now - replica.ready_at
        replica.phase = Phase.GONE
        self.replicas.remove(replica)
        self.pool.release(replica)
        self._place_pending()

    def _interrupted(self, replicas: list[Replica]) -> None:
        """A node is taken away: its replicas drain within the notice, others are made instead."""
        notice = min(self.given.nodes.notice_seconds, self.given.replica.drain_seconds)
        for replica in replicas:
            if replica.phase is not Phase.DRAINING:
                self._remove(replica, notice)
            else:
                self.environment.timeout(notice, replica).callbacks.append(self._leave)
        self._follow()

    # Controllers

    def _every(self, seconds: float, act: Callable[[], None], phase: float) -> None:
        def process() -> Generator[Event, Any, None]:
            yield self.environment.timeout(seconds * phase)
            while True:
                act()
                yield self.environment.timeout(seconds)

        self.environment.process(process())

    def _scrape(self) -> None:
        """What Prometheus then knows, until it asks again; nothing where nobody can be asked."""
        scraped = [r for r in self.replicas if r.phase in (Phase.READY, Phase.DRAINING)]
        if not scraped:
            self._scraped = {}
            return
        room = self.given.replica.kv_cache_tokens
        self._scraped = {
            Signal.WAITING: float(sum(len(r.waiting) for r in scraped) + len(self._shared or ())),
            Signal.KV_CACHE: sum(100.0 * r.kv_tokens / room for r in scraped),
        }

    def _values(self) -> list[float | None]:
        assert self.given.scaling is not None
        found: list[float | None] = []
        for trigger in self.given.scaling.triggers:
            if trigger.signal is Signal.CRON:
                found.append(scheduled(trigger.windows, self.environment.now))
            elif trigger.signal is Signal.CONCURRENCY:
                found.append(float(self.in_flight))
            else:
                found.append(self._scraped.get(trigger.signal))
        return found

    def _poll(self) -> None:
        assert self._keda is not None
        self.scale(self._keda.poll(self.environment.now, self.wanted, self._values()), "KEDA")

    def _push(self, _: Event) -> None:
        assert self._keda is not None
        self._pushed = False
        if self._held:
            self.scale(self._keda.activate(self.environment.now, self.wanted), "held request")

    def _sync(self) -> None:
        assert self._keda is not None and self._hpa is not None
        if self.wanted:
            metrics = self._keda.metrics(self._values(), self.wanted)
            self.scale(self._hpa.reconcile(self.environment.now, self.wanted, metrics), "HPA")

    # The end, and what is counted

    def _settled(self) -> None:
        rest = max(0.0, self.given.end_seconds - self.environment.now)
        self.environment.timeout(rest).callbacks.append(self._end)

    def _end(self, _: Event) -> None:
        if not self._done.triggered:
            self._done.succeed()

    @property
    def arrived(self) -> int:
        """Requests so far."""
        return self._next

    @property
    def in_flight(self) -> int:
        """Requests the proxy knows of: held, waiting and running."""
        return len(self._held) + len(self._shared or ()) + sum(r.load for r in self.replicas)

    @property
    def waiting(self) -> int:
        """Requests that wait, held or in a replica's queue."""
        queued = sum(len(replica.waiting) for replica in self.replicas)
        return len(self._held) + len(self._shared or ()) + queued

    @property
    def running(self) -> int:
        """Requests that have a place."""
        return sum(replica.running for replica in self.replicas)

    @property
    def ready(self) -> int:
        """Replicas that get requests."""
        return len(self._ready)

    def replica_seconds(self) -> float:
        """Seconds of replicas that were ready, the draining ones too."""
        now = self.environment.now
        return self._replica_seconds + sum(
            now - r.ready_at for r in self.replicas if r.phase in (Phase.READY, Phase.DRAINING)
        )


def _removal_order(replica: Replica) -> tuple[int, int, float]:
    """Whom the ReplicaSet controller takes first (controller_utils.go, ActivePodsWithRanks).

    Those without a node, then those not ready, then those with company on their node, then the
    latest ready. Kubernetes compares ages on a logarithmic scale; here the latest goes.
    """
    company = len(replica.node.replicas) if replica.node else 0
    return replica.phase, -company, -replica.ready_at
