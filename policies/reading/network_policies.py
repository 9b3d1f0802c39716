"""Policies of the pod network, by what they select and whether they keep anybody out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.scheduling import Requirement, requirements_of
from policies.reading.values import Resource, at, known, list_at, mapping_at, texts

_CILIUM = frozenset({"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"})
# Their selectors are expressions or name namespaces by label: a policy there counts for all.
_CALICO = frozenset({"projectcalico.org", "crd.projectcalico.org"})
_ADMIN = frozenset({"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"})
_CLUSTER_WIDE = _ADMIN | {"CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy"}
_CILIUM_SOURCES = ("k8s:", "any:")


@dataclass(frozen=True)
class Guard:
    """A policy on what may come in; `namespace` is None where it holds in the whole cluster."""

    namespace: str | None
    wanted: tuple[Requirement, ...]

    def holds_for(self, namespace: str, labels: Mapping[str, Any] | None) -> bool:
        """Whether pods there are under it; `labels` is None where nobody states all of them."""
        if self.namespace not in (None, namespace):
            return False
        return labels is None or all(_fulfils(labels, item) for item in self.wanted)


def guards_of(resource: Resource) -> Iterator[Guard]:
    """What a resource does for incoming traffic, if it is such a policy.

    Raises NotYetKnown for values that decide it and are not known yet.
    """
    if resource.kind == "NetworkPolicy" and resource.group == "networking.k8s.io":
        spec = mapping_at(resource.properties, "spec")
        if _limits_incoming(spec):
            yield Guard(resource.namespace, _selected(mapping_at(spec, "podSelector")))
    elif resource.kind in _CILIUM and resource.group == "cilium.io":
        for spec in _cilium_specs(resource):
            if at(spec, "ingress") is not None or at(spec, "ingressDeny") is not None:
                yield Guard(_scope(resource), _selected(mapping_at(spec, "endpointSelector")))
    elif resource.group in _CALICO and resource.kind.endswith("NetworkPolicy"):
        yield Guard(_scope(resource), ())
    elif resource.kind in _ADMIN and resource.group == "policy.networking.k8s.io":
        yield Guard(None, ())


def _scope(resource: Resource) -> str | None:
    return None if resource.kind in _CLUSTER_WIDE else resource.namespace


def _limits_incoming(spec: Mapping[str, Any]) -> bool:
    types = texts(list_at(spec, "policyTypes"))
    if types and "Ingress" not in types:
        return False
    # A rule that names neither peers nor ports lets everybody in, whatever the others say.
    return not any(
        isinstance(rule, Mapping) and not at(rule, "from") and not at(rule, "ports")
        for rule in map(known, list_at(spec, "ingress"))
    )


def _cilium_specs(resource: Resource) -> Iterator[Mapping[str, Any]]:
    yield mapping_at(resource.properties, "spec")
    for item in map(known, list_at(resource.properties, "specs")):
        if isinstance(item, Mapping):
            yield item


def _selected(selector: Mapping[str, Any]) -> tuple[Requirement, ...]:
    labels = mapping_at(selector, "matchLabels")
    return (
        *(Requirement(_plain(key), "In", (str(known(value)),)) for key, value in labels.items()),
        *(
            Requirement(_plain(item.key), item.operator, item.values)
            for item in requirements_of(list_at(selector, "matchExpressions"))
        ),
    )


def _plain(key: str) -> str:
    for source in _CILIUM_SOURCES:
        key = key.removeprefix(source)
    return key


def _fulfils(labels: Mapping[str, Any], wanted: Requirement) -> bool:
    if wanted.key not in labels:
        return wanted.operator in ("NotIn", "DoesNotExist")
    return wanted.allows(str(known(labels[wanted.key])))
