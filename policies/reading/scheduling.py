"""Which node pools a pod can run on: labels, requirements, taints, selectors and tolerations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.reading.values import Resource, at, known, list_at, mapping_at, texts

# Labels every node carries with a value that the cloud or Karpenter decides.
_LABELS_OF_EVERY_NODE = (
    "karpenter.k8s.aws/",
    "karpenter.sh/",
    "node.kubernetes.io/",
    "topology.kubernetes.io/",
    "kubernetes.io/",
    "beta.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
)


@dataclass(frozen=True)
class Requirement:
    """A condition on one node label (`In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` ...)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def allows(self, value: str) -> bool:
        """Whether a node with this value for the label fulfils the condition."""
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        if self.operator == "DoesNotExist":
            return False
        if self.operator in ("Gt", "Gte", "Lt", "Lte"):
            return self._compares(value)
        return True

    def _compares(self, value: str) -> bool:
        try:
            actual, bound = int(value), int(self.values[0])
        except (ValueError, IndexError):
            return True
        return {
            "Gt": actual > bound,
            "Gte": actual >= bound,
            "Lt": actual < bound,
            "Lte": actual <= bound,
        }[self.operator]


@dataclass(frozen=True)
class Pool:
    """A set of nodes made alike; `labels_are_complete` is false where only the class is known."""

    name: str
    node_class: str
    labels: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[Requirement, ...] = ()
    taints: tuple[Mapping[str, Any], ...] = ()

    def can_have(self, wanted: Requirement) -> bool:
        """Whether some node of the pool can fulfil a condition on its labels."""
        if wanted.key in self.labels:
            return wanted.allows(self.labels[wanted.key])
        own = [item for item in self.requirements if item.key == wanted.key]
        listed = [item for item in own if item.operator == "In"]
        if listed:
            return any(
                wanted.allows(value) and all(item.allows(value) for item in own)
                for value in listed[0].values
            )
        if wanted.operator in ("NotIn", "DoesNotExist"):
            return True
        if not own and not wanted.key.startswith(_LABELS_OF_EVERY_NODE):
            return False
        if wanted.operator == "In":
            return any(all(item.allows(value) for item in own) for value in wanted.values)
        return True


@dataclass(frozen=True)
class Placement:
    """Where a pod asks to run: alternatives of conditions, and the taints it tolerates."""

    alternatives: tuple[tuple[Requirement, ...], ...]
    tolerations: tuple[Mapping[str, Any], ...] | None

    def options_on(self, pool: Pool) -> Iterator[tuple[Requirement, ...]]:
        """The alternatives that some node of the pool fulfils."""
        if not all(self._tolerates(taint) for taint in pool.taints):
            return
        for conditions in self.alternatives:
            if all(pool.can_have(condition) for condition in conditions):
                yield conditions

    def can_run_on(self, pool: Pool) -> bool:
        return next(self.options_on(pool), None) is not None

    def _tolerates(self, taint: Mapping[str, Any]) -> bool:
        if self.tolerations is None or at(taint, "effect") == "PreferNoSchedule":
            return True
        return any(_covers(toleration, taint) for toleration in self.tolerations)


def _covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    effect, key = at(toleration, "effect"), at(toleration, "key")
    if effect and effect != at(taint, "effect"):
        return False
    operator = at(toleration, "operator", default="Equal")
    if not key:
        return operator == "Exists"
    if key != at(taint, "key"):
        return False
    return operator == "Exists" or at(toleration, "value", default="") == at(
        taint, "value", default=""
    )


def requirements_of(items: Sequence[Any]) -> tuple[Requirement, ...]:
    """Conditions from a Kubernetes list of key, operator, values."""
    return tuple(
        Requirement(
            str(at(item, "key", default="")),
            str(at(item, "operator", default="In")),
            tuple(texts(list_at(item, "values"))),
        )
        for item in map(known, items)
    )


def pool_of(node_pool: Resource) -> Pool:
    """The pool a Karpenter NodePool makes. Raises NotYetKnown for values not known yet."""
    template = mapping_at(node_pool.properties, "spec", "template")
    spec = mapping_at(template, "spec")
    node_class = str(at(spec, "nodeClassRef", "name", default=""))
    labels = {
        key: str(known(value)) for key, value in mapping_at(template, "metadata", "labels").items()
    }
    labels |= {
        "karpenter.sh/nodepool": node_pool.object_name,
        "karpenter.k8s.aws/ec2nodeclass": node_class,
        "kubernetes.io/os": "linux",
    }
    taints = tuple(
        taint for taint in map(known, list_at(spec, "taints")) if isinstance(taint, Mapping)
    )
    return Pool(
        node_pool.object_name,
        node_class,
        labels,
        requirements_of(list_at(spec, "requirements")),
        taints,
    )


def placement_of(pod_spec: Mapping[str, Any], *, tolerates_all_without: bool = False) -> Placement:
    """Where a pod spec, or Helm values with the same keys, asks to run.

    `tolerates_all_without` is for charts whose default tolerates every taint.
    """
    selector = tuple(
        Requirement(key, "In", (str(known(value)),))
        for key, value in mapping_at(pod_spec, "nodeSelector").items()
    )
    affinity = list_at(
        pod_spec,
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    )
    alternatives = tuple(
        selector + requirements_of(list_at(term, "matchExpressions")) for term in affinity
    ) or (selector,)
    stated = at(pod_spec, "tolerations")
    if stated is None and tolerates_all_without:
        return Placement(alternatives, None)
    tolerations = tuple(item for item in map(known, list_at(pod_spec, "tolerations")))
    return Placement(alternatives, tolerations)
