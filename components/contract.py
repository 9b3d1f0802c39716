"""What the infra layer promises and the workload layer may know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from coldstart.planning import PoolPlan, StackPlan

SCHEMA_VERSION = 1
SERVING_ACCOUNT = "server"
"""Service account that reads weights and golden caches."""
PUBLISHER_ACCOUNT = "publisher"
"""Service account of the Jobs that write them."""


class ContractError(Exception):
    """The cluster's contract and this stack's plan do not fit together."""


@dataclass(frozen=True)
class ObjectStore:
    """The bucket for weights and golden caches.

    `rclone` holds the rclone backend settings (`provider`, `region`, …) that reach it with the
    pod's own identity; `scheme` is what the engine's streamer reads (`s3`).
    """

    scheme: pulumi.Input[str]
    bucket: pulumi.Input[str]
    rclone: pulumi.Input[Mapping[str, str]]


@dataclass(frozen=True)
class SharedFileSystem:
    """A ReadWriteMany file system with one volume handle per tenant namespace."""

    driver: pulumi.Input[str]
    volume_handles: pulumi.Input[Mapping[str, str]]
    mount_options: pulumi.Input[Sequence[str]]
    capacity: pulumi.Input[str]


@dataclass(frozen=True)
class ClusterContract:
    """A cluster as the workload layer sees it; goes to stack outputs and back without loss.

    `pools` are facts of the node pools (`pool_facts`), `registry_mirrors` maps an upstream registry
    to the prefix of its pull-through cache. `provider`, `ready`, `node_pools` (by pool) and
    `identities` (by tenant) exist only inside the stack that made the cluster.
    """

    name: pulumi.Input[str]
    platform: str
    region: str
    kubeconfig: pulumi.Input[str]
    zones: pulumi.Input[Sequence[str]]
    object_store: ObjectStore
    shared_file_system: SharedFileSystem | None
    registry_mirrors: pulumi.Input[Mapping[str, str]]
    pools: pulumi.Input[Mapping[str, Mapping[str, Any]]]
    schema_version: int = SCHEMA_VERSION
    provider: kubernetes.Provider | None = None
    ready: Sequence[pulumi.Resource] = field(default_factory=tuple)
    node_pools: Mapping[str, Sequence[pulumi.Resource]] = field(default_factory=dict)
    identities: Mapping[str, Sequence[pulumi.Resource]] = field(default_factory=dict)

    def to_outputs(self) -> dict[str, Any]:
        """The contract as one stack output."""
        shared = self.shared_file_system
        return {
            "schemaVersion": self.schema_version,
            "name": self.name,
            "platform": self.platform,
            "region": self.region,
            "kubeconfig": self.kubeconfig,
            "zones": self.zones,
            "objectStore": {
                "scheme": self.object_store.scheme,
                "bucket": self.object_store.bucket,
                "rclone": self.object_store.rclone,
            },
            "sharedFileSystem": None
            if shared is None
            else {
                "driver": shared.driver,
                "volumeHandles": shared.volume_handles,
                "mountOptions": shared.mount_options,
                "capacity": shared.capacity,
            },
            "registryMirrors": self.registry_mirrors,
            "pools": self.pools,
        }

    @staticmethod
    def from_stack(stack: str, plan: StackPlan) -> ClusterContract:
        """The contract another stack of this project exported, checked against `plan`.

        The reference works on every backend, a file one included. Raises ContractError, at the
        first use, when the schema version or a node pool differs.
        """
        reference = pulumi.StackReference(
            f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"
        )
        found = reference.require_output("contract").apply(
            lambda value: verified(value, stack, plan)
        )
        # The engine keeps no null in outputs: without a shared file system there is no such key.
        shared = found["sharedFileSystem"] if plan.shared_file_system.value else None
        return ClusterContract(
            name=found["name"],
            platform=plan.spec.platform,
            region=plan.spec.region,
            kubeconfig=found["kubeconfig"],
            zones=found["zones"],
            object_store=ObjectStore(
                found["objectStore"]["scheme"],
                found["objectStore"]["bucket"],
                found["objectStore"]["rclone"],
            ),
            shared_file_system=None
            if shared is None
            else SharedFileSystem(
                shared["driver"],
                shared["volumeHandles"],
                shared["mountOptions"],
                shared["capacity"],
            ),
            registry_mirrors=found["registryMirrors"],
            pools=found["pools"],
        )


def pool_facts(pool: PoolPlan) -> dict[str, Any]:
    """What the contract says of one node pool."""
    return {
        "accelerator": pool.accelerator,
        "resourceName": pool.resource_name,
        "gpusPerNode": pool.gpus_per_node,
        "labels": dict(pool.labels),
        "taints": [taint.key for taint in pool.taints],
        "startupTaints": [taint.key for taint in pool.startup_taints],
        "localDiskPath": pool.local_disk_path,
        "localDiskGb": pool.local_disk_gb,
        "imageDelivery": str(pool.image_delivery.value),
        "nodePools": [node_pool.name for node_pool in pool.capacity.value],
    }


def verified(value: Mapping[str, Any], stack: str, plan: StackPlan) -> Mapping[str, Any]:
    """`value` when this program can serve on that cluster; ContractError saying why not."""
    version = int(value.get("schemaVersion", 0))
    if version != SCHEMA_VERSION:
        raise ContractError(
            f"stack {stack} exports contract schema {version}, this program reads "
            f"{SCHEMA_VERSION}: run pulumi up on {stack} with the same version of this project"
        )
    if plan.shared_file_system.value and not value.get("sharedFileSystem"):
        raise ContractError(
            f"stack {stack} has no shared file system, which this stack's file asks for: set "
            f"storage.sharedFileSystem: true there and run pulumi up on {stack} first"
        )
    for name in sorted({model.pool for model in plan.models.values()}):
        promised, expected = value["pools"].get(name), pool_facts(plan.pools[name])
        if promised is None:
            raise ContractError(
                f"stack {stack} has no node pool {name}; it has "
                f"{', '.join(sorted(value['pools'])) or 'none'}"
            )
        differing = sorted(key for key in expected if promised.get(key) != expected[key])
        if differing:
            raise ContractError(
                f"node pool {name} of stack {stack} differs from its stack file in "
                + ", ".join(
                    f"{k} ({promised.get(k)!r}, the file says {expected[k]!r})" for k in differing
                )
                + f": run pulumi up on {stack} first"
            )
    return value
