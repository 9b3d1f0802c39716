"""Models of the project in a cluster with KEDA: deployed as rendered, loaded as the test says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from coldstart.controlplane import Client, ControlPlane, definitions
from coldstart.planning import ModelPlan, StackPlan
from tests.cluster.conftest import say
from tests.cluster.controllers import acted_on
from tests.cluster.keda_network import ClusterNetwork
from tests.cluster.keda_process import Keda, quantity
from tests.cluster.keda_prometheus import Prometheus
from tests.cluster.rendered_objects import api_objects, first
from tests.program.workload_runs import LOCAL, planned, served, stack_spec

Object = dict[str, Any]

HPA_FLAGS = {
    "kube-controller-manager": [
        # 15 s by default: how often the autoscaler looks, not what it decides.
        "--horizontal-pod-autoscaler-sync-period=1s",
        # No kubelet reports from the node.
        "--node-monitor-grace-period=1h",
    ]
}
SOONER: Mapping[str, int] = {"pollingInterval": 1}
"""What is shortened in a ScaledObject; a test that shortens more names it."""
DEFINITIONS = (
    "scaledobjects.keda.sh",
    "scaledjobs.keda.sh",
    "triggerauthentications.keda.sh",
    "clustertriggerauthentications.keda.sh",
    "cloudeventsources.eventing.keda.sh",
    "clustercloudeventsources.eventing.keda.sh",
    "interceptorroutes.http.keda.sh",
    "httpscaledobjects.http.keda.sh",
)
DEADLINE_SECONDS = 60.0
"""For one step of an autoscaler that looks every second; most took 1 to 3 s."""
POOL, POOL_LABEL = "l40s", "coldstart.dev/node-pool"
"""The pool of `stack_spec`, and the label by which the rendered pods ask for it."""
# Jobs would have pods of their own; Monitors and rules are for a Prometheus with an operator.
_LEFT_OUT = frozenset({"ScaledObject", "Job", "PodMonitor", "PrometheusRule"})


@dataclass(frozen=True)
class Scene:
    """A control plane with KEDA, the figures it reads and the way it reads them."""

    plane: ControlPlane
    network: ClusterNetwork
    prometheus: Prometheus
    keda: Keda

    @property
    def client(self) -> Client:
        return self.plane.admin


@contextmanager
def keda_scene(*, blind_to_secrets: bool = False) -> Iterator[Scene]:
    """A scene that ends with its `with` block."""
    with (
        ControlPlane(say, extra_flags=HPA_FLAGS) as plane,
        ClusterNetwork() as network,
        Prometheus() as prometheus,
    ):
        definitions.install(plane.admin, DEFINITIONS)
        _add_node(plane.admin)
        keda = Keda(plane, network, say, blind_to_secrets=blind_to_secrets)
        yield Scene(plane, network, prometheus, keda)


def _add_node(client: Client) -> None:
    """A node of the pool, with room for everything: where pods fit is not the question here."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "gpu-node", "labels": {POOL_LABEL: POOL}},
    }
    room = {"cpu": "999", "memory": "9Ti", "ephemeral-storage": "99Ti", "pods": "999"}
    room["nvidia.com/gpu"] = "999"
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    made = client.create(node).object
    status = {"capacity": room, "allocatable": room, "conditions": ready}
    client.update_status({**made, "apiVersion": "v1", "kind": "Node", "status": status})


def plan_of(models: Mapping[str, Mapping[str, int]]) -> StackPlan:
    """A plan of these models, each given by its `scaling` in the stack file."""
    return planned(
        stack_spec(
            {
                name: {"weights": LOCAL, "scaling": dict(scaling)}
                for name, scaling in models.items()
            },
            # As many nodes as the models could ask for together.
            pool={"maxNodes": sum(scaling["max"] for scaling in models.values())},
        )
    )


class Model:
    """One model as the workload layer renders it, with the load that its metrics show."""

    def __init__(self, scene: Scene, plan: ModelPlan, objects: list[Object]) -> None:
        self.plan, self.name = plan, plan.name
        self._scene, self._client = scene, scene.client
        self.deployed = False
        self._objects = [o for o in objects if o["metadata"].get("namespace") == self.name]
        self._namespace = first(objects, "Namespace", self.name)
        self.scaled_object = first(self._objects, "ScaledObject", self.name)
        self.queries = {
            trigger["name"]: trigger["metadata"]["query"]
            for trigger in self.scaled_object["spec"]["triggers"]
            if trigger["type"] == "prometheus"
        }

    @property
    def hpa_name(self) -> str:
        """The name KEDA gives the autoscaler."""
        return f"keda-hpa-{self.name}"

    def deploy(
        self, overrides: Mapping[str, Any] = SOONER, without: frozenset[str] = frozenset()
    ) -> None:
        """Apply all that is rendered for the model but objects of the kinds in `without`.

        `overrides` are fields of the ScaledObject; None takes a field away.
        """
        self.deployed = True
        self._client.apply(self._namespace)
        for item in self._objects:
            if item["kind"] not in _LEFT_OUT | without:
                self._client.apply(item)
        for address in {server(trigger) for trigger in self.scaled_object["spec"]["triggers"]}:
            if address is not None:
                self._scene.network.lead(address, self._scene.prometheus.port)
        self.scale_with(overrides)

    def replace(self, obj: Object) -> None:
        """Deploy this in place of what is rendered under its kind and name."""
        self._objects.remove(self.object(obj["kind"], obj["metadata"]["name"]))
        self._objects.append(obj)

    def object(self, kind: str, name: str) -> Object:
        """One of the rendered objects of the model."""
        return first(self._objects, kind, name)

    def scale_with(self, overrides: Mapping[str, Any] = SOONER) -> None:
        """Apply the ScaledObject as rendered, but for `overrides`."""
        changed = copy.deepcopy(self.scaled_object)
        fields = changed["spec"] | overrides
        changed["spec"] = {key: value for key, value in fields.items() if value is not None}
        self._client.apply(changed, force=True)

    def remove(self) -> None:
        """Take the model out of the autoscalers' and the controllers' work."""
        self._client.delete("keda.sh/v1alpha1", "ScaledObject", self.name, self.name)
        self._client.delete("apps/v1", "Deployment", self.name, self.name)
        self.deployed = False

    def load(self, waiting: float | None, kv_cache_percent: float | None) -> None:
        """The figures of all replicas together; None: no replica exports one."""
        for trigger, figure in (("waiting", waiting), ("kv-cache", kv_cache_percent)):
            self._scene.prometheus.says(self.queries[trigger], figure)

    def blind(self) -> None:
        """From now on Prometheus answers none of the queries."""
        for query in self.queries.values():
            self._scene.prometheus.fails(query)

    def replicas(self) -> int:
        """What the Deployment is asked for."""
        return self._of("apps/v1", "Deployment", self.name)["spec"]["replicas"]

    def hpa(self) -> Object:
        """The autoscaler KEDA made."""
        return self._of("autoscaling/v2", "HorizontalPodAutoscaler", self.hpa_name)

    def await_hpa(self) -> Object:
        """The autoscaler, once it is there."""
        return self._client.wait_for(
            lambda: self._client.get(
                "autoscaling/v2", "HorizontalPodAutoscaler", self.hpa_name, self.name
            ),
            f"the autoscaler of {self.name}",
            DEADLINE_SECONDS,
        )

    def status(self) -> Object:
        """The status of the ScaledObject."""
        return self._of("keda.sh/v1alpha1", "ScaledObject", self.name).get("status", {})

    def await_events(
        self, reason: str, count: int = 1, which: Callable[[Object], bool] = lambda _: True
    ) -> list[Object]:
        """What was told about the model with this reason, oldest first, once that is `count`.

        Events are written after what they tell of, by a thread of its own. Only those for which
        `which` holds are looked at.
        """

        def told() -> list[Object] | None:
            events = self._client.list("v1", "Event", self.name, fields=f"reason={reason}")
            found = list(filter(which, events))
            return found if len(found) >= count else None

        found = self._client.wait_for(
            told, f"{count} events {reason} of {self.name}", DEADLINE_SECONDS
        )
        return sorted(found, key=moment)

    def await_sizes(self, wanted: list[int]) -> None:
        """Wait for as many changes of size; what the autoscaler chose must be `wanted`.

        A new model is raised to its minimum by KEDA or by the autoscaler, whoever is first.
        """
        told = self.await_events(
            "SuccessfulRescale",
            len(wanted),
            lambda event: "below Spec.MinReplicas" not in event["message"],
        )
        sizes = [int(e["message"].split("New size: ")[1].split(";")[0]) for e in told]
        assert sizes == wanted, sizes

    def condition(self, kind: str) -> str | None:
        """The status of one condition of the ScaledObject: True, False, Unknown or None."""
        return condition(self.status(), kind)

    def await_replicas(self, wanted: int, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the Deployment is asked for `wanted` replicas."""
        self._client.wait_for(
            lambda: self.replicas() == wanted,
            f"{wanted} replicas of {self.name}, which has {self.replicas()}",
            deadline_seconds,
        )

    def await_acted(self) -> None:
        """Wait until the controllers have seen what the Deployment is asked for now."""
        self._client.wait_for(
            lambda: acted_on(self._client, self.name, self.name),
            f"the controllers to act on the replicas of {self.name}",
            DEADLINE_SECONDS,
        )

    def await_condition(self, kind: str, status: str) -> None:
        """Wait for a condition of the ScaledObject."""
        self._client.wait_for(
            lambda: self.condition(kind) == status,
            f"condition {kind}={status} of {self.name}",
            DEADLINE_SECONDS,
        )

    def await_seen(self, waiting: float, kv_cache_percent: float) -> Object:
        """The status of the autoscaler once it has read these figures and acted on them."""
        figures = [waiting, kv_cache_percent]

        def settled() -> Object | None:
            status = self.hpa().get("status", {})
            replicas = status.get("currentReplicas")
            read = averages(status)[: len(figures)]
            # More is on its way while the policies of the behaviour hold some back.
            limited = any(c["reason"] == "ScaleUpLimit" for c in status.get("conditions") or [])
            same = replicas and status.get("desiredReplicas") == replicas and not limited
            expected = [figure / replicas for figure in figures] if replicas else []
            near = len(read) == len(expected) and all(
                abs(one - other) < 0.01 for one, other in zip(read, expected, strict=True)
            )
            return status if same and near else None

        return self._client.wait_for(
            settled, f"the autoscaler of {self.name} to settle at {figures}", DEADLINE_SECONDS
        )

    def await_figure(self, metric: int, figure: float) -> None:
        """Wait until the autoscaler has read `figure`, of all replicas, for one metric."""

        def read() -> bool:
            status = self.hpa().get("status", {})
            found = averages(status)
            replicas = status.get("currentReplicas", 0)
            return len(found) > metric and abs(found[metric] * replicas - figure) < 0.1

        self._client.wait_for(read, f"{self.name} to show {figure:g}", DEADLINE_SECONDS)

    def await_averages(self, wanted: list[float]) -> None:
        """Wait until this is what the autoscaler read for its metrics, per replica."""
        self._client.wait_for(
            lambda: averages(self.hpa().get("status", {})) == wanted,
            f"the autoscaler of {self.name} to read {wanted}",
            DEADLINE_SECONDS,
        )

    def await_rounds(self, rounds: int) -> None:
        """Wait until every query has been asked `rounds` times more, by whoever asks."""
        prometheus = self._scene.prometheus
        before = {query: prometheus.asked(query) for query in self.queries.values()}
        self._client.wait_for(
            lambda: all(prometheus.asked(q) - n >= rounds for q, n in before.items()),
            f"{rounds} more rounds of questions about {self.name}",
            DEADLINE_SECONDS,
        )

    def pods(self) -> list[Object]:
        """The pods of the model that nobody is ending."""
        found = self._client.list("v1", "Pod", self.name)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def await_pods(self, count: int) -> list[Object]:
        """The pods, once there are `count`."""
        return self._client.wait_for(
            lambda: (found,) if len(found := self.pods()) == count else None,
            f"{count} pods of {self.name}",
            DEADLINE_SECONDS,
        )[0]

    def make_ready(self, pod: Object, address: str) -> None:
        """Say of a pod what the kubelet says once its engine answers the readiness probe."""
        ready = [{"type": kind, "status": "True"} for kind in ("Initialized", "Ready")]
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": ready,
        }
        self._client.update_status({**pod, "apiVersion": "v1", "kind": "Pod", "status": status})

    def _of(self, api_version: str, kind: str, name: str) -> Object:
        found = self._client.get(api_version, kind, name, self.name)
        if found is None:
            raise LookupError(f"{kind} {name} is not there")
        return found


def models_of(scene: Scene, plan: StackPlan) -> dict[str, Model]:
    """The models of a plan, as rendered; their priority classes are applied."""
    objects = api_objects(served(plan))
    for item in objects:
        if item["kind"] == "PriorityClass":
            scene.client.apply(item)
    return {name: Model(scene, one, objects) for name, one in plan.models.items()}


def moment(event: Object) -> datetime:
    """When what an event tells of happened, as nearly as it says."""
    told = event.get("eventTime") or event["firstTimestamp"]
    return datetime.fromisoformat(told)


def averages(status: Object) -> list[float]:
    """What the autoscaler read for each of its metrics, per replica."""
    return [
        quantity(metric["external"]["current"]["averageValue"])
        for metric in status.get("currentMetrics") or []
        if "averageValue" in metric.get("external", {}).get("current", {})
    ]


def condition(status: Object, kind: str) -> str | None:
    """The status of one condition in the status of an object."""
    for item in status.get("conditions") or []:
        if item["type"] == kind:
            return item["status"]
    return None


def server(trigger: Object) -> str | None:
    """The address a Prometheus trigger asks, as `name:port`."""
    address = trigger["metadata"].get("serverAddress")
    return urlsplit(address).netloc if address else None
