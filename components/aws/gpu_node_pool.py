"""One pool of GPU nodes: an EC2NodeClass, and a NodePool per way to buy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, CustomTimeouts, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource

from coldstart.planning import KarpenterPool, PoolPlan, Taint, VolumePlan
from coldstart.spec.model import CapacityType, LocalStorage
from coldstart.units import go_duration
from components.aws.network import DISCOVERY_TAG

NODE_CLASS = {"api_version": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass"}
NODE_POOL = {"api_version": "karpenter.sh/v1", "kind": "NodePool"}
DRAIN_ALLOWANCE_SECONDS = 900
"""On top of the grace of pods: terminating instances and releasing their finalizers."""

BUDGETS = (
    {"nodes": "100%", "reasons": ["Empty"]},
    {"nodes": "1", "reasons": ["Drifted"]},
)
"""Idle GPU nodes may all go at once; a drifted one takes replicas with it, so one at a time."""


@dataclass(frozen=True)
class GpuNodePoolArgs:
    """The pool as decided.

    `node_role` is a role's name; `tags` go on instances and volumes, which Karpenter makes out of
    reach of the provider's default tags.
    """

    cluster_name: str
    node_role: str
    plan: PoolPlan
    tags: Mapping[str, str]


class GpuNodePool(ComponentResource):
    """A Karpenter node class and its NodePools, as `plan` decided them.

    Deleting a NodePool waits until its finalizer has drained and terminated its nodes; the
    instances are in no Pulumi state, so nothing else would.
    """

    def __init__(
        self, name: str, args: GpuNodePoolArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:GpuNodePool", name, opts=opts)
        patience = args.plan.termination_grace_seconds + DRAIN_ALLOWANCE_SECONDS
        child = ResourceOptions(
            parent=self, custom_timeouts=CustomTimeouts(delete=go_duration(patience))
        )
        node_class = CustomResource(
            f"{name}-class",
            metadata={"name": args.plan.name},
            spec=node_class_spec(args),
            opts=child,
            **NODE_CLASS,
        )
        for pool in args.plan.capacity.value:
            CustomResource(
                f"{name}-{pool.name}",
                metadata={"name": pool.name, "annotations": node_pool_annotations(args.plan)},
                spec=node_pool_spec(args.plan, pool),
                opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[node_class])),
                **NODE_POOL,
            )
        self.register_outputs({"labels": dict(args.plan.labels)})


def node_class_spec(args: GpuNodePoolArgs) -> dict[str, Any]:
    """What an instance of the pool is made of."""
    plan = args.plan
    discovery = [{"tags": {DISCOVERY_TAG: args.cluster_name}}]
    spec: dict[str, Any] = {
        "amiSelectorTerms": [{"alias": plan.ami_alias}],
        "role": args.node_role,
        "subnetSelectorTerms": discovery,
        "securityGroupSelectorTerms": discovery,
        "blockDeviceMappings": [block_device(volume) for volume in plan.volumes],
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpProtocolIPv6": "disabled",
            "httpPutResponseHopLimit": 1,
            "httpTokens": "required",
        },
        "tags": {**args.tags, "Name": f"{args.cluster_name}-{plan.name}"},
    }
    if plan.user_data:
        spec["userData"] = plan.user_data
    if plan.local_storage.value is LocalStorage.RAID0:
        spec["instanceStorePolicy"] = "RAID0"
    if reservations := reservation_terms(plan):
        spec["capacityReservationSelectorTerms"] = reservations
    return spec


def block_device(volume: VolumePlan) -> dict[str, Any]:
    """One encrypted gp3 volume; EC2 takes an initialization rate only together with a snapshot."""
    ebs: dict[str, Any] = {
        "volumeType": "gp3",
        "volumeSize": f"{volume.size_gib}Gi",
        "iops": volume.iops,
        "throughput": volume.throughput_mib_per_second,
        "encrypted": True,
        "deleteOnTermination": True,
    }
    if volume.snapshot_id:
        ebs["snapshotID"] = volume.snapshot_id
        if volume.initialization_rate_mib_per_second:
            ebs["volumeInitializationRate"] = volume.initialization_rate_mib_per_second
    device: dict[str, Any] = {"deviceName": volume.device_name, "ebs": ebs}
    return {**device, "rootVolume": True} if volume.root else device


def reservation_terms(plan: PoolPlan) -> list[dict[str, Any]]:
    """Which capacity reservations the pool may use: none unless a NodePool buys reserved."""
    if not any(CapacityType.RESERVED in pool.capacity_types for pool in plan.capacity.value):
        return []
    if plan.reservation_tags:
        return [{"tags": dict(plan.reservation_tags)}]
    return [{"id": reservation} for reservation in plan.reservation_ids]


def node_pool_annotations(plan: PoolPlan) -> dict[str, str]:
    """What the NodePool says of itself to whoever judges it."""
    return {"coldstart.dev/compile-cache": "shared"} if plan.shares_compile_cache else {}


def node_pool_spec(plan: PoolPlan, pool: KarpenterPool) -> dict[str, Any]:
    """When nodes of the pool are bought, what they look like, and when they go."""
    template: dict[str, Any] = {
        "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": plan.name},
        "requirements": requirements(plan, pool),
        "taints": [taint_spec(taint) for taint in plan.taints],
        "expireAfter": "Never"
        if plan.expire_after_seconds is None
        else go_duration(plan.expire_after_seconds),
        # Without it one pod that refuses to leave keeps an expired node for ever.
        "terminationGracePeriod": go_duration(plan.termination_grace_seconds),
    }
    if plan.startup_taints:
        template["startupTaints"] = [taint_spec(taint) for taint in plan.startup_taints]
    spec: dict[str, Any] = {
        "template": {"metadata": {"labels": dict(plan.labels)}, "spec": template},
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": go_duration(plan.consolidate_after_seconds),
            "budgets": [dict(budget) for budget in BUDGETS],
        },
        "limits": dict(plan.limits),
    }
    return spec if pool.weight is None else {**spec, "weight": pool.weight}


def requirements(plan: PoolPlan, pool: KarpenterPool) -> list[dict[str, Any]]:
    """The instances that may be bought."""
    wanted = {
        "node.kubernetes.io/instance-type": list(plan.instance_types),
        "kubernetes.io/arch": [plan.cpu_architecture],
        "kubernetes.io/os": ["linux"],
        "karpenter.sh/capacity-type": [str(kind) for kind in pool.capacity_types],
    }
    return [{"key": key, "operator": "In", "values": values} for key, values in wanted.items()]


def taint_spec(taint: Taint) -> dict[str, str]:
    """A taint as Kubernetes writes it."""
    spec = {"key": taint.key, "effect": taint.effect}
    return spec if taint.value is None else {**spec, "value": taint.value}
