"""What GPUs of one replica tell each other, by bytes and link speed alone."""

from __future__ import annotations

from coldstart.capacity.memory import BYTES_16_BIT, Parallelism
from coldstart.catalog import Accelerator, Model

ALL_REDUCES_PER_LAYER = 2
"""One after attention, one after the MLP (Megatron-LM, arXiv 1909.08053)."""


def tensor_syncs(layers: int, steps: int, per_layer: int = ALL_REDUCES_PER_LAYER) -> int:
    """Times that all GPUs of a tensor-parallel group wait for each other."""
    return layers * steps * per_layer


def pipeline_transfers(stages: int, steps: int) -> int:
    """Times that activations cross from one pipeline stage to the next."""
    return (stages - 1) * steps


def all_reduce_seconds(
    model: Model, accelerator: Accelerator, tokens: float, parallel: Parallelism
) -> float:
    """Seconds a step of `tokens` spends in ring all-reduces, over all stages."""
    group = parallel.tensor
    message = tokens * model.hidden_size * BYTES_16_BIT * 2 * (group - 1) / group
    return tensor_syncs(model.layers, 1) * message / _one_way_bytes_per_second(accelerator)


def transfer_seconds(
    model: Model, accelerator: Accelerator, tokens: float, parallel: Parallelism
) -> float:
    """Seconds a step of `tokens` spends on its way from stage to stage."""
    message = tokens * model.hidden_size * BYTES_16_BIT
    crossings = pipeline_transfers(parallel.pipeline, 1)
    return crossings * message / _one_way_bytes_per_second(accelerator)


def _one_way_bytes_per_second(accelerator: Accelerator) -> float:
    return accelerator.interconnect_gb_per_second * 1e9 / 2
