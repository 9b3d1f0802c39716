"""Predicted KV cache against what vLLM logged, pair by pair, with the error stated and bounded.

The error is in GiB of one GPU as a share of what vLLM may use of it, since everything the
prediction gets wrong is subtracted from that. Over the thirteen logs of data/kv_cache_logs.yaml,
of twelve pairs and releases from 0.2 to 0.31.0, it is 1.4 % in the mean and 6.5 % at most; the
release of that pair counted some memory twice (vllm#21348), without it 3.1 % is the most. Where
weights fill a GPU the same GiB are a larger share of the little KV cache that is left: 1.1 % in the
median, 13 % on a 24 GB A10, 57 % for the pair above. Three terms were set by some of these logs
(sampling by A100 40 GB and H100 NVL, the context by vLLM 0.31.0); the others were not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean, median
from typing import Any

import pytest
import yaml
from model_examples import DATA, published

from coldstart.capacity.memory import Batch, Layers, Parallelism, layers_of, memory, sequence_bytes
from coldstart.catalog import load
from coldstart.units import GIB

LOGS: list[dict[str, Any]] = yaml.safe_load((DATA / "kv_cache_logs.yaml").read_text("utf-8"))
BOUNDS = {
    "Qwen3-235B-A22B-FP8 on four H100, vLLM 0.9": 0.066,
    "Llama-3-8B on H100, vLLM 0.6": 0.026,
    "Llama-3.1-8B on A10, vLLM 0.8": 0.031,
}
"""Shares of the memory vLLM may use; the others keep OTHERS. On the H100 1.79 GiB lay outside
PyTorch, where later releases have a fifth of that; on the A10 sampling took less than assumed."""
OTHERS = 0.012


def parallel(log: Mapping[str, Any]) -> Parallelism:
    return Parallelism(log.get("tensor", 1))


def logged_gib(log: Mapping[str, Any]) -> float:
    if "kv_cache_gib" in log:
        return log["kv_cache_gib"]
    return log["kv_cache_tokens"] * per_token(log) / GIB


def available(log: Mapping[str, Any]) -> float:
    return log["memory_gib"] * log["utilization"]


def per_token(log: Mapping[str, Any]) -> float:
    """Bytes a token takes in sequences of the log's context, on one GPU."""
    model = published(log["model"])
    tokens, batch = log["context"], log["batch_tokens"]
    return sequence_bytes(model, tokens, batch_tokens=batch, parallel=parallel(log)) / tokens


def error(log: Mapping[str, Any]) -> float:
    """Share of the memory vLLM may use by which the prediction is off."""
    model = published(log["model"])
    batch = Batch(log["batch_tokens"], log["sequences"])
    found = memory(
        model,
        model.native_precision,
        log["memory_gib"],
        log["utilization"],
        batch,
        parallel=parallel(log),
    )
    before_graphs_counted = found.kv_cache_gib + found.graphs_gib
    return (before_graphs_counted - logged_gib(log)) / found.requested_gib


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log["pair"])
def test_the_kv_cache_is_predicted_within_the_stated_error(log: Mapping[str, Any]) -> None:
    assert abs(error(log)) <= BOUNDS.get(log["pair"], OTHERS)


def test_the_mean_and_the_largest_error_are_what_is_stated() -> None:
    errors = [abs(error(log)) for log in LOGS]
    of_cache = [e * available(log) / logged_gib(log) for e, log in zip(errors, LOGS, strict=True)]
    assert len({(log["model"], log["memory_gib"]) for log in LOGS}) >= 10
    assert mean(errors) == pytest.approx(0.014, abs=0.0005)
    assert sorted(errors)[-2:] == pytest.approx([0.031, 0.065], abs=0.0006)
    assert median(of_cache) == pytest.approx(0.011, abs=0.001)
    assert sorted(of_cache)[-2:] == pytest.approx([0.13, 0.57], abs=0.005)


COMPLETE = [log for log in LOGS if {"kv_cache_gib", "kv_cache_tokens"} <= set(log)]


# Of several GPUs a log shows the memory of each and the tokens of the fullest.
@pytest.mark.parametrize(
    "log", [log for log in COMPLETE if "tensor" not in log], ids=lambda log: log["pair"]
)
def test_bytes_per_token_are_exact_to_what_two_decimals_of_a_log_allow(
    log: Mapping[str, Any],
) -> None:
    tokens = log["kv_cache_gib"] * GIB / per_token(log)
    assert tokens == pytest.approx(log["kv_cache_tokens"], rel=0.006 / log["kv_cache_gib"] + 0.001)


def test_a_latent_is_held_whole_by_each_of_eight_gpus() -> None:
    """46.80 GiB per GPU gave 715,072 tokens of Kimi-K2-Thinking on eight H200
    (vllm-project/recipes 8959cf6, moonshotai/Kimi-K2-Think.md)."""
    model = published("moonshotai/Kimi-K2-Thinking")
    one = sequence_bytes(model, 16, batch_tokens=8192, parallel=Parallelism(8)) / 16
    assert one == 61 * 576 * 2
    assert 46.80 * GIB / one == pytest.approx(715_072, rel=0.0002)


def test_older_releases_counted_every_layer_of_gpt_oss_for_the_tokens_they_logged() -> None:
    """5.38 GiB gave 78,384 tokens of gpt-oss-120b (alvarobartt/hf-mem#60): both groups of 18 layers
    share the blocks, so a token of the log is one in all 36."""
    model = published("openai/gpt-oss-120b")
    layers = layers_of(model)
    assert layers == Layers(18, 18, 0)
    as_logged = model.model_copy(
        update={"sliding_window_tokens": None, "full_attention_layers": None}
    )
    one = sequence_bytes(as_logged, 16, batch_tokens=8192) / 16
    assert 5.38 * GIB / one == pytest.approx(78_384, rel=0.001)


def test_state_layers_take_two_pages_of_a_hybrids_pool() -> None:
    """6.01 GiB held 4.35 sequences of 131,072 tokens of Qwen3.6-35B-A3B in fp8 on an RTX 5090
    (noonghunna/club-3090#652), in blocks of 2096 tokens."""
    model = published("Qwen/Qwen3.6-35B-A3B")
    assert layers_of(model) == Layers(10, 0, 30)
    assert model.state_bytes_per_layer == 2096 * 2 * 2 * 256
    one = sequence_bytes(model, 131_072, batch_tokens=8192, kv_bytes=1)
    assert 6.01 * GIB / one == pytest.approx(4.35, abs=0.01)


def test_loaded_weights_are_what_vllm_logged() -> None:
    """GiB on one GPU: vllm#10511, vllm#17469 (Qwen3-30B-A3B on four), myoceane.fr (gpt-oss-20b)."""
    for name, gpus, logged in (
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 14.96),
        ("meta-llama/Llama-3.1-8B-Instruct", 2, 7.48),
        ("Qwen/Qwen3-30B-A3B", 4, 14.2474),
        ("openai/gpt-oss-20b", 1, 13.72),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", 2, 13.9476),
    ):
        model = published(name)
        found = memory(
            model, model.native_precision, 80, 0.9, Batch(2048, 32), parallel=Parallelism(gpus)
        )
        assert found.weights_gib == pytest.approx(logged, rel=0.015), name


def test_graphs_cost_what_vllm_logged_or_more() -> None:
    """0.23 GiB for Llama-3.1-8B and 256 sequences (vLLM 0.31.0), 0.74 at most in older releases."""
    model = published("meta-llama/Llama-3.1-8B-Instruct")
    found = memory(model, "bf16", 79.25, 0.92, Batch(2048, 256))
    assert 0.23 <= found.graphs_gib <= 1.0
    assert replace(found, kv_cache_gib=0).overhead_gib < 2.0


def test_every_gpus_visible_memory_is_below_what_the_cloud_reports() -> None:
    for accelerator in load().accelerators.values():
        assert 0.9 * accelerator.memory_gib < accelerator.visible_gib < accelerator.memory_gib
