"""Traffic and targets of a stack file lead to thresholds, cooldown, schedules, drain and errors."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from stack_examples import BIG, SMALL, planned, refused

from coldstart.capacity.lengths import Lengths
from coldstart.planning import ModelPlan, StackPlan
from coldstart.planning.load import replica_speed
from coldstart.report import shown
from coldstart.simulation import from_plan, simulate
from coldstart.simulation.synthetic import poisson
from coldstart.units import parse_duration_seconds

TRAFFIC: dict[str, Any] = {
    "requestsPerSecond": 2,
    "promptTokens": {"mean": 1500, "p95": 4500},
    "outputTokens": {"mean": 300, "p95": 900},
}
SLO = {"ttft": "2s", "tpot": "50ms"}
ASLEEP = ("coldstart:models", "qwen3-1-7b")


def with_load(**traffic: Any) -> dict[Any, Any]:
    return {(*SMALL, "traffic"): {**TRAFFIC, **traffic}, (*SMALL, "slo"): SLO}


def small(plan: StackPlan) -> ModelPlan:
    return plan.models["qwen3-8b"]


def decision(plan: StackPlan, path: str) -> tuple[Any, str]:
    found = dict(plan.decisions())[f"models.{path}"]
    return found.value, found.reason


def test_without_traffic_five_requests_wait_as_before_and_the_reason_says_what_is_missing() -> None:
    plan = planned()
    value, reason = decision(plan, "qwen3-8b.scaling.waitingRequests")
    assert value == 5
    assert "traffic and slo" in reason
    assert [t.threshold for t in small(plan).scaling.triggers] == ["5", "80"]
    assert small(plan).load is None
    assert "models.qwen3-8b.traffic" not in dict(plan.decisions())


def test_a_named_threshold_is_kept_whatever_the_traffic() -> None:
    plan = planned({**with_load(), (*SMALL, "scaling"): {"max": 6, "waitingRequests": 11}})
    assert decision(plan, "qwen3-8b.scaling.waitingRequests") == (11, "named in the stack file")
    assert small(plan).scaling.triggers[0].threshold == "11"


def test_traffic_and_targets_derive_the_threshold_and_show_the_figure_they_replace() -> None:
    plan = planned(with_load())
    scaling = small(plan).scaling
    load = small(plan).load
    assert load is not None
    patience = 2 - load.replica.first_token_seconds
    tolerated = patience * load.replica.throughput_per_second
    assert scaling.waiting_requests.value == max(1, int(tolerated / 1.1))
    assert scaling.triggers[0].threshold == str(scaling.waiting_requests.value)
    assert "keep the first token within 2.0 s" in scaling.waiting_requests.reason
    assert [r.value for r in scaling.waiting_requests.rejected] == [5]


def test_a_peak_that_outruns_a_cold_start_asks_at_the_first_waiting_request_and_says_so() -> None:
    value, reason = decision(
        planned(with_load(peakRequestsPerSecond=6)), "qwen3-8b.scaling.waitingRequests"
    )
    assert value == 1
    assert "scaling.min or a schedule" in reason


def test_the_plan_says_what_a_replica_does_what_binds_it_and_what_waits_at_a_jump() -> None:
    plan = planned(with_load(peakRequestsPerSecond=6))
    value, reason = decision(plan, "qwen3-8b.traffic")
    load = small(plan).load
    assert load is not None
    assert value == load.peak_replicas >= load.replicas >= 1
    assert "bound by" in reason
    assert re.search(r"with scaling.min 1 a jump to the peak leaves \d+ of \d+ requests", reason)


def test_a_maximum_that_cannot_finish_the_peak_is_refused_with_replicas_and_nodes() -> None:
    said = refused(with_load(peakRequestsPerSecond=40))
    assert "models.qwen3-8b.scaling.max: 6 replicas finish at most" in said
    works = re.search(
        r"(\d+) replicas on (\d+) nodes of g6e.xlarge.* Use max: (\d+) and maxNodes: (\d+)", said
    )
    assert works
    assert works[1] == works[3]
    assert works[2] == works[4]
    enough = {
        **with_load(peakRequestsPerSecond=40),
        (*SMALL, "scaling"): {"max": int(works[3])},
        ("coldstart:nodePools", "l40s", "maxNodes"): int(works[4]),
    }
    assert not [n for n in planned(enough).notes if "scaling.max" in n]


def test_a_maximum_that_finishes_the_peak_too_late_is_a_note() -> None:
    plan = planned(with_load())
    load = small(plan).load
    assert load is not None
    replica = load.replica
    between = 6 * (replica.requests_per_second + replica.throughput_per_second) / 2
    notes = planned(with_load(peakRequestsPerSecond=between)).notes
    assert any(
        note.startswith("models.qwen3-8b.scaling.max: 6 replicas do not keep") for note in notes
    )


@pytest.mark.parametrize(("key", "target"), [("tpot", "5ms"), ("ttft", "100ms")])
def test_a_target_the_gpu_cannot_keep_is_refused_with_one_it_can(key: str, target: str) -> None:
    said = refused({**with_load(), (*SMALL, "slo"): {**SLO, key: target}})
    assert f"models.qwen3-8b.slo.{key}" in said
    works = re.search(rf"Use {key}: (\w+) or more", said)
    assert works
    assert parse_duration_seconds(works[1]) > parse_duration_seconds(target)
    kept = {**SLO, "ttft": "30s", key: works[1]}
    planned({**with_load(requestsPerSecond=0.01), (*SMALL, "slo"): kept})


def test_requests_longer_than_the_context_are_refused_with_one_that_holds_them() -> None:
    """The engine answers each of them with an error, whatever the capacity."""
    long = with_load(promptTokens={"mean": 5000})
    said = refused({**long, (*SMALL, "maxModelLen"): 4096})
    assert "models.qwen3-8b.traffic: promptTokens and outputTokens take 5300 tokens" in said
    assert "name maxModelLen: 5300 or more" in said
    assert planned({**long, (*SMALL, "maxModelLen"): 5300, (*SMALL, "slo"): {**SLO, "ttft": "9s"}})
    said = refused(with_load(promptTokens={"mean": 100_000}))
    assert "Shorten them: Qwen/Qwen3-8B was made for" in said


def asleep(changes: dict[str, Any], load: bool = True) -> ModelPlan:
    traffic = {(*ASLEEP, "traffic"): TRAFFIC, (*ASLEEP, "slo"): SLO} if load else {}
    keys = {(*ASLEEP, key): value for key, value in changes.items()}
    return planned({**traffic, **keys}, "eks-dev").models["qwen3-1-7b"]


def test_a_cooldown_named_in_the_stack_file_is_honoured() -> None:
    model = asleep({"scaling": {"min": 0, "max": 2, "cooldown": "17m"}})
    assert model.scaling.cooldown_seconds == 17 * 60


def test_a_cooldown_of_a_model_that_never_sleeps_is_shown_only_where_it_was_named() -> None:
    named = planned({(*SMALL, "scaling"): {"max": 6, "cooldown": "17m"}})
    value, reason = decision(named, "qwen3-8b.scaling.cooldown")
    assert value == 17 * 60
    assert "without effect: scaling.min 1 never sleeps" in reason
    assert "models.qwen3-8b.scaling.cooldown" not in dict(planned().decisions())


def test_without_traffic_a_cooldown_is_twice_a_start() -> None:
    model = asleep({}, load=False)
    start = model.first_node.total_seconds
    assert model.scaling.cooldown_seconds == max(300, 2 * -(-start // 1))


def test_rare_requests_lengthen_the_cooldown_until_few_meet_a_cold_start() -> None:
    rare = asleep({"traffic": {**TRAFFIC, "requestsPerSecond": 0.002}})
    often = asleep({"traffic": {**TRAFFIC, "requestsPerSecond": 0.5}})
    assert rare.scaling.cooldown_seconds > often.scaling.cooldown_seconds == 300
    assert rare.scaling.cooldown.reason.startswith("5 % of requests at 0.002/s meet a cold start")
    rejected = rare.scaling.cooldown.rejected[0]
    assert rejected.value == -(-rare.first_node.total_seconds // 1)


def test_requests_too_rare_for_any_cooldown_are_told_to_keep_a_replica() -> None:
    never = asleep({"traffic": {**TRAFFIC, "requestsPerSecond": 1e-5}})
    assert never.scaling.cooldown_seconds == 86_400
    assert "only scaling.min: 1 keeps it" in never.scaling.cooldown.reason


def test_a_schedule_is_early_by_a_first_nodes_cold_start() -> None:
    wish = {"start": "08:30", "until": "18:00", "timezone": "Europe/Berlin", "replicas": 2}
    model = asleep({"scaling": {"min": 0, "max": 2, "schedules": [wish]}}, load=False)
    minutes = -(-model.first_node.total_seconds // 60)
    (trigger,) = model.scaling.schedules.value
    assert trigger.start == f"{30 - minutes:.0f} 8 * * *"
    assert f"{minutes:.0f} min early" in model.scaling.schedules.reason
    assert shown(model.scaling.schedules.value) == (
        f"2 from {trigger.start} to 0 18 * * * Europe/Berlin"
    )


def test_a_schedule_without_a_pause_names_its_place_and_line() -> None:
    wish = {"start": "08:30", "until": "08:29", "timezone": "UTC", "replicas": 2}
    said = refused({(*SMALL, "scaling"): {"max": 6, "schedules": [wish]}})
    assert "models.qwen3-8b.scaling.schedules[0]: its pauses are not longer" in said


def test_the_drain_says_which_share_of_running_requests_finishes_and_after_a_spot_notice() -> None:
    long = {"mean": 4000, "p95": 12_000}
    plan = planned(
        {
            (*BIG, "traffic"): {**TRAFFIC, "requestsPerSecond": 0.2, "outputTokens": long},
            (*BIG, "maxRequestDuration"): "10m",
        }
    )
    drain = plan.models["qwen3-32b"].drain
    assert drain.finish_share is not None
    assert drain.notice_finish_share is not None
    assert 0 < drain.notice_finish_share < drain.finish_share < 1
    assert f"{100 * drain.notice_finish_share:.3g} % of the running ones" in drain.reason


def test_requests_in_flight_ask_for_replicas_where_traffic_and_targets_are_known() -> None:
    plan = planned(with_load())
    (trigger,) = [t for t in small(plan).scaling.triggers if t.name == "in-flight"]
    load = small(plan).load
    assert load is not None
    assert trigger.threshold == str(load.in_flight)
    assert 1 <= load.in_flight <= load.replica.concurrency
    assert trigger.query.count('{namespace="qwen3-8b"}') == 2
    without_slo = planned({(*SMALL, "traffic"): TRAFFIC})
    assert [t.name for t in small(without_slo).scaling.triggers] == ["waiting", "kv-cache"]


def test_a_steady_load_is_not_scaled_up_and_down_for_ever() -> None:
    """Nothing waits once enough replicas run, so waiting requests alone take one away again."""
    plan = planned(with_load(peakRequestsPerSecond=9))
    requests = poisson(2, 2 * 3600, Lengths(1500, 4500), Lengths(300, 900), seed=1)
    speed = replica_speed(plan, "qwen3-8b", *requests.mean_tokens)
    given = from_plan(plan, "qwen3-8b", requests, speed)
    steady, scaling = simulate(given), given.scaling
    assert scaling is not None
    few = tuple(t for t in scaling.triggers if t.name != "in-flight")
    flapping = simulate(replace(given, scaling=replace(scaling, triggers=few)))
    downs = [sum(e.after < e.before for e in result.events) for result in (steady, flapping)]
    assert 3 * downs[0] < downs[1]
    assert steady.gpu_hours < flapping.gpu_hours
    assert steady.slo_share is not None
    assert flapping.slo_share is not None
    assert steady.slo_share > flapping.slo_share


def test_a_replica_of_stages_is_sized_for_them_and_the_plan_says_what_is_not_counted() -> None:
    big = {(*BIG, "traffic"): TRAFFIC, (*BIG, "slo"): {"ttft": "5s", "tpot": "200ms"}}
    cut = {(*BIG, "tensorParallel"): 1, (*BIG, "pipelineParallel"): 4}
    name = BIG[-1]
    tensors, stages = planned(big), planned({**big, **cut})
    assert stages.models[name].fit.parallel.pipeline == 4
    words = "prompts are counted in turn"
    assert words in decision(stages, f"{name}.traffic")[1]
    assert words not in decision(tensors, f"{name}.traffic")[1]
    one, four = (replica_speed(plan, name, 1500, 300) for plan in (tensors, stages))
    assert four.tpot_seconds(1) > one.tpot_seconds(1)
