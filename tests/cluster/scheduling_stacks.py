"""What the stacks put into a cluster, as their own program renders it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache
from typing import Any

from tests.program import workload_runs
from tests.program.crds import whole_numbers
from tests.program.harness import run_program
from tests.program.recording import Recorded, Resource, revealed

CLUSTER_SCOPED = ("Namespace", "PersistentVolume", "PriorityClass")


@cache
def stack(name: str) -> Recorded:
    """The whole program, run as stack `name`."""
    return run_program(name)


@cache
def fleet() -> Recorded:
    """Every way for weights at once, on a pool with two warm nodes."""
    return workload_runs.fleet()


def plain(resource: Resource) -> dict[str, Any]:
    """The object as the provider would send it: secrets revealed, whole numbers whole."""
    return whole_numbers(revealed(resource.checked))


def rendered(run: Recorded, *kinds: str) -> list[dict[str, Any]]:
    """Objects of these kinds, in the order of their registration."""
    return [
        plain(r)
        for r in run.resources
        if r.type.startswith("kubernetes:") and r.type.rpartition(":")[2] in kinds
    ]


def one(run: Recorded, kind: str, name: str) -> dict[str, Any]:
    """The only object of this kind and name."""
    (found,) = (o for o in rendered(run, kind) if o["metadata"]["name"] == name)
    return found


def tenant(run: Recorded, name: str, *kinds: str) -> list[dict[str, Any]]:
    """The objects of these kinds in the namespace `name` of a stack."""
    return [
        found
        for found in rendered(run, *kinds)
        if found["metadata"].get("namespace") == name
        or found.get("spec", {}).get("claimRef", {}).get("namespace") == name
    ]


def moved(objects: Iterable[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """The same objects in another namespace, so that tests do not meet in one."""
    found = copy.deepcopy(list(objects))
    volumes = {o["metadata"]["name"] for o in found if o["kind"] == "PersistentVolume"}
    for item in found:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = namespace
        elif item["kind"] == "PersistentVolume":
            item["metadata"]["name"] = f"{namespace}-{item['metadata']['name']}"
            item["spec"]["claimRef"]["namespace"] = namespace
        elif item["kind"] not in CLUSTER_SCOPED:
            item["metadata"]["namespace"] = namespace
        if item["kind"] == "PersistentVolumeClaim" and item["spec"].get("volumeName") in volumes:
            item["spec"]["volumeName"] = f"{namespace}-{item['spec']['volumeName']}"
    return found


def pod_of(template: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    """A bare pod from a pod template."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template.get("metadata", {}), "name": name, "namespace": namespace},
        "spec": template["spec"],
    }
