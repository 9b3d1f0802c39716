"""Small traces, inputs and runs for the tests of the simulator."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coldstart.capacity.speed import EngineSpeed
from coldstart.simulation import (
    NodeInput,
    ReplicaInput,
    SimulationInput,
    Trace,
    simulate,
)
from coldstart.simulation.inputs import stream
from coldstart.simulation.keda import ScaledObject, Signal, Trigger
from coldstart.simulation.world import World

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


NODES = NodeInput(
    gpus_per_node=1,
    max_nodes=4,
    first_start_seconds=300,
    fresh_start_seconds=200,
    warm_start_seconds=50,
    consolidate_after_seconds=600,
    usd_per_node_hour=3.6,
)
SLEEPY = ScaledObject(
    triggers=(
        Trigger("waiting", Signal.WAITING, 5.0),
        Trigger("held-requests", Signal.CONCURRENCY, 20.0),
    ),
    max_replicas=4,
    polling_seconds=5,
    cooldown_seconds=300,
)
AWAKE = replace(SLEEPY, min_replicas=1, triggers=SLEEPY.triggers[:1])


def scaled(requests: Any, **overrides: Any) -> SimulationInput:
    """A model that may sleep, asleep, unless told otherwise."""
    fields: dict[str, Any] = {
        "trace": requests,
        "replica": ReplicaInput(PACE, 8, 50_000, 8_000, 15, 75),
        "nodes": NODES,
        "scaling": SLEEPY,
        "initial_replicas": 0,
        "hold_seconds": 900,
    }
    return SimulationInput(**{**fields, **overrides})


def steps(given_: SimulationInput) -> list[tuple[int, int, str]]:
    return [(event.before, event.after, event.by) for event in simulate(given_).events]


def ledger(given_: SimulationInput) -> tuple[list[float], list[float]]:
    world = World(given_, lambda _: None)
    world.run()
    return list(world.ledger.ttft), list(world.ledger.tpot)
