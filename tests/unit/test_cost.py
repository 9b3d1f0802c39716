"""The bill: idle, typical and maximum, how nodes may be bought, what tokens cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import A100, BIG, L40S, SMALL, C, planned, refused

from coldstart.catalog import load
from coldstart.planning import CostPlan, Decision, StackPlan
from coldstart.planning.cost import cost_plan
from coldstart.report import summary

PRICES = (f"{C}prices",)
TRAFFIC = {
    "requestsPerSecond": 4,
    "promptTokens": {"mean": 1000},
    "outputTokens": {"mean": 250},
}


often = settings(max_examples=40, deadline=None)


@cache
def production() -> StackPlan:
    return planned({(*BIG, "traffic"): TRAFFIC, (*SMALL, "traffic"): TRAFFIC})


def bill(plan: StackPlan, replicas: Mapping[str, float] | None = None) -> CostPlan:
    return cost_plan(
        plan.spec, plan.network, plan.cluster, plan.pools, plan.models, load(), replicas
    )


def test_idle_and_maximum_are_what_the_readme_quotes() -> None:
    cost = planned().cost
    assert f"{cost.idle_usd_per_hour:.2f}" == "26.69"
    assert f"{cost.maximum_usd_per_hour:.2f}" == "103.80"
    dev = planned(stack="eks-dev").cost
    assert (f"{dev.idle_usd_per_hour:.2f}", f"{dev.maximum_usd_per_hour:.2f}") == ("0.65", "2.27")


def test_without_mean_replicas_no_typical_cost_is_made_up() -> None:
    cost = bill(production())
    assert cost.typical_usd_per_hour is None
    assert cost.typical_range is None
    assert cost.tokens == ()
    assert cost.untold == ("qwen3-32b", "qwen3-8b")


def test_one_model_without_mean_replicas_leaves_the_stack_without_a_typical_cost() -> None:
    cost = bill(production(), {"qwen3-8b": 3})
    assert cost.typical_usd_per_hour is None
    assert cost.untold == ("qwen3-32b",)
    by_name = {line.name: line.typical_usd_per_hour for line in cost.lines}
    assert by_name["pool l40s: 2 to 8 x g6e.xlarge"] == pytest.approx(4 * 1.861)
    assert by_name["pool a100: 1 to 4 x p4d.24xlarge"] is None
    assert [tokens.model for tokens in cost.tokens] == ["qwen3-8b"]


def test_the_typical_cost_is_that_of_the_nodes_the_mean_replicas_need() -> None:
    """Two replicas of 4 GPUs fit one node of 8, three need two; the small pool has a warm node."""
    plan = production()
    assert plan.models["qwen3-32b"].fit.tensor_parallel == 4
    idle = bill(plan).idle_usd_per_hour
    same = bill(plan, {"qwen3-32b": 2, "qwen3-8b": 1}).typical_usd_per_hour
    more = bill(plan, {"qwen3-32b": 2.1, "qwen3-8b": 2}).typical_usd_per_hour
    assert same == pytest.approx(idle)
    assert more == pytest.approx(idle + 21.957642 + 1.861, abs=0.03)


def test_another_stacks_traffic_is_not_known_to_the_one_that_makes_the_cluster() -> None:
    cost = planned(stack="eks-prod-infra").cost
    assert cost.typical_usd_per_hour is None
    assert cost.untold == ()


@often
@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_idle_typical_and_maximum_are_ordered(big: float, small: float) -> None:
    cost = bill(production(), {"qwen3-32b": big, "qwen3-8b": small})
    typical = cost.typical_usd_per_hour
    assert typical is not None
    assert cost.idle_usd_per_hour <= typical <= cost.maximum_usd_per_hour
    for line in cost.lines:
        assert line.typical_usd_per_hour is not None
        assert line.idle_usd_per_hour <= line.typical_usd_per_hour <= line.maximum_usd_per_hour


@often
@given(st.floats(0, 12), st.floats(0, 12), st.floats(0, 12))
def test_more_replicas_never_cost_less(big: float, small: float, more: float) -> None:
    now = bill(production(), {"qwen3-32b": big, "qwen3-8b": small}).typical_usd_per_hour
    then = bill(production(), {"qwen3-32b": big + more, "qwen3-8b": small}).typical_usd_per_hour
    assert now is not None
    assert then is not None
    assert now <= then


@often
@given(st.integers(0, 8), st.integers(0, 8), st.floats(0, 8))
def test_cost_grows_with_warm_capacity(warm: int, other: int, replicas: float) -> None:
    plan = production()

    def with_warm(nodes: int) -> CostPlan:
        pools = {**plan.pools, "l40s": replace(plan.pools["l40s"], warm=Decision(nodes, "a test"))}
        asked = {"qwen3-32b": 1.0, "qwen3-8b": replicas}
        return bill(replace(plan, pools=pools), asked)

    few, many = with_warm(min(warm, other)), with_warm(max(warm, other))
    assert few.idle_usd_per_hour <= many.idle_usd_per_hour
    assert few.typical_usd_per_hour is not None
    assert many.typical_usd_per_hour is not None
    assert few.typical_usd_per_hour <= many.typical_usd_per_hour
    assert few.maximum_usd_per_hour == many.maximum_usd_per_hour


def test_warm_nodes_beside_busy_ones_stay_within_the_limit_of_the_pool() -> None:
    plan = production()
    pools = {**plan.pools, "l40s": replace(plan.pools["l40s"], warm=Decision(8, "a test"))}
    cost = bill(replace(plan, pools=pools), {"qwen3-32b": 1, "qwen3-8b": 6})
    assert [(line.idle_nodes, line.typical_nodes) for line in cost.mix] == [(1, 1), (8, 8)]


def test_replicas_stay_within_the_bounds_of_their_scaling() -> None:
    few, many = (
        bill(production(), {"qwen3-32b": 0, "qwen3-8b": 0}),
        bill(production(), {"qwen3-32b": 99, "qwen3-8b": 99}),
    )
    assert [line.typical_nodes for line in few.mix] == [1, 2]
    assert [line.typical_nodes for line in many.mix] == [3, 7]


def test_a_million_tokens_carry_their_share_of_the_pool_and_nothing_else() -> None:
    cost = bill(production(), {"qwen3-32b": 1, "qwen3-8b": 3})
    big, small = cost.tokens
    pool = {line.name.partition(":")[0]: line.typical_usd_per_hour for line in cost.lines}
    usd = (pool["pool l40s"] or 0) + (pool["volumes of l40s"] or 0)
    assert (small.model, small.replicas) == ("qwen3-8b", 3)
    assert small.usd_per_hour == pytest.approx(usd)
    assert small.usd_per_million_tokens == pytest.approx(usd / (4 * 1250 * 3600) * 1e6)
    assert big.usd_per_million_tokens > small.usd_per_million_tokens


def test_models_of_one_pool_share_its_cost_by_their_gpus() -> None:
    twin = {
        "source": "hf://Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218",
        "nodePool": "l40s",
        "scaling": {"min": 1, "max": 2},
        "traffic": TRAFFIC,
    }
    plan = planned({(*SMALL, "traffic"): TRAFFIC, (f"{C}models", "twin"): twin})
    cost = bill(plan, {"qwen3-32b": 1, "qwen3-8b": 3, "twin": 1})
    usd = {tokens.model: tokens.usd_per_hour for tokens in cost.tokens}
    assert usd["qwen3-8b"] == pytest.approx(3 * usd["twin"])
    assert set(usd) == {"qwen3-8b", "twin"}


def test_a_model_that_sleeps_has_no_price_per_token() -> None:
    plan = planned({(*SMALL, "traffic"): TRAFFIC, (*SMALL, "scaling", "min"): 0})
    assert bill(plan, {"qwen3-32b": 1, "qwen3-8b": 0}).tokens == ()


def test_a_pool_costs_from_its_cheapest_to_its_dearest_way_to_buy() -> None:
    a100, l40s = production().cost.mix
    assert (a100.low_usd_per_hour, a100.high_usd_per_hour) == (13.24, 21.957642)
    assert (l40s.low_usd_per_hour, l40s.high_usd_per_hour) == (0.9199, 1.861)
    assert a100.expected_usd_per_hour is None
    assert "reserved as on demand" in a100.assumed[0]
    assert a100.assumed[1] == "spot as quoted on 2026-07-09"


def test_the_range_of_the_stack_spans_what_its_pools_span() -> None:
    cost = production().cost
    saved = (21.957642 - 13.24) + 2 * (1.861 - 0.9199)
    assert cost.idle_range.high_usd_per_hour == pytest.approx(cost.idle_usd_per_hour)
    assert cost.idle_range.low_usd_per_hour == pytest.approx(cost.idle_usd_per_hour - saved)
    assert cost.maximum_range.low_usd_per_hour == pytest.approx(
        cost.maximum_usd_per_hour - 4 * (21.957642 - 13.24) - 8 * (1.861 - 0.9199)
    )


def test_a_pool_that_buys_on_demand_alone_has_one_price() -> None:
    cost = planned({(*L40S, "capacity"): ["on-demand"]}).cost
    line = next(line for line in cost.mix if line.pool == "l40s")
    assert line.low_usd_per_hour == line.high_usd_per_hour == line.expected_usd_per_hour == 1.861
    assert line.assumed == ()


def test_spot_without_a_price_counts_as_on_demand_and_says_so() -> None:
    plan = planned({(f"{C}nodePools", "l4", "instanceTypes"): ["g6.2xlarge"]}, stack="eks-dev")
    (line,) = plan.cost.mix
    assert line.capacity == ("spot", "on-demand")
    assert line.low_usd_per_hour == line.high_usd_per_hour == line.list_usd_per_hour
    assert line.assumed == ("spot as on demand (no spot price of g6.2xlarge in us-west-2)",)


def test_a_pool_without_an_on_demand_price_has_no_mix() -> None:
    cost = planned({("aws:region",): "eu-north-1"}).cost
    assert cost.mix == ()
    assert cost.typical_usd_per_hour is None


OWN: Mapping[Any, Any] = {
    PRICES: {
        "instances": {"p4d.24xlarge": {"reserved": 11.5, "spot": 9.0, "on-demand": 20.0}},
        "shares": {"a100": {"reserved": 50, "spot": 30}, "l40s": {"spot": 100}},
    }
}


def test_your_own_prices_take_the_place_of_list_prices() -> None:
    cost = planned(OWN).cost
    assert cost.idle_usd_per_hour == pytest.approx(planned().cost.idle_usd_per_hour - 1.957642)
    a100 = cost.mix[0]
    assert (a100.low_usd_per_hour, a100.high_usd_per_hour) == (9.0, 20.0)
    assert a100.assumed == ()
    line = next(line for line in cost.lines if line.name.startswith("pool a100"))
    assert line.source == "prices of the stack file"


def test_shares_make_an_expected_price_and_what_is_missing_is_on_demand() -> None:
    cost = planned(OWN).cost
    a100, l40s = cost.mix
    assert a100.expected_usd_per_hour == pytest.approx(0.5 * 11.5 + 0.3 * 9.0 + 0.2 * 20.0)
    assert l40s.expected_usd_per_hour == pytest.approx(0.9199)
    expected = cost.idle_range.expected_usd_per_hour
    assert expected is not None
    assert expected == pytest.approx(cost.idle_usd_per_hour - (20.0 - 12.45) - 2 * (1.861 - 0.9199))
    assert cost.idle_range.low_usd_per_hour <= expected <= cost.idle_range.high_usd_per_hour


def test_shares_of_one_pool_leave_the_stack_without_an_expected_cost() -> None:
    cost = planned({PRICES: {"shares": {"l40s": {"spot": 60}}}}).cost
    assert cost.mix[1].expected_usd_per_hour == pytest.approx(0.6 * 0.9199 + 0.4 * 1.861)
    assert cost.idle_range.expected_usd_per_hour is None


PERCENT = st.floats(0.5, 49)


@often
@given(PERCENT, PERCENT, st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.01, 100))
def test_an_expected_price_lies_between_the_cheapest_and_the_dearest(
    reserved: float, spot: float, a: float, b: float, c: float
) -> None:
    prices = {
        "instances": {"p4d.24xlarge": {"reserved": a, "spot": b, "on-demand": c}},
        "shares": {"a100": {"reserved": reserved, "spot": spot}},
    }
    line = planned({PRICES: prices}).cost.mix[0]
    assert line.expected_usd_per_hour is not None
    assert line.low_usd_per_hour - 1e-9 <= line.expected_usd_per_hour
    assert line.expected_usd_per_hour <= line.high_usd_per_hour + 1e-9


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (
            {"instances": {"p4d.24xlrge": {"spot": 9}}},
            'prices.instances.p4d.24xlrge: is not a known instance type; did you mean "p4d.24xlar',
        ),
        (
            {"instances": {"p4d.24xlarge": {"spot": 0}}},
            "prices.instances.p4d.24xlarge.spot: 0: must be greater than 0",
        ),
        (
            {"instances": {"p4d.24xlarge": {"on-demand": -2}}},
            "prices.instances.p4d.24xlarge.on-demand: -2: must be greater than 0",
        ),
        (
            {"instances": {"p4d.24xlarge": {"spto": 9}}},
            '"spto" is not one of reserved, spot, on-demand; did you mean "spot"?',
        ),
        (
            {"instances": {"p4d.24xlarge": {"spot": True}}},
            "prices.instances.p4d.24xlarge.spot: true: must be a number",
        ),
        (
            {"shares": {"a10": {"spot": 9}}},
            'prices.shares.a10: is not a pool of this stack; did you mean "a100"?',
        ),
        (
            {"shares": {"l40s": {"reserved": 50}}},
            "prices.shares.l40s.reserved: the pool buys spot and on-demand, never reserved",
        ),
        (
            {"shares": {"a100": {"reserved": 70, "spot": 50}}},
            "prices.shares.a100: adds up to 120 percent; 100 are all nodes",
        ),
        (
            {"shares": {"l40s": {"spot": 40, "on-demand": 20}}},
            "prices.shares.l40s: adds up to 60 percent; say how the other 40 are bought",
        ),
    ],
)
def test_a_price_that_cannot_be_is_refused_where_it_stands(
    prices: dict[str, Any], words: str
) -> None:
    assert words in refused({PRICES: prices})


def test_shares_may_leave_nothing_over_when_a_pool_never_buys_on_demand() -> None:
    never = {(*L40S, "capacity"): ["spot"], PRICES: {"shares": {"l40s": {"spot": 80}}}}
    assert "adds up to 80 percent; say how the other 20 are bought" in refused(never)


def test_weighted_pools_count_every_way_they_buy() -> None:
    cost = planned({(*A100, "capacity"): ["on-demand", "reserved", "spot"]}).cost
    line = cost.mix[0]
    assert line.maximum_nodes == 12
    assert line.low_usd_per_hour == 13.24


def test_the_plan_as_data_has_every_figure_of_the_bill() -> None:
    plan = production()
    data = summary(replace(plan, cost=bill(plan, {"qwen3-32b": 1, "qwen3-8b": 3})))["cost"]
    assert data["idleUsdPerHour"] < data["typicalUsdPerHour"] < data["maximumUsdPerHour"]
    assert data["typicalRange"]["lowUsdPerHour"] < data["typicalUsdPerHour"]
    assert data["tokens"][1]["model"] == "qwen3-8b"
    assert data["mix"][0]["capacity"] == ["reserved", "spot", "on-demand"]
    assert data["untold"] == []
