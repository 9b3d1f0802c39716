"""`simulate`: one input, one result."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from coldstart.simulation.inputs import SimulationInput, SloInput
from coldstart.simulation.nodes import HOUR_SECONDS
from coldstart.simulation.replica import Ledger
from coldstart.simulation.result import Requests, SimulationResult, percentiles
from coldstart.simulation.series import Point
from coldstart.simulation.world import World


def simulate(
    given: SimulationInput, progress: Callable[[float], None] = lambda _: None
) -> SimulationResult:
    """Play a trace; pure, the same input and seed give the same result.

    `progress` is told the share of requests that have arrived, some hundred times.
    """
    world = World(given, progress)
    world.run()
    ledger, nodes = world.ledger, given.nodes
    node_hours = world.pool.node_seconds() / HOUR_SECONDS
    price = nodes.usd_per_node_hour
    return SimulationResult(
        requests=Requests(
            arrived=len(given.trace),
            held=world.held_requests,
            served=ledger.served,
            rejected=ledger.rejected,
            cut=ledger.cut,
            unfinished=ledger.open,
        ),
        rejections={str(reason): count for reason, count in ledger.rejections.items()},
        ttft_seconds=percentiles(ledger.ttft),
        tpot_seconds=percentiles(ledger.tpot),
        slo_share=_slo_share(ledger, given.slo, len(given.trace)),
        seconds=world.environment.now,
        prompt_tokens=ledger.served_prompt_tokens,
        output_tokens=ledger.served_output_tokens,
        most_waiting=world.recorder.most_waiting,
        most_ready_replicas=world.most_ready,
        most_nodes=world.pool.most,
        cold_starts=dict(world.pool.starts),
        scale_ups=world.recorder.ups,
        scale_downs=world.recorder.downs,
        seconds_at_max=world.seconds_at_max,
        unplaced_seconds=world.unplaced_seconds(),
        node_hours=node_hours,
        gpu_hours=node_hours * nodes.gpus_per_node,
        ready_gpu_hours=world.replica_seconds() / HOUR_SECONDS * nodes.gpus_per_replica,
        cost_usd=None if price is None else node_hours * price,
        series=_with_ttft(world.recorder.points(), given.trace.arrivals, ledger),
        events=tuple(world.recorder.events),
    )


def _with_ttft(
    points: Sequence[Point], arrivals: Sequence[float], ledger: Ledger
) -> tuple[Point, ...]:
    """Each point with the time to first token of the requests that came since the one before.

    The first point is the state before anything came.
    """
    found, begin = list(points[:1]), 0
    for point in points[1:]:
        end = bisect_right(arrivals, point.seconds, begin)
        measured = percentiles(ledger.ttft[begin:end])
        found.append(replace(point, ttft_p95_seconds=measured.p95 if measured else None))
        begin = end
    return tuple(found)


def _slo_share(ledger: Ledger, slo: SloInput | None, arrived: int) -> float | None:
    """A request of one token has no further ones, and keeps that half of the objective."""
    if slo is None:
        return None
    most_ttft, most_tpot = slo.ttft_seconds, slo.tpot_seconds
    kept = sum(
        ttft <= most_ttft and not tpot > most_tpot
        for ttft, tpot in zip(ledger.ttft, ledger.tpot, strict=True)
    )
    return kept / arrived
