"""Security contexts of pods as Kubernetes applies them: the container's word over the pod's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.values import Resource, at, mapping_at, text_at
from policies.reading.workloads import Container, Pod, pods_of

# Kinds whose pods are made as written. A controller of another kind may add a security context.
_WRITTEN_OUT = frozenset(
    {
        "Pod",
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "ReplicationController",
        "Rollout",
        "Job",
        "CronJob",
        "LeaderWorkerSet",
    }
)


def makes_pods_as_written(resource: Resource) -> bool:
    """Whether the pods of a resource get no label and no setting that it does not show."""
    return resource.kind in _WRITTEN_OUT and not resource.type.endswith("Patch")


def pods_as_written(resource: Resource) -> Iterator[Pod]:
    """Pods that run with the settings shown here and no others, on Linux."""
    if makes_pods_as_written(resource):
        yield from (pod for pod in pods_of(resource) if not is_windows(pod))


def is_windows(pod: Pod) -> bool:
    """Whether a pod states that it runs on Windows, which knows none of these settings."""
    return (
        text_at(pod.spec, "os", "name") == "windows"
        or text_at(pod.spec, "nodeSelector", "kubernetes.io/os") == "windows"
    )


def is_written_out(container: Container) -> bool:
    """Whether a container is whole. One without an image is part of a patch with changes only."""
    return bool(container.spec.get("image"))


def security_of(container: Container) -> Mapping[str, Any]:
    """The security context of a container alone."""
    return mapping_at(container.spec, "securityContext")


def effective(pod: Pod, container: Container, *keys: str) -> Any:
    """A setting of the container's security context; the pod's where the container has none."""
    own = at(security_of(container), *keys)
    return at(pod.spec, "securityContext", *keys) if own is None else own
