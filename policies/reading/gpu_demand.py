"""How many GPUs the workloads of a stack ask for, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from policies.reading.quantities import quantity
from policies.reading.replicas import Bounds, Scaling
from policies.reading.scheduling import Placement, placement_of
from policies.reading.values import Resource, at, gather, known, mapping_at, whole
from policies.reading.workloads import Container, Pod, pods_of

GPU = "nvidia.com/gpu"
_REPLICATED = frozenset({"Deployment", "StatefulSet", "Rollout", "ReplicaSet"})


@dataclass(frozen=True)
class Demand:
    """What one workload's pods want: GPUs of one pod, how many pods, and where they may run.

    `gpus` is None for shares of GPUs, `bounds` where nobody states how many pods there are.
    `holds_place` marks pods that keep a node warm and yield it to others.
    """

    workload: Resource
    pod: Pod
    placement: Placement
    gpus: int | None
    bounds: Bounds | None
    holds_place: bool

    @property
    def most_gpus(self) -> int | None:
        """GPUs of all pods together at the most; None where that cannot be told."""
        if self.gpus is None or self.bounds is None:
            return None
        return self.gpus * self.bounds.maximum


def demands_in(
    resources: Sequence[Resource], scaling: Scaling
) -> tuple[list[Demand], tuple[tuple[str, ...], ...]]:
    """Every workload with GPUs, and the fields that were not known yet on the way."""

    def find(resource: Resource) -> Iterator[Demand]:
        pods = [pod for pod in pods_of(resource) if pod.requests_gpu]
        for pod in pods:
            containers = list(pod.containers(with_init=False))
            serving = [item for item in containers if item.requests_gpu]
            yield Demand(
                resource,
                pod,
                placement_of(pod.spec),
                _gpus(pod),
                _bounds(resource, scaling) if len(pods) == 1 else None,
                bool(serving) and all(item.holds_a_place_only for item in serving),
            )

    return gather((item for item in resources if item.is_kubernetes), find)


def _bounds(resource: Resource, scaling: Scaling) -> Bounds | None:
    if resource.kind in _REPLICATED:
        return scaling.bounds_of(resource)
    if resource.kind == "Pod":
        return Bounds(1, 1, "one pod")
    if resource.kind == "Job":
        pods = whole(at(resource.properties, "spec", "parallelism"), 1)
        return Bounds(pods, pods, f"spec.parallelism={pods}")
    return None


def _gpus(pod: Pod) -> int | None:
    amounts = [_whole_gpus(container) for container in pod.containers(with_init=False)]
    if None in amounts:
        return None
    return sum(amount or 0 for amount in amounts) or None


def _whole_gpus(container: Container) -> int | None:
    """GPUs of a container; None where it asks for shares of them."""
    found = 0
    for part in ("requests", "limits"):
        resources: Mapping[str, object] = mapping_at(container.spec, "resources", part)
        if GPU in resources:
            found = max(found, whole(quantity(known(resources[GPU])), 0))
        elif container.requests_gpu and not found and part == "limits":
            return None
    return found
