"""Break-even: the articles' worked figures, the closed forms against a simulation, and bounds."""

from __future__ import annotations

import itertools
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.capacity.breakeven import (
    Case,
    Costs,
    GpuBySecond,
    costs,
    curve,
    sensitivity,
)
from coldstart.capacity.warm import start_cost_usd
from coldstart.catalog import load

LENGTHS = {"short": 30, "medium": 220, "long": 1200}
"""Output tokens of the article on gpt-oss-120b; it never names the input tokens."""
SAID_REQUESTS_PER_SECOND = {"short": (17.5, 18.5), "medium": (2.5, 3.5), "long": (0.0, 1.0)}
"""What its "~18", "~3" and "<1" can be before rounding."""
SAID_TOKENS_PER_SECOND = 154
INPUT_TOKENS = 80


def mi300x(output_tokens: float, input_tokens: float = INPUT_TOKENS) -> Case:
    """The article's case, its prices taken from the catalog."""
    catalog = load()
    tokens = catalog.token_prices[("digitalocean", "openai/gpt-oss-120b")]
    return Case(
        usd_per_hour=catalog.rental_price("digitalocean/mi300x-2026-06").usd_per_hour,
        input_usd_per_million=tokens.input_usd_per_million,
        output_usd_per_million=tokens.output_usd_per_million,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def input_tokens_for(requests_per_second: float, output_tokens: float) -> float:
    """The input length at which the article's formula gives this break-even."""
    case = mi300x(output_tokens)
    request_usd = case.usd_per_hour / 3600 / requests_per_second
    output_usd = output_tokens * case.output_usd_per_million / 1e6
    return (request_usd - output_usd) / case.input_usd_per_million * 1e6


def test_the_catalog_has_the_prices_of_the_mi300x_article() -> None:
    case = mi300x(30)
    assert case.usd_per_hour == 1.88
    assert (case.input_usd_per_million, case.output_usd_per_million) == (0.10, 0.70)


def test_about_18_requests_a_second_with_30_output_tokens_need_about_80_input_tokens() -> None:
    assert input_tokens_for(18, 30) == pytest.approx(80.1, abs=0.1)
    assert input_tokens_for(18.5, 30) == pytest.approx(72.3, abs=0.1)
    assert input_tokens_for(17.5, 30) == pytest.approx(88.4, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "exact"), [("short", 18.0077), ("medium", 3.2236), ("long", 0.6158)]
)
def test_the_articles_crossovers_follow_from_80_input_tokens(kind: str, exact: float) -> None:
    found = mi300x(LENGTHS[kind]).break_even_requests_per_second
    low, high = SAID_REQUESTS_PER_SECOND[kind]
    assert low <= found < high
    assert found == pytest.approx(exact, abs=5e-5)


def test_the_page_on_cost_shows_these_crossovers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cost.md").read_text(encoding="utf-8")
    for tokens in LENGTHS.values():
        found = mi300x(tokens).break_even_requests_per_second
        assert re.search(rf"^\| {tokens} \| \S+ \| {found:.2f} \|$", text, re.M)


def test_the_articles_swing_of_25_does_not_follow_from_its_own_crossovers() -> None:
    """It is 29 at the 80 input tokens that its ~18 needs, and 28 at the very least."""
    short, long = mi300x(30), mi300x(1200)
    swing = short.break_even_requests_per_second / long.break_even_requests_per_second
    assert swing == pytest.approx(29.2, abs=0.05)
    most = mi300x(1200, input_tokens=0).break_even_requests_per_second
    assert SAID_REQUESTS_PER_SECOND["short"][0] / most > 28


def test_a_swing_of_25_would_need_131_input_tokens_and_a_first_crossover_of_15() -> None:
    short, long = mi300x(30, 131.25), mi300x(1200, 131.25)
    assert short.break_even_requests_per_second == pytest.approx(15.3, abs=0.05)
    assert short.request_usd * 25 == pytest.approx(long.request_usd)


@pytest.mark.parametrize(("kind", "share"), [("short", 3.51), ("medium", 4.61), ("long", 4.80)])
def test_the_articles_gpu_pays_only_when_it_answers_several_requests_at_once(
    kind: str, share: float
) -> None:
    """Its 154 tokens a second are those of one stream: 3.5 to 4.8 times that is the break-even."""
    case = mi300x(LENGTHS[kind])
    one_stream = replace(
        case, capacity_requests_per_second=SAID_TOKENS_PER_SECOND / case.output_tokens
    )
    assert one_stream.break_even_utilisation == pytest.approx(share, abs=0.005)


def test_the_61_second_cold_start_of_the_mi300x_costs_three_cents() -> None:
    assert start_cost_usd(61, 1.88) == pytest.approx(0.0319, abs=5e-5)
    assert start_cost_usd(3600, 1.99) == 1.99


def test_a_million_tokens_cost_the_same_in_both_ways_at_the_break_even_utilisation() -> None:
    case = replace(mi300x(220), capacity_requests_per_second=10.0)
    share = case.break_even_utilisation
    assert share is not None
    assert share == pytest.approx(0.32236, abs=5e-5)
    assert case.dedicated_usd_per_million_tokens(share) == pytest.approx(
        case.serverless_usd_per_million_tokens
    )
    assert replace(case, utilisation=share).cost_ratio == pytest.approx(1)
    assert case.serverless_usd_per_million_tokens == pytest.approx((80 * 0.10 + 220 * 0.70) / 300)


def test_without_a_capacity_nothing_is_said_of_utilisation() -> None:
    case = mi300x(220)
    assert case.break_even_utilisation is None
    assert case.dedicated_usd_per_million_tokens(0.5) is None
    assert replace(case, utilisation=0.5).cost_ratio is None


often = settings(max_examples=100, deadline=None)
POSITIVE = st.floats(1e-3, 1e3)
CASES = st.builds(
    Case,
    usd_per_hour=POSITIVE,
    input_usd_per_million=POSITIVE,
    output_usd_per_million=POSITIVE,
    input_tokens=st.floats(0, 1e5),
    output_tokens=st.floats(1, 1e5),
    capacity_requests_per_second=POSITIVE,
    utilisation=st.floats(0.01, 1),
)


@often
@given(CASES, st.floats(1.01, 10))
def test_a_dearer_gpu_moves_the_line_up_and_longer_answers_move_it_down(
    case: Case, factor: float
) -> None:
    line = case.break_even_requests_per_second
    dearer = replace(case, usd_per_hour=case.usd_per_hour * factor)
    longer = replace(case, output_tokens=case.output_tokens * factor)
    asked_more = replace(case, input_tokens=case.input_tokens * factor + 1)
    assert dearer.break_even_requests_per_second > line
    assert longer.break_even_requests_per_second < line
    assert asked_more.break_even_requests_per_second < line


@often
@given(CASES, st.floats(0.5, 2))
def test_below_the_line_tokens_are_cheaper_and_above_it_the_replica(
    case: Case, factor: float
) -> None:
    rate = case.break_even_requests_per_second * factor
    alone = replace(case, capacity_requests_per_second=None)
    found = costs(alone, rate)
    if abs(factor - 1) > 1e-9:
        assert found.cheapest == ("dedicated" if factor > 1 else "by token")


@often
@given(CASES)
def test_a_replica_that_cannot_break_even_full_never_does_in_any_number(case: Case) -> None:
    share = case.break_even_utilisation
    assert share is not None
    for rate in (0.1, 0.99, 1.0, 2.5, 40.0):
        found = costs(case, rate * (case.capacity_requests_per_second or 0))
        if share > 1.0000001:
            assert found.dedicated_usd_per_hour > found.by_token_usd_per_hour


@often
@given(CASES, st.floats(0.01, 0.99))
def test_more_use_makes_a_token_cheaper(case: Case, utilisation: float) -> None:
    idle = case.dedicated_usd_per_million_tokens(utilisation)
    full = case.dedicated_usd_per_million_tokens(1.0)
    assert idle is not None
    assert full is not None
    assert idle > full


def test_output_length_moves_the_line_most_when_answers_are_long() -> None:
    first, second, *_ = sensitivity(mi300x(1200))
    assert first.span == pytest.approx(0.412, abs=0.001)
    assert {first.parameter, second.parameter} == {"output_tokens", "output_usd_per_million"}


def test_the_gpu_price_moves_the_line_most_when_answers_are_short() -> None:
    first, *rest = sensitivity(mi300x(30))
    assert first.parameter == "usd_per_hour"
    assert first.span == pytest.approx(0.4)
    assert first.low == pytest.approx(0.8 * 18.0077, abs=1e-3)
    assert first.high == pytest.approx(1.2 * 18.0077, abs=1e-3)
    assert rest[0].span == pytest.approx(0.296, abs=0.001)


def test_utilisation_moves_the_ratio_of_costs_more_than_anything_else() -> None:
    case = replace(mi300x(220), capacity_requests_per_second=10.0, utilisation=0.5)
    first, *rest = sensitivity(case)
    assert first.parameter == "utilisation"
    assert first.line == case.cost_ratio
    assert first.span == pytest.approx(1 / 0.8 - 1 / 1.2)
    assert {swing.parameter for swing in rest} >= {"usd_per_hour", "capacity_requests_per_second"}


def test_a_utilisation_cannot_be_raised_above_all_of_it() -> None:
    case = replace(mi300x(220), capacity_requests_per_second=10.0, utilisation=0.9)
    swing = next(s for s in sensitivity(case) if s.parameter == "utilisation")
    assert swing.high == replace(case, utilisation=1.0).cost_ratio


@often
@given(CASES, st.floats(0.01, 0.5))
def test_what_moves_the_line_most_comes_first(case: Case, change: float) -> None:
    spans = [swing.span for swing in sensitivity(case, change)]
    assert all(a >= b - 1e-8 for a, b in itertools.pairwise(spans))


def test_the_curve_crosses_where_the_line_is() -> None:
    case = mi300x(220)
    points = curve(case)
    middle = points[19]
    assert len(points) == 40
    assert middle.requests_per_second == pytest.approx(case.break_even_requests_per_second)
    assert middle.by_token_usd_per_hour == pytest.approx(middle.dedicated_usd_per_hour)
    assert {p.cheapest for p in points[:19]} == {"by token"}
    assert {p.cheapest for p in points[20:]} == {"dedicated"}
    assert middle.by_second_usd_per_hour is None


def test_a_second_replica_is_paid_for_when_the_first_is_full() -> None:
    case = replace(mi300x(220), capacity_requests_per_second=4.0)
    low, high = curve(case, rates=(4.0, 4.1))
    assert (low.replicas, high.replicas) == (1, 2)
    assert high.dedicated_usd_per_hour == 2 * low.dedicated_usd_per_hour


L4 = GpuBySecond(usd_per_second=0.000222, request_seconds=4, start_seconds=30, idle_seconds=60)


def simulated(gpu: GpuBySecond, rate: float, seed: int, arrivals: int) -> tuple[float, float]:
    """Cold starts an hour and billed share of the time, request by request."""
    chance = random.Random(seed)  # noqa: S311 (a repeatable sequence)
    now, until, starts, billed = 0.0, -1.0, 0, 0.0
    began = answers_from = 0.0
    for _ in range(arrivals):
        now += chance.expovariate(rate)
        if now > until:
            if starts:
                billed += until - (began if gpu.bills_start else answers_from)
                billed += gpu.rounding_seconds
            starts, began, answers_from = starts + 1, now, now + gpu.start_seconds
            until = answers_from
        until = max(until, max(now, answers_from) + gpu.request_seconds + gpu.idle_seconds)
    return starts * 3600 / now, billed / now


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.03])
@pytest.mark.parametrize("bills_start", [True, False])
def test_starts_and_billed_seconds_are_those_of_a_simulation(
    rate: float, bills_start: bool
) -> None:
    """Within 3 %, over 200,000 requests."""
    gpu = replace(L4, bills_start=bills_start, rounding_seconds=1)
    starts, share = simulated(gpu, rate, seed=7, arrivals=200_000)
    assert gpu.starts_per_hour(rate) == pytest.approx(starts, rel=0.03)
    assert gpu.billed_share(rate) == pytest.approx(share, rel=0.03)


def test_a_lone_request_is_billed_with_its_start_and_its_idle_time() -> None:
    rate = 1e-7
    assert L4.usd_per_hour(rate) == pytest.approx(rate * 3600 * (30 + 4 + 60) * 0.000222, rel=1e-4)


def test_rounding_up_adds_its_step_to_each_start() -> None:
    rounded = replace(L4, rounding_seconds=10)
    more = rounded.usd_per_hour(0.001) - L4.usd_per_hour(0.001)
    assert more == pytest.approx(10 * L4.starts_per_hour(0.001) * 0.000222)


def test_a_worker_that_is_never_idle_is_billed_every_second() -> None:
    assert L4.billed_share(5.0) == pytest.approx(1)
    assert L4.starts_per_hour(5.0) == pytest.approx(0, abs=1e-9)
    assert L4.usd_per_hour(1e6) == pytest.approx(0.000222 * 3600)


def test_traffic_above_one_workers_capacity_keeps_several_busy() -> None:
    assert L4.usd_per_hour(10.0, capacity_requests_per_second=4.0) == pytest.approx(
        2.5 * 0.000222 * 3600
    )


GPUS = st.builds(
    GpuBySecond,
    usd_per_second=st.floats(1e-5, 1e-2),
    request_seconds=st.floats(0.1, 100),
    start_seconds=st.floats(0, 600),
    idle_seconds=st.floats(0, 600),
    rounding_seconds=st.sampled_from([0.0, 1.0]),
)


@often
@given(GPUS, st.floats(1e-6, 10), st.floats(1, 600))
def test_a_longer_start_or_a_longer_idle_time_is_never_cheaper(
    gpu: GpuBySecond, rate: float, more: float
) -> None:
    plain = replace(gpu, rounding_seconds=0.0)
    now = plain.usd_per_hour(rate) * (1 - 1e-12)
    assert replace(plain, start_seconds=gpu.start_seconds + more).usd_per_hour(rate) >= now
    assert replace(plain, idle_seconds=gpu.idle_seconds + more).usd_per_hour(rate) >= now


@often
@given(GPUS, st.floats(0.01, 0.95))
def test_the_replica_is_cheaper_above_its_line_against_a_serverless_gpu(
    gpu: GpuBySecond, share: float
) -> None:
    usd_per_hour = gpu.usd_per_second * 3600 * share
    rate = gpu.break_even_requests_per_second(usd_per_hour)
    assert rate is not None
    assert gpu.usd_per_hour(rate) == pytest.approx(usd_per_hour, rel=1e-6)
    assert gpu.usd_per_hour(rate / 2) < usd_per_hour


def test_a_serverless_gpu_that_costs_no_more_by_the_hour_never_loses() -> None:
    assert L4.break_even_requests_per_second(0.000222 * 3600) is None
    assert L4.break_even_requests_per_second(5.0) is None
    assert L4.break_even_requests_per_second(0.79) is not None


def test_an_end_of_capacity_can_come_before_the_idle_time_fills() -> None:
    quick = GpuBySecond(usd_per_second=0.001, request_seconds=0.1)
    assert quick.break_even_requests_per_second(1.8, 1.0) == pytest.approx(0.5)


def test_three_ways_are_compared_at_one_rate() -> None:
    case = replace(mi300x(220), capacity_requests_per_second=10.0)
    gpu = GpuBySecond(usd_per_second=0.001, request_seconds=2, start_seconds=61, idle_seconds=5)
    found = costs(case, 0.001, gpu)
    assert isinstance(found, Costs)
    assert found.by_second_usd_per_hour == gpu.usd_per_hour(0.001, 10.0)
    assert found.cheapest == "by token"
    assert costs(case, 9.0, gpu).cheapest == "dedicated"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("usd_per_hour", 0, "usd_per_hour 0 must be a number above 0"),
        ("usd_per_hour", -1.5, "usd_per_hour -1.5 must be a number above 0"),
        ("output_usd_per_million", math.inf, "output_usd_per_million inf must be a number above 0"),
        ("output_tokens", 0, "output_tokens 0 must be a number above 0"),
        ("input_tokens", -1, "input_tokens -1 must be 0 or more"),
        ("input_tokens", math.nan, "input_tokens nan must be 0 or more"),
        ("capacity_requests_per_second", 0, "capacity_requests_per_second 0 must be"),
        ("utilisation", 1.5, "utilisation 1.5 must be above 0 and at most 1"),
        ("utilisation", 0, "utilisation 0 must be above 0 and at most 1"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_by_name(field: str, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(mi300x(220), **{field: value})


def test_a_rate_of_nothing_and_a_change_of_everything_are_refused() -> None:
    with pytest.raises(ValueError, match="requests_per_second 0 must be a number above 0"):
        costs(mi300x(220), 0)
    with pytest.raises(ValueError, match="change 1 must be above 0 and below 1"):
        sensitivity(mi300x(220), 1)
    with pytest.raises(ValueError, match="idle_seconds -1 must be 0 or more"):
        replace(L4, idle_seconds=-1)


@given(st.integers(1, 1000), st.floats(0.001, 1000))
def test_a_multiple_of_the_capacity_asks_for_no_replica_more(count: int, capacity: float) -> None:
    case = Case(1.0, 1.0, 1.0, 100, 100, capacity)
    assert costs(case, count * capacity).replicas == count
    assert costs(case, count * capacity * (1 + 1e-9)).replicas == count + 1
