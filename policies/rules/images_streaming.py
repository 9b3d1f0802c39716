"""Image streaming of GKE and AKS, where it does not help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.aks_streaming import StreamingPool, streaming_pools_of
from policies.reading.cloud_pools import gpu_pools_of
from policies.reading.node_pools import is_node_pool
from policies.reading.scheduling import Placement, Pool, Requirement, placement_of, pool_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    first_mapping,
    gather,
    is_true,
    judge_each,
    known,
    list_at,
    text_at,
)
from policies.reading.workloads import Pod, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

_GKE_POOL = "gcp:container/nodePool:NodePool"
_IMAGE_CACHE = "CONTAINER_IMAGE_CACHE"
# Only this registry converts images for streaming.
_ACR = ".azurecr.io/"
_POOL_LABELS = ("agentpool", "kubernetes.azure.com/agentpool")
_SHOWN = 3


def _judge_digest(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    streaming, undecided = gather(resources, streaming_pools_of)
    if streaming:
        pools, unread = gather(resources, _karpenter_pools)
        pinned, unseen = gather(resources, _pinned_gpu_pods)
        yield from judge_each(
            streaming, lambda pool: _judge_pool(pool, pools, pinned, (*unread, *unseen))
        )
    if undecided:
        raise NotYetKnown(*undecided)


def _karpenter_pools(resource: Resource) -> Iterator[Pool]:
    if is_node_pool(resource):
        yield pool_of(resource)


def _pinned_gpu_pods(resource: Resource) -> Iterator[tuple[Pod, Placement, str]]:
    """GPU pods with an image of an Azure registry that is named by digest."""
    for pod in pods_of(resource):
        if not pod.requests_gpu:
            continue
        for container in pod.containers(with_init=True):
            image = text_at(container.spec, "image")
            if _ACR in image and "@sha256:" in image:
                yield pod, placement_of(pod.spec), image
                break


def _judge_pool(
    streaming: StreamingPool,
    pools: Sequence[Pool],
    pinned: Sequence[tuple[Pod, Placement, str]],
    undecided: Sequence[tuple[str, ...]],
) -> Iterator[Finding]:
    if not streaming.may_have_gpus:
        return
    there = [
        f"{pod.owner.name} ({image})"
        for pod, placement, image in pinned
        if _can_run(placement, streaming, pools)
    ]
    if there:
        yield Finding(
            streaming.resource,
            f"{streaming.field}=true on {streaming.name}, and pods there name images by digest: "
            f"{', '.join(there[:_SHOWN])}. AKS streams an image only when it is pulled by tag, so "
            "these are pulled whole and the setting does nothing for them. Turn streaming off for "
            "the pool, or name the image by a tag that the registry locks.",
        )
    if undecided:
        raise NotYetKnown(*undecided)


def _can_run(placement: Placement, streaming: StreamingPool, pools: Sequence[Pool]) -> bool:
    if streaming.node_class:
        own = [pool for pool in pools if pool.node_class == streaming.node_class]
        return not own or any(map(placement.can_run_on, own))
    return any(
        all(_allows(condition, streaming.name) for condition in conditions)
        for conditions in placement.alternatives
    )


def _allows(condition: Requirement, pool: str) -> bool:
    """Whether a condition leaves a pool of AKS open, as far as its name tells."""
    # Only Karpenter's nodes carry its labels.
    if condition.key.startswith("karpenter.") and condition.operator == "In":
        return False
    return condition.key not in _POOL_LABELS or condition.allows(pool)


def _is_gke_pool(resource_type: str) -> bool:
    return resource_type == _GKE_POOL


def _judge_boot_disk(resource: Resource, _: Settings) -> Iterator[str]:
    for pool in gpu_pools_of(resource):
        node = first_mapping(at(resource.properties, "nodeConfig"))
        streams = is_true(at(first_mapping(at(node, "gcfsConfig")), "enabled"))
        if streams and not _has_cache(list_at(node, "secondaryBootDisks")):
            yield (
                f"nodeConfig.gcfsConfig.enabled=true in GPU node pool {pool.name}, and "
                f"nodeConfig.secondaryBootDisks has none with mode {_IMAGE_CACHE}. The container "
                "starts early, but an engine's start reads gigabytes of CUDA and torch libraries, "
                "each over the network on first touch, so the time moves from the pull into the "
                "imports. Add a secondary boot disk that holds the image."
            )


def _has_cache(disks: Sequence[Any]) -> bool:
    return any(
        isinstance(disk, Mapping) and at(disk, "mode") == _IMAGE_CACHE for disk in map(known, disks)
    )


FORBID_DIGEST_WITH_STREAMING = StackRule(
    code="CS202",
    name="aks-agentpool-forbid-digest-with-artifact-streaming",
    concern="images",
    title="Artifact streaming is not paid for images it cannot stream",
    description="GPU pods on AKS nodes with artifact streaming must not name images of an Azure "
    "registry by digest.",
    severity="medium",
    tags=("aks", "cold-start", "image-delivery"),
    remediation="Turn artifact streaming off where images are pinned by digest, or use tags with "
    "the registry's tag lock on these pools.",
    reason="Streaming works for pulls by tag only and falls back to a whole pull without a word.",
    links=(
        "https://learn.microsoft.com/en-us/azure/aks/artifact-streaming",
        "https://learn.microsoft.com/en-us/azure/container-registry/container-registry-artifact-streaming",
    ),
    development="advisory",
    judge=_judge_digest,
)

REQUIRE_SECONDARY_BOOT_DISK = ResourceRule(
    code="CS203",
    name="gke-nodepool-require-secondary-boot-disk",
    concern="images",
    title="Streamed GPU images lie on a secondary boot disk",
    description="A GKE GPU pool with image streaming should preload the engine's image with a "
    "secondary boot disk.",
    severity="low",
    tags=("gke", "cold-start", "image-delivery"),
    remediation="Build a disk image with the container image and name it in secondaryBootDisks, "
    "with mode CONTAINER_IMAGE_CACHE.",
    reason="A measured start of vLLM pulled in 1.8 s instead of 69 s, then spent 73 s importing "
    "over the streamed file system.",
    links=(
        "https://github.com/llm-d/llm-d/pull/2489",
        "https://cloud.google.com/kubernetes-engine/docs/how-to/data-container-image-preloading",
    ),
    level="advisory",
    production="advisory",
    development="advisory",
    reads=_is_gke_pool,
    judge=_judge_boot_disk,
)
