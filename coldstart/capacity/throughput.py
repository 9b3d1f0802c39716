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

from coldstart.capacity.speed import EngineSpeed
from coldstart.catalog import Accelerator, Catalog, Model

ACTIVATION_BYTES = 2
"""Activations travel between GPUs in 16 bit."""
ALL_REDUCES_PER_LAYER = 2
"""After attention and after the feed-forward part (Megatron-LM, arXiv 1909.08053)."""
EIGHT_BIT = ("fp8", "int8", "mxfp4")


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


def weight_bytes_read(model: Model, precision: str, running: float) -> float:
    """Bytes of weights one step of `running` sequences reads.

    All of them for a dense model. Of a mixture of experts a token uses the share active /
    parameters, and tokens choose independently, so a batch touches 1 - (1 - share)^running.
    """
    whole = {str(key): count for key, count in model.weight_bytes.items()}[precision]
    share = model.active_parameters_billion / model.parameters_billion
    return whole * (1 - (1 - share) ** max(running, 1))


def engine_speed(
    model: Model,
    accelerator: Accelerator,
    figures: Achieved,
    *,
    precision: str,
    kv_bytes_per_token: float,
    context_tokens: float,
    prompt_tokens: float | None = None,
    tensor_parallel: int = 1,
    running: float = 1,
) -> EngineSpeed:
    """The speed of a replica on `tensor_parallel` GPUs.

    `kv_bytes_per_token` counts all layers and GPUs; `context_tokens` is what a running sequence
    holds on average; `prompt_tokens` (default: the context) how long a prompt to read is. For a
    mixture of experts the step reads what a batch of `running` touches, so that smaller batches are
    at most this slow; a dense model's speed does not depend on `running`.
    """
    gpus = tensor_parallel
    bytes_per_second = (
        gpus * accelerator.memory_bandwidth_gb_per_second * 1e9 * figures.bandwidth_fraction
    )
    wide = accelerator.flops_per_second("fp16") * figures.compute_fraction_16bit
    narrow = precision in EIGHT_BIT and precision in accelerator.dense_tflops
    rate = (
        accelerator.flops_per_second(precision) * figures.compute_fraction_8bit if narrow else wide
    )
    arithmetic = 2e9 * model.active_parameters_billion / (gpus * rate)
    attention = _attention_operations(model, prompt_tokens or context_tokens) / (gpus * wide)
    exchange = _exchange_seconds_per_token(model, accelerator, gpus)
    waits = ALL_REDUCES_PER_LAYER * figures.all_reduce_seconds if gpus > 1 else 0.0
    return EngineSpeed(
        prefill_tokens_per_second=1 / (arithmetic + attention + exchange),
        step_seconds=weight_bytes_read(model, precision, running) / bytes_per_second
        + model.layers * (figures.layer_overhead_seconds + waits),
        step_seconds_per_sequence=kv_bytes_per_token * context_tokens / bytes_per_second
        + arithmetic
        + exchange
        + figures.sequence_overhead_seconds,
    )


def _attention_operations(model: Model, prompt_tokens: float) -> float:
    """Operations per prompt token: scores and values over, on average, half the prompt."""
    span = prompt_tokens / 2
    full = model.layers if model.full_attention_layers is None else model.full_attention_layers
    windowed = min(span, model.sliding_window_tokens or span)
    spans = full * span + (model.layers - full) * windowed
    return 4 * model.attention_heads * model.head_dim * spans


def _exchange_seconds_per_token(model: Model, accelerator: Accelerator, gpus: int) -> float:
    """Seconds the activations of one token spend between GPUs: ring all-reduces in every layer."""
    if gpus == 1:
        return 0.0
    moved = 2 * (gpus - 1) / gpus * model.hidden_size * ACTIVATION_BYTES
    one_way = accelerator.interconnect_gb_per_second / 2 * 1e9
    return ALL_REDUCES_PER_LAYER * model.layers * moved / one_way
