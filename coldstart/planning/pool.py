"""A node pool, decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coldstart.catalog import Catalog, InstanceType
from coldstart.planning.context import IMAGE_ARCHITECTURE, Context
from coldstart.planning.decision import NAMED, Decision, PlanError, Rejection
from coldstart.planning.delivery import Delivery, delivery
from coldstart.planning.model import KarpenterPool, PoolPlan, Taint, VolumePlan
from coldstart.render import render_user_data
from coldstart.spec.model import (
    AUTO,
    CapacityType,
    CompileCache,
    ImageDelivery,
    LocalStorage,
    NodePoolSpec,
    OperatingSystem,
)
from coldstart.units import GIB

NODE_POOL_LABEL = "coldstart.dev/node-pool"
GPU_TAINT = Taint("nvidia.com/gpu", "NoSchedule", "present")
EFS_STARTUP_TAINT = Taint("efs.csi.aws.com/agent-not-ready", "NoExecute")
"""Removed by the EFS CSI driver once it can mount on the node (aws-efs-csi-driver v3.4.1)."""
LOCAL_DISK_PATH = "/mnt/k8s-disks/0"
BOTTLEROCKET_DISK_PATH = "/mnt/.ephemeral"
DEV_SCRATCH_PATH = "/mnt/k8s-disks/0/scratch"
KARPENTER_ORDER = (CapacityType.RESERVED, CapacityType.SPOT, CapacityType.ON_DEMAND)
"""The order Karpenter keeps inside one NodePool (karpenter docs, tasks/odcrs)."""
CONSOLIDATE_AFTER_SECONDS = 600
"""An empty node outlives the longest predicted cold start, so that a pod which is about to come
finds it."""
TERMINATION_GRACE_SECONDS = 3900
"""Longer than any drain a stack file allows (maxRequestDuration up to 1 h), so that expiry cannot
hang on a pod and cannot cut a request."""
ROOT_GIB_BESIDE_IMAGES = 60
BOTTLEROCKET_ROOT_GIB = 10
"""The OS volume; images and pods live on the data volume (Karpenter's default is 4 GiB)."""
IMAGE_ROOM_FACTOR = 2.5
"""Compressed and unpacked layers of the running image, and of the next one during a rollout."""


@dataclass(frozen=True, slots=True)
class _Disk:
    path: str | None
    gb: int
    scratch_host_path: str | None = None


def instance_types(pool: NodePoolSpec, catalog: Catalog) -> tuple[InstanceType, ...]:
    """The types a pool may use: named ones, or every size with the fewest GPUs per node."""
    offered = catalog.instances_with(pool.accelerator)
    if pool.instance_types != AUTO:
        return tuple(t for t in offered if t.name in pool.instance_types)
    fewest = min(t.accelerator_count for t in offered)
    smallest = [t for t in offered if t.accelerator_count == fewest and t.size != "metal"]
    nvme = [t for t in smallest if t.nvme_gb]
    return tuple(nvme or smallest)


def plan_pool(name: str, pool: NodePoolSpec, context: Context) -> PoolPlan:
    """Every decision of one pool, its warm nodes as if no model priced a violated second.

    Raises PlanError for a wish that cannot work.
    """
    spec, catalog = context.spec, context.catalog
    types = instance_types(pool, catalog)
    _check_architecture(f"nodePools.{name}", pool, types, catalog)
    chosen = delivery(f"nodePools.{name}", pool, types, context)
    os, storage = chosen.operating_system.value, chosen.local_storage.value
    accelerator = catalog.accelerator(pool.accelerator)
    release = catalog.eks_release(spec.cluster.version)
    disk = _disk(os, storage, types)
    gpus = max(t.accelerator_count for t in types)
    labels = {NODE_POOL_LABEL: name, "nvidia.com/gpu.present": "true"}
    return PoolPlan(
        name=name,
        accelerator=accelerator.key,
        resource_name=accelerator.resource_name,
        gpu_architecture=accelerator.architecture,
        instance_types=tuple(t.name for t in types),
        gpus_per_node=gpus,
        operating_system=chosen.operating_system,
        ami_alias=release.bottlerocket_ami_alias
        if os is OperatingSystem.BOTTLEROCKET
        else release.al2023_ami_alias,
        local_storage=chosen.local_storage,
        local_disk_path=disk.path,
        local_disk_gb=disk.gb,
        scratch_host_path=disk.scratch_host_path,
        image_delivery=chosen.image,
        capacity=capacity(name, pool),
        reservation_ids=pool.reservations.ids if pool.reservations else (),
        reservation_tags=dict(pool.reservations.tags) if pool.reservations else {},
        max_nodes=pool.max_nodes,
        warm=Decision(0, "nothing weighs idle nodes against users who wait")
        if pool.warm_nodes == AUTO
        else Decision(pool.warm_nodes, NAMED),
        limits={
            "nodes": str(pool.max_nodes),
            accelerator.resource_name: str(pool.max_nodes * gpus),
        },
        volumes=_volumes(chosen, pool, context),
        user_data=render_user_data(
            os, chosen.image.value, storage, mirror_registries=_mirrored(chosen, context)
        ),
        labels=labels,
        taints=(GPU_TAINT,),
        startup_taints=(EFS_STARTUP_TAINT,) if context.shared_file_system else (),
        consolidate_after_seconds=CONSOLIDATE_AFTER_SECONDS,
        expire_after_seconds=int(pool.expire_after)
        if pool.expire_after
        else int(catalog.limit("karpenter_default_expire_seconds").value),
        termination_grace_seconds=TERMINATION_GRACE_SECONDS,
        cpu_architecture=types[0].arch,
        shares_compile_cache=_shares_compile_cache(name, context),
    )


def _check_architecture(
    path: str, pool: NodePoolSpec, types: tuple[InstanceType, ...], catalog: Catalog
) -> None:
    foreign = [t.name for t in types if t.arch != IMAGE_ARCHITECTURE]
    if foreign:
        usable = sorted(
            {
                t.accelerator
                for t in catalog.instance_types.values()
                if t.accelerator and t.arch == IMAGE_ARCHITECTURE
            }
        )
        raise PlanError(
            f"{path}.accelerator",
            f'"{pool.accelerator}" comes on arm64 hosts ({foreign[0]}); the engine image is '
            f"pinned for {IMAGE_ARCHITECTURE}. Use one of {', '.join(usable)}",
        )


def _disk(os: OperatingSystem, storage: LocalStorage, types: Iterable[InstanceType]) -> _Disk:
    if storage is LocalStorage.NONE:
        return _Disk(None, 0)
    smallest_gb = min(t.nvme_gb for t in types)
    if storage is LocalStorage.DAEMONSET:
        return _Disk(LOCAL_DISK_PATH, smallest_gb, DEV_SCRATCH_PATH)
    bottlerocket = os is OperatingSystem.BOTTLEROCKET
    return _Disk(BOTTLEROCKET_DISK_PATH if bottlerocket else LOCAL_DISK_PATH, smallest_gb)


def _mirrored(chosen: Delivery, context: Context) -> tuple[str, ...]:
    registry = context.image.registry
    if chosen.image.value is not ImageDelivery.PEER or registry.endswith("amazonaws.com"):
        return ()  # the account's own registry has a name only the account knows: mirror all
    return (registry,)


def _shares_compile_cache(name: str, context: Context) -> bool:
    """Whether pods of the pool restore archives of one another; an infra stack must assume so."""
    served = [m for m in context.spec.models.values() if m.node_pool == name]
    return not served or any(m.compile_cache != CompileCache.NONE for m in served)


def _volumes(chosen: Delivery, pool: NodePoolSpec, context: Context) -> tuple[VolumePlan, ...]:
    """gp3 with explicit IOPS and throughput: fast where images land, small where they do not."""

    def limit(key: str) -> int:
        return int(context.catalog.limit(key).value)

    images_here = chosen.local_storage.value is not LocalStorage.RAID0
    unpacked_gib = context.image.unpacked_bytes / GIB
    main = VolumePlan(
        device_name="/dev/xvda",
        size_gib=ROOT_GIB_BESIDE_IMAGES
        + (round(IMAGE_ROOM_FACTOR * unpacked_gib) if images_here else 0),
        iops=limit("soci_root_gp3_best_iops" if images_here else "gp3_baseline_iops"),
        throughput_mib_per_second=limit(
            "soci_root_gp3_best_mib_per_second" if images_here else "gp3_baseline_mib_per_second"
        ),
        root=True,
    )
    if chosen.operating_system.value is OperatingSystem.AL2023:
        return (main,)
    snapshot = chosen.image.value is ImageDelivery.SNAPSHOT
    rate = limit("volume_initialization_rate_max_mib_per_second")
    return (
        VolumePlan(
            "/dev/xvda",
            BOTTLEROCKET_ROOT_GIB,
            limit("gp3_baseline_iops"),
            limit("gp3_baseline_mib_per_second"),
        ),
        replace(
            main,
            device_name="/dev/xvdb",
            snapshot_id=pool.image_snapshot if snapshot else None,
            initialization_rate_mib_per_second=rate if snapshot else None,
        ),
    )


def capacity(name: str, pool: NodePoolSpec) -> Decision[tuple[KarpenterPool, ...]]:
    """One NodePool where Karpenter's own order is the wished one, else weighted ones."""
    wished = pool.capacity
    together = (KarpenterPool(name, wished),)
    apart = tuple(
        KarpenterPool(f"{name}-{kind}", (kind,), weight=100 - 10 * rank)
        for rank, kind in enumerate(wished)
    )
    order = " → ".join(wished)
    if wished == tuple(kind for kind in KARPENTER_ORDER if kind in wished):
        return Decision(
            together,
            f"one NodePool: Karpenter itself tries {order}, and one limit holds for all",
            (Rejection(apart, "one NodePool per capacity type would each have its own limit"),)
            if len(wished) > 1
            else (),
        )
    return Decision(
        apart,
        f"one NodePool per capacity type, weighted, because {order} is not Karpenter's own "
        f"order; each has the limit of {pool.max_nodes} nodes for itself",
        (
            Rejection(
                together,
                "inside one NodePool Karpenter tries reserved, spot, on-demand in that order",
            ),
        ),
    )
