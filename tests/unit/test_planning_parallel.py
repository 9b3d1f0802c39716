"""How a replica is cut over GPUs, what adapters and an fp8 cache cost, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_examples import published
from stack_examples import A100, BIG, SMALL, planned, refused
from test_planning_fit import CATALOG, CONTEXT, model_spec, placed

from coldstart.capacity.communication import all_reduce_seconds
from coldstart.capacity.memory import Parallelism
from coldstart.catalog import Accelerator, Model
from coldstart.planning import PlanError
from coldstart.planning.fit import Placement, fits, place
from coldstart.planning.mig import slice_gib, smallest_slice
from coldstart.planning.parallel import layouts, splits
from coldstart.render.engine import engine_arguments

H100 = "nvidia-h100-80gb"
PCIE = "nvidia-rtx-pro-6000-96gb"


def error(name: str, accelerator: str, **wishes: object) -> str:
    with pytest.raises(PlanError) as caught:
        placed(name, accelerator, **wishes)
    return str(caught.value)


def placed_model(model: Model, accelerator: str, **wishes: object) -> Placement:
    types = CATALOG.instances_with(accelerator)
    return place("m", model_spec(model.name, **wishes), model, types, CONTEXT, 20_480)


def arguments(found: Placement) -> tuple[str, ...]:
    return engine_arguments(
        name="m",
        fit=found.fit,
        native_precision="bf16",
        load_format="runai_streamer",
        loader_config={},
        shutdown_timeout_seconds=60,
        unfinished_requests=160,
    )


def test_over_nvlink_every_gpu_works_on_each_token() -> None:
    found = placed("meta-llama/Llama-3.3-70B-Instruct", H100)
    assert (found.fit.tensor_parallel, found.fit.pipeline_parallel) == (4, 1)
    assert found.parallelism.value == "4 GPUs by tensors"
    assert "NVLink" in found.parallelism.reason
    assert [r.value for r in found.parallelism.rejected] == ["1 GPU", "2 GPUs by tensors"]
    assert "65.7 GiB of each GPU" in found.parallelism.rejected[1].reason


def test_over_pcie_the_reason_weighs_all_reduces_against_reading() -> None:
    found = placed("meta-llama/Llama-3.3-70B-Instruct", PCIE)
    assert found.fit.pipeline_parallel == 1
    assert "in all-reduces and" in found.parallelism.reason


def test_stages_are_taken_where_links_take_longer_than_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = CATALOG.accelerator(PCIE).model_copy(update={"interconnect_gb_per_second": 1.0})
    model = CATALOG.model("meta-llama/Llama-3.3-70B-Instruct")
    cut = {n.parallel.gpus: n for n in layouts("m", model_spec(model.name), model, slow, "bf16", 4)}
    assert cut[4].parallel == Parallelism(1, 4)
    assert "stages pass activations on once" in cut[4].reason
    read = model.weight_bytes["bf16"] / 4 / (slow.memory_bandwidth_gb_per_second * 1e9)
    assert all_reduce_seconds(model, slow, 32, Parallelism(4)) > read


def test_heads_that_do_not_divide_are_split_by_layers() -> None:
    """phi-4 has 40 heads over 10 KV heads: two GPUs get five each, four cannot."""
    model = CATALOG.model("microsoft/phi-4")
    assert [n for n in (1, 2, 4, 8) if splits(model, n)] == [1, 2]
    big = model.model_copy(update={"weight_bytes": {"bf16": 200 * 10**9}})
    fit = placed_model(big, H100).fit
    assert (fit.tensor_parallel, fit.pipeline_parallel, fit.gpus) == (2, 2, 4)


def test_named_stages_reach_the_engine_and_the_node() -> None:
    found = placed("Qwen/Qwen3-32B", "nvidia-l40s-48gb", pipelineParallel=2, tensorParallel=1)
    assert (found.fit.tensor_parallel, found.fit.pipeline_parallel) == (1, 2)
    assert "--pipeline-parallel-size=2" in arguments(found)
    assert found.instance.accelerator_count >= 2
    assert found.host.shm_mib >= 16 * 1024
    assert found.parallelism.value == "2 stages of 1 GPU"
    assert found.parallelism.reason.startswith("named in the stack file")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(CATALOG.models)), st.integers(1, 8), st.sampled_from([1, 2, 4]))
def test_pods_of_stages_ask_for_every_gpu_and_its_memory(
    name: str, stages: int, tensor: int
) -> None:
    try:
        found = placed(name, H100, pipelineParallel=stages, tensorParallel=tensor)
    except PlanError:
        return
    assert found.fit.gpus == stages * tensor <= found.instance.accelerator_count
    more = placed(name, H100, maxConcurrency=1)
    if found.fit.gpus > more.fit.gpus:
        assert found.host.memory_request_mib > more.host.memory_request_mib


def test_more_stages_than_gpus_or_layers_say_how_many_work() -> None:
    said = error("Qwen/Qwen3-32B", H100, pipelineParallel=16, tensorParallel=1)
    assert "m.pipelineParallel: 16 stages of 1 GPU are more than the 8 GPUs" in said
    assert "a replica does not span nodes; use pipelineParallel: 8 or fewer" in said
    said = error("Qwen/Qwen3-32B", H100, pipelineParallel=65)
    assert "65 stages are more than the 64 layers" in said


def test_thin_slices_of_quantised_experts_become_whole_experts() -> None:
    """Qwen3-235B in fp8 over eight: 192 columns of an expert each are no multiple of 128."""
    model = published("Qwen/Qwen3-235B-A22B-FP8")
    found = placed_model(model, H100, tensorParallel=8)
    assert found.fit.expert_parallel
    assert "--enable-expert-parallel" in arguments(found)
    assert "whole experts each" in found.parallelism.value
    four = placed_model(model, H100, tensorParallel=4, maxConcurrency=2)
    assert not four.fit.expert_parallel
    assert "--enable-expert-parallel" not in arguments(four)


def test_whole_experts_are_refused_where_there_are_none_or_they_do_not_divide() -> None:
    said = error("Qwen/Qwen3-32B", H100, expertParallel=True)
    assert "m.expertParallel: Qwen/Qwen3-32B has no experts" in said
    said = error("openai/gpt-oss-120b", H100, expertParallel=True)
    assert "1 GPU holds openai/gpt-oss-120b" in said
    granite = CATALOG.model("ibm-granite/granite-4.0-h-small").model_copy(
        update={"experts": 6, "experts_per_token": 2}
    )
    with pytest.raises(PlanError) as caught:
        placed_model(granite, H100, expertParallel=True, tensorParallel=4)
    assert "6 experts do not divide over 4 GPUs; use tensorParallel: 2" in str(caught.value)


def test_adapters_take_memory_and_reach_the_engine() -> None:
    plain = placed("Qwen/Qwen3-8B", "nvidia-l40s-48gb")
    with_lora = placed("Qwen/Qwen3-8B", "nvidia-l40s-48gb", lora={"adapters": 16, "rank": 64})
    assert with_lora.fit.adapters_gib > 2
    lost = plain.fit.kv_cache_gib - with_lora.fit.kv_cache_gib
    assert lost == pytest.approx(with_lora.fit.adapters_gib)
    assert {"--enable-lora", "--max-loras=16", "--max-lora-rank=64"} <= set(arguments(with_lora))
    assert not [a for a in arguments(plain) if "lora" in a]


def test_an_fp8_cache_holds_twice_the_tokens_and_reaches_the_engine() -> None:
    plain, half = (
        placed("Qwen/Qwen3-8B", "nvidia-l40s-48gb", kvCache=wish) for wish in ("auto", "fp8")
    )
    assert half.fit.kv_cache_tokens == pytest.approx(2 * plain.fit.kv_cache_tokens, rel=1e-4)
    assert "--kv-cache-dtype=fp8" in arguments(half)
    assert "--kv-cache-dtype=fp8" not in arguments(plain)


def test_an_fp8_cache_is_refused_on_a_gpu_that_does_not_compute_in_it() -> None:
    said = refused({(*BIG, "kvCache"): "fp8"})
    assert "models.qwen3-32b.kvCache" in said
    assert "NVIDIA A100 SXM4 40 GB (compute capability 8.0) does not; use kvCache: auto" in said


def test_a_precision_of_another_checkpoint_says_to_name_that_checkpoint() -> None:
    said = error("Qwen/Qwen3-8B", "nvidia-l40s-48gb", precision="int4")
    assert "or as source a repository whose checkpoint is int4" in said


def test_what_does_not_fit_names_the_cheapest_type_that_holds_it() -> None:
    said = refused({(*BIG, "nodePool"): "l40s"})
    assert "the cheapest that holds it here is accelerator: nvidia-l40s-48gb with g6e." in said
    assert "an hour)" in said
    with_lora = refused({(*BIG, "nodePool"): "l40s", (*BIG, "lora"): {"adapters": 64, "rank": 256}})
    assert "adapters " in with_lora


def test_too_many_requests_or_too_long_ones_say_what_would_fit() -> None:
    said = error("meta-llama/Llama-3.1-8B-Instruct", "nvidia-a10g-24gb", maxConcurrency=1000)
    assert "lower maxConcurrency to " in said
    types = tuple(t for t in CATALOG.instances_with("nvidia-a10g-24gb") if t.name == "g5.xlarge")
    model = CATALOG.model("meta-llama/Llama-3.1-8B-Instruct")
    with pytest.raises(PlanError) as caught:
        place("m", model_spec(model.name, maxModelLen=100_000), model, types, CONTEXT, 0)
    assert "lower maxModelLen to " in str(caught.value)


def test_more_gpus_than_any_node_has_are_refused_with_what_works() -> None:
    big = CATALOG.model("deepseek-ai/DeepSeek-V3").model_copy(
        update={"weight_bytes": {"fp8": 1_400 * 10**9}}
    )
    with pytest.raises(PlanError) as caught:
        placed_model(big, H100)
    assert "does not fit 8 x NVIDIA H100 SXM5" in str(caught.value)
    assert "the cheapest that holds it here is accelerator: nvidia-b300-288gb" in str(caught.value)
    assert "more GPUs" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CATALOG.models)), st.sampled_from([H100, PCIE, "nvidia-l4-24gb"]))
def test_an_fp8_cache_never_needs_more_gpus_nor_holds_fewer(name: str, accelerator: str) -> None:
    def gpus(wish: str) -> float:
        try:
            return placed(name, accelerator, kvCache=wish).fit.gpus
        except PlanError:
            return float("inf")

    assert gpus("fp8") <= gpus("auto")


def test_adapters_and_stages_of_a_stack_change_only_what_they_must() -> None:
    plan = planned({(*SMALL, "lora"): {"adapters": 4}})
    assert "--max-lora-rank=16" in plan.models["qwen3-8b"].engine_args
    assert plan.models["qwen3-32b"].engine_args == planned().models["qwen3-32b"].engine_args
    assert dict(plan.decisions())["models.qwen3-8b.tensorParallel"].value == "1 GPU"


def test_a_replica_of_stages_counts_all_its_gpus_at_full_scale() -> None:
    changes: dict[Any, Any] = {
        (*BIG, "tensorParallel"): 2,
        (*BIG, "pipelineParallel"): 4,
        (*BIG, "coldStartBudget"): "30m",
        (*A100, "maxNodes"): 8,
    }
    model = planned(changes).models["qwen3-32b"]
    assert (model.fit.gpus, model.most_gpus) == (8, 8 * model.scaling.max_replicas)
    assert "maxNodes: 6" in refused({**changes, (*A100, "maxNodes"): 4})


# MIG
def slice_of(name: str, accelerator: str, **asked: Any) -> Any:
    gpu: Accelerator = CATALOG.accelerator(accelerator)
    return smallest_slice(CATALOG.model(name), gpu, CATALOG.mig_profiles[accelerator], **asked)


def test_slices_have_the_memory_nvidia_smi_shows() -> None:
    """`nvidia-smi mig -lgip` on A100 40 GB (NVIDIA MIG User Guide)."""
    gpu = CATALOG.accelerator("nvidia-a100-40gb")
    shown = {"1g.5gb": 4.75, "2g.10gb": 9.75, "3g.20gb": 19.62, "4g.20gb": 19.62}
    for profile in CATALOG.mig_profiles["nvidia-a100-40gb"]:
        if profile.profile in shown:
            assert slice_gib(gpu, profile) == pytest.approx(shown[profile.profile], abs=0.1)


def test_the_smallest_slice_that_holds_a_model_is_taken_and_smaller_ones_explained() -> None:
    found = slice_of("Qwen/Qwen3-8B", "nvidia-a100-80gb")
    assert (found.profile.profile, found.profile.instances) == ("3g.40gb", 2)
    assert found.profile.resource_name == "nvidia.com/mig-3g.40gb"
    assert [r.value for r in found.rejected] == ["1g.10gb", "1g.20gb", "2g.20gb"]
    assert "weights take 15.3" in found.rejected[0].reason
    assert slice_of("Qwen/Qwen3-8B", "nvidia-a100-80gb", concurrency=4).profile.profile == "1g.20gb"


def test_no_slice_holds_a_model_that_needs_the_gpu() -> None:
    assert slice_of("Qwen/Qwen3-32B", "nvidia-a100-80gb") is None
    assert slice_of("Qwen/Qwen3-8B", "nvidia-a100-80gb", precision="mxfp4") is None


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CATALOG.mig_profiles)), st.integers(1, 200))
def test_more_requests_never_take_a_smaller_slice(accelerator: str, concurrency: int) -> None:
    def eighths(wanted: int) -> int:
        found = slice_of("Qwen/Qwen3-1.7B", accelerator, concurrency=wanted)
        return found.profile.memory_eighths if found else 9

    assert eighths(concurrency) <= eighths(concurrency + 1)


def test_a_slices_instances_fit_the_gpu_they_are_cut_from() -> None:
    for profiles in CATALOG.mig_profiles.values():
        for profile in profiles:
            assert profile.instances * profile.memory_eighths <= 8
            assert profile.instances * profile.compute_slices <= 7


def test_the_whole_gpu_holds_whatever_a_slice_holds() -> None:
    gpu = CATALOG.accelerator("nvidia-h100-80gb")
    for name in CATALOG.models:
        if slice_of(name, "nvidia-h100-80gb"):
            assert fits(CATALOG.model(name), gpu).holds


def test_a_precision_without_weights_is_a_clear_error_of_the_question() -> None:
    with pytest.raises(LookupError, match="no weights in 'mxfp4'; known: bf16, fp8, int8, int4"):
        fits(CATALOG.model("Qwen/Qwen3-8B"), CATALOG.accelerator(H100), precision="mxfp4")
