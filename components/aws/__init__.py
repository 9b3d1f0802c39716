"""The infra layer on EKS: from a plan to a cluster that the workload layer can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import Output, Resource, ResourceOptions

from coldstart.planning import StackPlan
from coldstart.spec.model import Environment, ImageDelivery, LocalStorage
from components.aws.accelerator_daemons import AcceleratorDaemons, AcceleratorDaemonsArgs
from components.aws.account import Account, aws_provider, stack_tags
from components.aws.addons import BEFORE_NODES, NODE_MONITORING, Addons, AddonsArgs
from components.aws.cluster import Cluster, ClusterArgs, log_group_name
from components.aws.default_storage_class import DefaultStorageClass
from components.aws.encryption import EncryptionKey, EncryptionKeyArgs
from components.aws.gpu_node_pool import GpuNodePool, GpuNodePoolArgs
from components.aws.interruption import InterruptionQueue, InterruptionQueueArgs
from components.aws.karpenter import Karpenter, KarpenterArgs
from components.aws.karpenter_iam import KarpenterIam, KarpenterIamArgs, node_role_name
from components.aws.kubeconfig import kubeconfig, kubernetes_provider
from components.aws.local_disk_daemon import LocalDiskDaemon, LocalDiskDaemonArgs
from components.aws.naming import ROLE_NAME_LIMIT, bounded
from components.aws.network import Network, NetworkArgs
from components.aws.node_role import NodeRole, NodeRoleArgs
from components.aws.peer_mirror import PeerMirror, PeerMirrorArgs
from components.aws.pull_through_cache import (
    PullThroughCache,
    PullThroughCacheArgs,
    node_policy,
    registry_mirrors,
)
from components.aws.shared_file_system import SharedFileSystem, SharedFileSystemArgs
from components.aws.storage_identities import StorageIdentities, StorageIdentitiesArgs
from components.aws.system_nodes import SystemNodes, SystemNodesArgs
from components.aws.weights_bucket import WeightsBucket, WeightsBucketArgs, weights_bucket_name
from components.contract import ClusterContract, ObjectStore, pool_facts
from components.contract import SharedFileSystem as SharedStorage

__all__ = ["provision"]


def provision(plan: StackPlan) -> ClusterContract:
    """Make the cluster `plan` describes, and promise what the workload layer may rely on."""
    provider = aws_provider(plan)
    account = Account.current(plan.spec.region, provider)
    base = _base(plan, account, ResourceOptions(provider=provider))
    config = kubeconfig(base.cluster, account.region)
    cluster_api = kubernetes_provider(base.cluster, config)
    inside = ResourceOptions(
        providers={"aws": provider, "kubernetes": cluster_api}, depends_on=[base.system]
    )
    karpenter, pools = _node_pools(plan, base, inside)
    daemons = _daemons(plan, base, inside)
    storage = _storage(plan, base)
    return ClusterContract(
        name=base.cluster.name,
        platform=plan.spec.platform,
        region=account.region,
        kubeconfig=config,
        zones=Output.all(*base.network.zones),
        object_store=storage.objects,
        shared_file_system=storage.shared,
        registry_mirrors=registry_mirrors(account, plan.pull_through),
        pools={name: pool_facts(pool) for name, pool in plan.pools.items()},
        provider=cluster_api,
        ready=[karpenter, *daemons, *storage.ready],
        node_pools={name: [pool] for name, pool in pools.items()},
        identities=storage.identities,
    )


@dataclass(frozen=True)
class _Base:
    """What everything else stands on; `opts` are for resources of AWS alone."""

    account: Account
    network: Network
    key: EncryptionKey
    cluster: Cluster
    system: Addons
    node_policies: Mapping[str, str]
    opts: ResourceOptions


@dataclass(frozen=True)
class _Storage:
    objects: ObjectStore
    shared: SharedStorage | None
    ready: Sequence[Resource]
    identities: Mapping[str, Sequence[Resource]]


def _base(plan: StackPlan, account: Account, opts: ResourceOptions) -> _Base:
    """Network, control plane and system nodes, in the order in which they can become ready."""
    name = plan.cluster.name
    network = Network("network", NetworkArgs(name, plan.network, account), opts)
    key = EncryptionKey("encryption", EncryptionKeyArgs(name, log_group_name(name), account), opts)
    cluster = Cluster(
        "cluster", ClusterArgs(plan.cluster, account, network.private_subnet_ids, key.arn), opts
    )
    policies = _node_policies(plan, account, opts)
    role = NodeRole(
        "system-node",
        NodeRoleArgs(
            bounded(f"{name}-{account.region}-system-node", ROLE_NAME_LIMIT), account, policies
        ),
        opts,
    )
    before = _addons(plan, account, cluster, "node-addons", opts)
    nodes = SystemNodes(
        "system",
        SystemNodesArgs(
            plan.cluster, cluster.name, role.arn, network.private_subnet_ids, stack_tags(plan)
        ),
        ResourceOptions.merge(opts, ResourceOptions(depends_on=[network, role, before])),
    )
    after = _addons(
        plan,
        account,
        cluster,
        "cluster-addons",
        ResourceOptions.merge(opts, ResourceOptions(depends_on=[nodes])),
    )
    return _Base(account, network, key, cluster, after, policies, opts)


def _addons(
    plan: StackPlan, account: Account, cluster: Cluster, name: str, opts: ResourceOptions
) -> Addons:
    early = name == "node-addons"
    return Addons(
        name,
        AddonsArgs(
            cluster_name=cluster.name,
            plain_cluster_name=plan.cluster.name,
            versions={
                addon: version
                for addon, version in plan.cluster.addons.items()
                if (addon in BEFORE_NODES) is early
            },
            mounts_on_gpu_nodes=plan.shared_file_system.value,
            account=account,
        ),
        opts,
    )


def _node_policies(plan: StackPlan, account: Account, opts: ResourceOptions) -> dict[str, str]:
    if not plan.pull_through:
        return {}
    PullThroughCache(
        "registry",
        PullThroughCacheArgs(plan.pull_through, plan.spec.registry.docker_hub_credential, account),
        opts,
    )
    return {"pull-through-cache": node_policy(account, plan.pull_through.values())}


def _node_pools(
    plan: StackPlan, base: _Base, opts: ResourceOptions
) -> tuple[Resource, dict[str, GpuNodePool]]:
    """Karpenter and its pools: on the way down the pools go first, while it can drain them."""
    name, account = plan.cluster.name, base.account
    queue = InterruptionQueue("interruption", InterruptionQueueArgs(name, account), base.opts)
    iam = KarpenterIam(
        "karpenter-iam",
        KarpenterIamArgs(base.cluster.name, name, account, base.node_policies),
        base.opts,
    )
    karpenter = Karpenter(
        "karpenter",
        KarpenterArgs(
            crds=plan.charts["karpenter-crd"],
            chart=plan.charts["karpenter"],
            cluster_name=base.cluster.name,
            queue_name=queue.name,
            region=account.region,
            repairs_nodes=NODE_MONITORING in plan.cluster.addons,
        ),
        ResourceOptions.merge(opts, ResourceOptions(depends_on=[queue, iam])),
    )
    needs = ResourceOptions(depends_on=[karpenter, iam, base.network, base.cluster.discovery_tag])
    return karpenter, {
        pool.name: GpuNodePool(
            f"pool-{pool.name}",
            GpuNodePoolArgs(name, node_role_name(name, account.region), pool, stack_tags(plan)),
            ResourceOptions.merge(opts, needs),
        )
        for pool in plan.pools.values()
    }


def _daemons(plan: StackPlan, base: _Base, opts: ResourceOptions) -> list[Resource]:
    """What runs on GPU nodes before any model does."""
    pools = tuple(plan.pools.values())
    environment = plan.spec.environment
    made: list[Resource] = [
        DefaultStorageClass("storage-class", opts),
        AcceleratorDaemons(
            "accelerators",
            AcceleratorDaemonsArgs(
                plan.charts["nvidia-device-plugin"],
                plan.charts["dcgm-exporter"],
                pools,
                environment,
            ),
            opts,
        ),
    ]
    if peers := [p for p in pools if p.image_delivery.value is ImageDelivery.PEER]:
        made.append(
            PeerMirror(
                "peer-mirror",
                PeerMirrorArgs(
                    plan.charts["spegel"],
                    peers,
                    _image_hosts(plan, base.account),
                    base.cluster.security_group_id,
                    environment,
                ),
                opts,
            )
        )
    if scratch := [p for p in pools if p.local_storage.value is LocalStorage.DAEMONSET]:
        args = LocalDiskDaemonArgs(
            scratch, plan.images["busybox"], plan.images["pause"], environment
        )
        made.append(LocalDiskDaemon("local-disks", args, opts))
    return made


def _image_hosts(plan: StackPlan, account: Account) -> list[str]:
    """The registries that nodes pull the plan's images from."""
    mirrors = registry_mirrors(account, plan.pull_through)
    return sorted(
        {
            mirrors.get(image.registry, image.registry).partition("/")[0]
            for image in plan.images.values()
        }
    )


def _storage(plan: StackPlan, base: _Base) -> _Storage:
    """The bucket, who may use it, and the shared file system where one was decided."""
    name, account, key = plan.cluster.name, base.account, base.key.arn
    bucket = WeightsBucket(
        "weights",
        WeightsBucketArgs(name, account, key, plan.spec.environment is Environment.DEV),
        base.opts,
    )
    identities = StorageIdentities(
        "identities",
        StorageIdentitiesArgs(
            base.cluster.name,
            name,
            plan.spec.tenants,
            weights_bucket_name(name, account),
            key,
            account,
        ),
        base.opts,
    )
    objects = ObjectStore("s3", bucket.bucket, _rclone(account, key))
    if not plan.shared_file_system.value:
        return _Storage(objects, None, [bucket], identities.by_tenant)
    shared = SharedFileSystem(
        "shared",
        SharedFileSystemArgs(
            cluster_name=name,
            tenants=plan.spec.tenants,
            vpc_id=base.network.vpc.id,
            subnet_ids=base.network.private_subnet_ids,
            client_security_group_id=base.cluster.security_group_id,
            key_arn=key,
        ),
        base.opts,
    )
    return _Storage(objects, shared.contract, [bucket, shared], identities.by_tenant)


def _rclone(account: Account, key_arn: Output[str]) -> Output[dict[str, str]]:
    """rclone's S3 settings. Without the key's ARN beside `aws:kms` S3 would take its own key, and
    without `aws:kms` rclone would take an encrypted object's ETag for its MD5."""
    return Output.all(
        provider="AWS",
        env_auth="true",
        region=account.region,
        no_check_bucket="true",
        server_side_encryption="aws:kms",
        sse_kms_key_id=key_arn,
    )
