"""How many replicas a workload runs: a fixed number, or what its autoscaler may make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from policies.reading.values import NotYetKnown, Resource, at, gather, mapping_at, text_at, whole

# Defaults of minReplicaCount and maxReplicaCount, keda.sh/v1alpha1 ScaledObject.
_KEDA_DEFAULTS = ("minReplicaCount", 0, "maxReplicaCount", 100)
# Default of minReplicas, autoscaling/v2; maxReplicas has none.
_HPA_DEFAULTS = ("minReplicas", 1, "maxReplicas", 1)
_SCALERS = {"ScaledObject": _KEDA_DEFAULTS, "HorizontalPodAutoscaler": _HPA_DEFAULTS}
REPLICATED = frozenset({"Deployment", "StatefulSet", "Rollout", "LeaderWorkerSet"})

Target = tuple[str, str, str]


@dataclass(frozen=True)
class Bounds:
    """Least and most replicas, and in words which fields say so."""

    minimum: int
    maximum: int
    told: str


@dataclass(frozen=True)
class Scaling:
    """The autoscalers of a stack by what they scale: namespace, kind and name."""

    scalers: Mapping[Target, Bounds]
    undecided: tuple[tuple[str, ...], ...]

    def bounds_of(self, workload: Resource) -> Bounds | None:
        """Replicas of a workload; None where no resource states them.

        Raises NotYetKnown where an autoscaler that may be the workload's is not known yet.
        """
        target = (workload.namespace, workload.kind, workload.object_name)
        found = self.scalers.get(target)
        if found is not None:
            return found
        if self.undecided:
            raise NotYetKnown(*self.undecided)
        stated = at(workload.properties, "spec", "replicas")
        if stated is None:
            return None
        replicas = whole(stated, 1)
        return Bounds(replicas, replicas, f"spec.replicas={replicas}")


def scaling_in(resources: Sequence[Resource]) -> Scaling:
    """The autoscalers among resources; what is not known yet is kept, not raised."""
    found, undecided = gather(
        (item for item in resources if item.is_kubernetes and item.kind in _SCALERS), _scaler
    )
    return Scaling(dict(found), undecided)


def _scaler(resource: Resource) -> Iterator[tuple[Target, Bounds]]:
    low, least, high, most = _SCALERS[resource.kind]
    spec = mapping_at(resource.properties, "spec")
    target = mapping_at(spec, "scaleTargetRef")
    minimum = whole(at(spec, low), least)
    maximum = max(whole(at(spec, high), most), minimum)
    told = f"{resource.kind} {resource.object_name} with {low}={minimum} and {high}={maximum}"
    key = (
        resource.namespace,
        text_at(target, "kind", default="Deployment"),
        text_at(target, "name"),
    )
    yield key, Bounds(minimum, maximum, told)
