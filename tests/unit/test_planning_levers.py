"""What each lever is worth, and which one to turn next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import A100, BIG, L40S, SMALL, planned, spec_of

from coldstart.catalog import load
from coldstart.planning import PlanFailedError, StackPlan
from coldstart.planning.cold_start import MEASURED, Case
from coldstart.planning.cost import node_usd_per_hour
from coldstart.planning.levers import Lever, Levers, levers
from coldstart.planning.whatif import NextLever, next_levers

CATALOG = load()
SNAPSHOT = {
    (*L40S, "os"): "bottlerocket",
    (*L40S, "image"): "snapshot",
    (*L40S, "imageSnapshot"): "snap-0123456789abcdef0",
}
STACKS: tuple[dict, ...] = (
    {},
    SNAPSHOT,
    {(*L40S, "image"): "peer", (*L40S, "os"): "al2023", (*SMALL, "coldStartBudget"): "20m"},
    {(*SMALL, "weights"): "stream"},
    {(*SMALL, "weights"): "shared"},
    {(*SMALL, "loadFormat"): "safetensors"},
    {(*SMALL, "compileCache"): "none"},
    {(*L40S, "warmNodes"): 0},
    {(*SMALL, "measurements"): {"process": {"p50": "5s", "p95": "9s"}}},
)


def row(found: Levers, key: str) -> Lever:
    return next(lever for lever in found.rows if lever.key == key)


@pytest.mark.parametrize("changes", STACKS, ids=lambda c: " ".join(map(str, c.values())) or "as is")
@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-32b"])
def test_no_lever_at_all_is_the_baseline_and_all_together_are_the_plan(
    changes: dict, name: str
) -> None:
    plan = planned(changes)
    for case, line in (
        (Case.NEXT_REPLICA, plan.models[name].cold_start),
        (Case.FIRST_NODE, plan.models[name].first_node),
        (Case.FROM_ZERO, plan.models[name].from_zero),
    ):
        found = levers(plan, name, CATALOG, case)
        assert found.together == line
        assert found.saved_seconds == found.none.total_seconds - line.total_seconds >= 0
    assert levers(plan, name, CATALOG).none == plan.models[name].baseline


@pytest.mark.parametrize("changes", STACKS, ids=lambda c: " ".join(map(str, c.values())) or "as is")
def test_a_lever_never_loses_and_none_is_worth_more_than_all_together(changes: dict) -> None:
    found = levers(planned(changes), "qwen3-8b", CATALOG)
    for lever in found.rows:
        assert lever.lost_seconds >= 0 and lever.paid_for
        if lever.key != "warmNodes":
            assert lever.alone_seconds <= found.saved_seconds + 1e-6
            assert lever.lost_seconds <= found.saved_seconds + 1e-6


def test_levers_that_hide_one_another_lose_less_than_they_save_alone() -> None:
    # Staging runs beside the pull: without the faster pull the weights alone would still wait.
    plan = planned({(*L40S, "warmNodes"): 0})
    image = row(levers(plan, "qwen3-8b", CATALOG), "image")
    pull = plan.models["qwen3-8b"].cold_start
    assert image.alone_seconds > image.lost_seconds >= 0
    assert pull.end("stage") > 0


def test_what_a_lever_cannot_do_without_comes_and_goes_with_it() -> None:
    streamed = levers(planned({(*SMALL, "weights"): "stream"}), "qwen3-8b", CATALOG)
    weights, loader = row(streamed, "weights"), row(streamed, "loadFormat")
    assert weights.needs == ("loadFormat",) and loader.needs == ()
    assert weights.alone_seconds > loader.alone_seconds
    # Without the loader nothing streams either.
    assert loader.lost_seconds > weights.lost_seconds
    snapshot = levers(planned(SNAPSHOT), "qwen3-8b", CATALOG)
    assert row(snapshot, "image").needs == ("os",)
    assert row(snapshot, "image").alone_seconds > row(snapshot, "os").alone_seconds


def test_a_value_that_is_the_baselines_is_no_lever() -> None:
    keys = {lever.key for lever in levers(planned(), "qwen3-32b", CATALOG).rows}
    assert keys == {"image", "weights", "loadFormat", "compileCache"}, "A100 nodes run AL2023"
    plain = planned(
        {
            (*SMALL, "compileCache"): "none",
            (*SMALL, "loadFormat"): "safetensors",
            (*SMALL, "coldStartBudget"): "20m",
        }
    )
    keys = {lever.key for lever in levers(plain, "qwen3-8b", CATALOG).rows}
    assert not keys & {"compileCache", "loadFormat"}


def test_a_warm_node_costs_its_nodes_and_is_judged_on_a_warm_node() -> None:
    plan = planned({(*L40S, "warmNodes"): 2})
    found = levers(plan, "qwen3-8b", CATALOG)
    model = plan.models["qwen3-8b"]
    each = node_usd_per_hour(plan.pools["l40s"], model.expected_instance_type, plan.spec, CATALOG)
    warm = row(found, "warmNodes")
    assert found.warm == model.warm_node and each
    assert warm.usd_per_hour == pytest.approx(2 * each)
    lost = model.cold_start.total_seconds - model.warm_node.total_seconds
    assert warm.lost_seconds == pytest.approx(lost)
    assert warm.seconds_per_usd == pytest.approx(lost / (2 * each))
    assert row(found, "loadFormat").seconds_per_usd is None, "free"


def test_a_snapshot_costs_its_storage_and_the_fast_volume() -> None:
    plan = planned(SNAPSHOT)
    image = row(levers(plan, "qwen3-8b", CATALOG), "image")
    start = plan.models["qwen3-8b"].start
    engine = CATALOG.image("engine")
    assert engine.unpacked_bytes and engine.compressed_bytes
    unpacked_gib = start.image_bytes * engine.unpacked_bytes / engine.compressed_bytes / 2**30
    fast = next(v for v in plan.pools["l40s"].volumes if v.root)
    usd = unpacked_gib * 0.05 + (fast.iops - 3000) * 0.005
    usd += (fast.throughput_mib_per_second - 125) * 0.04
    assert image.usd_per_hour == pytest.approx(usd / 730)


def test_a_measured_phase_counts_where_its_decision_stands_and_not_where_it_is_changed() -> None:
    changes = {(*SMALL, "measurements"): {"node": {"p50": "10s", "p95": "12s"}}}
    plan = planned(changes)
    found = levers(plan, "qwen3-8b", CATALOG)
    assert found.together.phase("node").source == MEASURED
    assert found.none.phase("node").source != MEASURED
    published = levers(planned(), "qwen3-8b", CATALOG)
    gained = row(published, "os").alone_seconds + 25
    assert row(found, "os").alone_seconds == pytest.approx(gained), "35 s read, 10 s measured"


# What next.


def changes_of(found: tuple[NextLever, ...]) -> list[str]:
    return [" ".join(f"{k}={v}" for k, v in lever.change.items()) for lever in found]


def test_the_next_lever_is_the_one_that_saves_most_per_dollar() -> None:
    found = next_levers(spec_of({(*L40S, "warmNodes"): 0}), "qwen3-8b", CATALOG)
    paid = [x for x in found if x.obstacle is None and (x.usd_per_hour or 0) > 0]
    worth = [x.seconds_per_usd for x in paid]
    assert len(paid) >= 2 and worth == sorted(worth, key=lambda w: -(w or 0))
    assert "nodePools.l40s.warmNodes=1" in changes_of(found)
    assert any("imageSnapshot" in change for change in changes_of(found))
    # On a warm node nothing hides the staging any more, so more network helps.
    warm = next_levers(spec_of(), "qwen3-8b", CATALOG)
    assert changes_of(warm)[0] == "nodePools.l40s.instanceTypes=g6e.2xlarge"


def test_a_wish_that_slows_a_start_is_the_first_thing_to_give_up() -> None:
    spec = spec_of({(*SMALL, "compileCache"): "none", (*L40S, "image"): "registry"})
    first, second, *_ = next_levers(spec, "qwen3-8b", CATALOG)
    assert {**first.change, **second.change} == {
        "models.qwen3-8b.compileCache": "auto",
        "nodePools.l40s.image": "auto",
    } or first.usd_per_hour == 0
    assert first.seconds_per_usd is None and first.saved_seconds >= second.saved_seconds


def test_what_cannot_work_comes_last_with_its_reason() -> None:
    found = next_levers(spec_of(), "qwen3-32b", CATALOG)
    assert found[-1].obstacle and "Bottlerocket" in found[-1].obstacle
    assert found[-1].saved_seconds == 0 and found[-1].seconds_per_usd is None
    assert all(lever.obstacle is None for lever in found[:-1])


def test_without_a_price_a_change_is_offered_and_not_counted_as_free() -> None:
    found = next_levers(spec_of({("aws:region",): "eu-north-1"}), "qwen3-32b", CATALOG)
    warm = next(x for x in found if "warmNodes" in " ".join(x.change))
    assert warm.usd_per_hour is None and warm.seconds_per_usd is None and warm.saved_seconds > 0


def test_a_change_is_judged_with_what_was_measured_and_still_holds() -> None:
    slow = {"node": {"p50": "400s", "p95": "500s"}}
    given = {(*L40S, "warmNodes"): 0, (*SMALL, "coldStartBudget"): "1h"}
    spec = spec_of({**given, (*SMALL, "measurements"): slow})
    warm, *others = next_levers(spec, "qwen3-8b", CATALOG)
    assert "nodePools.l40s.warmNodes" in warm.change and warm.saved_seconds > 400
    # What keeps the operating system keeps the slow node as well.
    assert others and all(other.saved_seconds < 100 for other in others)


def test_what_an_offered_change_saves_is_what_the_changed_stack_saves() -> None:
    now = planned({(*L40S, "warmNodes"): 0}).models["qwen3-8b"]
    for lever in next_levers(spec_of({(*L40S, "warmNodes"): 0}), "qwen3-8b", CATALOG):
        changed: dict[Any, Any] = {(*L40S, "warmNodes"): 0}
        changed |= {
            (*L40S, key.rsplit(".", 1)[1]): [value] if "instanceTypes" in key else value
            for key, value in lever.change.items()
        }
        changed[(*L40S, "warmNodes")] = int(changed[(*L40S, "warmNodes")])
        then = planned(changed)
        model = then.models["qwen3-8b"]
        line = model.warm_node if then.pools["l40s"].warm_nodes else model.cold_start
        assert lever.saved_seconds == pytest.approx(
            now.cold_start.total_seconds - line.total_seconds
        )


def test_a_stack_that_cannot_be_planned_is_refused_as_it_is() -> None:
    with pytest.raises(PlanFailedError, match="cannot be kept"):
        next_levers(spec_of({(*BIG, "coldStartBudget"): "60s"}), "qwen3-32b", CATALOG)
    with pytest.raises(KeyError):
        levers(planned(), "no-such-model", CATALOG)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.sampled_from([A100, L40S]))
def test_more_warm_nodes_cost_more_and_save_no_less(nodes: int, pool: tuple) -> None:
    name = "qwen3-32b" if pool == A100 else "qwen3-8b"

    def warm(plan: StackPlan) -> Lever:
        return row(levers(plan, name, CATALOG), "warmNodes")

    few, more = (warm(planned({(*pool, "warmNodes"): n})) for n in (nodes, nodes + 0))
    many = warm(planned({(*pool, "warmNodes"): min(nodes + 1, 4)}))
    assert few == more
    assert many.lost_seconds == few.lost_seconds
    assert (many.usd_per_hour or 0) >= (few.usd_per_hour or 0)
