"""What fit decides, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.capacity.memory import Parallelism


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How a model lies in GPU memory, in GiB per GPU, and how much it can serve.

    `overhead_gib` holds activations, graphs, what is outside PyTorch and fragmentation.
    `kv_cache_tokens` is how many tokens the KV cache of the replica holds in sequences of
    `max_model_len`, as vLLM logs it; `most_sequences` how many chat turns of 2,048 tokens fit at
    once; `longest_context` the longest sequence that fits alone. `max_model_len` is 0 where what
    was asked for does not fit.
    """

    precision: str
    kv_cache: str
    tensor_parallel: int
    pipeline_parallel: int
    expert_parallel: bool
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    adapters: int
    adapter_rank: int
    gpu_memory_utilization: float
    weights_gib: float
    adapters_gib: float
    activations_gib: float
    graphs_gib: float
    overhead_gib: float
    kv_cache_gib: float
    kv_cache_tokens: int
    most_sequences: int
    longest_context: int
    reason: str

    @property
    def parallel(self) -> Parallelism:
        """How one replica is cut."""
        return Parallelism(self.tensor_parallel, self.pipeline_parallel, self.expert_parallel)

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.parallel.gpus

    @property
    def holds(self) -> bool:
        """Whether what was asked for fits."""
        return self.max_model_len > 0


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What the engine's pod asks of its node: the engine, and the stager beside it."""

    cpu_request_millicores: int
    memory_request_mib: int
    memory_limit_mib: int
    shm_mib: int
    ephemeral_storage_mib: int
    stager_cpu_millicores: int
    stager_memory_mib: int
