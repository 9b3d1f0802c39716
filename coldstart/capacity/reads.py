"""What one decode step reads from GPU memory: weights, and what running sequences keep."""

from __future__ import annotations

from coldstart.capacity.memory import BYTES_16_BIT, ONE_GPU, Parallelism, token_bytes_per_layer
from coldstart.catalog import BITS, Model


def weight_bytes_read(model: Model, precision: str, running: float) -> float:
    """Bytes of weights one step of `running` sequences reads, over all GPUs.

    All of them for a dense model. Of a mixture of experts everything but the routed experts, and
    the experts that a token chooses: tokens choose k of E independently, so a batch touches
    1 - (1 - k/E)^running of them.
    """
    whole = {str(key): count for key, count in model.weight_bytes.items()}[precision]
    if not model.experts or not model.experts_per_token:
        return whole
    experts = min(whole, 1e9 * model.expert_parameters_billion * BITS[precision] / 8)
    missed = (1 - model.experts_per_token / model.experts) ** max(running, 1)
    return whole - experts * missed


def cache_bytes_read(
    model: Model,
    tokens: float,
    *,
    kv_bytes: int = BYTES_16_BIT,
    parallel: Parallelism = ONE_GPU,
) -> float:
    """Bytes one GPU of a tensor-parallel group reads of a sequence of `tokens`, over all stages.

    Full attention layers read every token, sliding ones their window; a state is read and written.
    """
    windowed = min(tokens, model.sliding_window_tokens or tokens)
    read = model.full_layers * tokens + model.sliding_layers * windowed
    state = 2 * model.state_layers * model.state_bytes_per_layer / parallel.tensor
    return read * token_bytes_per_layer(model, kv_bytes, parallel.tensor) + state
