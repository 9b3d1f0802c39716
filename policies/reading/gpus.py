"""GPU architectures that a pool's requirements leave open, from the table beside the rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from policies.reading.scheduling import Requirement

_TABLE = Path(__file__).resolve().parent.parent / "data" / "gpu_families.yaml"
_FAMILY = "karpenter.k8s.aws/instance-family"
_TYPE = "node.kubernetes.io/instance-type"
_GPU_NAME = "karpenter.k8s.aws/instance-gpu-name"
_CATEGORY = "karpenter.k8s.aws/instance-category"
_GENERATION = "karpenter.k8s.aws/instance-generation"
_MANUFACTURER = "karpenter.k8s.aws/instance-gpu-manufacturer"
_FAMILY_PARTS = re.compile(r"([a-z]+)(\d+)")


@dataclass(frozen=True)
class Family:
    """An EC2 instance family with GPUs."""

    name: str
    gpu: str
    architecture: str


@cache
def families() -> dict[str, Family]:
    """The table of known families. Raises KeyError for an entry without a GPU or architecture."""
    table = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))["families"]
    return {
        name: Family(name, entry["gpu"], entry["architecture"]) for name, entry in table.items()
    }


def architectures(requirements: Iterable[Requirement]) -> dict[str, list[str]]:
    """Architectures still possible under all requirements, each with its families.

    A family missing in the table counts as an architecture of its own when it is asked for by
    name. Empty for a pool without GPU instances.
    """
    wanted = list(requirements)
    found: dict[str, list[str]] = {}
    for family in (*families().values(), *_unlisted(wanted)):
        if all(_allows(requirement, family) for requirement in wanted):
            found.setdefault(family.architecture, []).append(family.name)
    return found


def _unlisted(requirements: list[Requirement]) -> list[Family]:
    named = {
        value.split(".")[0] if item.key == _TYPE else value
        for item in requirements
        if item.key in (_FAMILY, _TYPE) and item.operator == "In"
        for value in item.values
    }
    # Only the GPU categories of EC2: a CPU family beside a GPU family holds no compiled kernels.
    gpu_like = (name for name in named if re.match(r"(?:g|gr|p)\d", name))
    return [
        Family(name, f"gpu of {name}", f"unlisted family {name}")
        for name in sorted(gpu_like)
        if name not in families()
    ]


def _allows(requirement: Requirement, family: Family) -> bool:
    parts = _FAMILY_PARTS.match(family.name)
    category, generation = (parts[1], parts[2]) if parts else ("", "")
    if requirement.key == _TYPE:
        if requirement.operator != "In":
            return True
        return any(value.split(".")[0] == family.name for value in requirement.values)
    value = {
        _FAMILY: family.name,
        _GPU_NAME: family.gpu,
        _CATEGORY: category,
        _GENERATION: generation,
        _MANUFACTURER: family.architecture.split(" ")[0].lower(),
    }.get(requirement.key)
    if value is None or value.startswith(("gpu of", "unlisted")):
        return True
    return requirement.allows(value)
