"""Nodes as the stacks would get them: the catalog's sizes, the node pools' labels and taints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from coldstart.catalog import InstanceType, load
from coldstart.controlplane.nodes import MANAGED
from tests.cluster.scheduling_stacks import plain
from tests.program.recording import Recorded

REGION = "us-west-2"
ZONES = tuple(f"{REGION}{letter}" for letter in "abc")
PODS = "110"
"""Pods a node takes with prefix delegation (EKS best practices, prefix mode, below 30 vCPU)."""
RESERVED_STORAGE_BYTES = 1 << 30
"""Ephemeral storage that the kubelet keeps for the system (karpenter-provider-aws v1.14.1,
pkg/providers/instancetype/types.go, kubeReservedResources)."""
EVICTION_SHARE = 0.1
"""nodefs.available, below which the kubelet evicts (same file, evictionThreshold)."""


@dataclass(frozen=True)
class Shape:
    """What one node looks like; `storage_bytes` is the capacity of its ephemeral storage."""

    instance: InstanceType
    storage_bytes: int
    labels: dict[str, str]
    taints: list[dict[str, str]] = field(default_factory=list)


def node(name: str, shape: Shape, zone: str) -> dict[str, Any]:
    """The Node object that a kubelet on such an instance registers."""
    instance = shape.instance
    gpus = {"nvidia.com/gpu": str(instance.accelerator_count)} if instance.accelerator else {}
    allocatable_bytes = int(shape.storage_bytes * (1 - EVICTION_SHARE)) - RESERVED_STORAGE_BYTES
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": dict(MANAGED),
            "labels": {
                **shape.labels,
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": instance.arch,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": instance.name,
                "topology.kubernetes.io/region": REGION,
                "topology.kubernetes.io/zone": zone,
            },
        },
        "spec": {"taints": shape.taints},
        "status": {
            "capacity": {
                "cpu": str(instance.vcpu),
                "memory": f"{instance.memory_mib}Mi",
                "ephemeral-storage": str(shape.storage_bytes),
                "pods": PODS,
                **gpus,
            },
            "allocatable": {
                "cpu": f"{instance.allocatable_cpu_millicores}m",
                "memory": f"{instance.allocatable_memory_mib}Mi",
                "ephemeral-storage": str(allocatable_bytes),
                "pods": PODS,
                **gpus,
            },
        },
    }


def gpu_shape(
    run: Recorded, pool: str, *, instance_type: str | None = None, starting: bool = False
) -> Shape:
    """A node that Karpenter would make for NodePool `pool` of this run.

    `instance_type` is the first one the pool allows unless named; `starting` leaves the start-up
    taints on.
    """
    found = next(o for r in run.of_type("NodePool") if (o := plain(r))["metadata"]["name"] == pool)
    template = found["spec"]["template"]
    allowed = {item["key"]: item["values"] for item in template["spec"]["requirements"]}
    types = allowed["node.kubernetes.io/instance-type"]
    instance = load().instance(instance_type or types[0])
    if instance.name not in types:
        raise ValueError(f"NodePool {pool} allows {', '.join(types)}, not {instance.name}")
    startup = template["spec"].get("startupTaints", []) if starting else []
    node_class = next(
        o
        for r in run.of_type("EC2NodeClass")
        if (o := plain(r))["metadata"]["name"] == template["spec"]["nodeClassRef"]["name"]
    )
    return Shape(
        instance,
        storage_bytes(node_class["spec"], instance),
        {
            **template["metadata"]["labels"],
            "karpenter.sh/nodepool": pool,
            "karpenter.sh/capacity-type": allowed["karpenter.sh/capacity-type"][0],
            "karpenter.sh/registered": "true",
            **({} if starting else {"karpenter.sh/initialized": "true"}),
        },
        [*template["spec"]["taints"], *startup],
    )


def storage_bytes(node_class: dict[str, Any], instance: InstanceType) -> int:
    """All local disks under RAID0, the root volume otherwise."""
    if node_class.get("instanceStorePolicy") == "RAID0":
        return instance.nvme_gb * 10**9
    devices = node_class["blockDeviceMappings"]
    root = next((d for d in devices if d.get("rootVolume")), devices[0])
    return int(root["ebs"]["volumeSize"].removesuffix("Gi")) << 30


def system_shape(run: Recorded) -> Shape:
    """A node of the managed node group of this run."""
    group = plain(run.one("aws:eks/nodeGroup:NodeGroup"))
    template = plain(run.one("aws:ec2/launchTemplate:LaunchTemplate"))
    volume_gib = template["blockDeviceMappings"][0]["ebs"]["volumeSize"]
    instance = load().instance(group["instanceTypes"][0])
    return Shape(
        instance,
        int(volume_gib) << 30,
        {**group["labels"], "eks.amazonaws.com/capacityType": group["capacityType"]},
        [taint_of_group(taint) for taint in group.get("taints", [])],
    )


def taint_of_group(taint: dict[str, str]) -> dict[str, str]:
    """EKS writes NO_SCHEDULE where Kubernetes writes NoSchedule."""
    effect = "".join(word.capitalize() for word in taint["effect"].split("_"))
    return {**taint, "effect": effect}
