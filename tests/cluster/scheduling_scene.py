"""The nodes and namespaces of one test, watched from its start and gone at its end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from coldstart.controlplane import Client, ControlPlane
from coldstart.controlplane.nodes import (
    DRAIN_ANNOTATION,
    KWOK,
    OUTCOME_ANNOTATION,
    play_kubelets,
)
from tests.cluster.controllers import acted_on, counted, takes_pods
from tests.cluster.scheduling_nodes import ZONES, Shape, node
from tests.cluster.scheduling_stacks import moved, rendered, stack, tenant
from tests.program.recording import Recorded

DEADLINE_SECONDS = 60
BASICS = (
    "Namespace", "ServiceAccount", "ResourceQuota", "ConfigMap", "Secret",
    "PersistentVolume", "PersistentVolumeClaim",
)  # fmt: skip
COMPONENT = "app.kubernetes.io/component"
SERVER, WEIGHTS, COMPILE_CACHE, WARM = "server", "weights", "compile-cache", "warm-capacity"
GPU = "nvidia.com/gpu"

OWNERS = (("apps/v1", "Deployment"), ("apps/v1", "DaemonSet"), ("batch/v1", "Job"))
"""Kinds that a test's pods come from; whoever deletes these is rid of all."""
MAKERS = (("apps/v1", "ReplicaSet"), ("apps/v1", "DaemonSet"), ("batch/v1", "Job"))
"""Kinds whose controllers make pods."""

_numbers = itertools.count(1)
Object = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One write, as a watch tells it: ADDED, MODIFIED or DELETED, and the object after it."""

    kind: str
    object: Object


class History:
    """Every write to the objects of one collection since this was made, none left out.

    The API server keeps them for watchers; they are read back in the order they were made.
    """

    def __init__(self, client: Client, collection: str) -> None:
        self._client, self._collection = client, collection
        self._since, self._first = self._look()

    def _look(self) -> tuple[str, dict[str, int]]:
        """The version of the collection, and of each object in it by its uid."""
        body = self._client.request("GET", self._collection).body
        versions = {i["metadata"]["uid"]: version_of(i) for i in body["items"]}
        return body["metadata"]["resourceVersion"], versions

    def changes(self) -> list[Change]:
        """What has been written so far.

        A server that is slow to begin ends a watch before it has sent everything: what is there
        now says whether it has.
        """
        at, there = self._look()

        def whole() -> tuple[list[Change]] | None:
            changes = self._watch()
            seen = dict(self._first)
            for change in changes:
                uid = change.object["metadata"]["uid"]
                seen[uid] = version_of(change.object)
                if change.kind == "DELETED":
                    del seen[uid]
            gone = {c.object["metadata"]["uid"] for c in changes if c.kind == "DELETED"}
            arrived = all(uid in gone or seen.get(uid, 0) >= v for uid, v in there.items())
            left = all(uid in there or version > int(at) for uid, version in seen.items())
            return (changes,) if arrived and left else None

        return self._client.wait_for(whole, "every change to be told", DEADLINE_SECONDS)[0]

    def _watch(self) -> list[Change]:
        answer = self._client.request(
            "GET",
            self._collection,
            query={"watch": "1", "resourceVersion": self._since, "timeoutSeconds": "1"},
        )
        assert answer.status == 200, answer.body
        if isinstance(answer.body, dict):
            lines = [answer.body]
        else:
            lines = [json.loads(line) for line in answer.body.splitlines()]
        assert all(line["type"] != "ERROR" for line in lines), lines
        return [Change(line["type"], line["object"]) for line in lines]


def version_of(item: Object) -> int:
    """The resourceVersion, a number that grows with every write."""
    return int(item["metadata"]["resourceVersion"])


class Scene:
    """Builds what a test needs and takes it away again."""

    def __init__(self, plane: ControlPlane) -> None:
        self.client, self._plane = plane.admin, plane
        self._nodes: list[str] = []
        self._namespaces: list[str] = []
        self._volumes: list[str] = []

    def nodes(
        self, shape: Shape, count: int = 1, zones: Iterable[str] = ZONES, unready: bool = False
    ) -> list[str]:
        """Nodes of one shape, one zone after the other, ready for pods unless `unready`."""
        number, names = next(_numbers), []
        for index, zone in zip(range(count), itertools.cycle(zones), strict=False):
            name = f"node-{number}-{index}"
            self.client.create(node(name, shape, zone))
            self._nodes.append(name)
            names.append(name)
        for name in () if unready else names:
            self.until(lambda name=name: self._usable(name), f"node {name} to be usable")
        return names

    def _usable(self, name: str) -> bool:
        self._check_kubelets()
        found = self.client.get("v1", "Node", name) or {}
        taints = found.get("spec", {}).get("taints", [])
        ready = any(c["type"] == "Ready" for c in found["status"].get("conditions", []))
        return ready and all(
            "not-ready" not in taint["key"].partition("/")[2][:9] for taint in taints
        )

    def _check_kubelets(self) -> None:
        if self._plane.pid(KWOK) is None:
            raise AssertionError(f"kwok has ended:\n{self._plane.log(KWOK)[-2000:]}")

    def tenant(self, run: Recorded, name: str, *kinds: str) -> str:
        """The namespace `name` of a stack under a name of its own, with what its pods mount, and
        its objects of `kinds`."""
        namespace = f"{name}-{next(_numbers)}"
        basics = [o for o in rendered(run, "Namespace") if o["metadata"]["name"] == name]
        self.apply(moved([*basics, *tenant(run, name, *BASICS)], namespace))
        for quota in moved(tenant(run, name, "ResourceQuota"), namespace):
            self.until(lambda quota=quota: counted(self.client, quota), "the quota to be counted")
        self.until(lambda: self._bound(namespace), f"the volumes of {namespace} to be bound")
        self.apply(moved(tenant(run, name, *kinds), namespace))
        return namespace

    def _bound(self, namespace: str) -> bool:
        claims = self.client.list("v1", "PersistentVolumeClaim", namespace)
        return all(claim["status"].get("phase") == "Bound" for claim in claims)

    def namespace(self, name: str = "test") -> str:
        """An empty namespace that takes pods."""
        unique = f"{name}-{next(_numbers)}"
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": unique}}])
        self.until(lambda: takes_pods(self.client, unique), f"{unique} to take pods")
        return unique

    def apply(self, objects: Iterable[Object]) -> None:
        """Server-side apply, in the given order."""
        for item in objects:
            if item["kind"] == "Namespace":
                self._namespaces.append(item["metadata"]["name"])
            elif item["kind"] == "PersistentVolume":
                self._volumes.append(item["metadata"]["name"])
            self.client.apply(item)

    def history(self, namespace: str, kind: str = "Pod", api_version: str = "v1") -> History:
        """What will be written to the pods (or another kind) of a namespace from now on."""
        return History(self.client, self.client.path(api_version, kind, None, namespace))

    def until(self, probe: Callable[[], Any], what: str) -> Any:
        """Poll until true."""
        return self.client.wait_for(probe, what, DEADLINE_SECONDS)

    def pods(self, namespace: str, component: str | None = None) -> list[Object]:
        """Pods that nobody has asked to go."""
        found = self.client.list(
            "v1", "Pod", namespace, {COMPONENT: component} if component else None
        )
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def running(self, namespace: str, count: int, component: str | None = None) -> list[Object]:
        """Wait until exactly `count` pods are there and all are ready."""

        def probe() -> tuple[list[Object]] | None:
            self._check_kubelets()
            found = self.pods(namespace, component)
            return (found,) if len(found) == count and all(map(is_ready, found)) else None

        return self.until(probe, f"{count} ready pods in {namespace}")[0]

    def waiting(self, namespace: str, component: str | None = None, because: str = "") -> Object:
        """Wait until a pod is found unschedulable, for a reason that contains `because`.

        The first verdict may be of a node or volume that the scheduler has not seen whole.
        """
        return self.until(
            lambda: next(
                (
                    pod
                    for pod in self.pods(namespace, component)
                    if (said := verdict(pod)) and because in said
                ),
                None,
            ),
            f"an unschedulable pod in {namespace}: {because}",
        )

    def gave_way(self, pod: Object) -> bool:
        """Whether the scheduler has told that it took the pod's node for another."""
        namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        told = self.client.list("v1", "Event", namespace, fields="reason=Preempted")
        return any(event["involvedObject"].get("uid") == uid for event in told)

    def check_only_gave_way(self, before: Object, now: Object) -> None:
        """The pod is the same, or another in the place of one that gave way: nothing else moves."""
        if now["metadata"]["uid"] != before["metadata"]["uid"]:
            self.until(lambda: self.gave_way(before), "the scheduler to tell who gave way")

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        """Through the scale subresource, as an autoscaler does, and wait until it has been acted
        on: what the controllers were still about to do may not pass for what was asked now."""
        self.client.scale("apps/v1", "Deployment", name, replicas, namespace)
        self.until(
            lambda: acted_on(self.client, name, namespace), f"{name} to be scaled to {replicas}"
        )

    def annotate(self, pod: Object, key: str, value: str | None) -> None:
        """Set or remove one annotation of a pod."""
        where = pod["metadata"]
        patch = {"metadata": {"annotations": {key: value}}}
        self.client.patch("v1", "Pod", where["name"], patch, where["namespace"])

    def hold(self, pod: Object) -> None:
        """Make the pod's drain last until `release`."""
        self.annotate(pod, DRAIN_ANNOTATION, "held")

    def release(self, pod: Object) -> None:
        """Let the pod's drain end."""
        self.annotate(pod, DRAIN_ANNOTATION, None)

    def succeed(self, pod: Object) -> None:
        """End the pod of a Job well."""
        self.annotate(pod, OUTCOME_ANNOTATION, "succeeded")

    def close(self) -> None:
        """Take everything away; nodes last, because only their kubelets end pods."""
        for namespace in self._namespaces:
            for group, kind in OWNERS:
                self._delete_all(group, kind, namespace)
        for namespace in self._namespaces:
            self.until(lambda name=namespace: self._emptied(name), f"{namespace} to be empty")
            self.client.delete("v1", "Namespace", namespace, wait=False)
        for name in self._nodes:
            self.client.delete("v1", "Node", name)
        for name in self._volumes:
            self.client.delete("v1", "PersistentVolume", name, wait=False)

    def _emptied(self, namespace: str) -> bool:
        pods = self.client.list("v1", "Pod", namespace)
        for pod in pods:
            if DRAIN_ANNOTATION in pod["metadata"].get("annotations", {}):
                self.release(pod)
        self._delete_all("v1", "Pod", namespace)
        # One that is left would make pods again.
        return not pods and not any(
            self.client.list(group, kind, namespace) for group, kind in MAKERS
        )

    def _delete_all(self, group: str, kind: str, namespace: str) -> None:
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        self.client.request("DELETE", self.client.path(group, kind, None, namespace), options)


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition holds."""
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions", [])
    )


def node_of(pod: Object) -> str | None:
    """The node a pod is bound to."""
    return pod["spec"].get("nodeName")


def verdict(pod: Object) -> str | None:
    """Why the scheduler found no place, None when it did or has not looked."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("message", "")
    return None


def gpus(pod: Object) -> int:
    """GPUs the pod asks for."""
    return sum(
        int(c["resources"].get("requests", {}).get(GPU, 0)) for c in pod["spec"]["containers"]
    )


def populate(plane: ControlPlane, progress: Callable[[str], None]) -> None:
    """Kubelets for simulated nodes, and the priorities that every stack makes."""
    play_kubelets(plane, progress)
    for priority in rendered(stack("eks-prod"), "PriorityClass"):
        plane.admin.apply(priority)
