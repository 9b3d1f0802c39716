"""How fast a replica reads prompts and writes tokens: a roofline over catalog entries.

One decode step reads the weights once and the KV cache of every running sequence, so its floor is
bytes over memory bandwidth ("Efficiently Scaling Transformer Inference", arXiv 2211.05102; "GPU
Serving & Autoscaling", leetllm.com, throughput and bandwidth constraints). A prompt costs two
operations per active parameter and token, and the attention of each token to those before it.
What a real engine reaches of both peaks, and its fixed costs, are `Achieved` figures of the
catalog.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.capacity.communication import all_reduce_seconds, tensor_syncs, transfer_seconds
from coldstart.capacity.memory import BYTES_16_BIT, ONE_GPU, Parallelism
from coldstart.capacity.reads import cache_bytes_read, weight_bytes_read
from coldstart.capacity.speed import EngineSpeed
from coldstart.catalog import Accelerator, Catalog, Model

NARROW = ("fp8", "int8", "mxfp4")
"""Weights that are multiplied in 8 bit or fewer where the GPU can; int4 is dequantised to 16."""


@dataclass(frozen=True, slots=True)
class Achieved:
    """What an engine reaches of the peaks (shares), and what a step costs besides (seconds).

    `layer_overhead_seconds` is paid per layer and step, `sequence_overhead_seconds` per running
    sequence and step, `all_reduce_seconds` per all-reduce on top of its bytes.
    """

    bandwidth_fraction: float = 1.0
    compute_fraction_16bit: float = 1.0
    compute_fraction_8bit: float = 1.0
    layer_overhead_seconds: float = 0.0
    sequence_overhead_seconds: float = 0.0
    all_reduce_seconds: float = 0.0


CEILING = Achieved()
"""The roofline itself: no engine is faster."""


def achieved(catalog: Catalog) -> Achieved:
    """The catalog's figures, each with its source in limits.yaml."""
    return Achieved(
        catalog.limit("decode_bandwidth_fraction").value,
        catalog.limit("compute_fraction_16bit").value,
        catalog.limit("compute_fraction_8bit").value,
        catalog.limit("layer_overhead_seconds").value,
        catalog.limit("sequence_overhead_seconds").value,
        catalog.limit("all_reduce_seconds").value,
    )


def decode_ceiling_tokens_per_second(
    memory_bandwidth_gb_per_second: float, weights_gb: float
) -> float:
    """Tokens a second of one sequence if weights were all that is read, in decimal GB."""
    return memory_bandwidth_gb_per_second / weights_gb


def engine_speed(
    model: Model,
    accelerator: Accelerator,
    figures: Achieved,
    *,
    precision: str,
    context_tokens: float,
    kv_bytes: int = BYTES_16_BIT,
    prompt_tokens: float | None = None,
    parallel: Parallelism = ONE_GPU,
    running: float = 1,
) -> EngineSpeed:
    """The speed of a replica cut as `parallel` says.

    `kv_bytes` is what a value of the KV cache takes; `context_tokens` is what a running sequence
    holds on average; `prompt_tokens` (default: the context) how long a prompt to read is. For a
    mixture of experts the step reads what a batch of `running` touches, so that smaller batches are
    at most this slow; a dense model's speed does not depend on `running`.

    A token passes the stages of a pipeline in turn, each on `parallel.tensor` GPUs, so stages make
    no step shorter. They work on as many batches at once, each with its share of the sequences,
    the fullest of which is counted. Prompts are counted one at a time, as if no two were in
    different stages: a lower bound of what a pipeline reads.
    """
    tensor, stages = parallel.tensor, parallel.pipeline
    bytes_per_second = accelerator.memory_bandwidth_gb_per_second * 1e9 * figures.bandwidth_fraction
    wide = accelerator.flops_per_second("fp16") * figures.compute_fraction_16bit
    narrow = precision in NARROW and precision in accelerator.dense_tflops
    rate = (
        accelerator.flops_per_second(precision) * figures.compute_fraction_8bit if narrow else wide
    )
    arithmetic = 2e9 * model.active_parameters_billion / (tensor * rate)
    attention = _attention_operations(model, prompt_tokens or context_tokens) / (tensor * wide)
    exchange = all_reduce_seconds(model, accelerator, 1, parallel)
    exchange += transfer_seconds(model, accelerator, 1, parallel)
    waits = tensor_syncs(model.layers, 1) * figures.all_reduce_seconds if tensor > 1 else 0.0
    cache = cache_bytes_read(model, context_tokens, kv_bytes=kv_bytes, parallel=parallel)
    sequence = cache / bytes_per_second + arithmetic + exchange + figures.sequence_overhead_seconds
    weights = weight_bytes_read(model, precision, running / stages) / tensor
    # Of n sequences the fullest of s batches has at most n/s + 1 - 1/s.
    return EngineSpeed(
        prefill_tokens_per_second=1 / (arithmetic + attention + exchange),
        step_seconds=weights / bytes_per_second
        + model.layers * figures.layer_overhead_seconds
        + waits
        + sequence * (1 - 1 / stages),
        step_seconds_per_sequence=sequence / stages,
    )


def _attention_operations(model: Model, prompt_tokens: float) -> float:
    """Operations per prompt token: scores and values over, on average, half the prompt.

    What layers with a state compute does not grow with the prompt and is not counted.
    """
    span = prompt_tokens / 2
    windowed = min(span, model.sliding_window_tokens or span)
    spans = model.full_layers * span + model.sliding_layers * windowed
    return 4 * model.attention_heads * model.head_dim * spans
