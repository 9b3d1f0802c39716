"""Queueing formulas against textbook values, each other and their limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.capacity.queueing import (
    UnstableQueueError,
    erlang_b,
    erlang_c,
    wait_mean_seconds,
    wait_percentile_seconds,
)


def erlang_b_by_recursion(servers: int, load: float) -> float:
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


@pytest.mark.parametrize(
    ("servers", "load", "blocked"), [(1, 1, 1 / 2), (2, 1, 1 / 5), (5, 3, 0.1101), (10, 5, 0.0184)]
)
def test_erlang_b_has_its_textbook_values(servers: int, load: float, blocked: float) -> None:
    assert erlang_b(servers, load) == pytest.approx(blocked, abs=5e-5)


@pytest.mark.parametrize(
    ("servers", "load", "waits"), [(1, 0.8, 0.8), (2, 1, 1 / 3), (3, 2, 4 / 9), (10, 8, 0.4092)]
)
def test_erlang_c_has_its_textbook_values(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits, abs=5e-5)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2000), st.floats(1e-3, 5000))
def test_the_shortened_sum_of_erlang_b_is_the_recursion(servers: int, load: float) -> None:
    assert erlang_b(servers, load) == pytest.approx(
        erlang_b_by_recursion(servers, load), rel=1e-9, abs=1e-14
    )


def test_one_exponential_server_waits_as_m_m_1_does() -> None:
    assert wait_mean_seconds(0.5, 1.0) == pytest.approx(0.5 / (1 - 0.5))
    p95 = wait_percentile_seconds(0.5, 1.0, 95)
    assert math.exp(-(1 - 0.5) * p95) * 0.5 == pytest.approx(0.05), "P(W > t) = rho e^-(mu-lambda)t"


def test_equal_services_wait_half_as_long_as_exponential_ones() -> None:
    equal = wait_mean_seconds(0.8, 1.0, service_cv=0.0)
    assert equal == pytest.approx(0.8 / (2 * (1 - 0.8)))
    assert equal == pytest.approx(wait_mean_seconds(0.8, 1.0) / 2)


def test_one_general_server_is_the_formula_of_pollaczek_and_khinchine() -> None:
    rate, service, cv = 0.6, 1.2, 1.7
    busy = rate * service
    expected = rate * service**2 * (1 + cv**2) / (2 * (1 - busy))
    assert wait_mean_seconds(rate, service, 1, cv) == pytest.approx(expected)


def test_a_queue_that_grows_for_ever_is_refused_with_its_limit() -> None:
    with pytest.raises(UnstableQueueError, match=r"finish 2 a second .*Stay below 2 .*6 servers"):
        wait_mean_seconds(2.5, 2.0, servers=4)
    with pytest.raises(UnstableQueueError, match="below 3, so 4 servers are the least"):
        erlang_c(3, 3)


def test_no_servers_and_no_number_are_refused() -> None:
    with pytest.raises(ValueError, match="use at least 1"):
        erlang_b(0, 1)
    with pytest.raises(ValueError, match="not a number from 0"):
        erlang_b(1, math.nan)
    with pytest.raises(ValueError, match="not from 0 to below 100"):
        wait_percentile_seconds(0.1, 1, 100)


QUEUES = st.tuples(st.integers(1, 200), st.floats(0.01, 0.99), st.floats(0.01, 100))


@settings(max_examples=100, deadline=None)
@given(QUEUES, st.floats(0, 3), st.sampled_from([50, 90, 95, 99]))
def test_waiting_grows_with_load_with_spread_and_with_the_percentile(
    queue: tuple[int, float, float], cv: float, percentile: float
) -> None:
    servers, busy, service = queue
    rate = busy * servers / service
    mean = wait_mean_seconds(rate, service, servers, cv)
    late = wait_percentile_seconds(rate, service, percentile, servers, cv)
    most = (1 + 1e-9) * mean + 1e-12 * service
    assert mean >= 0
    assert late >= 0
    assert wait_mean_seconds(rate * 0.9, service, servers, cv) <= most
    assert wait_mean_seconds(rate, service, servers, cv + 0.5) >= (1 - 1e-9) * mean
    assert wait_percentile_seconds(rate, service, percentile + 0.5, servers, cv) >= late
    assert wait_mean_seconds(rate, service, servers + 1, cv) <= most


@settings(max_examples=100, deadline=None)
@given(QUEUES, st.floats(50, 99.9))
def test_the_percentiles_of_m_m_c_are_exact(
    queue: tuple[int, float, float], percentile: float
) -> None:
    servers, busy, service = queue
    rate = busy * servers / service
    late = wait_percentile_seconds(rate, service, percentile, servers)
    waits = erlang_c(servers, rate * service)
    beyond = waits * math.exp(-(servers / service - rate) * late)
    assert beyond == pytest.approx(min(waits, 1 - percentile / 100), rel=1e-6)
