"""Everything at once: requests, replicas, nodes and the two controllers, on SimPy's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from operator import attrgetter

from simpy import Environment
from simpy.events import Event

from coldstart.simulation.clock import later
from coldstart.simulation.controllers import Controllers
from coldstart.simulation.inputs import Routing, SimulationInput, stream
from coldstart.simulation.nodes import NodePool
from coldstart.simulation.replica import Ledger, Phase, Rejection, Replica
from coldstart.simulation.series import Recorder, ScaleEvent

_LOAD = attrgetter("load")
_COUNTED = (Phase.PENDING, Phase.STARTING, Phase.READY)


class World:
    """One run. `run` plays it to the end; what happened is in `ledger`, `pool` and `recorder`."""

    def __init__(self, given: SimulationInput, progress: Callable[[float], None]) -> None:
        self.given, self.trace = given, given.trace
        self.environment = Environment()
        self._rng = stream(given.seed, "routing")
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
            self.environment,
            given.nodes,
            stream(given.seed, "nodes"),
            self._interrupted,
            self._place_pending,
        )
        self.recorder = Recorder(self, progress)
        self._next = 0
        self._done = self.environment.event()
        self.held_requests = self.waiting_peak = self.most_ready = 0
        self._replica_seconds = self._unplaced_seconds = 0.0
        self._seconds_at_max = self._scaled_at = 0.0
        scaling = given.scaling
        self._controllers = (
            Controllers(self, scaling, stream(given.seed, "loops")) if scaling else None
        )

    def run(self) -> None:
        """From the first second until every request is over and the horizon reached."""
        environment = self.environment
        self._begin()
        first = environment.timeout(self.trace.arrivals[0])
        first.callbacks.append(self._arrive)
        if self._controllers is not None:
            self._controllers.start()
        self.recorder.start()
        later(environment, self.given.end_seconds + self.given.patience_seconds, self._end)
        environment.run(until=self._done)
        self.recorder.finish()
        for replica in self.replicas:
            replica.forget()

    # Requests

    def _arrive(self, _: Event) -> None:
        request = self._next
        self._route(request)
        self._next = following = request + 1
        waiting = following - self.ledger.rejected - self.ledger.begun
        self.waiting_peak = max(self.waiting_peak, waiting)
        if following < len(self.trace.arrivals):
            delay = self.trace.arrivals[following] - self.environment.now
            event = self.environment.timeout(delay if delay > 0 else 0.0)
            event.callbacks.append(self._arrive)

    def _route(self, request: int) -> None:
        given = self.given
        needed = self.trace.prompt_tokens[request] + self.trace.output_tokens[request]
        if needed > given.replica.max_model_len or needed > given.replica.kv_cache_tokens:
            self.ledger.reject(Rejection.TOO_LONG)
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
            if self._limit is not None and self._is_full(
                self._limit, chosen.waiting, chosen.running
            ):
                self.ledger.reject(Rejection.QUEUE_FULL)
                return
            chosen.submit(request)
        elif chosen.running < given.replica.max_num_seqs:
            shared.append(request)
            chosen.pull()
        elif self._limit is not None and len(shared) >= self._limit:
            self.ledger.reject(Rejection.QUEUE_FULL)
        else:
            shared.append(request)

    def _is_full(self, limit: int, queue: deque[int], running: int) -> bool:
        """Whether a request would have to wait where as many wait as may."""
        full = bool(queue) or running >= self.given.replica.max_num_seqs
        return full and len(queue) >= limit

    def _hold(self, request: int) -> None:
        """No replica is ready: the proxy keeps the request, where there is one."""
        hold = self.given.hold_seconds
        if hold is None:
            self.ledger.reject(Rejection.NO_REPLICA)
            return
        if self._limit is not None and len(self._held) >= self._limit:
            self.ledger.reject(Rejection.QUEUE_FULL)
            return
        now = self.environment.now
        if not self._held:
            later(self.environment, hold, self._expire)
        self._held.append(request)
        self._held_from[request] = now
        self.held_requests += 1
        if self._controllers is not None:
            self._controllers.held()

    def _expire(self) -> None:
        hold, now = self.given.hold_seconds or 0.0, self.environment.now
        while self._held and self._held_from[self._held[0]] + hold <= now:
            del self._held_from[self._held.popleft()]
            self.ledger.last_end = now
            self.ledger.reject(Rejection.HELD_TOO_LONG)
        if self._held:
            left = self._held_from[self._held[0]] + hold - now
            later(self.environment, left, self._expire)

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
        self._seconds_at_max = self.seconds_at_max
        self._scaled_at = self.environment.now
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
            # Of equal ones the newest goes first.
            present.reverse()
            for replica in sorted(present, key=_removal_order)[:surplus]:
                self._remove(replica, self.given.replica.drain_seconds)
        self._place_pending()

    def _place_pending(self) -> None:
        for replica in self.replicas:
            if replica.phase is Phase.PENDING:
                seconds = self.pool.place(replica)
                if seconds is None:
                    return
                self._unplaced_seconds += self.environment.now - replica.asked_at
                replica.phase = Phase.STARTING
                later(self.environment, seconds, partial(self._started, replica))

    def _started(self, replica: Replica) -> None:
        if replica.phase is Phase.STARTING:
            self._set_ready(replica)

    def _set_ready(self, replica: Replica) -> None:
        replica.phase = Phase.READY
        replica.ready_at = self.environment.now
        self._ready.append(replica)
        self.most_ready = max(self.most_ready, len(self._ready))
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
            later(self.environment, drain_seconds, partial(self._leave, replica))

    def _drained(self, replica: Replica) -> None:
        stays = max(0.0, replica.leaves_at - self.environment.now)
        later(self.environment, stays, partial(self._leave, replica))

    def _leave(self, replica: Replica) -> None:
        if replica.phase is Phase.GONE:
            return
        lost = replica.abandon()
        self._gone(replica)
        if lost:
            self.ledger.last_end = self.environment.now
            self.ledger.lose(lost)

    def _gone(self, replica: Replica) -> None:
        if replica.phase in (Phase.READY, Phase.DRAINING):
            self._replica_seconds += self.environment.now - replica.ready_at
        elif replica.phase is Phase.PENDING:
            self._unplaced_seconds += self.environment.now - replica.asked_at
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
                later(self.environment, notice, partial(self._leave, replica))
        self._follow()

    # The end, and what is counted

    def _settled(self) -> None:
        rest = max(0.0, self.given.end_seconds - self.environment.now)
        later(self.environment, rest, self._end)

    def _end(self) -> None:
        if not self._done.triggered:
            self._done.succeed()

    @property
    def arrived(self) -> int:
        """Requests so far."""
        return self._next

    @property
    def scrapable(self) -> list[Replica]:
        """Replicas whose engine can be asked: draining ones are, starting ones are not."""
        return [r for r in self.replicas if r.phase in (Phase.READY, Phase.DRAINING)]

    @property
    def holds(self) -> int:
        """Requests that the proxy keeps until a replica is ready."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """Requests that wait for a place, in a replica's queue or the shared one."""
        return len(self._shared or ()) + sum(len(replica.waiting) for replica in self.replicas)

    @property
    def in_flight(self) -> int:
        """Requests the proxy knows of: held, waiting and running."""
        return self.holds + len(self._shared or ()) + sum(r.load for r in self.replicas)

    @property
    def last_in_flight(self) -> float | None:
        """When the proxy last knew of a request: now, or the end of the last one."""
        return self.environment.now if self.in_flight else self.ledger.last_end

    def most_waiting(self) -> int:
        """Most requests that waited at once since this was asked last, held ones too."""
        most, self.waiting_peak = self.waiting_peak, self.holds + self.queued
        return most

    @property
    def running(self) -> int:
        """Requests that have a place."""
        return sum(replica.running for replica in self.replicas)

    @property
    def ready(self) -> int:
        """Replicas that get requests."""
        return len(self._ready)

    @property
    def seconds_at_max(self) -> float:
        """Seconds for which as many replicas were asked for as the autoscaler may."""
        scaling = self.given.scaling
        if scaling is None or self.wanted < scaling.max_replicas:
            return self._seconds_at_max
        return self._seconds_at_max + self.environment.now - self._scaled_at

    def unplaced_seconds(self) -> float:
        """Seconds for which replicas found no node, all replicas together."""
        now = self.environment.now
        pending = (r.asked_at for r in self.replicas if r.phase is Phase.PENDING)
        return self._unplaced_seconds + sum(now - asked_at for asked_at in pending)

    def replica_seconds(self) -> float:
        """Seconds of replicas that were ready, the draining ones too."""
        now = self.environment.now
        return self._replica_seconds + sum(now - r.ready_at for r in self.scrapable)


def _removal_order(replica: Replica) -> tuple[int, int, float]:
    """Whom the ReplicaSet controller takes first (controller_utils.go, ActivePodsWithRanks).

    Those without a node, then those not ready, then those with company on their node that does not
    leave already, then the latest ready. Kubernetes compares ages on a logarithmic scale; here the
    latest goes.
    """
    company = sum(other.phase in _COUNTED for other in replica.node.replicas) if replica.node else 0
    return replica.phase, -company, -replica.ready_at
