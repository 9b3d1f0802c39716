"""How far things can grow: replicas against volumes, pools against budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from policies.reading.node_pools import is_node_pool_type
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    list_at,
    mapping_at,
    texts,
    whole,
)
from policies.reading.workloads import Pod, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

# KEDA's default for spec.maxReplicaCount, keda.sh/v1alpha1 ScaledObject.
_KEDA_DEFAULT_MAX_REPLICAS = 100
_LIMITING = frozenset({"cpu", "memory", "nodes", "nvidia.com/gpu", "amd.com/gpu"})
_COUNTED = frozenset(
    {
        "Deployment",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
        "Rollout",
        "LeaderWorkerSet",
    }
)
_WIDE_MODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})


@dataclass(frozen=True)
class _Claim:
    """A volume claim that fits one node, found by namespace and name."""

    key: tuple[str, str]
    modes: tuple[str, ...]


@dataclass(frozen=True)
class _Scaler:
    """An autoscaler that can raise its target above one replica."""

    target: tuple[str, str, str]
    limit: str


def _judge_volumes(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [resource for resource in resources if resource.is_kubernetes]
    found, unknown_claims = gather(kubernetes, _single_node_claims)
    claims = {claim.key: claim for claim in found}
    found_scalers, unknown_scalers = gather(kubernetes, _scalers)
    scalers = {scaler.target: scaler for scaler in found_scalers}

    def judge(workload: Resource) -> Iterator[Finding]:
        pods = list(pods_of(workload))
        wanted = [(workload.namespace, name) for pod in pods for name in sorted(_claim_names(pod))]
        yield from _judge_workload(workload, pods, claims, wanted, scalers, unknown_scalers)
        if unknown_claims and not all(key in claims for key in wanted):
            raise NotYetKnown(*unknown_claims)

    if claims or unknown_claims:
        yield from judge_each(kubernetes, judge)


def _judge_workload(
    workload: Resource,
    pods: Sequence[Pod],
    claims: Mapping[tuple[str, str], _Claim],
    wanted: Sequence[tuple[str, str]],
    scalers: Mapping[tuple[str, str, str], _Scaler],
    unknown_scalers: tuple[tuple[str, ...], ...],
) -> Iterator[Finding]:
    held = [claims[key] for key in wanted if key in claims]
    if held and all(at(pod.spec, "nodeSelector", "kubernetes.io/hostname") for pod in pods):
        held = [claim for claim in held if "ReadWriteOncePod" in claim.modes]
    if not held:
        return
    copies = _copies(workload, scalers)
    if copies is None and unknown_scalers:
        raise NotYetKnown(*unknown_scalers)
    for claim in held if copies else ():
        yield Finding(
            workload,
            f"{workload.kind} {workload.object_name} has {copies} and claims volume "
            f"{claim.key[1]!r}, whose accessModes={list(claim.modes)} fit one node. The second "
            "replica waits for the volume forever (Multi-Attach), so scaling out never starts. "
            "Use a ReadWriteMany file system, object storage, or one volume per replica.",
        )


def _single_node_claims(resource: Resource) -> Iterator[_Claim]:
    if resource.kind == "PersistentVolumeClaim":
        modes = texts(list_at(resource.properties, "spec", "accessModes"))
        if modes and not _WIDE_MODES.intersection(modes):
            yield _Claim((resource.namespace, resource.object_name), tuple(modes))


def _claim_names(pod: Pod) -> set[str]:
    return {
        str(at(volume, "persistentVolumeClaim", "claimName"))
        for volume in pod.volumes().values()
        if mapping_at(volume, "persistentVolumeClaim")
    }


def _scalers(resource: Resource) -> Iterator[_Scaler]:
    fields = {
        "ScaledObject": ("maxReplicaCount", _KEDA_DEFAULT_MAX_REPLICAS),
        "HorizontalPodAutoscaler": ("maxReplicas", 1),
    }
    if resource.kind not in fields:
        return
    field, default = fields[resource.kind]
    maximum = whole(at(resource.properties, "spec", field), default)
    if maximum > 1:
        target = mapping_at(resource.properties, "spec", "scaleTargetRef")
        kind = str(at(target, "kind", default="Deployment"))
        name = str(at(target, "name", default=""))
        limit = f"{resource.kind} {resource.object_name} with {field}={maximum}"
        yield _Scaler((resource.namespace, kind, name), limit)


def _copies(workload: Resource, scalers: Mapping[tuple[str, str, str], _Scaler]) -> str | None:
    """Why the workload can run more than once, in words; None when it runs at most once."""
    if workload.kind == "DaemonSet":
        return "one pod per node"
    if workload.kind == "Job":
        parallel = whole(at(workload.properties, "spec", "parallelism"), 1)
        return f"spec.parallelism={parallel}" if parallel > 1 else None
    if workload.kind not in _COUNTED:
        return None
    replicas = whole(at(workload.properties, "spec", "replicas"), 1)
    if replicas > 1:
        return f"spec.replicas={replicas}"
    scaler = scalers.get((workload.namespace, workload.kind, workload.object_name))
    return scaler.limit if scaler else None


def _judge_limits(resource: Resource, _: Settings) -> Iterator[str]:
    limits = mapping_at(resource.properties, "spec", "limits")
    if not _LIMITING.intersection(limits):
        others = f" (it has only {', '.join(sorted(limits))})" if limits else ""
        yield (
            f"NodePool {resource.object_name} has no spec.limits on nodes, cpu, memory or "
            f"GPUs{others}: one runaway autoscaler buys instances without an end. Set "
            "spec.limits, for example nodes, cpu, or nvidia.com/gpu for a GPU pool."
        )


FORBID_SINGLE_NODE_VOLUME = StackRule(
    code="CS303",
    name="kubernetes-volume-forbid-rwo-replicas",
    concern="weights",
    title="Replicas never share a single-node volume",
    description="A workload that can have more than one replica must not claim a ReadWriteOnce "
    "volume.",
    severity="high",
    tags=("kubernetes", "reliability", "weights"),
    remediation="Use a ReadWriteMany claim (EFS, FSx), stream weights from object storage, or "
    "volumeClaimTemplates; or hold replicas and every autoscaler's maximum at 1.",
    reason="A ReadWriteOnce disk attaches to one node, so the second replica never starts.",
    links=(
        "https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes",
        "https://github.com/NVIDIA/aicr/pull/1756",
    ),
    judge=_judge_volumes,
)

REQUIRE_POOL_LIMITS = ResourceRule(
    code="CS801",
    name="karpenter-nodepool-require-limits",
    concern="cost",
    title="Every node pool has a ceiling",
    description="A Karpenter NodePool must limit its nodes, CPU, memory or GPUs.",
    severity="high",
    tags=("karpenter", "cost"),
    remediation="Set spec.limits with nvidia.com/gpu, nodes, cpu or memory; a pool with "
    "spec.replicas takes limits.nodes.",
    reason="Karpenter buys as long as pods are pending; only limits stop it.",
    links=("https://karpenter.sh/docs/concepts/nodepools/#speclimits",),
    reads=is_node_pool_type,
    judge=_judge_limits,
)
