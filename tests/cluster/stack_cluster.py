"""What the tests of whole stacks ask of a control plane: access, everything that is in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from coldstart.cli.target import helm_binary
from coldstart.controlplane import Client, ControlPlane, Refused
from coldstart.controlplane.charts import lay_out
from coldstart.engine import ClusterAccess, Result, Step
from offline.kubernetes_shapes import INITIAL_NAMESPACES, RELEASE
from tests.cluster.conftest import say
from tests.cluster.controllers import takes_pods

ROOT = Path(__file__).resolve().parents[2]
SETTLE_DEADLINE_SECONDS = 120

# Kinds that the control plane writes for itself, at any time.
_ITS_OWN = {"Event", "Lease", "LeaseCandidate", "EndpointSlice", "Endpoints", "PodMetrics"}

Key = tuple[str, str, str, str]
"""apiVersion, kind, namespace, name."""


def access_to(plane: ControlPlane, **differing: Any) -> ClusterAccess:
    """How a rehearsal reaches `plane`, with Karpenter's charts and the pinned Helm."""
    charts = lay_out(plane.folder / "charts", os.environ)
    settings = {"kubeconfig": plane.kubeconfig, "charts": charts, "helm": helm_binary(say)}
    return ClusterAccess(**{**settings, **differing})


def everything(client: Client) -> dict[Key, dict[str, Any]]:
    """Every object of every kind the server knows, but for what it writes for itself."""
    found = {}
    for version, kind in _listable_kinds(client):
        for item in client.list(version, kind):
            metadata = item["metadata"]
            found[version, kind, metadata.get("namespace", ""), metadata["name"]] = item
    return found


def untouched(client: Client) -> dict[Key, dict[str, Any]]:
    """Everything in a control plane that has just started, once its controllers have begun."""

    def begun() -> bool:
        return all(
            takes_pods(client, namespace)
            and client.get("v1", "ConfigMap", "kube-root-ca.crt", namespace)
            for namespace in INITIAL_NAMESPACES
        )

    client.wait_for(begun, "what every namespace has of its own", SETTLE_DEADLINE_SECONDS)
    return everything(client)


def settled_as(client: Client, before: Iterable[Key]) -> set[Key]:
    """What is there beside `before` once the controllers have tidied up, or at the deadline."""
    left: set[Key] = set()

    def nothing_more() -> bool:
        # A look at everything is a hundred requests, so first at what was there the last time.
        if any(not stays(key) and _is_there(client, key) for key in left):
            return False
        left.clear()
        left.update(set(everything(client)) - set(before))
        return all(stays(key) for key in left)

    try:
        client.wait_for(nothing_more, "everything of the stack to be gone", SETTLE_DEADLINE_SECONDS)
    except Exception:  # what is left is the answer
        return left
    return left


def _is_there(client: Client, key: Key) -> bool:
    version, kind, namespace, name = key
    try:
        return client.get(version, kind, name, namespace or None) is not None
    except Refused as refused:
        if refused.reason != "NoSuchKind":
            raise
        return False


def stays(key: Key) -> bool:
    """Whether Helm would leave the object behind: a definition from a chart's folder `crds`.

    With it the server keeps its own registration of the API group.
    """
    return key[1] in ("CustomResourceDefinition", "APIService") and key[3].endswith(
        "monitoring.coreos.com"
    )


def made_by(result: Result) -> list[Step]:
    """The steps of Kubernetes objects, Helm releases left out."""
    return [
        step
        for step in result.resources
        if step.type.startswith("kubernetes:") and step.type != RELEASE
    ]


def key_of(step: Step) -> Key:
    """Under what the server has the object of a step."""
    metadata = step.inputs["metadata"]
    namespace = step.outputs.get("metadata", {}).get("namespace") or metadata.get("namespace", "")
    return step.inputs["apiVersion"], step.inputs["kind"], namespace, metadata["name"]


def pod_templates(objects: Mapping[Key, Mapping[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Each pod template among the objects as a bare pod, by the object that holds it."""
    found = {}
    for key, item in objects.items():
        if key[1] == "ReplicaSet" or "template" not in item.get("spec", {}):
            continue
        template = item["spec"]["template"]
        if "containers" not in template.get("spec", {}):
            continue
        metadata = template.get("metadata") or {}
        kept = {k: metadata[k] for k in ("labels", "annotations") if metadata.get(k)}
        found[key] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**kept, "name": f"tried-{key[3]}"[:63], "namespace": key[2]},
            "spec": template["spec"],
        }
    return found


def _listable_kinds(client: Client) -> Iterator[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    for version in _versions(client):
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        answer = client.request("GET", path)
        # An aggregated API whose own server does not run here answers 503.
        for entry in (answer.body.get("resources") or ()) if answer.status == 200 else ():
            group = version.partition("/")[0] if "/" in version else ""
            kind = (group, entry["kind"])
            listable = "list" in entry["verbs"] and "/" not in entry["name"]
            if listable and kind not in seen and entry["kind"] not in _ITS_OWN:
                seen.add(kind)
                yield version, entry["kind"]


def _versions(client: Client) -> Iterator[str]:
    yield "v1"
    for group in client.request("GET", "/apis").body["groups"]:
        # The preferred one first, then kinds that only another version has.
        preferred = group["preferredVersion"]["groupVersion"]
        yield preferred
        yield from (v["groupVersion"] for v in group["versions"] if v["groupVersion"] != preferred)
