"""What GPUs of one replica tell each other, and what it costs beside reading the weights."""

from __future__ import annotations

from coldstart.capacity.memory import BYTES_16_BIT, Parallelism, weight_bytes
from coldstart.catalog import Accelerator, Model

ALL_REDUCES_PER_LAYER = 2
"""One after attention, one after the MLP (Megatron-LM, arXiv 1909.08053)."""


def tensor_syncs(layers: int, steps: int, per_layer: int = 1) -> int:
    """Times that all GPUs of a tensor-parallel group wait for each other."""
    return layers * steps * per_layer


def pipeline_transfers(stages: int, steps: int) -> int:
    """Times that activations cross from one pipeline stage to the next."""
    return (stages - 1) * steps


def all_reduce_seconds(
    model: Model, accelerator: Accelerator, tokens: int, parallel: Parallelism
) -> float:
    """Seconds a step of `tokens` spends in ring all-reduces, by bytes and link speed alone."""
    group = parallel.tensor
    if group == 1:
        return 0.0
    message = tokens * model.hidden_size * BYTES_16_BIT * 2 * (group - 1) / group
    one_way = accelerator.interconnect_gb_per_second * 1e9 / 2
    return ALL_REDUCES_PER_LAYER * model.layers * message / one_way


def read_seconds(
    model: Model, accelerator: Accelerator, precision: str, sequences: int, parallel: Parallelism
) -> float:
    """Seconds a decode step takes to read the weights it touches from one stage's memory.

    With experts, `sequences` tokens choose among them independently.
    """
    read = weight_bytes(model, precision, parallel)
    if model.experts and model.experts_per_token:
        missed = (1 - model.experts_per_token / model.experts) ** sequences
        always = model.active_parameters_billion / model.parameters_billion
        read *= always + (1 - always) * (1 - missed)
    return read / (accelerator.memory_bandwidth_gb_per_second * 1e9)
