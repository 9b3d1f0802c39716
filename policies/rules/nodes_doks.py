"""GPU pools of DigitalOcean Kubernetes: their size, and the share they load weights from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.cloud_pools import gpu_pools_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    first_mapping,
    gather,
    is_true,
    judge_each,
    text_at,
    whole,
)
from policies.rule import Finding, Option, ResourceRule, Settings, StackRule

_POOL = "digitalocean:index/kubernetesNodePool:KubernetesNodePool"
_CLUSTER = "digitalocean:index/kubernetesCluster:KubernetesCluster"
_SHARE = "digitalocean:index/nfs:Nfs"
_GPU_SIZE = "gpu-"
# Sizes of capacity that is bought for a time, so that a fixed number is what was paid for.
_CONTRACTED = "-contracted"


def _holds_pool(resource_type: str) -> bool:
    return resource_type in (_POOL, _CLUSTER)


def _judge_autoscaling(resource: Resource, settings: Settings) -> Iterator[str]:
    within = resource.type == _CLUSTER
    pool = first_mapping(at(resource.properties, "nodePool")) if within else resource.properties
    size = text_at(pool, "size")
    if not size.startswith(_GPU_SIZE) or _CONTRACTED in size:
        return
    prefix = "nodePool." if within else ""
    if not is_true(at(pool, "autoScale")):
        yield _fixed(pool, prefix, size)
    elif whole(at(pool, "minNodes"), 0) < 1 and not settings["allowZeroNodes"]:
        stated = at(pool, "minNodes")
        found = "is not set" if stated is None else f"is {whole(stated, 0)}"
        yield (
            f"{prefix}minNodes of the GPU pool ({size}) {found}. Scaling a DigitalOcean pool to "
            "zero nodes is in private preview, so for other accounts the pool is refused or never "
            f"shrinks to zero. Set {prefix}minNodes: 1, or the option allowZeroNodes where the "
            "account has the preview."
        )


def _fixed(pool: Mapping[str, Any], prefix: str, size: str) -> str:
    ignored = [key for key in ("minNodes", "maxNodes") if at(pool, key) is not None]
    beside = f" beside {' and '.join(prefix + key for key in ignored)}" if ignored else ""
    count = whole(at(pool, "nodeCount"), 0)
    return (
        f"{prefix}autoScale is not true{beside} in the GPU pool ({size}), whose "
        f"{prefix}nodeCount is {count}. The pool keeps that number: a pod more than it holds stays "
        "pending, and an idle GPU is paid for around the clock. Set "
        f"{prefix}autoScale: true with {prefix}minNodes and {prefix}maxNodes."
    )


def _judge_nfs_region(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    shares = [item for item in resources if item.type == _SHARE]
    clusters = [item for item in resources if item.type == _CLUSTER]
    offered = {region.lower() for region in settings["nfsRegions"]}
    pools, undecided = gather((item for item in resources if _holds_pool(item.type)), gpu_pools_of)
    if not clusters or not (shares or offered) or not (pools or undecided):
        return
    served, unread = gather(shares, _region)

    def judge(cluster: Resource) -> Iterator[Finding]:
        for region in _region(cluster):
            message = _unserved(region, served, offered)
            if unread and region not in served:
                raise NotYetKnown(*unread)
            if message is None:
                continue
            if not pools:
                raise NotYetKnown(*undecided)
            yield Finding(cluster, message)

    yield from judge_each(clusters, judge)


def _region(resource: Resource) -> Iterator[str]:
    region = text_at(resource.properties, "region").lower()
    if region:
        yield region


def _unserved(region: str, served: Sequence[str], offered: set[str]) -> str | None:
    if served and region not in served:
        return (
            f"region={region} of the cluster with GPU pools, while the stack's NFS shares are in "
            f"{', '.join(sorted(set(served)))}. A share is reached from VPCs of its own region "
            "only, so the mount of the weights fails on every GPU node. Put the share and the "
            "cluster into one region."
        )
    if offered and region not in offered:
        return (
            f"region={region} of the cluster with GPU pools is none of those with Network File "
            f"Storage ({', '.join(sorted(offered))}). The pool's pods can share no weights, and "
            "each new node downloads them by itself. Move the cluster to one of these regions."
        )
    return None


REQUIRE_AUTOSCALING = ResourceRule(
    code="CS119",
    name="doks-nodepool-require-autoscaling",
    concern="nodes",
    title="GPU pools of DOKS follow demand",
    description="A GPU node pool of DigitalOcean Kubernetes must autoscale, and from one node on "
    "unless the account has the preview of pools with none.",
    severity="medium",
    tags=("doks", "cost", "scale-to-zero"),
    remediation="Set autoScale: true with minNodes of at least 1 and maxNodes; nodeCount alone is "
    "a fixed size.",
    reason="Without autoScale the limits beside it are ignored, and a pool of zero nodes is a "
    "private preview.",
    links=(
        "https://registry.terraform.io/providers/digitalocean/digitalocean/latest/docs/resources/kubernetes_node_pool",
        "https://github.com/digitalocean/scale-with-simplicity/tree/main/reference-architectures/vllm-nfs",
    ),
    options=(
        Option(
            "allowZeroNodes",
            {"type": "boolean", "default": False},
            False,
            "Whether the account has the preview in which pools scale to zero nodes.",
        ),
    ),
    level="advisory",
    development="advisory",
    reads=_holds_pool,
    judge=_judge_autoscaling,
)

REQUIRE_NFS_REGION = StackRule(
    code="CS120",
    name="doks-nodepool-require-nfs-region",
    concern="nodes",
    title="GPU pools and their NFS share are in one region",
    description="A DigitalOcean cluster with GPU pools must be in the region of the stack's NFS "
    "shares, and in a region that has them where the option lists these.",
    severity="high",
    tags=("doks", "weights"),
    remediation="Create cluster, VPC and NFS share in the same region.",
    reason="Network File Storage exists in some regions only, and a share is mounted inside its "
    "VPC.",
    links=(
        "https://docs.digitalocean.com/reference/terraform/reference/resources/nfs/",
        "https://github.com/digitalocean/scale-with-simplicity/tree/main/reference-architectures/vllm-nfs",
    ),
    options=(
        Option(
            "nfsRegions",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Slugs of the regions with Network File Storage; empty where that is not checked.",
        ),
    ),
    judge=_judge_nfs_region,
)
