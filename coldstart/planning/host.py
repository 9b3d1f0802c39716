"""What a replica asks of its node, and the cheapest node that gives it."""

from __future__ import annotations

from coldstart.catalog import InstanceType
from coldstart.planning.context import Context
from coldstart.planning.decision import PlanError
from coldstart.planning.fit_plan import FitPlan, HostPlan
from coldstart.units import MIB

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


def host_plan(fit: FitPlan, scratch_mib: int) -> HostPlan:
    """What a replica asks of its node beside GPUs, with `scratch_mib` of local disk."""
    gpus = fit.gpus
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


def holds(kind: InstanceType, fit: FitPlan, host: HostPlan) -> bool:
    """Whether a replica and the node's own daemons fit; without NVMe its volume has the scratch."""
    return (
        kind.accelerator_count >= fit.gpus
        and kind.allocatable_cpu_millicores - SYSTEM_DAEMONS_MILLICORES
        >= host.cpu_request_millicores + host.stager_cpu_millicores
        and kind.allocatable_memory_mib - SYSTEM_DAEMONS_MIB
        >= host.memory_request_mib + host.stager_memory_mib
        and (not kind.nvme_gb or kind.nvme_gb * 1e9 / MIB >= host.ephemeral_storage_mib)
    )


def cheapest(
    path: str, fit: FitPlan, host: HostPlan, types: tuple[InstanceType, ...], context: Context
) -> InstanceType:
    """The type with the lowest list price that holds a replica, then the smallest.

    Raises PlanError with what a replica asks for when none of the pool's types does.
    """

    def price(instance: InstanceType) -> float:
        found = context.catalog.price(context.spec.region, instance.name)
        return (found and found.on_demand_usd_per_hour) or float("inf")

    holding = [t for t in types if holds(t, fit, host)]
    if not holding:
        raise PlanError(
            path,
            f"no instance type of the pool ({', '.join(t.name for t in types)}) "
            f"holds {fit.gpus} GPUs, {host.cpu_request_millicores} m CPU, "
            f"{host.memory_request_mib} MiB of memory and {host.ephemeral_storage_mib} "
            "MiB of local disk for one replica; name larger instanceTypes",
        )
    return min(holding, key=lambda t: (price(t), t.vcpu, t.name))
