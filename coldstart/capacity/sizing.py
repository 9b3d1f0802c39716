"""How many replicas an arrival rate needs so that time to first token and per output token keep.

A replica runs up to `concurrency` requests in a continuous batch. In its time it reads every
prompt (prefill, one after another) and shares out decode steps, so with a full batch of k it
finishes 1 / (prefill + output × step(k) / k) requests a second. Arrivals are Poisson and spread
over replicas at random, as a Kubernetes Service does, so every replica is a queue of its own with
k servers (M/G/k, Allen-Cunneen). The time to first token is the wait for a slot, the wait behind
other prompts, the own prompt and one step. Percentiles of the parts are added, which errs to more
replicas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from coldstart.capacity.lengths import Lengths
from coldstart.capacity.queueing import wait_percentile_seconds
from coldstart.capacity.speed import EngineSpeed

Bound = Literal["ttft", "tpot", "kv-cache", "max-num-seqs"]
SpeedAt = Callable[[int], EngineSpeed]
"""The speed of a replica that runs so many sequences; for a dense model always the same."""
BISECTIONS = 16
"""Halvings of the search for the rate a replica carries: to 1/65536 of its throughput."""
FULLEST = 1 - 1e-6
"""Of its throughput a replica is never asked for more: at all of it a queue has no end."""
MOST_IN_FLIGHT = 1024
"""What a stack file may ask of one replica at once."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What `percentile` per cent of requests must keep: seconds to first token, and per token."""

    ttft_seconds: float
    tpot_seconds: float
    percentile: float = 95.0


class UnreachableTargetError(ValueError):
    """No number of replicas keeps a target: `bound` says which, `least_seconds` what is kept."""

    def __init__(self, bound: Bound, least_seconds: float, message: str) -> None:
        self.bound, self.least_seconds = bound, least_seconds
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ReplicaCapacity:
    """What one replica carries within its targets.

    `requests_per_second` keeps them, `throughput_per_second` is what a full batch finishes;
    `bound` is the limit that, lifted alone, helps most. `service_seconds` is a request's stay in a
    full batch and `service_cv` its spread; the first token of a long prompt takes
    `first_token_seconds` when nobody is in the way.
    """

    concurrency: int
    requests_per_second: float
    throughput_per_second: float
    bound: Bound
    percentile: float
    first_token_seconds: float
    prefill_seconds: float
    prefill_cv: float
    service_seconds: float
    service_cv: float
    tpot_seconds: float

    def ttft_seconds(self, rate: float) -> float:
        """Seconds to first token (percentile) when so many requests a second reach the replica."""
        slot = wait_percentile_seconds(
            rate, self.service_seconds, self.percentile, self.concurrency, self.service_cv
        )
        behind = wait_percentile_seconds(
            rate, self.prefill_seconds, self.percentile, 1, self.prefill_cv
        )
        return slot + behind + self.first_token_seconds


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What a surge of concurrent requests meets."""

    target_replicas: int
    replicas_to_start: int
    requests_waiting: int


def capacity_plan(
    concurrent_requests: int, requests_per_replica: int, warm_replicas: int
) -> CapacityPlan:
    """Replicas a surge needs in the end, and the requests that wait for cold ones meanwhile.

    "GPU Serving & Autoscaling", leetllm.com, capacity and warm buffer.
    """
    if requests_per_replica < 1 or concurrent_requests < 0 or warm_replicas < 0:
        raise ValueError("a replica takes at least one request, and no count is negative")
    target = -(-concurrent_requests // requests_per_replica)
    admitted = min(concurrent_requests, warm_replicas * requests_per_replica)
    return CapacityPlan(target, max(0, target - warm_replicas), concurrent_requests - admitted)


@dataclass(frozen=True, slots=True)
class _Batch:
    """A full batch of `running` requests; the first token comes with a step of `step_seconds`.

    That step is the one of the largest batch memory allows: were it this batch's, a stricter target
    could be easier to keep.
    """

    running: int
    speed: EngineSpeed
    prompt: Lengths
    output: Lengths
    step_seconds: float

    @property
    def prefill_seconds(self) -> float:
        return self.speed.prefill_seconds(self.prompt.mean)

    @property
    def tpot_seconds(self) -> float:
        """A step, and the share of the other requests' prompts that come between two tokens."""
        between = (self.running - 1) * self.prefill_seconds / self.output.mean
        return self.speed.tpot_seconds(self.running) + between

    @property
    def service_seconds(self) -> float:
        return self.prefill_seconds + self.output.mean * self.tpot_seconds

    @property
    def service_cv(self) -> float:
        decode = self.output.mean * self.tpot_seconds * self.output.cv
        return math.hypot(self.prefill_seconds * self.prompt.cv, decode) / self.service_seconds

    def capacity(self, targets: Targets) -> ReplicaCapacity:
        """With the rate that keeps the time to first token, 0 when none does."""
        longest = self.speed.prefill_seconds(self.prompt.percentile(targets.percentile))
        whole = ReplicaCapacity(
            concurrency=self.running,
            requests_per_second=0.0,
            throughput_per_second=self.running / self.service_seconds,
            bound="ttft",
            percentile=targets.percentile,
            first_token_seconds=longest + self.step_seconds,
            prefill_seconds=self.prefill_seconds,
            prefill_cv=self.prompt.cv,
            service_seconds=self.service_seconds,
            service_cv=self.service_cv,
            tpot_seconds=self.tpot_seconds,
        )
        return replace(whole, requests_per_second=_rate_within(whole, targets.ttft_seconds))


def in_flight_at(rate: float, speed_at: SpeedAt, prompt: Lengths, output: Lengths) -> int:
    """Requests in a replica that `rate` of them reach a second, by Little's law, in whole ones.

    A request stays as long as its prompt and its tokens take in a batch of that very size, the
    other requests' prompts in between included. At least 1; above `MOST_IN_FLIGHT` none counts.
    """

    def arrive(running: int) -> float:
        batch = _Batch(running, speed_at(running), prompt, output, step_seconds=0.0)
        return rate * batch.service_seconds

    low, high = 1, MOST_IN_FLIGHT
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if arrive(middle) >= middle else (low, middle - 1)
    return low


def _rate_within(replica: ReplicaCapacity, ttft_seconds: float) -> float:
    if replica.first_token_seconds > ttft_seconds:
        return 0.0
    low, high = 0.0, FULLEST * replica.throughput_per_second
    if replica.ttft_seconds(high) <= ttft_seconds:
        return high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        kept = replica.ttft_seconds(middle) <= ttft_seconds
        low, high = (middle, high) if kept else (low, middle)
    return low


def replica_capacity(
    speed_at: SpeedAt,
    prompt: Lengths,
    output: Lengths,
    targets: Targets,
    *,
    kv_cache_tokens: int,
    max_num_seqs: int,
) -> ReplicaCapacity:
    """What one replica carries; raises `UnreachableTargetError` when not even one request keeps.

    `kv_cache_tokens` is the room for all running sequences; each is counted with its whole prompt
    and answer, since the engine puts one out again when room runs out.
    """

    room = max(1, int(kv_cache_tokens / (prompt.mean + output.mean)))
    most: dict[Bound, int] = {"kv-cache": room, "max-num-seqs": max_num_seqs}
    widest = max(most.values())
    step = speed_at(widest).tpot_seconds(min(most.values()))

    def batch(running: int) -> _Batch:
        return _Batch(running, speed_at(running), prompt, output, step)

    most["tpot"] = _most_within_tpot(batch, targets.tpot_seconds, widest)
    full = batch(min(most.values())).capacity(targets)
    if full.requests_per_second <= 0:
        raise _ttft_error(full, prompt, targets)
    tightest = min(most, key=lambda bound: most[bound])
    patient = FULLEST * full.throughput_per_second
    if patient > full.requests_per_second:
        others = min(count for bound, count in most.items() if bound != tightest)
        if patient > batch(others).capacity(targets).requests_per_second:
            return full
    return replace(full, bound=tightest)


def replicas_for(requests_per_second: float, replica: ReplicaCapacity) -> int:
    """The fewest replicas that keep the targets at this rate, which is spread evenly."""
    return replicas_of(requests_per_second, replica.requests_per_second)


def replicas_of(requests_per_second: float, capacity_requests_per_second: float) -> int:
    """The fewest replicas of this capacity each, at least one."""
    # A rate that was itself made by multiplication must not ask for one replica more.
    return max(1, math.ceil(requests_per_second / capacity_requests_per_second * (1 - 1e-12)))


def _most_within_tpot(batch: Callable[[int], _Batch], target: float, limit: int) -> int:
    if batch(1).tpot_seconds > target:
        least = batch(1).tpot_seconds
        raise UnreachableTargetError(
            "tpot",
            least,
            f"{1e3 * target:.3g} ms per output token cannot be kept: one request alone gets a "
            f"token every {1e3 * least:.3g} ms",
        )
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if batch(middle).tpot_seconds <= target else (low, middle - 1)
    return low


def _ttft_error(
    replica: ReplicaCapacity, prompt: Lengths, targets: Targets
) -> UnreachableTargetError:
    least = replica.first_token_seconds
    long = prompt.percentile(targets.percentile)
    return UnreachableTargetError(
        "ttft",
        least,
        f"{targets.ttft_seconds:.3g} s to the first token cannot be kept: reading a prompt of "
        f"{long:.0f} tokens (percentile {targets.percentile:g}) takes {least:.3g} s alone",
    )


@dataclass(frozen=True, slots=True)
class WaitingThreshold:
    """Waiting requests per replica at which the next is asked for, and what led to it.

    `tolerated` may wait per replica before the time to first token is missed; `grown` join them
    while the next replica starts.
    """

    requests: int
    tolerated: float
    grown: float


def waiting_threshold(
    replica: ReplicaCapacity,
    targets: Targets,
    *,
    replicas: int,
    peak_requests_per_second: float,
    start_seconds: float,
    tolerance: float,
) -> WaitingThreshold:
    """When `replicas` running ones must ask for another, so that it comes in time.

    A queue of q behind a replica that finishes m a second waits q / m. If arrivals jump to the
    peak, the queue grows by what the replicas cannot finish for as long as a start takes. An
    autoscaler acts only when its figure is `tolerance` above the target. At least 1, which is all
    that can be asked for when the queue outgrows the target anyway.
    """
    spare_seconds = max(0.0, targets.ttft_seconds - replica.first_token_seconds)
    tolerated = spare_seconds * replica.throughput_per_second
    excess = peak_requests_per_second / replicas - replica.throughput_per_second
    grown = max(0.0, excess) * start_seconds
    return WaitingThreshold(
        max(1, math.floor((tolerated - grown) / (1 + tolerance))), tolerated, grown
    )
