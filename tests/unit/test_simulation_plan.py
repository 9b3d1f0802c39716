"""A planned model as the simulator is given it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldstart.capacity.lengths import Lengths
from coldstart.planning import StackPlan, plan_stack
from coldstart.simulation import (
    SimulationError,
    from_plan,
    simulate,
)
from coldstart.simulation.keda import Signal
from coldstart.simulation.synthetic import poisson
from coldstart.spec import load_stack
from tests.unit.simulation_scenes import (
    PACE,
    trace,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan() -> StackPlan:
    return plan_stack(load_stack(ROOT, "eks-prod"))


def test_a_planned_model_is_simulated_with_its_own_bounds_starts_and_price(
    plan: StackPlan,
) -> None:
    requests = poisson(2.0, 600, Lengths(500), Lengths(100))
    given_ = from_plan(plan, "qwen3-8b", requests, PACE)
    model = plan.models["qwen3-8b"]
    assert given_.scaling is not None
    assert [t.signal for t in given_.scaling.triggers] == [Signal.WAITING, Signal.KV_CACHE]
    assert given_.initial_replicas == model.scaling.min_replicas
    assert given_.nodes.warm_nodes == plan.pools[model.pool].warm_nodes
    signal = model.cold_start.phase("signal").seconds
    assert given_.nodes.fresh_start_seconds == model.cold_start.total_seconds - signal
    assert given_.nodes.warm_start_seconds < given_.nodes.fresh_start_seconds
    assert given_.scaling.behavior.down.window_seconds == model.scaling.scale_down_window_seconds
    result = simulate(given_)
    assert result.requests.served == len(requests)
    assert result.cost_usd == pytest.approx(
        result.node_hours * (given_.nodes.usd_per_node_hour or 0)
    )


def test_a_model_that_is_not_there_is_refused_with_those_that_are(plan: StackPlan) -> None:
    with pytest.raises(
        SimulationError, match="'gpt' in stack eks-prod; it has qwen3-32b, qwen3-8b"
    ):
        from_plan(plan, "gpt", trace([(0.0, 1, 1)]), PACE)
