"""The name of a golden compile cache: equal exactly where vLLM would compile the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from coldstart.catalog import EngineVersion
from coldstart.planning.model import PoolPlan
from coldstart.spec.model import ModelSpec

NOT_COMPILED = (
    "--served-model-name",
    "--host",
    "--port",
    "--gpu-memory-utilization",
    "--load-format",
    "--model-loader-extra-config",
    "--max-num-queued-reqs",
    "--shutdown-timeout",
    "--disable-access-log-for-endpoints",
    "--disable-fastapi-docs",
)
"""Arguments that do not change what is compiled: vLLM hashes its model, parallel, scheduler and
compilation configuration, and none of these is part of them (vllm/config, vllm/envs.py)."""


def cache_key(
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    engine: EngineVersion,
    engine_digest: str,
    pool: PoolPlan,
    model_path: str,
    model_spec: ModelSpec,
) -> tuple[str, Mapping[str, str]]:
    """The name of a golden archive, and what it stands for.

    Two pods get the same key only when vLLM would compute the same hash: image, GPU, the flags that
    reach the compiler, model path and revision, and every VLLM_* variable its own hash reads.
    """
    read = {
        k: v
        for k, v in environment.items()
        if k.startswith("VLLM_") and k not in engine.compile_cache_ignored_environment
    }
    factors = {
        "engine": engine_digest,
        "accelerator": pool.accelerator,
        "model": f"{model_spec.repository}@{model_spec.revision}",
        "path": model_path,
        "arguments": " ".join(
            argument for argument in arguments if argument.partition("=")[0] not in NOT_COMPILED
        ),
        "environment": json.dumps(read, sort_keys=True),
    }
    text = json.dumps(factors, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20], factors
