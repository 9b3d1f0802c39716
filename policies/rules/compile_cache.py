"""Compiled kernels that are shared between nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.reading.gpus import architectures
from policies.reading.scheduling import (
    Placement,
    Requirement,
    placement_of,
    pool_of,
    requirements_of,
)
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.reading.workloads import Container, Pod, pods_of
from policies.rule import Finding, Settings, StackRule

_SHARED_CACHE = "coldstart.dev/compile-cache"
_CACHE_VARIABLES = ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR")


@dataclass(frozen=True)
class _Sharer:
    """Pods that share a compile cache: where they may run, and why it counts as shared."""

    placement: Placement
    reason: str


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [resource for resource in resources if resource.is_kubernetes]
    node_pools = [
        item for item in kubernetes if item.kind == "NodePool" and item.group == "karpenter.sh"
    ]
    if not node_pools:
        return
    claims, unknown_claims = gather(kubernetes, _shared_claims)
    shared_claims = frozenset(claims)
    sharers, undecided = gather(kubernetes, lambda item: _sharers(item, shared_claims))

    def judge(node_pool: Resource) -> Iterator[Finding]:
        if at(node_pool.properties, "metadata", "annotations", _SHARED_CACHE) == "shared":
            yield from _judge_pool(node_pool, [()], f"annotation {_SHARED_CACHE}=shared")
            return
        # Pods only narrow what the pool allows: a pool of one architecture has nothing to find.
        if not sharers or len(architectures(_stated(node_pool))) < 2:
            return
        pool = pool_of(node_pool)
        for sharer in sharers:
            options = sharer.placement.options_on(pool)
            finding = next(_judge_pool(node_pool, options, sharer.reason), None)
            if finding:
                # One finding per pool: every other pod on it would say the same.
                yield finding
                return

    yield from judge_each(node_pools, judge)
    if undecided or unknown_claims:
        raise NotYetKnown(*undecided, *unknown_claims)


def _sharers(workload: Resource, claims: frozenset[tuple[str, str]]) -> Iterator[_Sharer]:
    def find(pod: Pod) -> Iterator[_Sharer]:
        reason = _shared_cache(pod, claims) if pod.requests_gpu else None
        if reason:
            yield _Sharer(placement_of(pod.spec), f"{workload.name}: {reason}")

    yield from judge_each(pods_of(workload), find)


def _shared_claims(resource: Resource) -> Iterator[tuple[str, str]]:
    if resource.kind == "PersistentVolumeClaim":
        modes = texts(list_at(resource.properties, "spec", "accessModes"))
        if "ReadWriteMany" in modes:
            yield resource.namespace, resource.object_name


def _judge_pool(
    node_pool: Resource, narrowed_by_pod: Iterable[tuple[Requirement, ...]], why_shared: str
) -> Iterator[Finding]:
    """At most one finding: the first way of placing the pods that leaves several architectures."""
    stated = _stated(node_pool)
    for conditions in narrowed_by_pod:
        possible = architectures((*stated, *conditions))
        if len(possible) < 2:
            continue
        listed = "; ".join(
            f"{architecture} from {', '.join(names)}" for architecture, names in possible.items()
        )
        yield Finding(
            node_pool,
            f"NodePool {node_pool.object_name} shares a compile cache ({why_shared}) and its "
            f"spec.template.spec.requirements allow {len(possible)} GPU architectures: {listed}. "
            "Kernels compiled for one do not run on another, so pods miss the cache and compile "
            "again. Hold the pool to one with karpenter.k8s.aws/instance-family or "
            "instance-gpu-name.",
        )
        return


def _stated(node_pool: Resource) -> tuple[Requirement, ...]:
    """What the pool itself demands of its nodes, labels included."""
    template = mapping_at(node_pool.properties, "spec", "template")
    labels = tuple(
        Requirement(key, "In", (str(known(value)),))
        for key, value in mapping_at(template, "metadata", "labels").items()
    )
    return requirements_of(list_at(template, "spec", "requirements")) + labels


def _shared_cache(pod: Pod, claims: frozenset[tuple[str, str]]) -> str | None:
    """Why the pod's compile cache is shared, in words, or None."""
    if at(pod.annotations, _SHARED_CACHE) == "shared":
        return f"annotation {_SHARED_CACHE}=shared"
    volumes = pod.volumes()
    for container in pod.containers(with_init=False):
        for variable, path in _cache_paths(container):
            mount = _mount_of(container, path)
            volume = volumes.get(str(at(mount, "name"))) if mount else None
            if volume and _is_shared(volume, pod.owner, claims):
                return f"{variable}={path} on shared volume {at(mount, 'name')!r}"
    return None


def _cache_paths(container: Container) -> Iterator[tuple[str, str]]:
    for entry in map(known, list_at(container.spec, "env")):
        name = at(entry, "name")
        if name in _CACHE_VARIABLES:
            path = at(entry, "value")
            if isinstance(path, str) and path.startswith("/"):
                yield name, path


def _mount_of(container: Container, path: str) -> Mapping[str, Any] | None:
    """The mount a path lies on: the longest mount path above it."""
    mounts = [
        mount
        for mount in map(known, list_at(container.spec, "volumeMounts"))
        if isinstance(mount, Mapping)
        and f"{path.rstrip('/')}/".startswith(f"{str(at(mount, 'mountPath')).rstrip('/')}/")
    ]
    return max(mounts, key=lambda mount: len(str(at(mount, "mountPath"))), default=None)


def _is_shared(
    volume: Mapping[str, Any], workload: Resource, claims: frozenset[tuple[str, str]]
) -> bool:
    if mapping_at(volume, "nfs"):
        return True
    claim_name = text_at(volume, "persistentVolumeClaim", "claimName")
    return (workload.namespace, claim_name) in claims


FORBID_MIXED_GPUS = StackRule(
    code="CS401",
    name="karpenter-nodepool-forbid-mixed-cache-gpus",
    concern="compile-cache",
    title="A shared compile cache meets one GPU architecture",
    description="A NodePool whose pods share a compile cache must allow one GPU architecture only.",
    severity="high",
    tags=("karpenter", "cold-start", "compile-cache"),
    remediation="Restrict the NodePool with karpenter.k8s.aws/instance-family, "
    "instance-gpu-name or node.kubernetes.io/instance-type to one GPU architecture, and make "
    "one pool and one cache per architecture.",
    reason="Compiled kernels and their cache keys are specific to the GPU's architecture.",
    links=(
        "https://docs.vllm.ai/en/latest/design/torch_compile/",
        "https://github.com/Manikandan-t/gpu-autoscaling-accelerator",
    ),
    judge=_judge,
)
