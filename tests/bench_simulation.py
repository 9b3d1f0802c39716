"""How many requests a minute the simulator plays on one core.

`python -m tests.bench_simulation [REQUESTS]` plays a steady trace on an autoscaled pool, three
times, and prints CPU seconds: wall time on a shared machine would measure the others too. Nothing
here is a test.
"""

from __future__ import annotations

import sys
import time

from coldstart.capacity.lengths import Lengths
from coldstart.capacity.speed import EngineSpeed
from coldstart.simulation import (
    NodeInput,
    ReplicaInput,
    Routing,
    SimulationInput,
    SimulationResult,
    simulate,
)
from coldstart.simulation.keda import ScaledObject, Signal, Trigger
from coldstart.simulation.synthetic import poisson

REQUESTS = 1_000_000
ROUNDS = 3
REQUESTS_PER_SECOND = 20.0


def scene(requests: int) -> SimulationInput:
    """About ten replicas of 32 places at two thirds of what they can do."""
    trace = poisson(
        REQUESTS_PER_SECOND,
        requests / REQUESTS_PER_SECOND,
        Lengths(512, 1536),
        Lengths(192, 512),
    )
    return SimulationInput(
        trace=trace,
        replica=ReplicaInput(EngineSpeed(20_000, 0.010, 0.0006), 32, 260_000, 32_768, 15, 75),
        nodes=NodeInput(8, 1, 4, 0, 240, 180, 60),
        scaling=ScaledObject(
            triggers=(
                Trigger("waiting", Signal.WAITING, 5.0),
                Trigger("kv-cache", Signal.KV_CACHE, 20.0, 1.0),
            ),
            min_replicas=2,
            max_replicas=24,
            polling_seconds=5.0,
        ),
        initial_replicas=8,
        routing=Routing.LEAST_LOADED,
    )


def played(given: SimulationInput) -> tuple[SimulationResult, float]:
    """The result and the CPU seconds it took."""
    start = time.process_time()
    result = simulate(given)
    return result, time.process_time() - start


def main() -> None:
    """Print the rate."""
    given = scene(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
    result, best = played(given)
    for _ in range(ROUNDS - 1):
        best = min(best, played(given)[1])
    count = len(given.trace)
    print(  # noqa: T201
        f"{count:,} requests on up to {result.most_ready_replicas} replicas, "
        f"{result.seconds / 3600:.1f} h simulated: {best:.1f} s of one core, "
        f"{count / best * 60:,.0f} requests a minute"
    )


if __name__ == "__main__":
    main()
