"""What a simulation is given: plain data, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from coldstart.capacity.speed import EngineSpeed
from coldstart.errors import UserError
from coldstart.simulation.hpa import SYNC_SECONDS
from coldstart.simulation.keda import ScaledObject
from coldstart.simulation.trace import Trace

PUSH_SECONDS = 0.7
"""From a held request to KEDA's answer: the scaler asks the proxies every 500 ms and streams every
200 ms (kedacore/http-add-on v0.15.0, scaler/config.go)."""
SPOT_NOTICE_SECONDS = 120.0
"""What EC2 gives (EC2 user guide, Spot Instance interruption notices)."""

LEAST_TARGET = 0.001
"""A target is a positive quantity in whole thousandths (ValidateHorizontalPodAutoscaler)."""


def stream(seed: int, purpose: str) -> Random:
    """Random numbers of their own for each purpose, so that one draw more shifts no other."""
    return Random(f"{seed} {purpose}")  # noqa: S311 - a simulation, not a secret


class SimulationError(UserError):
    """Figures that cannot be simulated: what, its value, and what would work."""


class Routing(StrEnum):
    """How a request finds a replica.

    `random` is a Kubernetes Service (kube-proxy picks an endpoint at random), `least-loaded` a
    router that knows every replica's load, `shared-queue` a gateway that keeps requests until a
    replica has a place.
    """

    RANDOM = "random"
    LEAST_LOADED = "least-loaded"
    SHARED_QUEUE = "shared-queue"


@dataclass(frozen=True, slots=True)
class ReplicaInput:
    """One engine: its speed, its places, its KV cache in tokens, and how long it may drain.

    `removal_seconds` is what a replica stays at least after it was told to go.
    """

    speed: EngineSpeed
    max_num_seqs: int
    kv_cache_tokens: float = math.inf
    max_model_len: float = math.inf
    removal_seconds: float = 0.0
    drain_seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise SimulationError(f"max_num_seqs {self.max_num_seqs}: a replica has places")
        if not self.kv_cache_tokens > 0:
            raise SimulationError(f"kv_cache_tokens {self.kv_cache_tokens:g} hold no request")
        if not self.drain_seconds >= self.removal_seconds >= 0:
            raise SimulationError(
                f"drain_seconds {self.drain_seconds:g} must not be below removal_seconds "
                f"{self.removal_seconds:g}, nor that below 0"
            )


@dataclass(frozen=True, slots=True)
class NodeInput:
    """The pool: nodes, GPUs, and how long a replica takes to be ready on each kind of node.

    Starts are counted from the pod: on the first node of an empty pool, on a fresh node, on a node
    that has the engine image. `start_p95_over_p50` spreads them lognormally around these medians.
    `warm_nodes` are kept empty beside those in use. Spot nodes end `interruptions_per_node_hour`
    times an hour, with `notice_seconds` for draining.
    """

    gpus_per_node: int = 1
    gpus_per_replica: int = 1
    max_nodes: int = 1
    warm_nodes: int = 0
    first_start_seconds: float = 0.0
    fresh_start_seconds: float = 0.0
    warm_start_seconds: float = 0.0
    start_p95_over_p50: float = 1.0
    consolidate_after_seconds: float = 600.0
    usd_per_node_hour: float | None = None
    interruptions_per_node_hour: float = 0.0
    notice_seconds: float = SPOT_NOTICE_SECONDS

    def __post_init__(self) -> None:
        if not 1 <= self.gpus_per_replica <= self.gpus_per_node:
            raise SimulationError(
                f"a replica of {self.gpus_per_replica} GPUs does not fit on a node of "
                f"{self.gpus_per_node}"
            )
        if self.max_nodes < 1 or not 0 <= self.warm_nodes <= self.max_nodes:
            raise SimulationError(
                f"{self.warm_nodes} warm nodes of at most {self.max_nodes}: a pool has at least "
                "one node, and its limit counts the warm ones"
            )
        starts = (self.first_start_seconds, self.fresh_start_seconds, self.warm_start_seconds)
        if any(not 0 <= start < math.inf for start in starts) or self.start_p95_over_p50 < 1:
            raise SimulationError(
                f"starts of {', '.join(f'{start:g}' for start in starts)} s with p95/p50 "
                f"{self.start_p95_over_p50:g}: they must be 0 or more, the ratio 1 or more"
            )
        if self.interruptions_per_node_hour < 0 or self.notice_seconds < 0:
            raise SimulationError("interruptions and their notice must be 0 or more")

    @property
    def most_replicas(self) -> int:
        """What the pool can hold."""
        return self.max_nodes * (self.gpus_per_node // self.gpus_per_replica)


@dataclass(frozen=True, slots=True)
class SloInput:
    """What `percentile` of requests must keep: seconds to the first token, and per further one."""

    ttft_seconds: float
    tpot_seconds: float
    percentile: float = 95.0


@dataclass(frozen=True, slots=True)
class SimulationInput:
    """Everything a simulation depends on; the same input gives the same result.

    Without `scaling` there are `initial_replicas` all along. `hold_seconds` is how long the waking
    proxy keeps a request while no replica is ready, None where nobody keeps it. `queue_limit` is
    how many requests may wait in one place. The autoscaler goes on to `horizon_seconds`, by
    default to the last arrival, and requests may take `patience_seconds` longer.
    """

    trace: Trace
    replica: ReplicaInput
    nodes: NodeInput
    scaling: ScaledObject | None = None
    initial_replicas: int = 1
    routing: Routing = Routing.LEAST_LOADED
    hold_seconds: float | None = None
    queue_limit: int | None = None
    scrape_seconds: float = 5.0
    sync_seconds: float = SYNC_SECONDS
    push_seconds: float = PUSH_SECONDS
    slo: SloInput | None = None
    horizon_seconds: float | None = None
    patience_seconds: float = 3600.0
    seed: int = 1

    def __post_init__(self) -> None:
        possible = self.nodes.most_replicas
        most = max(self.initial_replicas, self.scaling.max_replicas if self.scaling else 0)
        if not 0 <= self.initial_replicas <= possible:
            raise SimulationError(
                f"{self.initial_replicas} replicas at the start; the pool holds 0 to {possible}"
            )
        if self.scaling is None and most == 0:
            raise SimulationError("no replica and no autoscaler serve nobody; give one of them")
        if self.scaling and self.scaling.min_replicas > self.scaling.max_replicas:
            raise SimulationError(
                f"min_replicas {self.scaling.min_replicas} exceeds max_replicas "
                f"{self.scaling.max_replicas}"
            )
        if not (self.scrape_seconds > 0 and self.sync_seconds > 0):
            raise SimulationError("scrape_seconds and sync_seconds must be above 0")
        if self.scaling:
            _check_scaling(self.scaling)

    @property
    def end_seconds(self) -> float:
        """When the autoscaler may stop: the horizon, never before the last arrival."""
        return max(self.trace.seconds, self.horizon_seconds or 0.0)


def _check_scaling(scaling: ScaledObject) -> None:
    if not scaling.polling_seconds > 0:
        raise SimulationError(f"polling_seconds {scaling.polling_seconds:g} must be above 0")
    for trigger in scaling.triggers:
        if not trigger.target >= LEAST_TARGET:
            raise SimulationError(
                f"trigger {trigger.name!r}: target {trigger.target:g} must be at least "
                f"{LEAST_TARGET:g}, the smallest quantity the HPA is given"
            )
