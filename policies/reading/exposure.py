"""Services of type LoadBalancer, and whether the internet reaches them, by cloud."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from policies.reading.values import Resource, at, is_true, known, list_at, mapping_at, text_at

_PREFIX = "service.beta.kubernetes.io/"
_AWS_SCHEME = f"{_PREFIX}aws-load-balancer-scheme"
_AWS_TYPE = f"{_PREFIX}aws-load-balancer-type"
# AWS's Load Balancer Controller, and EKS Auto Mode, make internal balancers by default; the
# controller in Kubernetes itself, for which no class and no such type is stated, makes public ones.
_AWS_CLASSES = ("service.k8s.aws/", "eks.amazonaws.com/")
_AWS_CONTROLLER_TYPES = frozenset({"external", "nlb-ip"})
# `.../azure-load-balancer-internal: "true"` and its like on AWS, OpenStack and OCI.
_INTERNAL_SWITCH = re.compile(r".*load-balancer-internal|.*internal-load-balancer")
_INTERNAL_KINDS = {
    "networking.gke.io/load-balancer-type": "internal",
    "cloud.google.com/load-balancer-type": "internal",
    f"{_PREFIX}do-loadbalancer-network": "internal",
    f"{_PREFIX}alibaba-cloud-loadbalancer-address-type": "intranet",
    "service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type": "private",
    _AWS_SCHEME: "internal",
}
# Balancers of the own network, of nodes or of a private mesh; none has a public address by itself.
_PRIVATE_CLASSES = re.compile(r"tailscale|.*metallb.*|kube-vip.*|io\.cilium/.*|purelb.*")
_PRIVATE_ANNOTATIONS = re.compile(r"(?:.*\.)?(?:metallb\.(?:io|universe\.tf)|tailscale\.com)/.*")


def is_service_type(resource_type: str) -> bool:
    """Whether a type token is a Service of Kubernetes."""
    kind = resource_type.rsplit(":", 1)[-1].removesuffix("Patch")
    return kind == "Service" and resource_type.startswith("kubernetes:core/v1:")


def annotations_of(resource: Resource) -> Mapping[str, Any]:
    """Annotations of an object. Values may still be unknown."""
    return mapping_at(resource.properties, "metadata", "annotations")


def is_public(service: Resource) -> bool:
    """Whether a Service asks a cloud for a load balancer that the internet reaches.

    Raises NotYetKnown for a value that decides it and is not known yet.
    """
    if text_at(service.properties, "spec", "type") != "LoadBalancer":
        return False
    annotations = annotations_of(service)
    name = text_at(service.properties, "spec", "loadBalancerClass")
    if _PRIVATE_CLASSES.fullmatch(name):
        return False
    if any(_says_internal(key, value) for key, value in annotations.items()):
        return False
    by_aws_controller = (
        name.startswith(_AWS_CLASSES) or text_at(annotations, _AWS_TYPE) in _AWS_CONTROLLER_TYPES
    )
    return not by_aws_controller or text_at(annotations, _AWS_SCHEME) == "internet-facing"


def _says_internal(key: str, value: Any) -> bool:
    if _PRIVATE_ANNOTATIONS.fullmatch(key):
        return True
    if key in _INTERNAL_KINDS:
        return str(known(value)).lower() == _INTERNAL_KINDS[key]
    # AWS's own controller in Kubernetes took a range as well as a switch.
    return _INTERNAL_SWITCH.fullmatch(key) is not None and (
        is_true(known(value)) or known(value) == "0.0.0.0/0"
    )


def ports_of(service: Resource) -> list[Mapping[str, Any]]:
    """The ports of a Service. Raises NotYetKnown for one not known yet."""
    items = map(known, list_at(service.properties, "spec", "ports"))
    return [item for item in items if isinstance(item, Mapping) and at(item, "port") is not None]
