"""What a model's plan promises: weights, cache, probes, drain, scaling, rollout, budget."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import A100, BIG, L40S, SMALL, C, planned, refused

from coldstart.catalog import load
from coldstart.planning import ModelPlan, PoolPlan, StackPlan
from coldstart.planning.compile_cache import cache_key
from coldstart.planning.operation import ENDPOINT_REMOVAL_SECONDS, TEARDOWN_SECONDS
from coldstart.planning.plan import ENGINE
from coldstart.spec import CompileCache, ModelSpec, WeightsPath
from coldstart.units import parse_duration_seconds

CATALOG = load()
ENGINE_FACTS = CATALOG.engine(ENGINE)


def big(changes: dict[Any, Any] | None = None) -> ModelPlan:
    return planned(changes).models["qwen3-32b"]


def small(changes: dict[Any, Any] | None = None) -> ModelPlan:
    return planned(changes).models["qwen3-8b"]


def test_the_startup_probe_covers_a_start_with_an_empty_cache_and_vllms_own_wait() -> None:
    for model in planned().models.values():
        probe = model.probe
        budget = probe.period_seconds * probe.failure_threshold
        warm = model.cold_start.total_seconds - model.cold_start.end("image")
        assert model.compile_cache.mode.value is CompileCache.GOLDEN
        assert probe.covers_seconds > warm, "without the archive every pod compiles first"
        assert budget >= probe.covers_seconds
        assert budget >= ENGINE_FACTS.ready_timeout_seconds_default
        assert model.predicted_startup_seconds == probe.covers_seconds


def test_a_model_whose_start_outlasts_vllms_wait_gets_the_longer_probe() -> None:
    sure = planned({(*BIG, "compileCache"): "none", (*BIG, "coldStartBudget"): "20m"})
    assert sure.models["qwen3-32b"].probe.covers_seconds >= big().probe.covers_seconds


def test_a_budget_that_cannot_be_kept_names_the_slowest_phases_and_one_that_works() -> None:
    said = refused({(*BIG, "coldStartBudget"): "60s"})
    assert "models.qwen3-32b.coldStartBudget: 60 s cannot be kept" in said
    assert "most of it node and driver 105 s, engine image 38 s" in said
    works = re.search(r"A budget this plan keeps: (\w+)", said)
    assert works
    assert big({(*BIG, "coldStartBudget"): works[1]}).budget_seconds == parse_duration_seconds(
        works[1]
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 600))
def test_a_budget_is_kept_or_refused_with_one_that_is_kept(seconds: int) -> None:
    longest = small().first_node.total_seconds
    wish = {(*SMALL, "coldStartBudget"): f"{seconds}s"}
    if seconds >= longest:
        assert small(wish).budget_seconds == seconds
    else:
        works = refused(wish).partition("this plan keeps: ")[2].partition(";")[0]
        assert parse_duration_seconds(works) >= longest


def test_the_drain_lets_the_longest_request_finish() -> None:
    drain = big({(*BIG, "maxRequestDuration"): "10m"}).drain
    assert drain.shutdown_timeout_seconds == 600
    assert drain.grace_seconds == ENDPOINT_REMOVAL_SECONDS + 600 + TEARDOWN_SECONDS


def test_a_pool_outlives_the_longest_drain_a_stack_file_allows() -> None:
    plan = planned({(*BIG, "maxRequestDuration"): "60m"})
    drain = plan.models["qwen3-32b"].drain
    assert plan.pools["a100"].termination_grace_seconds > drain.grace_seconds


def test_a_drain_longer_than_a_spot_notice_says_what_clients_must_retry() -> None:
    drain = big({(*BIG, "maxRequestDuration"): "10m"}).drain
    assert drain.notice_seconds == 120
    assert "a spot interruption leaves 120 s" in drain.reason
    assert "up to 90 s" in drain.reason
    assert "clients must retry the rest" in drain.reason


def test_without_spot_there_is_no_notice_to_fear() -> None:
    drain = small({(*L40S, "capacity"): ["on-demand"], (*SMALL, "maxRequestDuration"): "10m"}).drain
    assert drain.notice_seconds is None
    assert "spot" not in drain.reason


def test_weights_go_to_local_disk_while_the_image_is_pulled_or_straight_to_the_gpu() -> None:
    plan = planned()
    assert plan.models["qwen3-8b"].weights.value == "local"
    assert plan.models["qwen3-32b"].weights.value == "stream"
    rejected = {r.value: r.reason for r in plan.models["qwen3-32b"].weights.rejected}
    assert "while the engine image is still pulled" in rejected[WeightsPath.LOCAL]
    assert re.search(r"\(\d+ s against \d+ s\)", rejected[WeightsPath.SHARED])


def test_staging_that_outlasts_the_pull_is_not_called_free() -> None:
    wishes = {"source": "hf://Qwen/Qwen3-14B@" + "0" * 40, "weights": "local"}
    spec = {**wishes, "nodePool": "l40s", "maxConcurrency": 16, "scaling": {"max": 6}}
    model = small({SMALL: spec})
    assert model.cold_start.end("stage") > model.cold_start.end("image")
    assert "after the engine image" in model.weights.reason


def test_local_weights_without_a_local_disk_are_refused_with_what_works() -> None:
    said = refused({(*BIG, "weights"): "local", (*A100, "localStorage"): "none"})
    assert "pool a100 has no local disk for pods" in said
    assert "auto or stream" in said


def test_a_loader_that_reads_files_only_is_refused_for_an_object_store() -> None:
    said = refused({(*BIG, "weights"): "stream", (*BIG, "loadFormat"): "safetensors"})
    assert "use loadFormat: runai_streamer, or weights: local" in said


def test_auto_never_streams_to_a_loader_that_reads_files_only() -> None:
    wishes = {"loadFormat": "safetensors", "compileCache": "none", "coldStartBudget": "1h"}
    model = small({(*SMALL, key): value for key, value in wishes.items()})
    assert model.weights.value is not WeightsPath.STREAM
    told = {r.value: r.reason for r in model.weights.rejected}
    assert "cannot read an object store" in told[WeightsPath.STREAM]


def test_streaming_over_several_gpus_splits_the_reading() -> None:
    assert big().loader_config == {"concurrency": 32, "distributed": True}
    assert small().loader_config == {"concurrency": 16}


def test_scaling_asks_by_waiting_requests_and_cache_use_and_never_falls_to_zero_blindly() -> None:
    scaling = big().scaling
    assert [t.name for t in scaling.triggers] == ["waiting", "kv-cache"]
    assert all('{namespace="qwen3-32b"}' in t.query for t in scaling.triggers)
    assert scaling.fallback_replicas == scaling.min_replicas == 1
    assert scaling.wake is None


def test_a_model_that_may_sleep_holds_requests_for_a_first_nodes_start() -> None:
    model = planned(stack="eks-dev").models["qwen3-1-7b"]
    assert model.scaling.min_replicas == 0
    assert model.scaling.wake is not None
    assert model.scaling.wake.hold_seconds >= 3 * model.first_node.total_seconds


def test_a_model_that_may_sleep_asks_for_a_second_replica_only_when_one_is_busy() -> None:
    model = planned(stack="eks-dev").models["qwen3-1-7b"]
    assert model.scaling.wake is not None
    assert model.scaling.wake.target_concurrency == model.fit.max_num_seqs + 5


def test_an_outage_of_the_metrics_wakes_no_sleeping_model() -> None:
    assert planned(stack="eks-dev").models["qwen3-1-7b"].scaling.fallback_replicas is None


def test_a_scaled_down_replica_is_not_needed_again_before_a_new_one_could_start() -> None:
    for model in planned().models.values():
        assert model.scaling.scale_down_window_seconds >= model.first_node.total_seconds
        assert model.scaling.cooldown_seconds >= model.first_node.total_seconds


def test_a_rollout_surges_only_where_a_gpu_is_free_at_full_scale() -> None:
    assert small().rollout.value.max_surge == 1
    full = small({(*SMALL, "scaling"): {"max": 8}})
    assert (full.rollout.value.max_surge, full.rollout.value.max_unavailable) == (0, 1)
    assert "wait for ever" in full.rollout.reason


def test_a_maximum_beyond_the_pool_names_both_numbers_that_work() -> None:
    said = refused({(*BIG, "scaling"): {"max": 9}})
    assert "9 replicas of 4 GPUs need 5 nodes; pool a100 stops at maxNodes 4" in said
    assert "Use max: 8, or maxNodes: 5" in said
    assert planned({(*BIG, "scaling"): {"max": 8}})
    assert planned({(*BIG, "scaling"): {"max": 9}, (*A100, "maxNodes"): 5})


def test_minimums_that_no_pool_can_hold_together_are_refused() -> None:
    both = {(*BIG, "scaling"): {"min": 8, "max": 8}, (*SMALL, "nodePool"): "a100"}
    said = refused(both)
    assert "nodePools.a100.maxNodes: 4 nodes have 32 GPUs" in said
    assert "Use maxNodes: 5" in said


def test_models_that_share_a_pool_are_told_who_waits() -> None:
    crowded = {(*SMALL, "nodePool"): "a100", (*BIG, "scaling"): {"max": 8}}
    assert any("who asks last waits" in note for note in planned(crowded).notes)
    assert not any("who asks last waits" in note for note in planned().notes)


GATED = "hf://meta-llama/Llama-3.1-8B-Instruct@" + "0" * 40


def test_a_gated_model_says_whose_token_is_needed_and_how_to_give_it() -> None:
    notes = planned({(*SMALL, "source"): GATED}).notes
    (note,) = [note for note in notes if "gated" in note]
    assert "models.qwen3-8b: meta-llama/Llama-3.1-8B-Instruct is gated" in note
    assert "pulumi config set --secret coldstart:huggingFaceToken" in note
    assert not any("gated" in note for note in planned().notes)


def test_a_private_endpoint_says_where_to_run_from() -> None:
    assert any("private" in note for note in planned({(f"{C}cluster", "adminCidrs"): []}).notes)


def test_karpenters_own_order_needs_one_node_pool_with_one_limit() -> None:
    pools = planned().pools
    assert [p.name for p in pools["a100"].capacity.value] == ["a100"]
    assert pools["a100"].capacity.value[0].weight is None


def test_another_order_becomes_weighted_node_pools_that_say_each_has_its_limit() -> None:
    capacity = planned({(*L40S, "capacity"): ["on-demand", "spot"]}).pools["l40s"].capacity
    assert [p.name for p in capacity.value] == ["l40s-on-demand", "l40s-spot"]
    weights = [p.weight for p in capacity.value]
    assert None not in weights
    assert weights == sorted(weights, key=lambda w: -(w or 0))
    assert "not Karpenter's own order" in capacity.reason
    assert "8 nodes for itself" in capacity.reason


def test_a_weighted_pool_may_not_take_the_name_of_another() -> None:
    twin = {"accelerator": "nvidia-l40s-48gb", "maxNodes": 1}
    clash = {(*L40S, "capacity"): ["on-demand", "spot"], (f"{C}nodePools", "l40s-spot"): twin}
    assert "would have the name of pool l40s-spot" in refused(clash)


def test_a_region_without_prices_is_planned_and_its_cost_called_unknown() -> None:
    cost = planned({("aws:region",): "eu-north-1"}).cost
    assert any("NAT gateways: 3 (in eu-north-1)" in name for name in cost.unpriced)
    assert any("volumes of a100" in name for name in cost.unpriced)
    assert cost.lines == ()


def test_cost_grows_with_nodes_and_counts_each_weighted_pools_limit() -> None:
    now = planned().cost
    more = planned({(*A100, "maxNodes"): 5}).cost
    apart = planned({(*L40S, "capacity"): ["on-demand", "spot"]}).cost
    assert now.idle_usd_per_hour < now.maximum_usd_per_hour < more.maximum_usd_per_hour
    assert apart.maximum_usd_per_hour > now.maximum_usd_per_hour


def key_parts() -> dict[str, Any]:
    plan = planned()
    model = plan.models["qwen3-8b"]
    return {
        "arguments": model.engine_args,
        "environment": dict(model.environment),
        "engine": ENGINE_FACTS,
        "engine_digest": "sha256:" + "0" * 64,
        "pool": plan.pools["l40s"],
        "model_path": "/models/a",
        "model_spec": plan.spec.models["qwen3-8b"],
    }


def key_of(parts: dict[str, Any]) -> str:
    return cache_key(**parts)[0]


def other_pool() -> PoolPlan:
    return planned().pools["a100"]


def other_model() -> ModelSpec:
    return planned().spec.models["qwen3-32b"]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("arguments", lambda old: (*old, "--enforce-eager")),
        ("arguments", lambda old: tuple(a.replace("32768", "16384") for a in old)),
        ("environment", lambda old: {**old, "VLLM_USE_SOMETHING": "1"}),
        ("engine_digest", lambda old: old.replace("0", "1")),
        ("pool", lambda old: other_pool()),
        ("model_path", lambda old: old + "b"),
        ("model_spec", lambda old: other_model()),
    ],
)
def test_everything_vllm_hashes_changes_the_name_of_the_archive(part: str, change: Any) -> None:
    parts = key_parts()
    assert key_of({**parts, part: change(parts[part])}) != key_of(parts)


def test_a_replica_queues_four_generations_beside_the_one_that_runs() -> None:
    """vLLM's limit counts running requests too; it is no part of what is compiled."""
    model = small({(*SMALL, "maxConcurrency"): 8})
    assert "--max-num-seqs=8" in model.engine_args
    assert "--max-num-queued-reqs=40" in model.engine_args
    assert "max-num-queued-reqs" not in model.compile_cache.factors["arguments"]


def test_variables_vllm_does_not_hash_leave_the_archive_its_name() -> None:
    parts = key_parts()
    ignored = {"VLLM_CACHE_ROOT": "/elsewhere", "HF_HOME": "/x", "PATH": "/y", "VLLM_API_KEY": "z"}
    assert "VLLM_CACHE_ROOT" in ENGINE_FACTS.compile_cache_ignored_environment
    assert key_of({**parts, "environment": {**parts["environment"], **ignored}}) == key_of(parts)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ((*SMALL, "scaling"), {"min": 2, "max": 8}),
        ((*SMALL, "coldStartBudget"), "10m"),
        ((*L40S, "maxNodes"), 12),
        ((*L40S, "warmNodes"), 0),
        ((*L40S, "capacity"), ["on-demand", "spot"]),
        ((*L40S, "os"), "al2023"),
        ((f"{C}network", "zones"), 2),
        ((*BIG, "maxConcurrency"), 8),
        ((*SMALL, "maxRequestDuration"), "2m"),
        ((*SMALL, "loadFormat"), "fastsafetensors"),
    ],
)
def test_what_vllm_never_sees_keeps_the_archive(key: Any, value: Any) -> None:
    assert small({key: value}).compile_cache.key == small().compile_cache.key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ((*SMALL, "maxModelLen"), 8192),
        ((*SMALL, "maxConcurrency"), 8),
        ((*SMALL, "precision"), "fp8"),
        ((*SMALL, "weights"), "stream"),
        ((*SMALL, "source"), "hf://Qwen/Qwen3-8B@" + "1" * 40),
        ((f"{C}engine",), {"image": "docker.io/x/vllm@sha256:" + "1" * 64, "imageSize": "9GB"}),
        ((*L40S, "accelerator"), "nvidia-h100-80gb"),
    ],
)
def test_what_changes_the_compiled_code_changes_the_archive(key: Any, value: Any) -> None:
    changes = {key: value, (*SMALL, "coldStartBudget"): "20m", (*BIG, "coldStartBudget"): "20m"}
    assert small(changes).compile_cache.key != small().compile_cache.key


def test_a_load_format_that_reads_one_range_at_a_time_is_predicted_slower() -> None:
    budget = {(*SMALL, "coldStartBudget"): "20m"}
    plain = small({(*SMALL, "loadFormat"): "safetensors", **budget})
    assert plain.cold_start.phase("load").seconds > 5 * small().cold_start.phase("load").seconds


def test_the_same_stack_file_always_gives_the_same_plan() -> None:
    assert planned() == planned()


def test_every_decision_of_every_stack_gives_its_reasons() -> None:
    for stack in ("eks-prod", "eks-dev", "eks-prod-infra", "eks-prod-workload"):
        for path, decision in planned(stack=stack).decisions():
            assert decision.reason, path
            assert all(r.reason for r in decision.rejected), path


def test_two_stacks_decide_what_one_stack_decides() -> None:
    whole, split = planned(), planned(stack="eks-prod-workload")
    for name, model in whole.models.items():
        other = split.models[name]
        assert other.compile_cache.key == model.compile_cache.key
        assert other.engine_args == model.engine_args
        assert other.cold_start == model.cold_start
    infra = planned(stack="eks-prod-infra")
    assert {n: p.user_data for n, p in infra.pools.items()} == {
        n: p.user_data for n, p in whole.pools.items()
    }


def test_ways_of_the_weights_are_compared_with_the_compile_cache_that_was_asked_for() -> None:
    """An archive to restore brings a sidecar's image of its own, which a stream needs not."""
    plain = {(*SMALL, "compileCache"): "none", (*SMALL, "coldStartBudget"): "1h"}
    model = small(plain)
    (stream,) = [r for r in model.weights.rejected if r.value is WeightsPath.STREAM]
    faster = model.cold_start.total_seconds
    other = small({**plain, (*SMALL, "weights"): "stream"})
    seconds = other.cold_start.total_seconds
    assert f"({seconds:.0f} s against {faster:.0f} s)" in stream.reason


def mixed(**pool: Any) -> StackPlan:
    types = ["g6e.xlarge", "g6e.12xlarge"]
    return planned({(*L40S, "instanceTypes"): types, **{(*L40S, k): v for k, v in pool.items()}})


def test_a_pool_of_several_sizes_is_billed_by_the_size_that_is_expected() -> None:
    """Six replicas of one GPU on the smallest type are six nodes, not two of four GPUs."""
    plan = planned(
        {
            (*L40S, "instanceTypes"): ["g6e.xlarge", "g6e.12xlarge"],
            (*L40S, "warmNodes"): 0,
            (*SMALL, "scaling"): {"min": 6, "max": 6},
        }
    )
    assert plan.models["qwen3-8b"].expected_instance_type == "g6e.xlarge"
    (line,) = [m for m in plan.cost.mix if m.pool == "l40s"]
    assert (line.instance_type, line.idle_nodes) == ("g6e.xlarge", 6)


def test_a_rollout_does_not_count_on_the_larger_size_of_a_pool() -> None:
    plan = mixed(maxNodes=6)
    assert plan.models["qwen3-8b"].scaling.max_replicas == 6
    assert plan.models["qwen3-8b"].rollout.value.max_surge == 0
    assert mixed(maxNodes=7).models["qwen3-8b"].rollout.value.max_surge == 1


@pytest.mark.parametrize(
    ("image", "registry", "repository"),
    [
        ("vllm/vllm-openai", "docker.io", "vllm/vllm-openai"),
        ("ghcr.io/acme/vllm", "ghcr.io", "acme/vllm"),
        ("mirror:5000/acme/vllm:v1", "mirror:5000", "acme/vllm"),
        ("localhost/vllm", "localhost", "vllm"),
    ],
)
def test_the_registry_of_an_image_is_read_as_docker_does(
    image: str, registry: str, repository: str
) -> None:
    named = {"image": f"{image}@sha256:{'a' * 64}", "imageSize": "9GB"}
    slow = {(*BIG, "coldStartBudget"): "1h", (*SMALL, "coldStartBudget"): "1h"}
    found = planned({(f"{C}engine",): named, **slow}).images["engine"]
    assert (found.registry, found.repository) == (registry, repository)
