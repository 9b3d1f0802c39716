"""How a model fits GPU memory and its node: tensor parallelism, context, host memory.

Memory follows the usual sum, weights + KV cache + overhead: KV cache bytes per token are
2 x layers x KV heads x head dimension x bytes, and activations, CUDA graphs and fragmentation add
15 % to weights and KV cache together ("GPU Serving & Autoscaling", leetllm.com, sizing section).
"""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.catalog import Accelerator, EngineVersion, InstanceType, Model
from coldstart.planning.context import Context
from coldstart.planning.decision import PlanError
from coldstart.planning.model import FitPlan, HostPlan
from coldstart.spec.model import AUTO, ModelSpec
from coldstart.units import GIB, MIB

OVERHEAD_FACTOR = 1.15
KV_BYTES = 2
"""The KV cache stays in 16 bit unless told otherwise (same source)."""
TYPICAL_TOKENS_PER_REQUEST = 2048
"""Prompt and answer of a chat turn, the length concurrency is planned for."""
AUTO_MAX_MODEL_LEN = 32_768
"""Longer contexts are asked for by name: they cost KV cache that concurrency needs."""
SMALLEST_CONTEXT = 2048

HOST_BASE_MIB = 4096
"""API server, engine core and imports before weights (host RSS of vLLM on one GPU)."""
HOST_PER_GPU_MIB = 3072
"""One worker process with its CUDA context."""
STREAMER_BUFFER_MIB = 2048
"""What the weight streamer may hold at once; set as RUNAI_STREAMER_MEMORY_LIMIT."""
SHM_SINGLE_GPU_MIB = 2048
SHM_MULTI_GPU_MIB = 16_384
"""NCCL hangs on a small /dev/shm: at least 16 GiB with tensor parallelism
(ai.wmx.dev/architecture/lessons/cold-start)."""
CPU_BASE_MILLICORES = 1500
CPU_PER_GPU_MILLICORES = 1000
"""Start-up is mostly CPU bound (arXiv 2606.07362), so the pod asks for most of the smallest GPU
node, four cores, and has no CPU limit."""
STAGER_CPU_MILLICORES, STAGER_MEMORY_MIB = 500, 256
"""The sidecar that copies weights and caches; its requests count beside the engine's."""
SYSTEM_DAEMONS_MILLICORES = 600
SYSTEM_DAEMONS_MIB = 1024
"""What DaemonSets (CNI, kube-proxy, pod identity, monitoring, device plugin) take of a node."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A model on an instance type."""

    fit: FitPlan
    host: HostPlan
    instance: InstanceType


def kv_bytes_per_token(model: Model) -> int:
    """Bytes of KV cache one token takes over all layers (16 bit)."""
    return 2 * model.layers * model.kv_heads * model.head_dim * KV_BYTES


def served_precision(path: str, wish: str, model: Model, accelerator: Accelerator) -> str:
    """The checkpoint's own precision, or fp8 quantised at load when wished and supported."""
    possible = [
        p
        for p in dict.fromkeys((model.native_precision, "fp8"))
        if p in model.weight_bytes and accelerator.runs(p)
    ]
    if wish == AUTO and model.native_precision in possible:
        return model.native_precision
    if wish != AUTO and wish in possible:
        return wish
    chosen = model.native_precision if wish == AUTO else wish
    works = f"use precision: {' or '.join(possible)}" if possible else "use another accelerator"
    raise PlanError(
        f"{path}.precision",
        f'"{chosen}" of {model.name} cannot be served on '
        f"{accelerator.marketing_name} from this checkpoint; {works}",
    )


def place(
    path: str,
    spec: ModelSpec,
    model: Model,
    types: tuple[InstanceType, ...],
    context: Context,
    scratch_mib: int,
) -> Placement:
    """The smallest tensor parallelism that serves `spec`, on the cheapest type that holds it.

    Raises PlanError with the memory it needs and what the pool has when nothing fits.
    """
    catalog, engine = context.catalog, context.engine
    if spec.max_model_len != AUTO and spec.max_model_len > model.context_tokens:
        raise PlanError(
            f"{path}.maxModelLen",
            f"{spec.max_model_len} exceeds the {model.context_tokens} tokens {model.name} was "
            f"made for; use maxModelLen: {model.context_tokens} or less",
        )
    accelerator = catalog.accelerator(str(types[0].accelerator))
    precision = served_precision(path, spec.precision, model, accelerator)
    widest = max(t.accelerator_count for t in types)
    possible = [n for n in (1, 2, 4, 8, 16) if n <= widest and model.attention_heads % n == 0]
    if spec.tensor_parallel != AUTO:
        if spec.tensor_parallel not in possible:
            raise PlanError(
                f"{path}.tensorParallel",
                f"{spec.tensor_parallel} does not work: "
                f"{model.name} splits its {model.attention_heads} heads over "
                f"{', '.join(map(str, possible))} GPUs of a node of this pool",
            )
        possible = [int(spec.tensor_parallel)]
    tried = [_fit(spec, model, accelerator, engine, precision, n) for n in possible]
    fitting = [fit for fit in tried if fit.max_model_len > 0]
    if not fitting:
        raise PlanError(path, _no_fit(spec, model, accelerator, engine, precision, possible))
    fit = fitting[0]
    host = _host(fit, scratch_mib)
    return Placement(fit, host, _cheapest(path, fit, host, types, context))


def _fit(
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    engine: EngineVersion,
    precision: str,
    gpus: int,
) -> FitPlan:
    utilization = engine.gpu_memory_utilization_default
    usable_gib = accelerator.memory_gib * utilization
    weights_gib = model.weight_bytes[precision] / GIB / gpus  # type: ignore[index]
    kv_gib = usable_gib / OVERHEAD_FACTOR - weights_gib
    copies = max(1.0, gpus / model.kv_heads)  # more GPUs than KV heads: vLLM repeats the heads
    tokens = max(0, int(kv_gib * gpus * GIB / (kv_bytes_per_token(model) * copies)))
    wished = AUTO_MAX_MODEL_LEN if spec.max_model_len == AUTO else int(spec.max_model_len)
    context = min(wished, model.context_tokens)
    needed = max(
        spec.max_concurrency * TYPICAL_TOKENS_PER_REQUEST,
        context if spec.max_model_len != AUTO else SMALLEST_CONTEXT,
    )
    if spec.max_model_len == AUTO and tokens < context:
        context = 1 << max(tokens.bit_length() - 1, 0)
    fits = tokens >= needed
    return FitPlan(
        precision=precision,
        tensor_parallel=gpus,
        max_model_len=context if fits else 0,
        max_num_seqs=spec.max_concurrency,
        gpu_memory_utilization=utilization,
        weights_gib=weights_gib,
        overhead_gib=usable_gib - usable_gib / OVERHEAD_FACTOR,
        kv_cache_gib=max(kv_gib, 0.0),
        kv_cache_tokens=tokens,
        reason=f"{gpus} x {accelerator.memory_gib:g} GiB: weights {weights_gib:.1f} and KV cache "
        f"{max(kv_gib, 0):.1f} GiB per GPU, room for {tokens:,} tokens",
    )


def _no_fit(
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    engine: EngineVersion,
    precision: str,
    possible: list[int],
) -> str:
    gpus = possible[-1] if possible else 1
    fit = _fit(spec, model, accelerator, engine, precision, gpus)
    needed_gib = spec.max_concurrency * TYPICAL_TOKENS_PER_REQUEST * kv_bytes_per_token(model) / GIB
    return (
        f"{model.name} in {precision} does not fit {gpus} x {accelerator.marketing_name}: weights "
        f"take {fit.weights_gib * gpus:.1f} GiB and {spec.max_concurrency} concurrent requests "
        f"{needed_gib:.1f} GiB of KV cache, the pool's GPUs offer "
        f"{gpus * accelerator.memory_gib * fit.gpu_memory_utilization / OVERHEAD_FACTOR:.1f} GiB. "
        "Lower maxConcurrency, name instanceTypes with more GPUs, or use a larger accelerator"
    )


def _host(fit: FitPlan, scratch_mib: int) -> HostPlan:
    gpus = fit.tensor_parallel
    shm = SHM_MULTI_GPU_MIB if gpus > 1 else SHM_SINGLE_GPU_MIB
    memory = shm + HOST_BASE_MIB + HOST_PER_GPU_MIB * gpus + STREAMER_BUFFER_MIB
    return HostPlan(
        cpu_request_millicores=CPU_BASE_MILLICORES + CPU_PER_GPU_MILLICORES * gpus,
        memory_request_mib=memory,
        memory_limit_mib=memory,
        shm_mib=shm,
        stager_cpu_millicores=STAGER_CPU_MILLICORES,
        stager_memory_mib=STAGER_MEMORY_MIB,
        ephemeral_storage_mib=scratch_mib,
    )


def _cheapest(
    path: str, fit: FitPlan, host: HostPlan, types: tuple[InstanceType, ...], context: Context
) -> InstanceType:
    def price(instance: InstanceType) -> float:
        found = context.catalog.price(context.spec.region, instance.name)
        return (found and found.on_demand_usd_per_hour) or float("inf")

    holding = [
        t
        for t in types
        if t.accelerator_count >= fit.tensor_parallel
        and t.allocatable_cpu_millicores - SYSTEM_DAEMONS_MILLICORES
        >= host.cpu_request_millicores + host.stager_cpu_millicores
        and t.allocatable_memory_mib - SYSTEM_DAEMONS_MIB
        >= host.memory_request_mib + host.stager_memory_mib
        and (not t.nvme_gb or t.nvme_gb * 1e9 / MIB >= host.ephemeral_storage_mib)
    ]
    if not holding:
        raise PlanError(
            path,
            f"no instance type of the pool ({', '.join(t.name for t in types)}) "
            f"holds {fit.tensor_parallel} GPUs, {host.cpu_request_millicores} m CPU, "
            f"{host.memory_request_mib} MiB of memory and {host.ephemeral_storage_mib} "
            "MiB of local disk for one replica; name larger instanceTypes",
        )
    return min(holding, key=lambda t: (price(t), t.vcpu, t.name))
