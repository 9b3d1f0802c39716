"""Karpenter NodePools: which they are, and which of them hold GPUs only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from policies.reading.scheduling import Requirement, requirements_of
from policies.reading.values import Resource, known, list_at, text_at

FAMILY = "karpenter.k8s.aws/instance-family"
TYPE = "node.kubernetes.io/instance-type"
CATEGORY = "karpenter.k8s.aws/instance-category"
SIZE = "karpenter.k8s.aws/instance-size"
CPU = "karpenter.k8s.aws/instance-cpu"
# EKS Auto Mode has the same labels under a prefix of its own.
_AUTO_MODE = "eks.amazonaws.com/instance-"
_KARPENTER = "karpenter.k8s.aws/instance-"
_GPU_LABEL = "karpenter.k8s.aws/instance-gpu-"
_GPU_TAINTS = frozenset({"nvidia.com/gpu", "amd.com/gpu"})
# EC2's instance categories with GPUs; the others of accelerated computing hold no GPU.
_GPU_CATEGORIES = frozenset({"g", "gr", "p"})
_GPU_FAMILY = re.compile(r"(?:g|gr|p)\d")
_ASKING = frozenset({"In", "Exists", "Gt", "Gte"})


def is_node_pool_type(resource_type: str) -> bool:
    """Whether a type token is a Karpenter NodePool."""
    return (
        resource_type.startswith("kubernetes:karpenter.sh/")
        and resource_type.rsplit(":", 1)[-1].removesuffix("Patch") == "NodePool"
    )


def is_node_pool(resource: Resource) -> bool:
    """Whether a resource is a Karpenter NodePool."""
    return resource.kind == "NodePool" and resource.group == "karpenter.sh"


def requirements_in(node_pool: Resource) -> tuple[Requirement, ...]:
    """What a NodePool demands of its instances, by Karpenter's own labels, in Auto Mode too.

    Raises NotYetKnown for a value not known yet.
    """
    stated = requirements_of(
        list_at(node_pool.properties, "spec", "template", "spec", "requirements")
    )
    return tuple(
        replace(item, key=_KARPENTER + item.key.removeprefix(_AUTO_MODE))
        if item.key.startswith(_AUTO_MODE)
        else item
        for item in stated
    )


def is_auto_mode(node_pool: Resource) -> bool:
    """Whether the nodes of a NodePool are made by EKS Auto Mode."""
    reference = ("spec", "template", "spec", "nodeClassRef", "group")
    return text_at(node_pool.properties, *reference) == "eks.amazonaws.com"


def taints_in(node_pool: Resource, field: str = "taints") -> list[Mapping[str, object]]:
    """The `taints` or `startupTaints` of a NodePool."""
    items = list_at(node_pool.properties, "spec", "template", "spec", field)
    return [item for item in map(known, items) if isinstance(item, Mapping)]


def is_gpu_pool(node_pool: Resource) -> bool:
    """Whether a NodePool is kept for GPU nodes: by its taint, or by every instance it allows.

    A pool that may buy both CPU and GPU instances is none. Raises NotYetKnown for a value that
    decides it and is not known yet.
    """
    if any(text_at(taint, "key") in _GPU_TAINTS for taint in taints_in(node_pool)):
        return True
    return any(map(_allows_gpus_only, requirements_in(node_pool)))


def _allows_gpus_only(requirement: Requirement) -> bool:
    if requirement.key.startswith(_GPU_LABEL):
        return requirement.operator in _ASKING and not (
            requirement.operator == "In" and set(requirement.values) <= {"0"}
        )
    if requirement.operator != "In" or not requirement.values:
        return False
    if requirement.key == CATEGORY:
        return _GPU_CATEGORIES.issuperset(requirement.values)
    if requirement.key in (FAMILY, TYPE):
        named = [value.split(".")[0] for value in requirement.values]
        return all(map(_GPU_FAMILY.match, named))
    return False
