"""Small traces and inputs for the tests of the simulator."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from coldstart.capacity.speed import EngineSpeed
from coldstart.simulation import (
    NodeInput,
    ReplicaInput,
    SimulationInput,
    Trace,
)
from coldstart.simulation.inputs import stream

TOKENS_PER_SECOND = 1_000_000.0
"""So fine that whole tokens are no limit on how long a service may take."""
QUICK = EngineSpeed(TOKENS_PER_SECOND, 1e-9, 0.0)
PACE = EngineSpeed(10_000.0, 0.01, 0.001)
ROOMY = NodeInput(gpus_per_node=8, max_nodes=50)


def trace(rows: Sequence[tuple[float, int, int]]) -> Trace:
    """Rows of arrival, prompt and output tokens."""
    arrivals, prompts, outputs = zip(*rows, strict=True)
    return Trace(array("d", arrivals), array("i", prompts), array("i", outputs))


def queue_trace(rate: float, services: Sequence[float], seed: int) -> Trace:
    """Poisson arrivals; a request's whole service is the reading of its prompt."""
    rng, now, rows = stream(seed, "arrivals"), 0.0, []
    for seconds in services:
        now += rng.expovariate(rate)
        rows.append((now, max(1, round(seconds * TOKENS_PER_SECOND)), 1))
    return trace(rows)


def fixed(requests: Trace, replicas: int = 1, **overrides: Any) -> SimulationInput:
    """A fleet of `replicas` that nobody scales, each with one place unless told otherwise."""
    given: dict[str, Any] = {
        "trace": requests,
        "replica": ReplicaInput(QUICK, max_num_seqs=1),
        "nodes": ROOMY,
        "initial_replicas": replicas,
        "patience_seconds": 1e9,
    }
    return SimulationInput(**{**given, **overrides})
