"""GPU memory of a model, term by term, as vLLM accounts for it.

vLLM asks for `utilization` of the memory CUDA shows and gives the KV cache what is left after
weights, the peak of a profiling run with the largest batch, memory outside PyTorch and captured
graphs (vllm/v1/worker/gpu_worker.py). Everything here is per GPU. How near this comes to logged
figures is what tests/unit/test_memory_against_logs.py measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from coldstart.catalog import BITS, Model
from coldstart.units import GIB, MIB

BLOCK_TOKENS = 16
"""Tokens of a KV cache block on CUDA (vllm/config/cache.py)."""
BYTES_16_BIT = 2
"""Activations, adapters, and the KV cache unless it is quantised."""
KV_BYTES = {"bf16": 2, "fp8": 1}
STATE_COPIES = 2
"""Pages vLLM holds per sequence and group of state layers: 304 blocks gave 8.00 requests of 65,536
tokens, 300 gave 4.35 of 131,072, both only with two (boot logs of Qwen3.6-35B-A3B,
https://github.com/noonghunna/club-3090/issues/652)."""
NEARLY_EQUAL = 1.5
"""Kinds of layers whose counts differ by less are padded to the larger one, others are cut into
groups of the smaller (vllm/v1/core/kv_cache_utils.py)."""
SAMPLER_BYTES_PER_LOGIT = 16
"""Logits in 16 and 32 bit, sorted copies and their indices in the profiling run: 2.1 GiB for 1024
sequences of 128,256 logits on H100 NVL and 0.6 for 256 on A100, less what is not PyTorch's (the
logs of HPML6998-S26-Team13 that tests/unit/data/kv_cache_logs.yaml cites)."""
CONTEXT_BYTES = round(0.26 * GIB)
"""CUDA context and allocator beside PyTorch's tensors: 15.26 GiB consumed for 15.0 GiB of weights
(vLLM 0.31.0, Llama-3.1-8B on A100 80 GB)."""
COLLECTIVES_BYTES = round(0.7 * GIB)
"""Buffers of NCCL and custom all-reduce in a group of GPUs: 0.95 to 1.63 GiB outside PyTorch were
logged with four GPUs (vLLM 0.2x on GB200 and B300), less the context."""
GRAPH_BYTES_PER_LAYER = round(0.3 * MIB)
"""Per captured graph and layer: 0.67 GiB for 67 graphs of 32 layers (vLLM 0.10, Mistral-7B), 0.23
for 86 (vLLM 0.31.0, Llama-3.1-8B); the higher one counts."""
LARGEST_CAPTURE = 512
FRAGMENTATION_BYTES = 150 * MIB
"""What vLLM itself holds back where it recommends a KV cache size (redundancy_buffer_memory in
vllm/v1/worker/gpu_worker.py)."""
PADDED_HIDDEN, PADDED_EXPERT = 256, 128
"""Multiples that mxfp4 kernels pad the experts' matrices to: 12.82 GiB of gpt-oss-20b took 13.72
once loaded (vLLM 0.19, A100, https://myoceane.fr/index.php/ai-vllm-a100-gemma-4/)."""
MIG_SLICE_LOSS_GIB = 0.19
"""nvidia-smi shows 4.75, 9.75 and 19.62 GiB of slices of an eighth, a quarter and half of an A100
with 39.5 GiB (NVIDIA MIG User Guide, `nvidia-smi mig -lgip`)."""


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How one replica is cut: `tensor` GPUs per stage, `pipeline` stages, experts whole or sliced.

    `expert` gives every GPU of a stage whole experts instead of slices of all.
    """

    tensor: int = 1
    pipeline: int = 1
    expert: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True)
class Batch:
    """The largest step of the engine: prompt tokens at once, sequences at once."""

    tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class Adapters:
    """LoRA adapters held on the GPU at once, and the largest rank among them."""

    count: int
    rank: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Where the memory of one GPU goes, in GiB. A negative `kv_cache_gib` is what is missing."""

    requested_gib: float
    weights_gib: float
    adapters_gib: float
    activations_gib: float
    graphs_gib: float
    non_torch_gib: float
    fragmentation_gib: float
    kv_cache_gib: float

    @property
    def overhead_gib(self) -> float:
        """What is neither weights, nor adapters, nor KV cache."""
        return self.activations_gib + self.graphs_gib + self.non_torch_gib + self.fragmentation_gib


ONE_GPU = Parallelism()


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of one pipeline stage by what they remember, padded to equal groups as vLLM does."""

    full: int
    sliding: int
    state: int


def layers_of(model: Model, pipeline: int = 1) -> Layers:
    """The layers of the largest stage of `pipeline`."""
    return _grouped(model.full_layers, model.sliding_layers, model.state_layers, pipeline)


@lru_cache
def _grouped(full: int, sliding: int, state: int, pipeline: int) -> Layers:
    kinds = (full, sliding, state)
    staged = [math.ceil(count / pipeline) for count in kinds]
    least, most = min(filter(None, staged)), max(staged)
    group = most if most < NEARLY_EQUAL * least else least
    full, sliding, state = (math.ceil(count / group) * group for count in staged)
    return Layers(full, sliding, state)


def token_bytes_per_layer(model: Model, kv_bytes: int = BYTES_16_BIT, tensor: int = 1) -> int:
    """What one attention layer keeps of one token on one GPU.

    A latent is held whole by every GPU; more GPUs than KV heads repeat the heads.
    """
    if model.kv_latent_dim is not None:
        return model.kv_latent_dim * kv_bytes
    return 2 * -(-model.kv_heads // tensor) * model.head_dim * kv_bytes


def kv_bytes_per_token(
    model: Model, kv_bytes: int = BYTES_16_BIT, parallel: Parallelism = ONE_GPU
) -> int:
    """What a long sequence grows by with each token on one GPU: its full attention layers."""
    layers = -(-model.full_layers // parallel.pipeline)
    return layers * token_bytes_per_layer(model, kv_bytes, parallel.tensor)


def sequence_bytes(
    model: Model,
    tokens: int,
    *,
    batch_tokens: int,
    kv_bytes: int = BYTES_16_BIT,
    parallel: Parallelism = ONE_GPU,
) -> int:
    """What a sequence of `tokens` takes of the KV cache of one GPU when it is admitted.

    Sliding layers hold their window and the `batch_tokens` that may arrive in one step; where
    state layers share the pool, blocks are as large as one layer's state.
    """
    layers = layers_of(model, parallel.pipeline)
    per_token = token_bytes_per_layer(model, kv_bytes, parallel.tensor)
    state = -(-model.state_bytes_per_layer // parallel.tensor)
    block = BLOCK_TOKENS * max(1, -(-state // (per_token * BLOCK_TOKENS)))
    page = block * per_token
    total = layers.full * -(-tokens // block) * page
    if model.sliding_window_tokens is not None:
        window = min(tokens, model.sliding_window_tokens - 1 + batch_tokens)
        total += layers.sliding * (-(-window // block) + 1) * page
    return total + layers.state * STATE_COPIES * max(page, state)


def longest_sequence(
    model: Model,
    kv_cache_bytes: float,
    *,
    batch_tokens: int,
    kv_bytes: int = BYTES_16_BIT,
    parallel: Parallelism = ONE_GPU,
) -> int:
    """The most tokens one sequence may have, within what the model was made for; 0 for none."""

    def holds(tokens: int) -> bool:
        needed = sequence_bytes(
            model, tokens, batch_tokens=batch_tokens, kv_bytes=kv_bytes, parallel=parallel
        )
        return needed <= kv_cache_bytes

    low, high = 0, model.context_tokens
    if holds(high):
        return high
    high -= 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def weight_bytes(model: Model, precision: str, parallel: Parallelism = ONE_GPU) -> int:
    """Weights on the fullest GPU once loaded.

    Of stages the fullest is counted as if it had the most layers and the embeddings too.
    """
    total = model.weight_bytes[precision]  # type: ignore[index]
    if precision == "mxfp4":
        total += _padding_bytes(model)
    if parallel.pipeline == 1:
        return -(-total // parallel.tensor)
    table = min(model.vocabulary_size * model.hidden_size * BYTES_16_BIT, total // 2)
    layers = -(-model.layers // parallel.pipeline)
    stage = min(total, -(-(total - 2 * table) * layers // model.layers) + table)
    return -(-stage // parallel.tensor)


def _padding_bytes(model: Model) -> int:
    """What padding the experts of an mxfp4 checkpoint adds."""
    hidden, width = model.hidden_size, model.expert_intermediate_size or 0
    padded = -(-hidden // PADDED_HIDDEN) * PADDED_HIDDEN * -(-width // PADDED_EXPERT)
    values = 3 * (padded * PADDED_EXPERT - hidden * width)
    return round(model.layers * (model.experts or 0) * values * BITS["mxfp4"] / 8)


def activation_bytes(model: Model, batch: Batch, parallel: Parallelism = ONE_GPU) -> int:
    """The peak of the profiling run: a forward pass of the largest step, or sampling after it.

    A pass holds the residual stream three times beside the widest layer: gate and up projection
    with their product, or the same for every chosen expert. For Llama-3.1-8B that is 110,592
    bytes a token; 2.07 and 2.99 GiB were logged for 20,000 and 29,000
    (https://github.com/vllm-project/vllm/issues/10517).
    """
    tensor = parallel.tensor
    attention = (2 * model.attention_heads + 2 * model.kv_heads) * model.head_dim / tensor
    widest = max(attention, 3 * model.intermediate_size / tensor)
    if model.experts and model.experts_per_token and model.expert_intermediate_size:
        width = model.expert_intermediate_size / (1 if parallel.expert else tensor)
        routed = model.experts_per_token * (max(2 * width, model.hidden_size) + width)
        widest = max(attention, routed)
    stream = model.hidden_size * BYTES_16_BIT
    forward = batch.tokens * (3 * stream + widest * BYTES_16_BIT)
    sampling = batch.sequences * model.vocabulary_size * SAMPLER_BYTES_PER_LOGIT
    return round(max(forward, batch.tokens * stream + sampling))


def captured_graphs(sequences: int) -> int:
    """CUDA graphs of `--max-num-seqs`: whole ones for decoding, piecewise ones up to twice that.

    256 sequences give the 35 and 51 that vLLM logs.
    """
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, LARGEST_CAPTURE + 1, 16)]
    return sum(s <= sequences for s in sizes) + sum(s <= 2 * sequences for s in sizes)


def graph_bytes(model: Model, batch: Batch, parallel: Parallelism = ONE_GPU) -> int:
    """Captured CUDA graphs of one GPU."""
    layers = -(-model.layers // parallel.pipeline)
    return captured_graphs(batch.sequences) * layers * GRAPH_BYTES_PER_LAYER


def adapter_bytes(model: Model, adapters: Adapters, parallel: Parallelism = ONE_GPU) -> int:
    """Room vLLM sets aside for LoRA adapters of all linear layers, in 16 bit.

    One adapter of rank r adds r x (inputs + outputs) values to a matrix. Tensor parallelism splits
    the half that lies on the split side of the matrix and repeats the other on every GPU.
    """
    hidden, inner = model.hidden_size, model.intermediate_size
    queries, keys = (heads * model.head_dim for heads in (model.attention_heads, model.kv_heads))
    repeated = 3 * hidden + hidden  # inputs of q, k, v; outputs of o
    split = queries + 2 * keys + queries  # outputs of q, k, v; inputs of o
    experts = model.experts or 1
    width = model.expert_intermediate_size or inner
    repeated += experts * (2 * hidden + hidden)
    split += experts * (2 * width + width)
    values = -(-model.layers // parallel.pipeline) * (repeated + split / parallel.tensor)
    return round(adapters.count * adapters.rank * values * BYTES_16_BIT)


def memory(
    model: Model,
    precision: str,
    visible_gib: float,
    utilization: float,
    batch: Batch,
    *,
    parallel: Parallelism = ONE_GPU,
    adapters: Adapters | None = None,
) -> Memory:
    """Where the memory of the fullest GPU goes when vLLM may use `utilization` of `visible_gib`."""
    requested = visible_gib * utilization
    weights = weight_bytes(model, precision, parallel) / GIB
    lora = adapter_bytes(model, adapters, parallel) / GIB if adapters else 0.0
    activations = activation_bytes(model, batch, parallel) / GIB
    graphs = graph_bytes(model, batch, parallel) / GIB
    non_torch = (CONTEXT_BYTES + (COLLECTIVES_BYTES if parallel.gpus > 1 else 0)) / GIB
    fragmentation = FRAGMENTATION_BYTES / GIB
    rest = requested - weights - lora - activations - graphs - non_torch - fragmentation
    return Memory(requested, weights, lora, activations, graphs, non_torch, fragmentation, rest)
