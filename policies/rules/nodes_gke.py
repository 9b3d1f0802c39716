"""GKE pools and compute classes that start slower than they could, or never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.values import (
    Resource,
    at,
    first_mapping,
    is_true,
    judge_each,
    known,
    list_at,
    text_at,
    whole,
)
from policies.rule import Option, ResourceRule, Settings

# Machines that start fast and the largest boot disk that goes with it, in GiB (GKE's page on
# fast-starting nodes, 2026-04-10).
_LARGEST_BOOT_DISK_GIB = {"g2": 500, "a2": 1000}
_SERIES_OF_GPU = {"nvidia-l4": "g2", "nvidia-tesla-a100": "a2", "nvidia-a100-80gb": "a2"}
_BOOT_DISK = "pd-balanced"
_POOL = "gcp:container/nodePool:NodePool"
# Sold as Spot or Flex-start only (GCP's page on accelerator-optimized machines, 2026-04).
_NEVER_ON_DEMAND = frozenset({"a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g"})
_RESERVED = frozenset({"SPECIFIC_RESERVATION", "ANY_RESERVATION"})
_KINDS = ("spot", "encryption key", "placement", "local SSD", "boot disk")


def _is_compute_class_type(resource_type: str) -> bool:
    return (
        resource_type.startswith("kubernetes:cloud.google.com/")
        and resource_type.rsplit(":", 1)[-1].removesuffix("Patch") == "ComputeClass"
    )


def _judge_slow_start(resource: Resource, settings: Settings) -> Iterator[str]:
    if not is_true(at(resource.properties, "spec", "autopilot", "enabled")):
        return
    accepted = settings["acceptedSettings"]
    slow: list[str] = []
    for index, item in enumerate(list_at(resource.properties, "spec", "priorities")):
        rule = known(item)
        series = _series(rule)
        if series is None:
            continue
        found = [text for kind, text in _slow(rule, series) if kind not in accepted]
        if not found:
            return
        slow.append(f"spec.priorities[{index}] has {' and '.join(found)}")
    if slow:
        yield (
            f"{'; '.join(slow)}: no priority of ComputeClass {resource.object_name} is left that "
            "GKE serves from nodes it has prepared, so each one starts at the usual speed, up to "
            "four times slower. Give one G2 or A2 priority without these, or accept them with the "
            f"rule's option acceptedSettings ({', '.join(_KINDS)})."
        )


def _series(rule: Any) -> str | None:
    """The fast-starting machine series of a priority; None for any other."""
    named = text_at(rule, "machineFamily") or text_at(rule, "machineType").split("-")[0]
    if not named:
        return _SERIES_OF_GPU.get(text_at(rule, "gpu", "type"))
    return named.lower() if named.lower() in _LARGEST_BOOT_DISK_GIB else None


def _slow(rule: Mapping[str, Any], series: str) -> Iterator[tuple[str, str]]:
    if is_true(at(rule, "spot")):
        yield "spot", "spot: true"
    if at(rule, "storage", "bootDiskKMSKey"):
        yield "encryption key", "storage.bootDiskKMSKey"
    if at(rule, "placement", "policyName"):
        yield "placement", "placement.policyName"
    # Machines that come with their local SSD are prepared with it.
    comes_with_ssd = "ultragpu" in text_at(rule, "machineType")
    if at(rule, "storage", "localSSDCount") and not comes_with_ssd:
        yield "local SSD", "storage.localSSDCount"
    kind = text_at(rule, "storage", "bootDiskType", default=_BOOT_DISK)
    size_gib = whole(at(rule, "storage", "bootDiskSize"), 0)
    if kind != _BOOT_DISK:
        yield "boot disk", f"storage.bootDiskType: {kind}"
    elif size_gib > _LARGEST_BOOT_DISK_GIB[series]:
        yield (
            "boot disk",
            f"storage.bootDiskSize: {size_gib} (over {_LARGEST_BOOT_DISK_GIB[series]} GiB)",
        )


def _buys_machines(resource_type: str) -> bool:
    return resource_type == _POOL or _is_compute_class_type(resource_type)


def _judge_on_demand(resource: Resource, _: Settings) -> Iterator[str]:
    if resource.type == _POOL:
        yield from _judge_pool(resource)
        return
    yield from judge_each(
        enumerate(list_at(resource.properties, "spec", "priorities")),
        lambda item: _judge_priority(item[0], known(item[1])),
    )


def _judge_pool(resource: Resource) -> Iterator[str]:
    node = first_mapping(at(resource.properties, "nodeConfig"))
    machine = text_at(node, "machineType")
    if machine not in _NEVER_ON_DEMAND:
        return
    queued = first_mapping(at(resource.properties, "queuedProvisioning"))
    reservation = first_mapping(at(node, "reservationAffinity"))
    if any(is_true(at(node, key)) for key in ("spot", "preemptible", "flexStart")):
        return
    if not is_true(at(queued, "enabled")) and (
        text_at(reservation, "consumeReservationType") not in _RESERVED
    ):
        yield _never(f"nodeConfig.machineType={machine} without spot or flexStart", "nodeConfig.")


def _judge_priority(index: int, rule: Any) -> Iterator[str]:
    machine = text_at(rule, "machineType")
    if machine not in _NEVER_ON_DEMAND or is_true(at(rule, "spot")):
        return
    if is_true(at(rule, "flexStart", "enabled")):
        return
    if text_at(rule, "reservations", "affinity", default="None") == "None":
        field = f"spec.priorities[{index}]"
        yield _never(f"{field}.machineType={machine} without spot or flexStart", f"{field}.")


def _never(problem: str, prefix: str) -> str:
    return (
        f"{problem}. Google sells this machine as Spot or Flex-start only, so the on-demand "
        "request fails each time and the pod waits for the next choice, or for ever where there "
        f"is none. Set {prefix}spot or {prefix}flexStart, or use a3-highgpu-8g."
    )


FORBID_SLOW_START = ResourceRule(
    code="CS116",
    name="gke-computeclass-forbid-slow-start-settings",
    concern="nodes",
    title="Autopilot GPU nodes can be fast-starting ones",
    description="A ComputeClass in Autopilot mode for G2 or A2 machines must keep one priority "
    "that GKE's fast-starting nodes can serve.",
    severity="low",
    tags=("gke", "cold-start"),
    remediation="Give the class a G2 or A2 priority without spot, own encryption key, placement "
    "policy or local SSD, with a pd-balanced boot disk of at most 500 GiB (A2: 1,000 GiB).",
    reason="GKE prepares nodes ahead only for plain configurations, and says nothing when a "
    "setting rules them out.",
    links=("https://cloud.google.com/kubernetes-engine/docs/concepts/fast-starting-nodes",),
    options=(
        Option(
            "acceptedSettings",
            {
                "type": "array",
                "items": {"type": "string", "enum": list(_KINDS)},
                "default": [],
            },
            [],
            "Settings that are wanted although nodes start slower with them.",
        ),
    ),
    level="advisory",
    production="advisory",
    development="advisory",
    reads=_is_compute_class_type,
    judge=_judge_slow_start,
)

FORBID_ON_DEMAND_SMALL_A3 = ResourceRule(
    code="CS122",
    name="gke-nodepool-forbid-on-demand-small-a3",
    concern="nodes",
    title="Small A3 machines are asked for as they are sold",
    description="GKE pools and compute classes must not ask for a3-highgpu-1g, -2g or -4g on "
    "demand.",
    severity="high",
    tags=("gke", "cold-start"),
    remediation="Use Spot or Flex-start for these machines, a reservation, or a3-highgpu-8g on "
    "demand.",
    reason="The smaller A3 machines exist as Spot and Flex-start VMs only; an on-demand request "
    "is never fulfilled.",
    links=(
        "https://cloud.google.com/compute/docs/accelerator-optimized-machines",
        "https://cloud.google.com/kubernetes-engine/docs/concepts/dws",
    ),
    development="advisory",
    reads=_buys_machines,
    judge=_judge_on_demand,
)
