"""The project's own Kubernetes objects, as the API server gets them, from runs of the program."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache
from typing import Any

from tests.program import aws_runs, workload_runs
from tests.program.crds import whole_numbers
from tests.program.harness import run_program
from tests.program.plans import stack_plan
from tests.program.recording import Recorded, revealed
from tests.program.test_aws_node_pools import with_snapshot

RELEASE = "kubernetes:helm.sh/v3:Release"

Object = dict[str, Any]


def api_objects(recorded: Recorded) -> list[Object]:
    """Every object a run registers, in order, Helm releases left out."""
    return [
        whole_numbers(revealed(resource.checked))
        for resource in recorded.resources
        if resource.custom
        and resource.type.startswith("kubernetes:")
        and resource.type != RELEASE
        and resource.type.split(":")[1] != "index"
    ]


@cache
def _fleet() -> tuple[Object, ...]:
    """Nodes made from a snapshot, and the workload layer with everything in it."""
    nodes = aws_runs.provisioned(stack_plan(pools=(with_snapshot(),)))
    # A ConfigMap stands there for the cluster; it is the test's, not the project's.
    served = [
        item
        for item in api_objects(workload_runs.fleet())
        if "namespace" in item["metadata"] or item["kind"] != "ConfigMap"
    ]
    return (*api_objects(nodes), *served)


@cache
def _stack(stack: str) -> tuple[Object, ...]:
    return tuple(api_objects(run_program(stack)))


def fleet() -> list[Object]:
    """Objects of every kind the project has; a copy."""
    return copy.deepcopy(list(_fleet()))


def dev_nodes() -> list[Object]:
    """The infra layer of a dev stack, with the privileged DaemonSet."""
    return api_objects(aws_runs.dev())


def stack(name: str) -> list[Object]:
    """Objects of one stack of the repository; a copy."""
    return copy.deepcopy(list(_stack(name)))


def first(objects: Iterable[Object], kind: str, name: str | None = None) -> Object:
    """The first object of a kind, or the one of that name. Raises LookupError."""
    found = [item for item in objects if item["kind"] == kind]
    for item in found:
        if name in (None, item["metadata"]["name"]):
            return item
    names = [item["metadata"].get("name") for item in found]
    raise LookupError(f"no {kind} {name or ''}; there: {names}")


def bare_pod(owner: Object) -> Object:
    """The pod that a Deployment, a DaemonSet or a Job would make."""
    template = owner["spec"]["template"]
    metadata = {**template.get("metadata", {})}
    metadata.update(name=owner["metadata"]["name"], namespace=owner["metadata"]["namespace"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
