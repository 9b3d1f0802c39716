"""Arguments and environment of the inference engine, as text it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldstart.planning.model import FitPlan

PORT = 8000
CACHE_ROOT = "/cache/vllm"


def engine_arguments(
    *,
    name: str,
    fit: FitPlan,
    native_precision: str,
    load_format: str,
    loader_config: Mapping[str, Any],
    shutdown_timeout_seconds: int,
    unfinished_requests: int,
) -> tuple[str, ...]:
    """What follows the model path in `vllm serve`, in a stable order: it is part of a cache key."""
    arguments = [
        f"--served-model-name={name}",
        "--host=0.0.0.0",
        f"--port={PORT}",
        f"--tensor-parallel-size={fit.tensor_parallel}",
        *_cut(fit),
        f"--max-model-len={fit.max_model_len}",
        f"--gpu-memory-utilization={fit.gpu_memory_utilization:g}",
        f"--max-num-seqs={fit.max_num_seqs}",
        f"--max-num-batched-tokens={fit.max_num_batched_tokens}",
        f"--max-num-queued-reqs={unfinished_requests}",
        f"--load-format={load_format}",
        f"--shutdown-timeout={shutdown_timeout_seconds}",
        "--disable-access-log-for-endpoints=/health,/metrics,/ping",
        "--disable-fastapi-docs",
    ]
    if fit.precision != native_precision:
        arguments.append(f"--quantization={fit.precision}")
    if fit.kv_cache == "fp8":
        arguments.append("--kv-cache-dtype=fp8")
    if fit.adapters:
        arguments += [
            "--enable-lora",
            f"--max-loras={fit.adapters}",
            f"--max-lora-rank={fit.adapter_rank}",
        ]
    if loader_config:
        arguments.append(f"--model-loader-extra-config={json.dumps(loader_config, sort_keys=True)}")
    return tuple(arguments)


def _cut(fit: FitPlan) -> list[str]:
    """Arguments of stages and whole experts, absent where a replica has neither."""
    stages = [f"--pipeline-parallel-size={fit.pipeline_parallel}"]
    return [
        *(stages if fit.pipeline_parallel > 1 else ()),
        *(("--enable-expert-parallel",) if fit.expert_parallel else ()),
    ]


def engine_environment(*, gpus: int, streamer_buffer_bytes: int) -> dict[str, str]:
    """Variables of every engine pod. VLLM_* ones that vLLM hashes are part of the cache key.

    FlashInfer's and vLLM's caches share one root, which is what a golden archive holds; a non-root
    user needs USER and HOME or the engine fails to look itself up.
    """
    variables = {
        "USER": "vllm",
        "HOME": "/home/vllm",
        "HF_HOME": "/cache/huggingface",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_CACHE_ROOT": CACHE_ROOT,
        "VLLM_NO_USAGE_STATS": "1",
        "FLASHINFER_WORKSPACE_BASE": f"{CACHE_ROOT}/flashinfer",
        "XDG_CACHE_HOME": "/cache/xdg",
        "XDG_CONFIG_HOME": "/cache/config",
        "RUNAI_STREAMER_MEMORY_LIMIT": str(streamer_buffer_bytes),
    }
    if gpus > 1:
        variables["NCCL_CUMEM_ENABLE"] = "0"
    return variables
