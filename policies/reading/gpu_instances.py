"""EC2 instance types with GPUs that requirements leave open, with their GPUs and list prices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from policies.reading.gpus import families
from policies.reading.node_pools import CATEGORY, FAMILY, SIZE, TYPE
from policies.reading.scheduling import Requirement

_TABLE = Path(__file__).resolve().parent.parent / "data" / "gpu_instances.yaml"
_PARTS = re.compile(r"(([a-z]+)(\d+)[^.]*)\.(.+)")
_GPU_LIKE = re.compile(r"(?:g|gr|p)\d")
_ARM_FAMILIES = frozenset({"g5g", "p6e-gb200", "p6e-gb300"})


@dataclass(frozen=True)
class Instance:
    """An instance type; the price is on demand, in us-east-1, and None where unknown."""

    name: str
    gpus: int
    usd_per_hour: float | None
    labels: Mapping[str, str]


@cache
def instances() -> tuple[Instance, ...]:
    """The table of known types. Raises KeyError or ValueError for an entry that is none."""
    table = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))["types"]
    return tuple(
        Instance(name, int(gpus), price, _labels(name, gpus))
        for name, (gpus, price) in table.items()
    )


def allowed_instances(requirements: Iterable[Requirement]) -> list[Instance]:
    """The GPU instance types that all requirements leave open.

    Empty also where a GPU type or family is named that the table lacks: nobody can tell then.
    """
    wanted = list(requirements)
    if any(map(_names_others, wanted)):
        return []
    return [
        instance
        for instance in instances()
        if all(
            item.allows(instance.labels[item.key]) for item in wanted if item.key in instance.labels
        )
    ]


def _names_others(requirement: Requirement) -> bool:
    if requirement.operator != "In" or requirement.key not in (TYPE, FAMILY):
        return False
    listed = {instance.labels[requirement.key] for instance in instances()}
    return any(_GPU_LIKE.match(value) and value not in listed for value in requirement.values)


def _labels(name: str, gpus: int) -> dict[str, str]:
    parts = _PARTS.fullmatch(name)
    if parts is None:
        raise ValueError(f"{_TABLE.name}: {name} is no instance type")
    family, category, generation, size = parts.groups()
    return {
        TYPE: name,
        FAMILY: family,
        CATEGORY: category,
        SIZE: size,
        "karpenter.k8s.aws/instance-generation": generation,
        "karpenter.k8s.aws/instance-gpu-count": str(gpus),
        "karpenter.k8s.aws/instance-gpu-name": families()[family].gpu,
        "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
        "karpenter.k8s.aws/instance-hypervisor": "" if size.startswith("metal") else "nitro",
        "kubernetes.io/arch": "arm64" if family in _ARM_FAMILIES else "amd64",
    }
