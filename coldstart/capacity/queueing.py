"""Waiting in a queue, in closed form.

Erlang's formulas and M/D/1 are in every textbook (Gross and others, Fundamentals of Queueing
Theory); M/G/c is the approximation of Allen and Cunneen (Allen, Probability, Statistics, and
Queueing Theory, 1990): the wait of M/M/c times half the sum of the squared coefficients of
variation.
"""

from __future__ import annotations

import math

NEGLIGIBLE = 1e-15


class UnstableQueueError(ValueError):
    """More arrives than is finished; the message says the limit."""


def erlang_b(servers: int, load: float) -> float:
    """The share of arrivals that find all `servers` busy where nobody waits; `load` in erlangs."""
    _check(servers, load)
    if load == 0:
        return 0.0
    total = term = 1.0
    for busy in range(servers, 0, -1):
        term *= busy / load
        total += term
        # Terms rise while busy > load and fall below it; either way what is left may not matter.
        if total * NEGLIGIBLE > 1 or (busy < load and term < total * NEGLIGIBLE):
            break
    return 1 / total


def erlang_c(servers: int, load: float) -> float:
    """The share of arrivals that must wait in an M/M/c queue; `UnstableQueueError` at its limit."""
    _check(servers, load)
    if load >= servers:
        raise UnstableQueueError(
            f"a load of {load:.3g} erlangs keeps {servers} servers busy for ever and the queue "
            f"grows; it must stay below {servers}, so {math.floor(load) + 1} servers are the least"
        )
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def wait_mean_seconds(
    rate: float, service_seconds: float, servers: int = 1, service_cv: float = 1.0
) -> float:
    """Mean wait before service in M/G/c: exact for one server and for `service_cv` 1.

    `service_cv` is the coefficient of variation of the service time: 1 is M/M/c, 0 M/D/c.
    """
    waits = _waits(rate, service_seconds, servers)
    return waits * _wait_of_who_waits(rate, service_seconds, servers, service_cv)


def wait_percentile_seconds(
    rate: float,
    service_seconds: float,
    percentile: float,
    servers: int = 1,
    service_cv: float = 1.0,
) -> float:
    """The wait that `percentile` per cent of arrivals stay below; exact for M/M/c.

    Who waits is taken to wait exponentially long, with the mean that `wait_mean_seconds` gives.
    """
    if not 0 <= percentile < 100:
        raise ValueError(f"a percentile of {percentile:g} is not from 0 to below 100")
    waits = _waits(rate, service_seconds, servers)
    late = 1 - percentile / 100
    if waits <= late:
        return 0.0
    mean = _wait_of_who_waits(rate, service_seconds, servers, service_cv)
    return mean * math.log(waits / late)


def _wait_of_who_waits(rate: float, service: float, servers: int, cv: float) -> float:
    return service / (servers - rate * service) * (1 + cv**2) / 2


def _waits(rate: float, service_seconds: float, servers: int) -> float:
    try:
        return erlang_c(servers, rate * service_seconds)
    except UnstableQueueError:
        limit = servers / service_seconds
        raise UnstableQueueError(
            f"{rate:.3g} arrivals a second reach {servers} servers that finish {limit:.3g} a "
            f"second ({service_seconds:.3g} s each): the queue grows without end. Stay below "
            f"{limit:.3g} a second, or use {math.floor(rate * service_seconds) + 1} servers"
        ) from None


def _check(servers: int, load: float) -> None:
    if servers < 1:
        raise ValueError(f"{servers} servers serve nobody; use at least 1")
    if load < 0 or not math.isfinite(load):
        raise ValueError(f"a load of {load} erlangs is not a number from 0")
