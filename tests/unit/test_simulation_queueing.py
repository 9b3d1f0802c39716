"""The simulator against queues whose answer is known.

Formulas: L. Kleinrock, Queueing Systems, volume 1 (1975): M/M/c and Erlang's C and B in section
3, M/D/1 by Pollaczek and Khinchine in section 5; processor sharing in volume 2, section 4.4. They
are compared at the rates that the finite trace really had. Over a dozen seeds the mean waits of
such traces were off by 0.5 % on average and scattered by 5 to 6 % (one standard deviation, at a
utilisation of 0.8). So one queue may be off by three of them, eight queues together by 6 %. Request
for request there is no chance in it, and the first test allows a microsecond.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from statistics import fmean

import pytest

from coldstart.capacity.speed import EngineSpeed
from coldstart.simulation import ReplicaInput, Routing, SimulationInput, simulate
from coldstart.simulation.inputs import stream
from coldstart.simulation.world import World
from tests.unit.simulation_scenes import TOKENS_PER_SECOND, fixed, queue_trace, trace

REQUESTS = 30_000
MEAN_ERROR, TOGETHER_ERROR = 0.17, 0.06
"""Of a mean wait, relative: of one queue, and of several on average."""
SHARE_ERROR = 0.02
"""Of a share of requests, absolute."""


def erlang_b(servers: int, load: float) -> float:
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def exponential(seed: int, mean: float = 1.0) -> list[float]:
    rng = stream(seed, "lengths")
    return [rng.expovariate(1 / mean) for _ in range(REQUESTS)]


def waits(given: SimulationInput) -> list[float]:
    """Seconds from arrival to the beginning of service."""
    world = World(given, lambda _: None)
    world.run()
    prompts = given.trace.prompt_tokens
    return [
        max(0.0, ttft - prompt / TOKENS_PER_SECOND)
        for ttft, prompt in zip(world.ledger.ttft, prompts, strict=True)
    ]


def rates(given: SimulationInput) -> tuple[float, float]:
    """Arrivals a second and mean service of a trace."""
    count = len(given.trace)
    return count / given.trace.seconds, sum(given.trace.prompt_tokens) / TOKENS_PER_SECOND / count


@pytest.mark.parametrize("servers", [1, 2, 5])
def test_each_request_waits_as_long_as_the_recursion_of_first_come_first_served_says(
    servers: int,
) -> None:
    """Kiefer and Wolfowitz (1955): the next request gets the server that is free first."""
    requests = queue_trace(servers * 0.9, exponential(1)[:5_000], seed=2)
    free, expected = [0.0] * servers, []
    for arrival, tokens in zip(requests.arrivals, requests.prompt_tokens, strict=True):
        start = max(arrival, heappop(free))
        heappush(free, start + tokens / TOKENS_PER_SECOND)
        expected.append(start - arrival)
    found = waits(fixed(requests, servers, routing=Routing.SHARED_QUEUE))
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_shared_queue_before_c_replicas_waits_as_m_m_c_does() -> None:
    utilisations = {1: 0.8, 2: 0.7, 3: 0.8, 4: 0.6, 5: 0.8, 6: 0.7, 7: 0.8, 8: 0.8}
    ratios = []
    for servers, utilisation in utilisations.items():
        requests = queue_trace(servers * utilisation, exponential(servers), seed=servers + 100)
        given = fixed(requests, servers, routing=Routing.SHARED_QUEUE)
        rate, service = rates(given)
        expected = erlang_c(servers, rate * service)
        found = waits(given)
        waiting = [wait for wait in found if wait > 1e-6]
        assert len(waiting) / REQUESTS == pytest.approx(expected, abs=SHARE_ERROR), servers
        # The wait of those who wait is exponential, with this mean.
        mean = service / (servers - rate * service)
        late = fmean(wait > -math.log(0.05) * mean for wait in waiting)
        assert late == pytest.approx(0.05, abs=2 * SHARE_ERROR), servers
        ratios.append(fmean(found) / (expected * mean))
    assert ratios == pytest.approx([1.0] * len(ratios), rel=MEAN_ERROR)
    assert fmean(ratios) == pytest.approx(1.0, rel=TOGETHER_ERROR)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_one_replica_with_equal_requests_waits_as_m_d_1_does(utilisation: float) -> None:
    given = fixed(queue_trace(utilisation, [1.0] * REQUESTS, seed=7))
    rate, service = rates(given)
    expected = rate * service**2 / (2 * (1 - rate * service))
    assert fmean(waits(given)) == pytest.approx(expected, rel=MEAN_ERROR)


def test_requests_spread_at_random_wait_as_in_queues_of_their_own() -> None:
    """Why a Service without a router wants more replicas than M/M/c says."""
    requests = queue_trace(4 * 0.7, exponential(21), seed=22)
    given = fixed(requests, 4, routing=Routing.RANDOM)
    rate, service = rates(given)
    load = rate * service / 4
    assert fmean(waits(given)) == pytest.approx(load * service / (1 - load), rel=MEAN_ERROR)
    shared = fmean(waits(fixed(requests, 4, routing=Routing.SHARED_QUEUE)))
    least = fmean(waits(fixed(requests, 4, routing=Routing.LEAST_LOADED)))
    assert shared < least < fmean(waits(given))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 3.0), (8, 8.0)])
def test_without_room_to_wait_requests_are_rejected_as_erlang_b_says(
    servers: int, load: float
) -> None:
    requests = queue_trace(load, exponential(31), seed=32)
    given = fixed(requests, servers, routing=Routing.SHARED_QUEUE, queue_limit=0)
    rate, service = rates(given)
    rejected = simulate(given).requests.rejected / REQUESTS
    assert rejected == pytest.approx(erlang_b(servers, rate * service), abs=SHARE_ERROR)


@pytest.mark.parametrize("lengths", ["equal", "exponential", "two kinds"])
def test_decoding_shares_the_replica_as_processor_sharing_does(lengths: str) -> None:
    """M/G/1-PS: a request takes its own work over 1 - utilisation, whatever the others are like."""
    rng, now, rows = stream(41, "arrivals"), 0.0, []
    for _ in range(REQUESTS // 2):
        now += rng.expovariate(0.6)
        tokens = {
            "equal": 1000,
            "exponential": round(rng.expovariate(1 / 1000)),
            "two kinds": 100 if rng.random() < 0.9 else 9100,
        }[lengths]
        rows.append((now, 1, 2 + tokens))
    # A step of n sequences takes n thousandths of a second: the replica does a fixed work.
    given = fixed(
        trace(rows),
        replica=ReplicaInput(EngineSpeed(1e12, 1e-12, 0.001), max_num_seqs=100_000),
    )
    world = World(given, lambda _: None)
    world.run()
    work = sum(row[2] - 1 for row in rows) * 0.001
    took = sum(tpot * (row[2] - 1) for tpot, row in zip(world.ledger.tpot, rows, strict=True))
    assert took / work == pytest.approx(1 / (1 - work / now), rel=MEAN_ERROR)
