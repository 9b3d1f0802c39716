"""What the stacks render for Karpenter and its pods, made fit for the kwok cloud provider.

A NodePool is applied as rendered, with two changes:

- `nodeClassRef` names a KWOKNodeClass instead of the EC2NodeClass: another group and kind, the
  same name.
- what a test hurries up is named at its call (`hurried`): periods of minutes or days.

No label had to be mapped: the pools ask for instance type, architecture, operating system and
capacity type only, which both providers know. `for_kwok` refuses a pool that asks for more.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.cluster.rendered_objects import Object, api_objects
from tests.program.harness import run_program
from tests.program.recording import Recorded, revealed

KWOK_GROUP, KWOK_KIND, KWOK_VERSION = "karpenter.kwok.sh", "KWOKNodeClass", "v1alpha1"
KNOWN_TO_KWOK = frozenset(
    {
        "node.kubernetes.io/instance-type",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "karpenter.sh/capacity-type",
        "topology.kubernetes.io/zone",
    }
)
TENANT_KINDS = ("Namespace", "PriorityClass", "ServiceAccount", "ResourceQuota")
"""What has to exist before a rendered Deployment's pods may."""


@dataclass(frozen=True)
class Unproven:
    """Something of the EKS setup that Karpenter's core with the kwok provider cannot show."""

    what: str
    why: str


UNPROVEN = (
    Unproven(
        "fields of EC2NodeClass: AMI, user data, volumes, local disk policy, subnets, role",
        "the kwok provider has no such fields; its nodes are API objects",
    ),
    Unproven(
        "scratch space per node class",
        "the instance types file has one figure per type; it is computed from the rendered"
        " EC2NodeClass as Karpenter's AWS provider does",
    ),
    Unproven(
        "selecting capacity reservations by tags or ids, and draining before a capacity block ends",
        "reservations are given to the provider directly; their count and order are proven",
    ),
    Unproven(
        "which of several spot offers EC2 picks (price-capacity-optimized)",
        "EC2 decides that with knowledge of its own; here the cheapest offer of the capacity type"
        " is launched",
    ),
    Unproven(
        "how long a sold-out offer is left alone (3 min)",
        "here it is left alone until a test says anew what is sold out",
    ),
    Unproven(
        "spot interruption, rebalancing and zonal shift",
        "they come through SQS and the AWS API, which the core does not read",
    ),
    Unproven(
        "repair of nodes with AcceleratedHardwareReady=False",
        "the kwok provider repairs on NodeReady only; that policy is the AWS provider's",
    ),
    Unproven(
        "drift of AMI, subnets, security groups and user data",
        "the kwok provider never reports drift; drift of the NodePool itself is the core's",
    ),
    Unproven(
        "GPUs that a device plugin announces late",
        "a kwok node has its GPUs from its first moment",
    ),
)
"""Printed in docs/proof.md beside what is proven."""


@cache
def _run(stack: str, overrides: str) -> Recorded:
    return run_program(stack, overrides=json.loads(overrides))


def stack(name: str, overrides: Mapping[str, Any] | None = None) -> Recorded:
    """What a stack registers, `overrides` laid over its configuration."""
    return _run(name, json.dumps(dict(overrides or {}), sort_keys=True))


def objects(recorded: Recorded, *kinds: str) -> list[Object]:
    """The Kubernetes objects of these kinds, as they would be applied."""
    return [item for item in api_objects(recorded) if item["kind"] in kinds]


def named(recorded: Recorded, kind: str, name: str) -> Object:
    """One object by its own name."""
    (found,) = (item for item in objects(recorded, kind) if item["metadata"]["name"] == name)
    return found


def controller_values(recorded: Recorded) -> Object:
    """The Helm values that the stack gives Karpenter."""
    release = recorded.one("kubernetes:helm.sh/v3:Release", "karpenter-controller")
    return dict(revealed(release.at("values")))


def for_kwok(pool: Mapping[str, Any]) -> Object:
    """A rendered NodePool whose nodes the kwok provider makes. ValueError when it cannot."""
    changed = copy.deepcopy(dict(pool))
    template = changed["spec"]["template"]["spec"]
    foreign = {r["key"] for r in template["requirements"]} - KNOWN_TO_KWOK
    if foreign:
        raise ValueError(f"the kwok provider knows no {', '.join(sorted(foreign))}")
    template["nodeClassRef"] |= {"group": KWOK_GROUP, "kind": KWOK_KIND}
    return changed


def node_class_for_kwok(pool: Mapping[str, Any]) -> Object:
    """The KWOKNodeClass that `for_kwok(pool)` refers to."""
    name = pool["spec"]["template"]["spec"]["nodeClassRef"]["name"]
    version = f"{KWOK_GROUP}/{KWOK_VERSION}"
    return {"apiVersion": version, "kind": KWOK_KIND, "metadata": {"name": name}, "spec": {}}


def hurried(
    pool: Mapping[str, Any],
    *,
    consolidate_after: str | None = None,
    expire_after: str | None = None,
    termination_grace: str | None = None,
) -> Object:
    """The pool with these periods shortened, each of which it must set itself."""
    changed = copy.deepcopy(dict(pool))
    spec = changed["spec"]
    for place, key, value in (
        (spec["disruption"], "consolidateAfter", consolidate_after),
        (spec["template"]["spec"], "expireAfter", expire_after),
        (spec["template"]["spec"], "terminationGracePeriod", termination_grace),
    ):
        if value is not None:
            if key not in place:
                raise ValueError(f"the pool sets no {key}")
            place[key] = value
    return changed


def limited_to(pool: Mapping[str, Any], *resources: str) -> Object:
    """The pool with only these of its own limits."""
    changed = copy.deepcopy(dict(pool))
    limits = changed["spec"]["limits"]
    changed["spec"]["limits"] = {key: limits[key] for key in resources}
    return changed
