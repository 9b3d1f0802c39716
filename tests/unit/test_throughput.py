"""The roofline of a replica against its ceilings and against published measurements."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_examples import QWEN2_VL_72B

from coldstart.capacity.memory import Parallelism, kv_bytes_per_token, token_bytes_per_layer
from coldstart.capacity.reads import cache_bytes_read, weight_bytes_read
from coldstart.capacity.speed import EngineSpeed
from coldstart.capacity.throughput import (
    CEILING,
    achieved,
    decode_ceiling_tokens_per_second,
    engine_speed,
)
from coldstart.catalog import load

CATALOG = load()
FIGURES = achieved(CATALOG)
H100, MI300X = CATALOG.accelerator("nvidia-h100-80gb"), CATALOG.accelerator("amd-mi300x-192gb")
NAMES = ("Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B", "openai/gpt-oss-120b")


def speed(name: str, *, context: float, running: float = 1, **more: object) -> EngineSpeed:
    model = CATALOG.model(name)
    arguments = {"precision": model.native_precision, "accelerator": H100, **more}
    return engine_speed(
        model,
        arguments.pop("accelerator"),  # type: ignore[arg-type]
        FIGURES,
        context_tokens=context,
        running=running,
        **arguments,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("weights_gb", "tokens_per_second"), [(14, 239.3), (7, 478.6), (140, 23.9)]
)
def test_the_decode_ceilings_of_seed_004_are_reproduced(
    weights_gb: float, tokens_per_second: float
) -> None:
    assert round(decode_ceiling_tokens_per_second(3350, weights_gb), 1) == tokens_per_second


def test_without_overhead_the_roofline_is_the_ceiling_of_weights_alone() -> None:
    model = CATALOG.model("Qwen/Qwen3-8B")
    perfect = engine_speed(model, H100, CEILING, precision="bf16", context_tokens=1000)
    ceiling = decode_ceiling_tokens_per_second(3350, model.checkpoint_bytes / 1e9)
    assert 1 / perfect.step_seconds == pytest.approx(ceiling)


def test_seed_002_measured_39_6_ms_over_a_floor_of_27_ms_and_15_percent_are_missed_at_most() -> (
    None
):
    """8,192 prompt and 1,024 output tokens, one request at a time, bf16, one MI300X."""
    arguments = {"precision": "bf16", "context_tokens": 8192 + 512}
    floor = engine_speed(QWEN2_VL_72B, MI300X, CEILING, **arguments)  # type: ignore[arg-type]
    assert 1000 * floor.step_seconds == pytest.approx(27, abs=1)
    estimate = 1000 * engine_speed(QWEN2_VL_72B, MI300X, FIGURES, **arguments).tpot_seconds(1)  # type: ignore[arg-type]
    assert estimate == pytest.approx(39.6, rel=0.15)
    assert estimate < 39.6, "the share of bandwidth was measured on NVIDIA GPUs"


def test_gpt_oss_120b_on_mi300x_is_estimated_2_2_times_faster_than_seed_001_measured() -> None:
    """154 tokens/s were measured; ROCm ran MXFP4 weights far from the memory's speed.

    The error is in the open: on this pair the user's own measurement has to replace the estimate.
    """
    fast = speed("openai/gpt-oss-120b", accelerator=MI300X, context=500)
    assert 1 / fast.tpot_seconds(1) / 154 == pytest.approx(2.2, abs=0.1)
    # 322 ms to the first token were measured for a prompt the author does not state; a thousand
    # tokens would be read in a tenth of it.
    assert fast.prefill_seconds(1000) + fast.tpot_seconds(1) < 0.322


@pytest.mark.parametrize(
    ("name", "gpus", "running", "context", "measured_ms"),
    [
        ("Qwen/Qwen3-8B", 1, 8.0, 423, 8.20),
        ("Qwen/Qwen3-8B", 1, 63.9, 422, 13.95),
        ("Qwen/Qwen3-8B", 1, 127.8, 420, 20.70),
        ("Qwen/Qwen3-8B", 1, 32.0, 4335, 16.87),
        ("Qwen/Qwen3-14B", 1, 31.9, 405, 15.01),
        ("Qwen/Qwen3-14B", 1, 59.0, 3605, 28.07),
        ("Qwen/Qwen3-32B", 1, 16.0, 413, 26.35),
        ("Qwen/Qwen3-32B", 2, 63.9, 417, 22.45),
        ("Qwen/Qwen3-32B", 2, 63.8, 3779, 32.28),
    ],
)
def test_dense_models_on_h100_are_within_10_percent_of_published_token_times(
    name: str, gpus: int, running: float, context: float, measured_ms: float
) -> None:
    """Median between tokens, vLLM, ML.ENERGY leaderboard at 0cd52dab; prompt lengths assumed."""
    found = speed(name, context=context, parallel=Parallelism(gpus)).tpot_seconds(running)
    assert 1000 * found == pytest.approx(measured_ms, rel=0.10)


@pytest.mark.parametrize(
    ("running", "measured_ms"), [(8.0, 9.86), (16.0, 13.23), (32.0, 17.96), (64.0, 24.15)]
)
def test_a_mixture_of_experts_on_h100_is_within_17_percent_of_published_token_times(
    running: float, measured_ms: float
) -> None:
    found = speed("openai/gpt-oss-120b", context=1120, running=running).tpot_seconds(running)
    assert 1000 * found == pytest.approx(measured_ms, rel=0.17)


@pytest.mark.parametrize(
    ("precision", "prompt", "measured_ms"),
    [
        ("bf16", 1024, 34.3),
        ("bf16", 2048, 61.3),
        ("bf16", 8192, 253.9),
        ("fp8", 1024, 29.3),
        ("fp8", 2048, 50.3),
        ("fp8", 8192, 205.1),
    ],
)
def test_the_first_token_of_qwen3_8b_on_h100_is_within_10_percent_of_what_was_published(
    precision: str, prompt: int, measured_ms: float
) -> None:
    """One request at a time, 95th percentile, vLLM 0.30, silybench-data at 93e48873."""
    found = speed("Qwen/Qwen3-8B", precision=precision, context=prompt, prompt_tokens=prompt)
    first = found.prefill_seconds(prompt) + found.tpot_seconds(1)
    assert 1000 * first == pytest.approx(measured_ms, rel=0.10)


def test_one_token_of_a_mixture_reads_two_of_eight_experts_and_a_large_batch_all() -> None:
    model = CATALOG.model("mistralai/Mixtral-8x7B-Instruct-v0.1")
    expert = 2 * 32 * 3 * 4096 * 14336
    for running, experts in ((1, 2.0), (2, 3.5), (500, 8.0)):
        others = model.checkpoint_bytes - 8 * expert
        expected = others + experts * expert
        assert weight_bytes_read(model, "bf16", running) == pytest.approx(expected, rel=1e-6)
    assert weight_bytes_read(model, "bf16", 1) / 2e9 == pytest.approx(
        model.active_parameters_billion
    )
    dense = CATALOG.model("Qwen/Qwen3-8B")
    assert weight_bytes_read(dense, "bf16", 1) == dense.checkpoint_bytes


def test_what_stays_in_16_bit_beside_mxfp4_experts_is_read_by_every_token() -> None:
    """Of gpt-oss-120b 2.1 billion parameters are in no expert and take 4 GB of its 65."""
    model = CATALOG.model("openai/gpt-oss-120b")
    one = weight_bytes_read(model, "mxfp4", 1)
    assert one == pytest.approx(4e9 + 61e9 * 4 / 128, rel=0.01)
    assert one > 1.5 * model.checkpoint_bytes * (
        model.active_parameters_billion / model.parameters_billion
    )


def test_a_step_reads_a_window_of_the_layers_that_have_one_and_a_state_twice() -> None:
    windowed = CATALOG.model("openai/gpt-oss-120b")
    each = token_bytes_per_layer(windowed)
    assert cache_bytes_read(windowed, 1000) == 18 * (1000 + 128) * each
    assert cache_bytes_read(windowed, 100) == 36 * 100 * each
    hybrid = CATALOG.model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    state = 36 * hybrid.state_bytes_per_layer
    assert cache_bytes_read(hybrid, 1000) == 1000 * kv_bytes_per_token(hybrid) + 2 * state
    latent = CATALOG.model("deepseek-ai/DeepSeek-V3")
    assert cache_bytes_read(latent, 9, parallel=Parallelism(8)) == cache_bytes_read(latent, 9)


def test_layers_with_a_state_add_no_attention_to_a_prompt() -> None:
    """Only a quarter of the layers of Qwen3-Next compares each token with those before it."""
    model = CATALOG.model("Qwen/Qwen3-Next-80B-A3B-Instruct")

    def seconds(tokens: int) -> float:
        found = engine_speed(model, H100, CEILING, precision="bf16", context_tokens=tokens)
        return found.prefill_seconds(tokens)

    attention = seconds(20_000) - 2 * seconds(10_000)  # what grows with the square of the length
    operations = 4 * 12 * 16 * 256 * (20_000**2 - 2 * 10_000**2) / 2
    assert attention == pytest.approx(operations / 989e12)


def test_stages_make_no_step_shorter_and_share_the_sequences() -> None:
    one, four = (
        speed("Qwen/Qwen3-32B", context=2000, parallel=Parallelism(1, stages)) for stages in (1, 4)
    )
    handed_on = 3 * 5120 * 2 / 450e9
    assert four.tpot_seconds(1) == pytest.approx(one.tpot_seconds(1) + handed_on)
    assert four.tpot_seconds(64) < one.tpot_seconds(64)
    # The fullest of four batches of 64 sequences has 16; the line stays above it.
    assert one.tpot_seconds(16) < four.tpot_seconds(64) < one.tpot_seconds(17) + 17 * handed_on
    assert four.prefill_tokens_per_second <= one.prefill_tokens_per_second


def test_a_slow_link_between_gpus_costs_prefill_more_than_a_fast_one() -> None:
    fast = speed("Qwen/Qwen3-32B", context=1000, parallel=Parallelism(2))
    pcie = H100.model_copy(update={"interconnect": "pcie", "interconnect_gb_per_second": 64})
    slow = speed("Qwen/Qwen3-32B", context=1000, parallel=Parallelism(2), accelerator=pcie)
    assert slow.prefill_tokens_per_second < 0.8 * fast.prefill_tokens_per_second
    assert slow.step_seconds_per_sequence > fast.step_seconds_per_sequence


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    factor=st.floats(1.01, 10),
    running=st.integers(1, 256),
    context=st.integers(1, 30_000),
    gpus=st.sampled_from([1, 2, 4, 8]),
)
def test_more_bandwidth_arithmetic_or_linkage_never_makes_a_replica_slower(
    name: str, factor: float, running: int, context: int, gpus: int
) -> None:
    base = speed(name, context=context, running=running, parallel=Parallelism(gpus))
    for update in (
        {"memory_bandwidth_gb_per_second": H100.memory_bandwidth_gb_per_second * factor},
        {"dense_tflops": {k: v * factor for k, v in H100.dense_tflops.items()}},
        {"interconnect_gb_per_second": H100.interconnect_gb_per_second * factor},
    ):
        better = speed(
            name,
            context=context,
            running=running,
            parallel=Parallelism(gpus),
            accelerator=H100.model_copy(update=update),
        )
        assert better.tpot_seconds(running) <= base.tpot_seconds(running)
        assert better.prefill_tokens_per_second >= base.prefill_tokens_per_second


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 200), st.integers(1, 20_000))
def test_a_larger_batch_or_a_longer_context_never_writes_tokens_faster(
    name: str, running: int, context: int
) -> None:
    at = speed(name, context=context, running=running).tpot_seconds(running)
    assert speed(name, context=context, running=running + 1).tpot_seconds(running + 1) >= at
    assert speed(name, context=context + 100, running=running).tpot_seconds(running) >= at


@pytest.mark.parametrize(
    "figures", [(math.nan, 0.01, 0.0), (1.0, math.inf, 0.0), (0.0, 0.01, 0.0), (1.0, 0.01, -1.0)]
)
def test_a_speed_that_cannot_be_is_refused(figures: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"positive rate|cannot shorten"):
        EngineSpeed(*figures)
