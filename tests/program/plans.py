"""Plans made by hand, for tests of components that must not depend on the planner's choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coldstart.planning import (
    ChartPlan,
    ClusterPlan,
    CostPlan,
    Decision,
    ImagePlan,
    KarpenterPool,
    NetworkPlan,
    PoolPlan,
    StackPlan,
    SubnetPlan,
    Taint,
    VolumePlan,
)
from coldstart.spec.model import (
    CapacityType,
    ImageDelivery,
    LocalStorage,
    NatGateways,
    OperatingSystem,
    StackSpec,
)

REGION = "us-west-2"
DIGEST = f"sha256:{'0' * 64}"

A100 = PoolPlan(
    name="a100",
    accelerator="nvidia-a100-40gb",
    resource_name="nvidia.com/gpu",
    gpu_architecture="ampere",
    instance_types=("p4d.24xlarge",),
    cpu_architecture="amd64",
    gpus_per_node=8,
    operating_system=Decision(OperatingSystem.AL2023, "by hand"),
    ami_alias="al2023@v20260714",
    local_storage=Decision(LocalStorage.RAID0, "by hand"),
    local_disk_path="/mnt/k8s-disks/0",
    local_disk_gb=8000,
    scratch_host_path=None,
    image_delivery=Decision(ImageDelivery.PARALLEL, "by hand"),
    capacity=Decision((KarpenterPool("a100", (CapacityType.SPOT, CapacityType.ON_DEMAND)),), "-"),
    reservation_ids=(),
    reservation_tags={},
    max_nodes=4,
    warm=Decision(1, "test"),
    limits={"nodes": "4", "nvidia.com/gpu": "32"},
    volumes=(VolumePlan("/dev/xvda", 60, 3000, 125, root=True),),
    user_data="apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n",
    labels={"coldstart.dev/node-pool": "a100", "nvidia.com/gpu.present": "true"},
    taints=(Taint("nvidia.com/gpu", "NoSchedule", "present"),),
    startup_taints=(),
    consolidate_after_seconds=600,
    expire_after_seconds=720 * 3600,
    termination_grace_seconds=3900,
    shares_compile_cache=True,
)

ADDONS = {
    "coredns": "v1.13.2-eksbuild.31",
    "kube-proxy": "v1.35.3-eksbuild.29",
    "vpc-cni": "v1.22.4-eksbuild.3",
    "aws-ebs-csi-driver": "v1.66.0-eksbuild.1",
    "aws-efs-csi-driver": "v3.4.1-eksbuild.1",
    "eks-pod-identity-agent": "v1.3.10-eksbuild.3",
    "eks-node-monitoring-agent": "v1.7.2-eksbuild.1",
}

CHARTS = {
    name: ChartPlan(name, name, repository, "1.2.3", namespace)
    for name, repository, namespace in (
        ("karpenter-crd", "oci://public.ecr.aws/karpenter", "kube-system"),
        ("karpenter", "oci://public.ecr.aws/karpenter", "kube-system"),
        ("spegel", "oci://ghcr.io/spegel-org/helm-charts", "spegel"),
        ("nvidia-device-plugin", "https://nvidia.github.io/k8s-device-plugin", "device-plugin"),
        ("dcgm-exporter", "https://nvidia.github.io/dcgm-exporter/helm-charts", "dcgm"),
        ("keda", "https://kedacore.github.io/charts", "keda"),
        (
            "kube-prometheus-stack",
            "https://prometheus-community.github.io/helm-charts",
            "monitoring",
        ),
    )
}

IMAGES = {
    "engine": ImagePlan("docker.io", "vllm/vllm-openai", DIGEST),
    "stager": ImagePlan("docker.io", "rclone/rclone", DIGEST),
    "pause": ImagePlan("registry.k8s.io", "pause", DIGEST),
    "busybox": ImagePlan("docker.io", "library/busybox", DIGEST),
}


def stack_plan(
    *,
    spec: Mapping[str, Any] | None = None,
    pools: tuple[PoolPlan, ...] = (A100,),
    nat_gateways: NatGateways = NatGateways.PER_ZONE,
    zones: int = 3,
    cluster: Mapping[str, Any] | None = None,
    pull_through: Mapping[str, str] | None = None,
    shared_file_system: bool = False,
) -> StackPlan:
    """A plan of an infra stack with two tenants; `spec` and `cluster` replace single fields."""
    subnets = [
        SubnetPlan(zone, f"10.40.{16 * zone + 64 * public}.0/20", bool(public))
        for zone in range(zones)
        for public in (0, 1)
    ]
    return StackPlan(
        spec=StackSpec.model_validate(
            {
                "stack": "eks-test",
                "region": REGION,
                "platform": "eks",
                "layers": ["infra"],
                "servingNamespaces": ["chat", "code"],
                **(spec or {}),
            }
        ),
        network=NetworkPlan("10.40.0.0/16", tuple(subnets), Decision(nat_gateways, "by hand")),
        cluster=replace(
            ClusterPlan(
                name="eks-test",
                version="1.35",
                admin_cidrs=("203.0.113.0/24",),
                admin_principals=(),
                deletion_protection=True,
                system_instance_type="m7i.large",
                system_nodes=3,
                addons=ADDONS,
                system_ami_type="AL2023_x86_64_STANDARD",
            ),
            **(cluster or {}),
        ),
        pools={pool.name: pool for pool in pools},
        models={},
        images=IMAGES,
        charts=CHARTS,
        pull_through=pull_through or {},
        shared_file_system=Decision(shared_file_system, "by hand"),
        cost=CostPlan(()),
    )
