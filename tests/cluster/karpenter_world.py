"""A cluster in which real Karpenter buys simulated nodes for the project's own pods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldstart.controlplane import Client, ControlPlane, DeadlineError, definitions
from coldstart.controlplane.nodes import play_kubelets
from tests.cluster.karpenter_instance_types import Reservation, instance_types
from tests.cluster.karpenter_process import CORE, KWOK_DEFINITIONS, Karpenter
from tests.cluster.karpenter_stacks import (
    TENANT_KINDS,
    controller_values,
    for_kwok,
    node_class_for_kwok,
    objects,
)
from tests.cluster.rendered_objects import Object
from tests.program.recording import Recorded

DEADLINE_SECONDS = 90
"""Most waits take 2 to 4 s: Karpenter batches pods for a second, and two cores are shared."""
CONSIDERED = "computing scheduling decision for provisionable pod(s)"
"""What Karpenter logs each time it looks at pending pods (pkg/controllers/provisioning)."""
SOLD_OUT = "InsufficientCapacityError"
"""The event of a NodeClaim that could not be launched."""
TOUCHED = "simulated.coldstart.dev/touched"
POOL_LABEL = "karpenter.sh/nodepool"
CAPACITY_LABEL = "karpenter.sh/capacity-type"
TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
POOL_VERSION = "karpenter.sh/v1"


@dataclass
class World:
    """One control plane, Karpenter and the kubelets' stand-in, over what one stack renders."""

    admin: Client
    karpenter: Karpenter

    def offer(self, *pools: Mapping[str, Any]) -> None:
        """Apply rendered NodePools, and wait until Karpenter buys from them."""
        for pool in pools:
            self.admin.apply(node_class_for_kwok(pool), force=True)
            self.admin.apply(for_kwok(pool), force=True)
        for pool in pools:
            name = pool["metadata"]["name"]
            self.wait(
                lambda name=name: condition(self.pool(name), "Ready") == "True",
                f"NodePool {name} to be ready",
            )

    def settle(self, recorded: Recorded, *kinds: str) -> None:
        """Apply objects of these kinds that a stack's pods need beside nodes."""
        for item in objects(recorded, *kinds):
            self.admin.apply(item, force=True)

    def serve(self, deployment: Mapping[str, Any], replicas: int) -> None:
        """Run a rendered Deployment with that many replicas, as KEDA would set them."""
        spec = {**deployment["spec"], "replicas": replicas}
        self.admin.apply({**deployment, "spec": spec}, force=True)

    def pool(self, name: str) -> Object:
        """One NodePool; Refused(404) when it is gone."""
        found = self.admin.get(POOL_VERSION, "NodePool", name)
        return found or {}

    def claims(self, pool: str | None = None) -> list[Object]:
        """The NodeClaims, oldest first."""
        labels = {POOL_LABEL: pool} if pool else None
        found = self.admin.list(POOL_VERSION, "NodeClaim", labels=labels)
        return sorted(found, key=lambda claim: claim["metadata"]["creationTimestamp"])

    def nodes(self) -> list[Object]:
        """The nodes."""
        return self.admin.list("v1", "Node")

    def pods(self, namespace: str) -> list[Object]:
        """The pods of one tenant that are not on their way out."""
        found = self.admin.list("v1", "Pod", namespace)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def events(self, reason: str, kind: str | None = None) -> list[Object]:
        """Events of one reason, of any namespace."""
        found = self.admin.list("v1", "Event", fields=f"reason={reason}")
        return [e for e in found if kind in (None, e["involvedObject"]["kind"])]

    def event(self, reason: str, about: Object | None = None) -> Object:
        """The one event of a reason, or the first about an object, once it is written: after what
        it tells of."""
        uid = about["metadata"]["uid"] if about else None
        found = self.wait(
            lambda: [e for e in self.events(reason) if uid in (None, e["involvedObject"]["uid"])],
            f"an event {reason}",
        )
        assert uid or len(found) == 1, found
        return found[0]

    def wait(
        self, probe: Callable[[], Any], what: str, deadline_seconds: float = DEADLINE_SECONDS
    ) -> Any:
        """Poll; when it takes too long, say what there is and what Karpenter said last."""
        try:
            return self.admin.wait_for(probe, what, deadline_seconds)
        except DeadlineError as error:
            raise AssertionError(f"{error}\n{self.picture()}") from None

    def picture(self) -> str:
        """Claims, pods, all events and the last words of Karpenter, for a failed test."""
        claims = [
            (c["metadata"]["name"], c["metadata"]["labels"].get(CAPACITY_LABEL), conditions(c))
            for c in self.claims()
        ]
        pods = [
            (p["metadata"]["namespace"], p["metadata"]["name"], p["spec"].get("nodeName"))
            for p in self.admin.list("v1", "Pod")
        ]
        events = "\n".join(
            f"{e.get('lastTimestamp')} {e['involvedObject']['name']}: {e.get('message')}"
            for e in self.admin.list("v1", "Event")
        )
        return f"claims: {claims}\npods: {pods}\n{events}\n{self.karpenter.log()[-4000:]}"

    def running(self, namespace: str, count: int) -> list[Object]:
        """Wait until exactly `count` pods of a tenant run.

        After a launch that failed Karpenter waits ten seconds for another reason to look at the
        pods that are still pending; here it gets one at once.
        """
        failed = len(self.events(SOLD_OUT))

        def probe() -> list[Object] | None:
            nonlocal failed
            if (now := len(self.events(SOLD_OUT))) > failed:
                failed = now
                self._touch_pending(namespace)
            pods = [p for p in self.pods(namespace) if p["status"].get("phase") == "Running"]
            return pods if len(pods) == count else None

        return self.wait(probe, f"{count} running pods in {namespace}")

    def registered(self, count: int) -> list[Object]:
        """Wait until there are exactly `count` NodeClaims and each has its node."""

        def probe() -> list[Object] | None:
            claims = self.claims()
            named = [claim for claim in claims if claim.get("status", {}).get("nodeName")]
            return claims if len(named) == len(claims) == count else None

        return self.wait(probe, f"{count} NodeClaims with nodes")

    def considered_again(self, namespace: str, times: int) -> None:
        """Wait until Karpenter has looked at the pending pods `times` more times.

        A touched pod is a reason to look; otherwise Karpenter waits ten seconds.
        """
        for _ in range(times):
            before = len(self.karpenter.lines(CONSIDERED))
            self._touch_pending(namespace)
            self.wait(
                lambda before=before: len(self.karpenter.lines(CONSIDERED)) > before,
                f"Karpenter to look at the pending pods of {namespace} again",
            )

    def _touch_pending(self, namespace: str) -> None:
        for pod in self.pods(namespace):
            if "nodeName" not in pod["spec"]:
                metadata = pod["metadata"]
                touched = int(metadata.get("annotations", {}).get(TOUCHED, "0")) + 1
                patch = {"metadata": {"annotations": {TOUCHED: str(touched)}}}
                self.admin.patch("v1", "Pod", metadata["name"], patch, namespace)

    def take_off_startup_taints(self, pool: Mapping[str, Any]) -> None:
        """What a driver does once it works on a node."""
        startup = {t["key"] for t in pool["spec"]["template"]["spec"].get("startupTaints", [])}
        for node in self.nodes():
            taints = node["spec"].get("taints", [])
            left = [taint for taint in taints if taint["key"] not in startup]
            if left != taints:
                patch = {"spec": {"taints": left}}
                self.admin.patch("v1", "Node", node["metadata"]["name"], patch)

    def initialized(self, pool: Mapping[str, Any], count: int) -> list[Object]:
        """Wait until the pool has exactly `count` nodes that are ready for pods."""

        def probe() -> list[Object] | None:
            self.take_off_startup_taints(pool)
            claims = self.claims(pool["metadata"]["name"])
            ready = [c for c in claims if condition(c, "Initialized") == "True"]
            return claims if len(ready) == len(claims) == count else None

        name = pool["metadata"]["name"]
        return self.wait(probe, f"{count} initialized NodeClaims of {name}")

    def sweep(self) -> None:
        """Leave nothing of a test behind, without the patience of a real drain."""
        self.karpenter.sells_out()
        for kind in ("Deployment", "ReplicaSet"):
            for item in self.admin.list("apps/v1", kind):
                self._delete(item)
        for pod in self.admin.list("v1", "Pod"):
            self._delete(pod, grace_seconds=0)
        for pool in self.admin.list(POOL_VERSION, "NodePool"):
            self._delete(pool)
        self.wait(self._gone, "all NodeClaims and nodes to be gone")
        for event in self.admin.list("v1", "Event"):
            self._delete(event)

    def _gone(self) -> bool:
        left = [*self.claims(), *self.nodes()]
        for item in left:
            metadata = item["metadata"]
            if metadata.get("finalizers"):
                none = {"metadata": {"finalizers": None}}
                self.admin.patch(item["apiVersion"], item["kind"], metadata["name"], none)
            self._delete(item)
        return not left and not self.admin.list("v1", "Pod")

    def _delete(self, item: Object, grace_seconds: int | None = None) -> None:
        metadata = item["metadata"]
        self.admin.delete(
            item["apiVersion"],
            item["kind"],
            metadata["name"],
            metadata.get("namespace"),
            wait=False,
            grace_seconds=grace_seconds,
        )


def world(
    plane: ControlPlane,
    stacks: Sequence[Recorded],
    progress: Callable[[str], None],
    reservations: Iterable[Reservation] = (),
) -> World:
    """Install definitions, kubelets and Karpenter, and what the stacks' pods need.

    Karpenter's settings are those of the first stack; all end with the control plane.
    """
    definitions.apply(
        plane.admin,
        [*definitions.of_chart("karpenter"), *definitions.of_module(CORE, KWOK_DEFINITIONS)],
    )
    classes = [item for stack in stacks for item in objects(stack, "EC2NodeClass")]
    pools = [item for stack in stacks for item in objects(stack, "NodePool")]
    types = instance_types(classes, pools, reservations)
    play_kubelets(plane, progress)
    karpenter = Karpenter(plane, controller_values(stacks[0]), types, progress)
    made = World(plane.admin, karpenter)
    for stack in stacks:
        made.settle(stack, *TENANT_KINDS)
    return made


def conditions(item: Mapping[str, Any]) -> dict[str, str]:
    """The conditions of an object, type to status."""
    return {c["type"]: c["status"] for c in item.get("status", {}).get("conditions", [])}


def condition(item: Mapping[str, Any], kind: str) -> str | None:
    """The status of one condition."""
    return conditions(item).get(kind)


def label(item: Mapping[str, Any], key: str) -> str | None:
    """One label of an object."""
    return item["metadata"].get("labels", {}).get(key)
