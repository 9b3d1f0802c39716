"""Warm capacity against cold starts, lead times, cooldowns; what finishes while a replica stops."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.capacity.drain import (
    NOTICE_LIMITS,
    DrainWindow,
    earlier,
    finish_share,
    finishing,
    notice_window,
    spot_notice_seconds,
    stop_window,
)
from coldstart.capacity.lengths import Lengths
from coldstart.capacity.warm import (
    Surge,
    WarmCosts,
    WarmDemand,
    best_cooldown,
    break_even_idle_seconds,
    cold_share,
    cooldown_cost,
    cooldown_for_share_seconds,
    largest_surge,
    lead_margin_seconds,
    poisson_surges,
    start_cost_usd,
    warm_choice,
    warm_curve,
    warm_optimum,
)
from coldstart.catalog import load

COSTS = WarmCosts(
    usd_per_node_hour=2.0, replicas_per_node=1, warm_start_seconds=60, cold_start_seconds=180
)
GAPS = st.lists(st.floats(0.1, 10_000), min_size=1, max_size=20)


@pytest.mark.parametrize(("lead", "margin"), [(120, -87), (240, 33)])
def test_the_lead_times_of_seed_004_are_reproduced(lead: int, margin: int) -> None:
    ready = sum((95, 22, 78, 12))
    assert ready == 207
    assert lead_margin_seconds(lead, ready) == margin


def test_a_start_costs_its_node_and_the_seconds_users_wait() -> None:
    assert start_cost_usd(180, 20.0) == pytest.approx(1.0)
    assert start_cost_usd(
        180, 20.0, violated_seconds=180, usd_per_violated_second=0.5
    ) == pytest.approx(91.0)


def test_idling_breaks_even_when_it_has_cost_as_much_as_a_start() -> None:
    start = start_cost_usd(180, 20.0, violated_seconds=180, usd_per_violated_second=0.01)
    idle = break_even_idle_seconds(start, 20.0)
    assert idle * 20.0 / 3600 == pytest.approx(start)
    assert idle > 180
    assert break_even_idle_seconds(start, 0) == math.inf


def test_a_cooldown_shorter_than_a_short_lull_pays_the_start_again() -> None:
    """Seed 004: traffic that dips for half a minute and is back a minute later."""
    lulls = [90.0] * 10
    hasty, patient = (
        cooldown_cost(lulls, seconds, start_usd=1.0, idle_usd_per_hour=20.0)
        for seconds in (30, 300)
    )
    assert (hasty.starts, patient.starts) == (10, 0)
    assert patient.usd < hasty.usd


@settings(max_examples=100, deadline=None)
@given(GAPS, st.floats(0.01, 100), st.floats(0.1, 100), st.floats(0, 20_000))
def test_no_cooldown_is_cheaper_than_the_best_and_break_even_costs_at_most_twice_the_optimum(
    gaps: list[float], start_usd: float, idle: float, other: float
) -> None:
    best = best_cooldown(gaps, start_usd=start_usd, idle_usd_per_hour=idle)
    tried = cooldown_cost(gaps, other, start_usd=start_usd, idle_usd_per_hour=idle)
    assert best.usd <= tried.usd * (1 + 1e-9)
    rule = cooldown_cost(
        gaps,
        break_even_idle_seconds(start_usd, idle),
        start_usd=start_usd,
        idle_usd_per_hour=idle,
    )
    foreseen = sum(min(start_usd, gap * idle / 3600) for gap in gaps)
    assert rule.usd <= 2 * foreseen * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(GAPS, st.floats(0.01, 100), st.floats(0.1, 100), st.floats(1, 10))
def test_dearer_starts_never_shorten_the_cooldown_and_longer_gaps_never_make_it_cheaper(
    gaps: list[float], start_usd: float, idle: float, times: float
) -> None:
    best = best_cooldown(gaps, start_usd=start_usd, idle_usd_per_hour=idle)
    dear = best_cooldown(gaps, start_usd=times * start_usd, idle_usd_per_hour=idle)
    assert dear.cooldown_seconds >= best.cooldown_seconds
    assert dear.starts <= best.starts
    longer = [times * gap for gap in gaps]
    assert best_cooldown(longer, start_usd=start_usd, idle_usd_per_hour=idle).usd >= best.usd - 1e-9


def test_a_cooldown_stays_within_its_bounds_and_its_starts() -> None:
    def best(**bounds: float) -> tuple[float, int]:
        found = best_cooldown(
            [40, 90, 9000],
            start_usd=1.0,
            idle_usd_per_hour=20.0,
            **bounds,  # type: ignore[arg-type]
        )
        return found.cooldown_seconds, found.starts

    assert best() == (90, 1)
    assert best(least_seconds=120) == (120, 1)
    assert best(most_seconds=60) == (40, 2)
    assert best(most_starts=0) == (9000, 0)
    assert best(most_starts=0, most_seconds=600) == (90, 1), "the fewest that is left"


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-5, 1), st.floats(1, 600), st.floats(0.001, 0.5))
def test_the_derived_cooldown_lets_exactly_the_allowed_share_meet_a_start(
    rate: float, start: float, allowed: float
) -> None:
    seconds = cooldown_for_share_seconds(rate, start, allowed)
    assert cold_share(rate, start, seconds) == pytest.approx(allowed, rel=1e-6)
    assert cold_share(rate, start, seconds * 1.1) < allowed


def test_a_share_of_everything_or_nothing_has_no_cooldown() -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        cooldown_for_share_seconds(1, 100, 0)


def test_warm_replicas_take_the_surge_of_seed_004_in_proportion() -> None:
    """100 requests at 5 a replica once an hour: with 1, 3 and 20 warm, 95, 85 and 0 % wait."""
    shares = [
        warm_choice([Surge(20, 24)], COSTS, replicas=warm, nodes=0).violated_seconds_per_hour / 180
        for warm in (1, 3, 20)
    ]
    assert shares == pytest.approx([0.95, 0.85, 0.0])


def test_a_warm_node_shortens_a_start_and_a_warm_replica_saves_it() -> None:
    surge = [Surge(1, 24)]
    bare, node, replica = (
        warm_choice(surge, COSTS, replicas=r, nodes=n).violated_seconds_per_hour
        for r, n in ((0, 0), (0, 1), (1, 0))
    )
    assert (bare, node, replica) == (180, 60, 0)


def demand(
    surges: list[Surge],
    price: float,
    *,
    costs: WarmCosts = COSTS,
    least: int = 0,
    most: int | None = None,
) -> WarmDemand:
    return WarmDemand(
        tuple(surges), costs, price, range(least, (most or largest_surge(surges)) + 1)
    )


def test_dear_seconds_keep_everything_warm_and_cheap_ones_nothing() -> None:
    surges = [Surge(4, 12)]
    assert warm_optimum([demand(surges, 10)], range(5)).models[0].replicas == 4
    assert warm_optimum([demand(surges, 1e-6)], range(5)).idle_usd_per_hour == 0


def test_a_warm_node_is_paid_once_for_all_models_that_may_use_it() -> None:
    rare = [Surge(1, 24)]
    alone, *_ = few = [demand(rare, 1.9 / 120)] * 2
    assert warm_optimum([alone], range(2)).nodes == 0
    shared = warm_optimum(few, range(2))
    assert (shared.nodes, [choice.replicas for choice in shared.models]) == (1, [0, 0])
    assert shared.idle_usd_per_hour == COSTS.usd_per_node_hour
    assert shared.violated_seconds_per_hour == pytest.approx(120)


def test_a_pool_without_room_keeps_the_fewest_nodes() -> None:
    few = [demand([Surge(1, 24)], 1.9 / 120)] * 2
    assert warm_optimum(few, range(2), most_nodes=0).nodes == 0
    with pytest.raises(ValueError, match="needs a model"):
        warm_optimum([], range(2))


def test_a_warm_start_longer_than_a_cold_one_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot take longer"):
        WarmCosts(1, 1, 200, 100)


@pytest.mark.parametrize(("replicas", "per_day"), [(0, 1.0), (1, -1.0), (1, math.nan)])
def test_a_rise_to_nothing_or_a_negative_number_of_times_is_refused(
    replicas: int, per_day: float
) -> None:
    with pytest.raises(ValueError, match="rises a day"):
        Surge(replicas, per_day)


def test_without_requests_nothing_rises_and_no_cooldown_follows() -> None:
    assert poisson_surges(0, 10.0, concurrency=8, max_replicas=50) == ()
    with pytest.raises(ValueError, match="no cooldown follows from 0 requests"):
        cooldown_for_share_seconds(0, 100, 0.05)


SURGES = st.lists(st.builds(Surge, st.integers(1, 12), st.floats(0.1, 200)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(SURGES, st.integers(1, 4), st.floats(0, 1), st.integers(0, 3))
def test_idle_cost_rises_and_violated_seconds_fall_with_warm_capacity(
    surges: list[Surge], per_node: int, price: float, nodes: int
) -> None:
    costs = WarmCosts(2.0, per_node, 60, 180)
    curve = warm_curve(surges, costs, usd_per_violated_second=price, nodes=nodes)
    for less, more in pairwise(curve):
        assert more.idle_usd_per_hour > less.idle_usd_per_hour
        assert more.violated_seconds_per_hour <= less.violated_seconds_per_hour + 1e-9


@settings(max_examples=100, deadline=None)
@given(SURGES, st.integers(1, 4), st.floats(1e-4, 1), st.integers(0, 3), st.integers(0, 14))
def test_no_other_number_of_warm_replicas_is_cheaper_than_the_best(
    surges: list[Surge], per_node: int, price: float, nodes: int, least: int
) -> None:
    most = max(least, largest_surge(surges))
    asked = demand(surges, price, costs=WarmCosts(2, per_node, 60, 180), least=least, most=most)
    best = asked.best_replicas(nodes)
    for count in asked.replicas:
        assert best.usd_per_hour <= asked.choice(count, nodes).usd_per_hour + 1e-9


@settings(max_examples=100, deadline=None)
@given(SURGES, st.integers(1, 4), st.floats(1e-4, 1), st.floats(1, 50))
def test_a_dearer_violation_never_means_fewer_warm_replicas(
    surges: list[Surge], per_node: int, price: float, times: float
) -> None:
    costs, nodes = WarmCosts(2, per_node, 60, 180), range(13)
    cheap, dear = (
        warm_optimum([demand(surges, usd, costs=costs)], nodes) for usd in (price, times * price)
    )
    assert dear.models[0].replicas >= cheap.models[0].replicas
    assert cheap.nodes == dear.nodes == 0, "for one model the replica itself is never worse"


@settings(max_examples=60, deadline=None)
@given(st.lists(SURGES, min_size=1, max_size=3), st.floats(1e-4, 0.2), st.floats(1, 20))
def test_a_dearer_violation_never_means_more_violated_seconds_in_a_shared_pool(
    models: list[list[Surge]], price: float, times: float
) -> None:
    cheap, dear = (
        warm_optimum([demand(surges, usd) for surges in models], range(13))
        for usd in (price, times * price)
    )
    assert dear.violated_seconds_per_hour <= cheap.violated_seconds_per_hour + 1e-9
    assert dear.idle_usd_per_hour >= cheap.idle_usd_per_hour - 1e-9


def test_random_arrivals_ask_for_another_replica_rarely_and_ever_more_rarely() -> None:
    surges = poisson_surges(0.5, 10.0, concurrency=8, max_replicas=50)
    (first, *_) = surges
    assert first.replicas == 2
    assert len(surges) < 10, "levels that are never reached are left out"
    assert all(a.per_day > b.per_day for a, b in pairwise(surges))
    crossings = 86_400 * 0.5 * math.exp(-5) * 5**8 / math.factorial(8)
    assert first.per_day == pytest.approx(crossings)


def test_the_drain_of_seed_004_is_reproduced() -> None:
    requests = {"order-status": 12, "refund-summary": 84, "bulk-claims-reasoning": 170}
    budget = notice_window(120, endpoint_removal_seconds=0, teardown_seconds=20).running_seconds
    assert budget == 100
    assert finishing(requests, budget) == {
        "order-status": True,
        "refund-summary": True,
        "bulk-claims-reasoning": False,
    }


@pytest.mark.parametrize(("cloud", "seconds"), [("aws", 120), ("google", 15), ("azure", 30)])
def test_every_cloud_has_its_own_notice(cloud: str, seconds: int) -> None:
    assert spot_notice_seconds(cloud, load()) == seconds
    assert cloud in NOTICE_LIMITS


def test_a_notice_shorter_than_the_teardown_leaves_nothing() -> None:
    assert notice_window(15, 15, 15) == DrainWindow(0, 0)
    assert earlier(stop_window(15, 60), notice_window(30, 15, 15)) == DrainWindow(15, 0)


def test_running_requests_have_the_time_of_the_endpoints_removal_too() -> None:
    assert stop_window(15, 60) == DrainWindow(75, 60)


def test_equal_requests_are_caught_in_the_middle() -> None:
    """What is left of requests of 10 s is anything from 0 to 10 s: in 5 s half of them finish."""
    assert finish_share(Lengths(10, 10), 5) == pytest.approx(0.5)
    assert finish_share(Lengths(10, 10), 10) == 1


def test_of_very_unequal_requests_the_running_ones_are_mostly_the_long_ones() -> None:
    unequal = Lengths(10, 35)
    assert finish_share(unequal, 60) < unequal.share_below(60) - 0.05


@settings(max_examples=100, deadline=None)
@given(st.floats(0.1, 1000), st.floats(1, 3.5), st.floats(0, 5000), st.floats(0, 5000))
def test_more_time_never_lets_fewer_requests_finish(
    mean: float, ratio: float, window: float, more: float
) -> None:
    durations = Lengths(mean, mean * ratio)
    share = finish_share(durations, window)
    assert 0 <= share <= 1 + 1e-9
    assert finish_share(durations, window + more) >= share - 1e-9
