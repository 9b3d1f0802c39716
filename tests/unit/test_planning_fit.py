"""How a model lies in GPU memory and on its node."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import BIG, L40S, SMALL, planned, refused, spec_of

from coldstart.capacity.memory import kv_bytes_per_token
from coldstart.catalog import Model, load
from coldstart.planning import PlanError
from coldstart.planning.context import Context, ImageFacts
from coldstart.planning.fit import Placement, place
from coldstart.planning.plan import ENGINE
from coldstart.spec import ModelSpec
from coldstart.units import GIB

CATALOG = load()
REVISION = "0" * 40
OFFERED = sorted({t.accelerator for t in CATALOG.instance_types.values() if t.accelerator})
CONTEXT = Context(
    spec_of(),
    CATALOG,
    CATALOG.engine(ENGINE),
    ImageFacts("docker.io", "sha256:0", 9 * 10**9, 22 * 10**9),
    shared_file_system=False,
)


def model_spec(name: str, **wishes: object) -> ModelSpec:
    given = {"source": f"hf://{name}@{REVISION}", "nodePool": "p", "scaling": {"max": 1}}
    return ModelSpec.model_validate({**given, **wishes})


def placed(name: str, accelerator: str, **wishes: object) -> Placement:
    types = CATALOG.instances_with(accelerator)
    return place("m", model_spec(name, **wishes), CATALOG.model(name), types, CONTEXT, 20_480)


@pytest.mark.parametrize("accelerator", OFFERED)
@pytest.mark.parametrize("name", sorted(CATALOG.models))
def test_every_model_fits_every_accelerator_or_says_what_is_missing(
    name: str, accelerator: str
) -> None:
    model = CATALOG.model(name)
    try:
        found = placed(name, accelerator)
    except PlanError as error:
        assert name in error.message or "instance type" in error.message
        assert any(word in error.message for word in ("use ", "lower", "larger"))
        return
    fit, host, instance = found.fit, found.host, found.instance
    per_gpu = fit.weights_gib + fit.adapters_gib + fit.kv_cache_gib + fit.overhead_gib
    memory = CATALOG.accelerator(accelerator).visible_gib
    assert per_gpu == pytest.approx(memory * fit.gpu_memory_utilization)
    assert fit.weights_gib * fit.gpus * GIB >= model.weight_bytes[fit.precision] - fit.gpus  # type: ignore[index]
    assert model.attention_heads % fit.tensor_parallel == 0
    assert fit.max_model_len <= min(model.context_tokens, fit.kv_cache_tokens)
    assert instance.accelerator_count >= fit.tensor_parallel
    assert instance.allocatable_memory_mib >= host.memory_request_mib
    assert host.shm_mib < host.memory_limit_mib


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CATALOG.models)), st.integers(1, 1023))
def test_more_concurrency_never_needs_fewer_gpus(name: str, concurrency: int) -> None:
    def gpus(wanted: int) -> float:
        try:
            return placed(name, "nvidia-h100-80gb", maxConcurrency=wanted).fit.gpus
        except PlanError:
            return float("inf")

    assert gpus(concurrency) <= gpus(concurrency + 1)


# Worked sizing figures of "GPU Serving & Autoscaling" (LeetLLM): KV cache for 8B at 4k tokens and
# 8 requests, and for 70B at 8k tokens and 4 requests; 15 % on top of weights and KV cache together.
@pytest.mark.parametrize(
    ("name", "tokens", "requests", "gigabytes"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 4096, 8, 4.3),
        ("meta-llama/Llama-3.3-70B-Instruct", 8192, 4, 10.7),
    ],
)
def test_the_kv_cache_matches_the_articles_sizing(
    name: str, tokens: int, requests: int, gigabytes: float
) -> None:
    count = kv_bytes_per_token(CATALOG.model(name)) * tokens * requests
    assert round(count / 1e9, 1) == gigabytes


def test_grouped_heads_are_counted_not_all_heads() -> None:
    model = CATALOG.model("Qwen/Qwen3-8B")
    assert kv_bytes_per_token(model) == 2 * 36 * 8 * 128 * 2


def kv_tokens(model: Model, gpus: int) -> int:
    types = CATALOG.instances_with("nvidia-h100-80gb")
    return place(
        "m", model_spec(model.name, tensorParallel=gpus), model, types, CONTEXT, 20_480
    ).fit.kv_cache_tokens


def test_gpus_beyond_the_kv_heads_repeat_them_and_hold_no_more_tokens_each() -> None:
    model = CATALOG.model("Qwen/Qwen2.5-7B-Instruct").model_copy(update={"attention_heads": 32})
    assert model.kv_heads == 4
    four, eight = kv_tokens(model, 4), kv_tokens(model, 8)
    assert eight < 1.1 * four


def test_tensor_parallelism_gets_shared_memory_for_nccl_inside_the_limit() -> None:
    host = planned().models["qwen3-32b"].host
    assert planned().models["qwen3-32b"].fit.tensor_parallel > 1
    assert 16 * 1024 <= host.shm_mib < host.memory_limit_mib


def test_an_auto_context_is_the_longest_that_fits_up_to_32k() -> None:
    fit = planned().models["qwen3-8b"].fit
    assert fit.max_model_len == 32_768
    tight = planned({(*SMALL, "nodePool"): "l40s", (*SMALL, "maxConcurrency"): 64}).models
    assert tight["qwen3-8b"].fit.max_model_len <= fit.kv_cache_tokens


def test_a_wished_context_is_kept_or_refused_never_shortened() -> None:
    assert planned({(*BIG, "maxModelLen"): 8192}).models["qwen3-32b"].fit.max_model_len == 8192
    said = refused({(*BIG, "maxModelLen"): 50_000})
    assert "models.qwen3-32b.maxModelLen: 50000 exceeds the 40960 tokens" in said
    assert "use maxModelLen: 40960 or less" in said


def test_a_model_too_large_says_the_memory_it_needs_and_what_the_pool_has() -> None:
    said = refused({(*BIG, "nodePool"): "l40s"})
    assert "Qwen/Qwen3-32B in bf16 does not fit 1 x NVIDIA L40S: weights take 61.0 GiB" in said
    assert "name instanceTypes with more GPUs" in said


def test_wider_named_types_hold_the_model_that_one_gpu_does_not() -> None:
    wide = {(*BIG, "nodePool"): "l40s", (*L40S, "instanceTypes"): ["g6e.12xlarge"]}
    fit = planned({**wide, (*BIG, "coldStartBudget"): "20m"}).models["qwen3-32b"].fit
    assert (fit.tensor_parallel, fit.pipeline_parallel) == (2, 1)


def test_a_tensor_parallelism_that_splits_no_heads_names_those_that_do() -> None:
    assert "splits its 64 heads over 1, 2, 4, 8 GPUs" in refused({(*BIG, "tensorParallel"): 3})


def test_a_precision_the_gpu_cannot_serve_names_one_it_can() -> None:
    said = refused({(*L40S, "accelerator"): "nvidia-t4-16gb"})
    assert '"bf16" of Qwen/Qwen3-8B cannot be served on NVIDIA T4' in said
    assert "use precision: fp8" in said


def test_arm64_hosts_are_refused_since_the_engine_image_is_amd64() -> None:
    said = refused({(*L40S, "accelerator"): "nvidia-t4g-16gb"})
    assert "nodePools.l40s.accelerator" in said
    assert "arm64 hosts (g5g.xlarge)" in said
