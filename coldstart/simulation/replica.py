"""One engine: continuous batching in virtual time, with one pending event.

A request waits for a place (`max_num_seqs`) and for its tokens in the KV cache, which are all
reserved at once so that nothing has to be preempted. Prompts are read one after another and hold up
decoding meanwhile; the end of the prompt is the first token. Running sequences then get a token
each step, whose length depends on how many run (EngineSpeed).

All sequences progress alike, so one virtual clock counts the tokens each has got. A sequence ends
at a fixed reading of that clock: a heap orders them, and a request costs O(log n).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from enum import IntEnum, StrEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from simpy import Environment
from simpy.events import Event

from coldstart.simulation.inputs import ReplicaInput
from coldstart.simulation.trace import Trace

if TYPE_CHECKING:
    from coldstart.simulation.nodes import Node

_SAME_TOKEN = 1e-9
NO_REQUEST = -1


class Phase(IntEnum):
    """Of a replica's life, in the order in which replicas are taken away first."""

    PENDING = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    GONE = 4


class Rejection(StrEnum):
    """Why a request was turned away before a replica began.

    It does not fit into the engine's context or cache, no replica was ready and no proxy keeps
    requests, the proxy kept it as long as it does, or as many waited as may.
    """

    TOO_LONG = "tooLong"
    NO_REPLICA = "noReplica"
    HELD_TOO_LONG = "heldTooLong"
    QUEUE_FULL = "queueFull"


class Ledger:
    """What became of the requests: of those served, seconds to the first token and per further one.

    NaN stands for requests that were not served, and for the further tokens of an answer of one.
    `last_end` is the second at which a request that had not been turned away was over.
    """

    def __init__(self, trace: Trace, settled: Callable[[], None]) -> None:
        self.ttft = array("d", [float("nan")]) * len(trace)
        self.tpot = array("d", [float("nan")]) * len(trace)
        self.open = len(trace)
        self.served = self.rejected = self.cut = 0
        self.rejections = dict.fromkeys(Rejection, 0)
        self.begun = 0
        self.last_end: float | None = None
        self.served_prompt_tokens = self.served_output_tokens = 0
        self._settled = settled

    def reject(self, reason: Rejection) -> None:
        """A request is turned away before a replica began."""
        self.rejected += 1
        self.rejections[reason] += 1
        self.close(1)

    def lose(self, count: int) -> None:
        """Requests that a replica had and did not finish."""
        self.cut += count
        self.close(count)

    def close(self, count: int) -> None:
        """So many are over, however they ended."""
        self.open -= count
        if not self.open:
            self._settled()


class Replica:
    """One replica; `load` is the requests it has, waiting ones included."""

    __slots__ = (
        "_arrivals",
        "_environment",
        "_heap",
        "_kv_tokens",
        "_ledger",
        "_outputs",
        "_per_sequence",
        "_prefilling",
        "_prompts",
        "_rate",
        "_reserved",
        "_reserved_prompts",
        "_slots",
        "_starts",
        "_step",
        "_to_read",
        "_tokens",
        "_tokens_at",
        "_version",
        "asked_at",
        "drained",
        "leaves_at",
        "load",
        "node",
        "phase",
        "ready_at",
        "running",
        "shared",
        "waiting",
    )

    def __init__(
        self,
        environment: Environment,
        spec: ReplicaInput,
        trace: Trace,
        ledger: Ledger,
        shared: deque[int] | None,
        drained: Callable[[Replica], None],
    ) -> None:
        self._environment, self._ledger = environment, ledger
        self._arrivals = trace.arrivals
        self._prompts, self._outputs = trace.prompt_tokens, trace.output_tokens
        self._rate = spec.speed.prefill_tokens_per_second
        self._step = spec.speed.step_seconds
        self._per_sequence = spec.speed.step_seconds_per_sequence
        self._slots, self._kv_tokens = spec.max_num_seqs, spec.kv_cache_tokens
        self.waiting: deque[int] = deque()
        self.shared, self.drained = shared, drained
        self._to_read: deque[int] = deque()
        self._prefilling = NO_REQUEST
        self._heap: list[tuple[float, int]] = []
        self._tokens = self._tokens_at = 0.0
        self._reserved = self._reserved_prompts = 0
        self._starts = 0.0
        self._version = 0
        self.load = self.running = 0
        self.phase = Phase.PENDING
        self.asked_at = environment.now
        self.ready_at = self.leaves_at = 0.0
        self.node: Node | None = None

    def submit(self, request: int) -> None:
        """Take a request; it waits here when there is no place."""
        self.load += 1
        self.waiting.append(request)
        if self.running < self._slots:
            self._admit()
            if self._prefilling < 0 and self._to_read:
                self._read_next()

    def pull(self) -> None:
        """Take what the shared queue has, as far as there are places."""
        self._admit()
        if self._prefilling < 0 and self._to_read:
            self._read_next()

    def abandon(self) -> int:
        """Stop at once; how many requests are lost."""
        self.forget()
        lost, self.load, self.running = self.load, 0, 0
        self._version += 1
        # They wait no more, like those that got a place.
        self._ledger.begun += len(self.waiting)
        self.waiting.clear()
        self._to_read.clear()
        self._heap.clear()
        self._prefilling = NO_REQUEST
        self._reserved = self._reserved_prompts = 0
        self._starts = 0.0
        return lost

    def forget(self) -> None:
        """What was begun and will not be finished counts as no answer."""
        for _, request in self._heap:
            self._ledger.ttft[request] = float("nan")

    @property
    def kv_tokens(self) -> float:
        """Tokens in the KV cache now: prompts of running requests, and what they have got."""
        decoding = len(self._heap)
        tokens = self._tokens
        if decoding and self._prefilling < 0:
            elapsed = self._environment.now - self._tokens_at
            tokens += elapsed / (self._step + self._per_sequence * decoding)
        return self._reserved_prompts + decoding * tokens - self._starts

    def _admit(self) -> None:
        for queue in (self.waiting, self.shared):
            while queue and self.running < self._slots:
                request = queue[0]
                prompt = self._prompts[request]
                needed = prompt + self._outputs[request]
                if self._reserved + needed > self._kv_tokens and self.running:
                    return
                queue.popleft()
                if queue is self.shared:
                    self.load += 1
                self.running += 1
                self._ledger.begun += 1
                self._reserved += needed
                self._reserved_prompts += prompt
                self._to_read.append(request)

    def _read_next(self) -> None:
        now = self._environment.now
        decoding = len(self._heap)
        if decoding:
            self._tokens += (now - self._tokens_at) / (self._step + self._per_sequence * decoding)
        self._read(now)

    def _read(self, now: float) -> None:
        request = self._prefilling = self._to_read.popleft()
        self._tokens_at = now
        self._version = version = self._version + 1
        event = self._environment.timeout(self._prompts[request] / self._rate, version)
        event.callbacks.append(self._fire)

    def _fire(self, event: Event) -> None:
        if event.value != self._version:
            return
        now = self._environment.now
        request = self._prefilling
        heap = self._heap
        if request >= 0:
            self._prefilling = NO_REQUEST
            self._ledger.ttft[request] = now - self._arrivals[request]
            further = self._outputs[request] - 1
            if further:
                heappush(heap, (self._tokens + further, request))
                self._starts += self._tokens
            else:
                self._finish(request, now, 0)
        else:
            self._tokens = reading = heap[0][0]
            while heap and heap[0][0] <= reading + _SAME_TOKEN:
                end, request = heappop(heap)
                further = self._outputs[request] - 1
                self._starts -= end - further
                self._finish(request, now, further)
            if not heap:
                self._tokens = self._starts = 0.0
        if self.waiting or self.shared:
            self._admit()
        if self._to_read:
            self._read(now)
        elif heap:
            self._tokens_at = now
            self._version = version = self._version + 1
            event = self._environment.timeout(
                max(0.0, heap[0][0] - self._tokens) * (self._step + self._per_sequence * len(heap)),
                version,
            )
            event.callbacks.append(self._fire)
        elif self.phase is Phase.DRAINING and not self.load:
            self.drained(self)

    def _finish(self, request: int, now: float, further: int) -> None:
        ledger = self._ledger
        prompt, output = self._prompts[request], further + 1
        if further:
            first = self._arrivals[request] + ledger.ttft[request]
            ledger.tpot[request] = (now - first) / further
        self.load -= 1
        self.running -= 1
        self._reserved -= prompt + output
        self._reserved_prompts -= prompt
        ledger.last_end = now
        ledger.served += 1
        ledger.served_prompt_tokens += prompt
        ledger.served_output_tokens += output
        ledger.open -= 1
        if not ledger.open:
            ledger.close(0)
