"""A trace of requests replayed through the autoscalers' own rules, nodes and engines.

A discrete-event simulation on SimPy. `trace` and `synthetic` give the requests, `hpa` and `keda`
hold the rules of the two controllers, `nodes` the machines, `replica` one engine, `world` joins
them, `run` is the way in and `result` what comes out.
"""

from coldstart.simulation.from_plan import from_plan
from coldstart.simulation.inputs import (
    NodeInput,
    ReplicaInput,
    Routing,
    SimulationError,
    SimulationInput,
    SloInput,
)
from coldstart.simulation.result import SimulationResult
from coldstart.simulation.run import simulate
from coldstart.simulation.trace import Trace, TraceError, read_trace, write_trace

__all__ = [
    "NodeInput",
    "ReplicaInput",
    "Routing",
    "SimulationError",
    "SimulationInput",
    "SimulationResult",
    "SloInput",
    "Trace",
    "TraceError",
    "from_plan",
    "read_trace",
    "simulate",
    "write_trace",
]
