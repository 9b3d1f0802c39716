"""Pods and containers in whatever Kubernetes object carries them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.quantities import quantity
from policies.reading.values import Resource, Unknown, at, known, list_at, mapping_at

_TEMPLATE_PATHS: dict[str, tuple[tuple[str, ...], ...]] = {
    "Pod": ((),),
    "PodTemplate": (("template",),),
    "Deployment": (("spec", "template"),),
    "StatefulSet": (("spec", "template"),),
    "DaemonSet": (("spec", "template"),),
    "ReplicaSet": (("spec", "template"),),
    "ReplicationController": (("spec", "template"),),
    "Rollout": (("spec", "template"),),
    "Job": (("spec", "template"),),
    "CronJob": (("spec", "jobTemplate", "spec", "template"),),
    "LeaderWorkerSet": (
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ),
}
_LONG_RUNNING = frozenset(
    {
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "ReplicationController",
        "Rollout",
        "LeaderWorkerSet",
    }
)
_NO_PODS_INSIDE = frozenset({"CustomResourceDefinition", "ConfigMap", "Secret", "Release", "Chart"})
_GPU_RESOURCES = frozenset({"nvidia.com/gpu", "nvidia.com/gpu.shared", "amd.com/gpu"})
_GPU_PARTITIONS = ("nvidia.com/mig-", "amd.com/cpx", "amd.com/spx")
# Deeper objects than this are not workloads; the bound keeps hostile input cheap.
_SEARCH_DEPTH = 12
_KEPT = "_pods"


@dataclass(frozen=True)
class Container:
    """One container of a pod with the path of its field, for messages."""

    spec: Mapping[str, Any]
    field: str
    is_init: bool

    @property
    def name(self) -> str:
        return str(at(self.spec, "name", default="unnamed"))

    @property
    def requests_gpu(self) -> bool:
        return any(
            _is_gpu(resource) and (quantity(known(amount)) or 0) > 0
            for part in ("limits", "requests")
            for resource, amount in mapping_at(self.spec, "resources", part).items()
        )

    @property
    def holds_a_place_only(self) -> bool:
        """A pause or sleep container keeps capacity warm and never starts anything."""
        repository = str(at(self.spec, "image", default="")).split("@")[0]
        image_name = repository.rsplit("/", 1)[-1].split(":")[0]
        command = [*list_at(self.spec, "command"), *list_at(self.spec, "args")]
        return image_name == "pause" or (bool(command) and known(command[0]) in ("sleep", "/pause"))


@dataclass(frozen=True)
class Pod:
    """A pod or pod template found in `owner`, with the path of its spec for messages."""

    owner: Resource
    template: Mapping[str, Any]
    path: tuple[str, ...]
    is_leader_or_only: bool = True

    @property
    def spec(self) -> Mapping[str, Any]:
        return mapping_at(self.template, "spec")

    @property
    def annotations(self) -> Mapping[str, Any]:
        return mapping_at(self.template, "metadata", "annotations")

    @property
    def runs_forever(self) -> bool:
        return self.owner.kind in _LONG_RUNNING

    def field(self, *keys: str) -> str:
        return ".".join((*self.path, "spec", *keys))

    def containers(self, *, with_init: bool) -> Iterator[Container]:
        """Containers in the order they start. Raises NotYetKnown when a list is not known yet."""
        for part in ("initContainers", "containers") if with_init else ("containers",):
            for index, spec in enumerate(list_at(self.spec, part)):
                if isinstance(known(spec), Mapping):
                    yield Container(spec, self.field(f"{part}[{index}]"), part == "initContainers")

    @property
    def requests_gpu(self) -> bool:
        return any(container.requests_gpu for container in self.containers(with_init=True))

    def volumes(self) -> dict[str, Mapping[str, Any]]:
        """Volumes by name."""
        return {
            str(at(volume, "name", default="")): volume
            for volume in map(known, list_at(self.spec, "volumes"))
            if isinstance(volume, Mapping)
        }


def carries_pods(resource_type: str) -> bool:
    """Whether a type token can hold pods at all; cheap, for the first look."""
    return resource_type.startswith("kubernetes:")


def pods_of(resource: Resource) -> Iterator[Pod]:
    """Every pod template of a resource, also inside custom resources this module has no path for.

    Raises NotYetKnown when a known kind's template is not known yet. Every rule asks, and the
    search costs most of a run, so what was found is kept with the resource.
    """
    kept = resource.__dict__.get(_KEPT)
    if kept is not None:
        yield from kept
        return
    found: list[Pod] = []
    for pod in _pods_of(resource):
        found.append(pod)
        yield pod
    resource.__dict__[_KEPT] = tuple(found)


def _pods_of(resource: Resource) -> Iterator[Pod]:
    if not resource.is_kubernetes or resource.kind in _NO_PODS_INSIDE:
        return
    paths = _TEMPLATE_PATHS.get(resource.kind)
    if paths is None:
        yield from _search(resource, resource.properties, (), _SEARCH_DEPTH)
        return
    found = 0
    for path in paths:
        template = at(resource.properties, *path)
        if isinstance(template, Mapping):
            yield Pod(resource, template, path, is_leader_or_only=found == 0)
            found += 1


def _search(resource: Resource, tree: Any, path: tuple[str, ...], depth: int) -> Iterator[Pod]:
    if depth == 0 or isinstance(tree, Unknown):
        return
    if isinstance(tree, Mapping):
        spec = tree.get("spec")
        if isinstance(spec, Mapping) and _looks_like_pod_spec(spec):
            yield Pod(resource, tree, path)
            return
        for key, value in tree.items():
            yield from _search(resource, value, (*path, str(key)), depth - 1)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _search(resource, value, (*path, str(index)), depth - 1)


def _looks_like_pod_spec(spec: Mapping[str, Any]) -> bool:
    containers = spec.get("containers")
    return isinstance(containers, list) and any(
        isinstance(container, Mapping) and "image" in container for container in containers
    )


def _is_gpu(resource: str) -> bool:
    return resource in _GPU_RESOURCES or resource.startswith(_GPU_PARTITIONS)
