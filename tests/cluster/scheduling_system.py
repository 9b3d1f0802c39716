"""What has to run on the system nodes of a stack, with what it asks for.

Requests of charts are the ones the stack's own values set. Those of EKS add-ons are published in
the places named below; an add-on without a published request counts as none, so that the whole is
a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.cluster.scheduling_stacks import plain
from tests.program.recording import Recorded

CRITICAL, NODE_CRITICAL = "system-cluster-critical", "system-node-critical"
Requests = dict[str, str]


@dataclass(frozen=True)
class Part:
    """Pods of one kind, each with a container per entry of `requests`."""

    name: str
    replicas: int
    requests: tuple[Requests, ...]
    priority: str | None = None
    one_per_node: bool = False


SIDECAR = {"cpu": "10m", "memory": "40Mi"}
ADDONS = {
    # Container requests of the EKS add-on's Deployment; two replicas (EKS user guide, CoreDNS).
    "coredns": Part("coredns", 2, ({"cpu": "100m", "memory": "70Mi"},), CRITICAL),
    # kubernetes-sigs/metrics-server, charts/metrics-server/values.yaml; two replicas (EKS user
    # guide, metrics-server).
    "metrics-server": Part("metrics-server", 2, ({"cpu": "100m", "memory": "200Mi"},), CRITICAL),
    # kubernetes-sigs/aws-ebs-csi-driver, charts/aws-ebs-csi-driver/values.yaml: the driver,
    # provisioner, attacher, resizer and liveness probe.
    "aws-ebs-csi-driver": Part("ebs-csi-controller", 2, (SIDECAR,) * 5, CRITICAL),
}
DAEMONS = {
    # aws/amazon-vpc-cni-k8s, charts/aws-vpc-cni/values.yaml: the CNI and its network policy agent.
    "vpc-cni": Part("aws-node", 1, ({"cpu": "25m"}, {"cpu": "25m"}), NODE_CRITICAL),
    # Container request of the EKS add-on's DaemonSet.
    "kube-proxy": Part("kube-proxy", 1, ({"cpu": "100m"},), NODE_CRITICAL),
    "aws-ebs-csi-driver": Part("ebs-csi-node", 1, (SIDECAR,) * 3, NODE_CRITICAL),
}


def releases(run: Recorded) -> dict[str, dict[str, Any]]:
    """The values of every chart a stack installs, by release name."""
    return {found["name"]: found["values"] for found in map(plain, run.of_type("Release"))}


def addons(run: Recorded) -> set[str]:
    """The EKS add-ons of a stack."""
    return {plain(found)["addonName"] for found in run.of_type("aws:eks/addon:Addon")}


def controllers(run: Recorded) -> Iterator[Part]:
    """Everything that is no DaemonSet."""
    yield from (part for name, part in ADDONS.items() if name in addons(run))
    values = releases(run)
    karpenter = values["karpenter"]
    # Chart karpenter 1.14.1, values.yaml: critical, and never two on one node.
    yield Part(
        "karpenter",
        karpenter["replicas"],
        (karpenter["controller"]["resources"]["requests"],),
        CRITICAL,
        one_per_node=True,
    )
    keda = values["keda"]
    for part, count in (
        ("operator", "operator"), ("metricServer", "metricsServer"), ("webhooks", "webhooks")
    ):  # fmt: skip
        requests = keda["resources"][part]["requests"]
        yield Part(f"keda-{part.lower()}", keda[count]["replicaCount"], (requests,))
    monitoring = values["kube-prometheus-stack"]
    operator = monitoring["prometheusOperator"]
    reloader = operator["prometheusConfigReloader"]["resources"]["requests"]
    prometheus = monitoring["prometheus"]["prometheusSpec"]["resources"]["requests"]
    yield Part("prometheus-operator", 1, (operator["resources"]["requests"],))
    yield Part("prometheus", 1, (prometheus, reloader))
    state = monitoring["kube-state-metrics"]["resources"]["requests"]
    yield Part("kube-state-metrics", 1, (state,))
    if (waking := values.get("keda-add-ons-http")) is not None:
        for name, replicas in (
            ("operator", 1),
            ("scaler", waking["scaler"]["replicas"]),
            ("interceptor", waking["interceptor"]["replicas"]["min"]),
        ):
            yield Part(f"waking-{name}", replicas, (waking[name]["resources"]["requests"],))


def pod_spec(part: Part) -> dict[str, Any]:
    """A pod of `part`."""
    spec: dict[str, Any] = {
        "containers": [
            {"name": f"c{index}", "image": "any", "resources": {"requests": requests}}
            for index, requests in enumerate(part.requests)
        ]
    }
    if part.priority:
        spec["priorityClassName"] = part.priority
    if part.one_per_node:
        term = {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"part": part.name}},
        }
        spec["affinity"] = {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        }
    return spec


def deployment(part: Part, namespace: str) -> dict[str, Any]:
    """A Deployment of `part`."""
    labels = {"part": part.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": part.name, "namespace": namespace},
        "spec": {
            "replicas": part.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(part)},
        },
    }


def daemon_set(
    name: str, namespace: str, placement: dict[str, Any], requests: tuple[Requests, ...] = ({},)
) -> dict[str, Any]:
    """A DaemonSet with a chart's placement: its node selector, affinity and tolerations."""
    labels = {"part": name}
    spec = {
        **{
            key: placement[key]
            for key in ("nodeSelector", "affinity", "tolerations")
            if key in placement
        },
        "containers": pod_spec(Part(name, 1, requests))["containers"],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def node_daemons(run: Recorded, namespace: str) -> list[dict[str, Any]]:
    """The DaemonSets of the add-ons, which run on every node whatever its taints."""
    everywhere = {"tolerations": [{"operator": "Exists"}]}
    return [
        daemon_set(part.name, namespace, everywhere, part.requests)
        for name, part in DAEMONS.items()
        if name in addons(run)
    ]
