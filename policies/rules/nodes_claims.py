"""GPU pools that cannot wake for a claim of Dynamic Resource Allocation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.charts import chart_name
from policies.reading.claims import gpu_claims_in
from policies.reading.cloud_pools import CloudPool, gpu_pools_of
from policies.reading.node_pools import is_gpu_pool, is_node_pool
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    first_mapping,
    gather,
    is_true,
    judge_each,
    mapping_at,
    text_at,
)
from policies.rule import Finding, Settings, StackRule

_GKE_POOL = "gcp:container/nodePool:NodePool"
_EKS_GROUP = "aws:eks/nodeGroup:NodeGroup"
_GKE_DRA_LABEL = "cloud.google.com/gke-nvidia-gpu-dra-driver"
_GKE_NO_PLUGIN_LABEL = "gke-no-default-nvidia-gpu-device-plugin"
_EC2_CLASSES = frozenset({"EC2NodeClass", "NodeClass"})


def _judge_gke_label(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    pools = [item for item in resources if item.type == _GKE_POOL]
    if not pools:
        return
    claims, undecided = gather(resources, gpu_claims_in)
    if not claims and not undecided:
        return
    awake, unread = gather(pools, lambda item: filter(_serves_claims, gpu_pools_of(item)))

    def judge(resource: Resource) -> Iterator[Finding]:
        for pool in gpu_pools_of(resource):
            # With a pool that serves claims beside it, this one may be the device plugin's.
            if _serves_claims(pool) or (awake and not _leaves_gpus_to_others(resource)):
                continue
            if not claims or unread:
                raise NotYetKnown(*undecided, *unread)
            yield Finding(resource, _gke_message(pool.name, claims[0]))

    yield from judge_each(pools, judge)


def _labels(resource: Resource) -> dict[str, object]:
    node = first_mapping(at(resource.properties, "nodeConfig"))
    return dict(mapping_at(node, "labels"))


def _serves_claims(pool: CloudPool) -> bool:
    """Whether nodes of a GKE pool exist, or the autoscaler knows what devices one would have."""
    if not pool.autoscaled or pool.minimum > 0:
        return True
    return is_true(at(_labels(pool.resource), _GKE_DRA_LABEL))


def _leaves_gpus_to_others(resource: Resource) -> bool:
    return is_true(at(_labels(resource), _GKE_NO_PLUGIN_LABEL))


def _gke_message(pool: str, claim: str) -> str:
    return (
        f"nodeConfig.labels of GPU node pool {pool} lack {_GKE_DRA_LABEL}=true, the pool may "
        f"shrink to 0 nodes, and {claim} asks for its GPUs. Without the label GKE's autoscaler "
        "does not know that a new node would offer the devices, so it never adds the first one "
        "and the pod stays pending. Set the label, or keep autoscaling.minNodeCount at 1."
    )


def _judge_eks_at_zero(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    groups = [item for item in resources if item.type == _EKS_GROUP]
    node_pools = list(filter(is_node_pool, resources))
    if not groups and not node_pools:
        return
    claims, undecided = gather(resources, gpu_claims_in)
    if not claims and not undecided:
        return
    awake, unread = gather(resources, _serving_on_eks)
    if awake:
        return

    def judge(resource: Resource) -> Iterator[Finding]:
        problem = _asleep(resource)
        if problem is None:
            return
        if not claims or unread:
            raise NotYetKnown(*undecided, *unread)
        yield Finding(resource, _eks_message(problem, claims[0]))

    yield from judge_each((*groups, *node_pools), judge)


def _serving_on_eks(resource: Resource) -> Iterator[str]:
    """What lets claims be served on EKS: GPU nodes that are always there, or Karpenter's gate."""
    if resource.type == _EKS_GROUP:
        yield from (pool.name for pool in gpu_pools_of(resource) if pool.minimum > 0)
    elif is_node_pool(resource):
        if _is_static(resource) and is_gpu_pool(resource):
            yield resource.object_name
    elif chart_name(resource) == "karpenter":
        # Alpha in 1.15; before, Karpenter ignores pods' claims.
        settings = mapping_at(resource.properties, "values", "settings")
        if is_true(at(settings, "enableDRA")) or at(settings, "ignoreDRARequests") is False:
            yield resource.name


def _is_static(node_pool: Resource) -> bool:
    return at(node_pool.properties, "spec", "replicas") is not None


def _asleep(resource: Resource) -> str | None:
    """Why a pool gives no node to a claim; None for one that may, or that is not EKS's."""
    if resource.type == _EKS_GROUP:
        for pool in gpu_pools_of(resource):
            return (
                f"scalingConfig.minSize of GPU node group {pool.name} is 0, and the cluster "
                "autoscaler cannot tell on EKS what devices a first node would have"
            )
        return None
    kind = text_at(resource.properties, "spec", "template", "spec", "nodeClassRef", "kind")
    if kind not in _EC2_CLASSES or not is_gpu_pool(resource):
        return None
    return (
        f"GPU NodePool {resource.object_name} starts at 0 nodes, and Karpenter up to 1.14 and EKS "
        "Auto Mode add no node for a claim (spec.template.spec.nodeClassRef.kind: "
        f"{kind})"
    )


def _eks_message(problem: str, claim: str) -> str:
    return (
        f"{problem}, but {claim} asks for GPUs that way. Its pod stays pending for ever while the "
        "pool is empty. Request nvidia.com/gpu from the device plugin instead, or keep a managed "
        "node group of at least one GPU node."
    )


REQUIRE_GKE_DRA_LABEL = StackRule(
    code="CS117",
    name="gke-nodepool-require-dra-label",
    concern="nodes",
    title="GKE can wake a pool for a GPU claim",
    description="Where GPUs are claimed by Dynamic Resource Allocation, a GKE GPU pool that may "
    "shrink to zero must carry the label that tells its autoscaler of the devices.",
    severity="high",
    tags=("gke", "cold-start", "scale-to-zero"),
    remediation='Set the node label cloud.google.com/gke-nvidia-gpu-dra-driver: "true" on the '
    "pool, or a minimum of one node.",
    reason="An empty pool publishes no devices, so the autoscaler needs the label to know what a "
    "node would bring.",
    links=(
        "https://github.com/modelplaneai/modelplane/pull/332",
        "https://cloud.google.com/kubernetes-engine/docs/how-to/set-up-dra#node-pool",
    ),
    judge=_judge_gke_label,
)

FORBID_EKS_DRA_AT_ZERO = StackRule(
    code="CS118",
    name="eks-nodepool-forbid-dra-at-zero",
    concern="nodes",
    title="No GPU claims on EKS pools that start empty",
    description="GPUs of EKS pools that start at zero nodes must not be claimed by Dynamic "
    "Resource Allocation.",
    severity="high",
    tags=("eks", "karpenter", "cold-start", "scale-to-zero"),
    remediation="Request GPUs as nvidia.com/gpu through the device plugin, or keep at least one "
    "node in a managed node group.",
    reason="Karpenter ignores claims (settings.ignoreDRARequests), Auto Mode does not support "
    "them, and the cluster autoscaler knows no devices of an empty AWS node group.",
    links=(
        "https://github.com/modelplaneai/modelplane/issues/345",
        "https://docs.aws.amazon.com/eks/latest/userguide/device-management.html",
    ),
    judge=_judge_eks_at_zero,
)
