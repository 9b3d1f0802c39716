"""Texts and figures that pods of the workload are made of; nothing is decided here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.render.engine import CACHE_ROOT, PORT
from coldstart.spec.model import CompileCache, WeightsPath

if TYPE_CHECKING:
    from coldstart.planning.model import ModelPlan, PoolPlan, Taint
    from coldstart.planning.operation_plan import CronTrigger

SCRIPTS = Path(__file__).with_name("scripts")
CACHE_MOUNT = str(Path(CACHE_ROOT).parent)
HANDOVER_MOUNT = "/handover"
EXCHANGE_MOUNT = "/exchange"
STAGING_MOUNT = "/staging"
SCRIPTS_MOUNT = "/scripts"
READY_FILE = f"{HANDOVER_MOUNT}/ready"

WEIGHTS_ROOM_FACTOR = 1.05
"""Files beside the weights (tokenizer, configuration) and rounding."""
ROOM_MIB = 1024
MIB = 1024 * 1024
LARGEST_FILE_MIB = 20 * 1024
"""Weights are staged file by file; shards are 4 to 10 GB, small models one file of up to 16 GB."""
SLOWEST_FETCH_BYTES_PER_SECOND = 20 * MIB
"""A sixteenth of 31 GiB/min, the rate seen from the Hub to EFS (modelplane#204)."""
JOB_START_SECONDS = 1800
"""A node, and the engine image by a plain registry pull."""
RESTORE_SECONDS = 60
"""Longer than compiling anew is worth: a golden archive has some hundred MB at most."""
STREAMS_PER_FILE, FILES_AT_ONCE = 8, 8
"""64 connections of 85 to 90 MB/s each (Amazon S3 performance guidelines) fill 40 Gbit/s."""
PROGRESS_SECONDS = 1800
"""What a rollout may take beside the engine's own start: a scarce node, and the image."""
MOUNT_GUARD = ".csi."
"""A startup taint of a CSI driver (`efs.csi.aws.com/…`) guards that driver's mounts."""


def script(name: str) -> str:
    """The text of one script that runs inside a pod."""
    return (SCRIPTS / name).read_text(encoding="utf-8")


def digest(*parts: Any) -> str:
    """Ten hexadecimal digits that change with any of `parts`, for names of immutable objects."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def literal(argument: str) -> str:
    """An argument that Kubernetes hands on as it is, without expanding `$(NAME)` in it."""
    return argument.replace("$(", "$$(")


def restores_cache(model: ModelPlan) -> bool:
    """Whether the pods start from a golden compile cache."""
    return model.compile_cache.mode.value is CompileCache.GOLDEN


def reads_object_store(model: ModelPlan) -> bool:
    """Whether a serving pod opens the object store at all."""
    return model.weights.value is not WeightsPath.SHARED or restores_cache(model)


def needs_stager(model: ModelPlan) -> bool:
    """Whether a serving pod has something to bring before the engine starts."""
    return model.weights.value is WeightsPath.LOCAL or restores_cache(model)


def weights_mount(model: ModelPlan) -> str | None:
    """Where the volume with the weights is mounted, None when the engine streams them.

    Raises ValueError when the shared volume could not show the weights at the planned path.
    """
    if model.model_path is None:
        return None
    if model.weights.value is not WeightsPath.SHARED:
        return str(Path(model.model_path).parent)
    if not model.model_path.endswith(f"/{model.weights_prefix}"):
        raise ValueError(f"{model.model_path} does not end with {model.weights_prefix}")
    return model.model_path.removesuffix(f"/{model.weights_prefix}")


def compile_cache_archive(model: ModelPlan) -> str:
    """The golden archive's place in the bucket; below the tenant's own prefix, since it is code."""
    return f"{model.name}/compile-cache/{model.compile_cache.key}.tar.gz"


def awaited_files(model: ModelPlan, *, publishing: bool = False) -> tuple[str, ...]:
    """What must exist before the engine starts."""
    stager = (READY_FILE,) if needs_stager(model) or publishing else ()
    shared = (f"{model.model_path}/.complete",) if model.weights.value is WeightsPath.SHARED else ()
    return stager + shared


def stager_environment(model: ModelPlan, *, publishing: bool) -> dict[str, str]:
    """What the stager brings, and how rclone moves it."""
    variables = {
        "HANDOVER": HANDOVER_MOUNT,
        "RESTORE_SECONDS": str(RESTORE_SECONDS),
        # In memory only: nothing is configured by file.
        "RCLONE_CONFIG": "/notfound",
        "RCLONE_TRANSFERS": str(FILES_AT_ONCE),
        "RCLONE_MULTI_THREAD_STREAMS": str(STREAMS_PER_FILE),
        "RCLONE_MULTI_THREAD_CUTOFF": "64Mi",
        "RCLONE_IGNORE_CHECKSUM": "true",
        "RCLONE_CONTIMEOUT": "15s",
        "RCLONE_TIMEOUT": "60s",
        "RCLONE_STATS": "10s",
        "RCLONE_STATS_ONE_LINE": "true",
        "RCLONE_STATS_LOG_LEVEL": "NOTICE",
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }
    if model.weights.value is WeightsPath.LOCAL:
        variables["WEIGHTS_PREFIX"] = model.weights_prefix
        variables["WEIGHTS_DIRECTORY"] = str(model.model_path)
    if publishing:
        variables["PUBLISH_ARCHIVE"] = compile_cache_archive(model)
        variables["PUBLISH_SECONDS"] = str(publish_seconds(model))
        variables["EXCHANGE"] = EXCHANGE_MOUNT
    elif restores_cache(model):
        variables["RESTORE_ARCHIVE"] = compile_cache_archive(model)
        variables["CACHE_DIRECTORY"] = CACHE_ROOT
    return variables


def remote_environment(settings: Mapping[str, str], scheme: str, bucket: str) -> dict[str, str]:
    """The object store as rclone's remote `store`, which needs no credentials of its own."""
    named = {"type": scheme, **settings}
    variables = {f"RCLONE_CONFIG_STORE_{key.upper()}": value for key, value in named.items()}
    variables["STORE_BUCKET"] = bucket
    if scheme == "s3" and "region" in settings:
        # For the engine's streamer and boto3, which ask the AWS SDK's own variables.
        variables |= dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), settings["region"])
    return variables


def startup_budget_seconds(model: ModelPlan) -> int:
    """How long the startup probe lets a container take."""
    return model.probe.period_seconds * model.probe.failure_threshold


def publish_seconds(model: ModelPlan) -> int:
    """How long making a golden archive may take, the node's own start included."""
    return JOB_START_SECONDS + 2 * startup_budget_seconds(model)


def fetch_seconds(model: ModelPlan) -> int:
    """How long fetching the weights may take."""
    return JOB_START_SECONDS + math.ceil(model.weight_bytes / SLOWEST_FETCH_BYTES_PER_SECOND)


def progress_seconds(model: ModelPlan) -> int:
    """When a rollout without progress counts as failed."""
    return PROGRESS_SECONDS + startup_budget_seconds(model)


def weights_mib(model: ModelPlan) -> int:
    """Room for all files of the weights."""
    return math.ceil(model.weight_bytes * WEIGHTS_ROOM_FACTOR / MIB) + ROOM_MIB


def staging_mib(model: ModelPlan) -> int:
    """Room for the largest single file on its way to the store."""
    return min(weights_mib(model), LARGEST_FILE_MIB)


def gpus_allowed(model: ModelPlan) -> int:
    """GPUs the tenant may hold: every replica, one rollout step, and one publishing Job.

    The step is a replica more in either rollout: a new one before, or an old one that still drains.
    """
    rollout = model.rollout.value
    publisher = 1 if restores_cache(model) else 0
    replicas = model.scaling.max_replicas + max(rollout.max_surge, rollout.max_unavailable)
    return (replicas + publisher) * model.fit.gpus


def fills_a_node(model: ModelPlan, pool: PoolPlan) -> bool:
    """Whether a second replica would need a second node anyway."""
    return pool.gpus_per_node < 2 * model.fit.gpus


def reserved_resources(pool: PoolPlan, models: Iterable[ModelPlan]) -> dict[str, str]:
    """What holds a warm node of `pool`: its GPUs, and what the neediest replica asks for.

    With less Karpenter would keep a node that no replica fits on once the place is free.
    """
    hosts = [model.host for model in models if model.pool == pool.name]
    cpu = max((h.cpu_request_millicores + h.stager_cpu_millicores for h in hosts), default=10)
    memory = max((h.memory_request_mib + h.stager_memory_mib for h in hosts), default=32)
    scratch = max((h.ephemeral_storage_mib for h in hosts), default=0)
    return {
        "cpu": f"{cpu}m",
        "memory": f"{memory}Mi",
        "ephemeral-storage": f"{scratch}Mi",
        pool.resource_name: str(pool.gpus_per_node),
    }


def tolerated_taints(model: ModelPlan, pool: PoolPlan) -> tuple[Taint, ...]:
    """The pool's taints, and its startup taints but for those that guard a mount the pod needs."""
    shared = model.weights.value is WeightsPath.SHARED
    return (
        *pool.taints,
        *(
            t
            for t in pool.startup_taints
            if not (shared and MOUNT_GUARD in t.key.partition("/")[0])
        ),
    )


def scale_behavior(model: ModelPlan) -> dict[str, Any]:
    """The HPA's behaviour: up at once, down one pod at a time after a quiet window."""
    plan = model.scaling
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {
                    "type": "Pods",
                    "value": plan.scale_up_pods,
                    "periodSeconds": plan.scale_up_period_seconds,
                }
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": plan.scale_down_window_seconds,
            "selectPolicy": "Min",
            "policies": [
                {"type": "Pods", "value": 1, "periodSeconds": plan.scale_down_period_seconds}
            ],
        },
    }


def prometheus_trigger(model: ModelPlan, index: int, server: str) -> dict[str, Any]:
    """One KEDA trigger; every value of its metadata is text.

    Without replicas there is no series: an empty result means zero only where zero is allowed,
    elsewhere it is an error and leads to the fallback.
    """
    trigger = model.scaling.triggers[index]
    return {
        "type": "prometheus",
        "name": trigger.name,
        "metadata": {
            "serverAddress": server,
            "query": trigger.query,
            "threshold": trigger.threshold,
            "activationThreshold": trigger.activation_threshold,
            "ignoreNullValues": "true" if model.scaling.wake else "false",
        },
    }


def cron_trigger(trigger: CronTrigger) -> dict[str, Any]:
    """One KEDA cron trigger (kedacore/keda v2.20.2, pkg/scalers/cron_scaler.go).

    The largest figure of all triggers counts, so load may ask for more than a schedule; while it is
    active the schedule also wakes a model from zero and keeps it up.
    """
    return {
        "type": "cron",
        "name": trigger.name,
        "metadata": {
            "timezone": trigger.timezone,
            "start": trigger.start,
            "end": trigger.end,
            "desiredReplicas": str(trigger.desired_replicas),
        },
    }


__all__ = [
    "CACHE_MOUNT",
    "CACHE_ROOT",
    "EXCHANGE_MOUNT",
    "HANDOVER_MOUNT",
    "PORT",
    "READY_FILE",
    "SCRIPTS_MOUNT",
    "STAGING_MOUNT",
    "awaited_files",
    "compile_cache_archive",
    "cron_trigger",
    "digest",
    "fetch_seconds",
    "fills_a_node",
    "gpus_allowed",
    "literal",
    "needs_stager",
    "progress_seconds",
    "prometheus_trigger",
    "publish_seconds",
    "reads_object_store",
    "remote_environment",
    "reserved_resources",
    "scale_behavior",
    "script",
    "stager_environment",
    "staging_mib",
    "startup_budget_seconds",
    "tolerated_taints",
    "weights_mib",
    "weights_mount",
]
