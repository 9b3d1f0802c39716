"""What every model needs once per cluster: scaling, metrics, priorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import apiextensions, core, helm, meta, networking, scheduling

from coldstart.planning import ChartPlan
from components.charts import release
from components.workload.names import (
    CLIENT_LABEL,
    ENVIRONMENT_LABEL,
    JOBS_PRIORITY,
    NAMESPACE_NAME_LABEL,
    SERVING_PRIORITY,
    WARM_CAPACITY_PRIORITY,
)
from components.workload.security import RESTRICTED, pod_security_labels

EXPORTER = "dcgm-exporter"
KEDA, MONITORING, WAKING = "keda", "kube-prometheus-stack", "keda-add-ons-http"
MONITORING_NAME = "monitoring"
PROMETHEUS_PORT = 9090
WAKING_PROXY_PORT, WAKING_SCALER_PORT = 8080, 9090
NON_ROOT_UID = 65532
"""User of the distroless images the HTTP add-on is built on."""

PRIORITIES = {
    SERVING_PRIORITY: (100_000, "PreemptLowerPriority", "Pods that answer requests."),
    # A publishing Job may take a warm node: the golden cache speeds up every later start.
    JOBS_PRIORITY: (1_000, "PreemptLowerPriority", "Jobs that prepare weights and caches."),
    # Below -10 the Cluster Autoscaler would not add a node for it.
    WARM_CAPACITY_PRIORITY: (-5, "Never", "Holds a node until real work preempts it."),
}


@dataclass(frozen=True)
class PlatformArgs:
    """The charts, how much is at stake, and what has to exist first."""

    charts: Mapping[str, ChartPlan]
    environment: str
    replicas: int
    wakes_from_zero: bool
    after: Sequence[pulumi.Resource]


class Platform(ComponentResource):
    """KEDA, Prometheus, priority classes and, where a model scales to zero, the waking proxy."""

    def __init__(self, name: str, args: PlatformArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:workload:Platform", name, opts=opts)
        self._child = ResourceOptions(parent=self)
        self._args = args
        self._after = ResourceOptions.merge(
            self._child, ResourceOptions(depends_on=list(args.after))
        )
        self.priorities = [
            scheduling.v1.PriorityClass(
                priority,
                metadata=meta.v1.ObjectMetaArgs(name=priority),
                value=value,
                preemption_policy=preemption,
                global_default=False,
                description=description,
                opts=self._after,
            )
            for priority, (value, preemption, description) in PRIORITIES.items()
        ]
        keys = (KEDA, MONITORING, *((WAKING,) if args.wakes_from_zero else ()))
        self._namespaces = {
            namespace: self._namespace(namespace)
            for namespace in dict.fromkeys(args.charts[key].namespace for key in keys)
        }
        keda = self._release(KEDA, keda_values(args.replicas), [])
        monitoring = self._release(MONITORING, monitoring_values(), [])
        self.releases = [keda, monitoring]
        self.monitoring_namespace = args.charts[MONITORING].namespace
        self.prometheus = (
            f"http://{MONITORING_NAME}-prometheus.{self.monitoring_namespace}.svc:{PROMETHEUS_PORT}"
        )
        self.waking_namespace = self.waking_scaler = self.waking_proxy = None
        if args.wakes_from_zero:
            self.waking_namespace = namespace = args.charts[WAKING].namespace
            self.waking_scaler = f"{WAKING}-external-scaler.{namespace}:{WAKING_SCALER_PORT}"
            self.waking_proxy = f"{WAKING}-interceptor-proxy.{namespace}.svc.cluster.local"
            self.releases.append(self._release(WAKING, waking_values(args.replicas), [keda]))
            self._only_clients_reach_the_proxy(namespace)
        self._scrape_accelerators(monitoring)
        self.register_outputs({"prometheus": self.prometheus})

    def _namespace(self, name: str) -> core.v1.Namespace:
        return core.v1.Namespace(
            name,
            metadata=meta.v1.ObjectMetaArgs(
                name=name,
                labels={
                    **pod_security_labels(RESTRICTED),
                    ENVIRONMENT_LABEL: self._args.environment,
                },
            ),
            opts=self._after,
        )

    def _release(
        self, key: str, values: Mapping[str, Any], after: Sequence[pulumi.Resource]
    ) -> helm.v3.Release:
        chart = self._args.charts[key]
        after = [self._namespaces[chart.namespace], *after]
        return release(
            key,
            chart,
            values,
            ResourceOptions.merge(self._child, ResourceOptions(depends_on=after)),
        )

    def _scrape_accelerators(self, monitoring: pulumi.Resource) -> None:
        """The exporter is there before what reads it, so its PodMonitor is made here."""
        apiextensions.CustomResource(
            "accelerators",
            api_version="monitoring.coreos.com/v1",
            kind="PodMonitor",
            metadata=meta.v1.ObjectMetaArgs(
                name="accelerators", namespace=self.monitoring_namespace
            ),
            spec={
                "namespaceSelector": {"matchNames": [self._args.charts[EXPORTER].namespace]},
                "selector": {"matchLabels": {"app.kubernetes.io/name": EXPORTER}},
                "podMetricsEndpoints": [{"port": "metrics", "interval": "15s"}],
            },
            opts=ResourceOptions.merge(self._child, ResourceOptions(depends_on=[monitoring])),
        )

    def _only_clients_reach_the_proxy(self, namespace: str) -> None:
        """The proxy may call every model that scales to zero, so who may call it matters."""
        clients = networking.v1.NetworkPolicyPeerArgs(
            namespace_selector=meta.v1.LabelSelectorArgs(match_labels={CLIENT_LABEL: "true"})
        )
        own, metrics = (
            networking.v1.NetworkPolicyPeerArgs(
                namespace_selector=meta.v1.LabelSelectorArgs(
                    match_labels={NAMESPACE_NAME_LABEL: peer}
                )
            )
            for peer in (namespace, self.monitoring_namespace)
        )
        networking.v1.NetworkPolicy(
            "waking-proxy",
            metadata=meta.v1.ObjectMetaArgs(name="waking-proxy", namespace=namespace),
            spec=networking.v1.NetworkPolicySpecArgs(
                pod_selector=meta.v1.LabelSelectorArgs(
                    match_labels={
                        "app.kubernetes.io/name": "http-add-on",
                        "app.kubernetes.io/component": "interceptor",
                    }
                ),
                policy_types=["Ingress"],
                ingress=[
                    networking.v1.NetworkPolicyIngressRuleArgs(
                        from_=[clients],
                        ports=[
                            networking.v1.NetworkPolicyPortArgs(
                                port=WAKING_PROXY_PORT, protocol="TCP"
                            )
                        ],
                    ),
                    networking.v1.NetworkPolicyIngressRuleArgs(from_=[own, metrics]),
                ],
            ),
            opts=ResourceOptions.merge(
                self._child, ResourceOptions(depends_on=[self._namespaces[namespace]])
            ),
        )


def keda_values(replicas: int) -> dict[str, Any]:
    """KEDA; a second replica shortens a failover, only one of them works."""
    small = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    budget = {"maxUnavailable": 1} if replicas > 1 else {}
    parts = ("operator", "metricServer", "webhooks")
    return {
        "operator": {"replicaCount": replicas},
        "metricsServer": {"replicaCount": replicas},
        "webhooks": {"replicaCount": replicas},
        "podDisruptionBudget": dict.fromkeys(parts, budget),
        "resources": dict.fromkeys(parts, small),
        # No trigger reads a Secret; without this the operator may read everybody's.
        "permissions": {"operator": {"restrict": {"secret": True}}},
    }


def monitoring_values() -> dict[str, Any]:
    """Prometheus for the scaling signal and replica counts; long history belongs elsewhere."""
    off = {"enabled": False}
    unused = (
        "alertmanager", "grafana", "nodeExporter", "kubeApiServer", "kubelet",
        "kubeControllerManager", "coreDns", "kubeEtcd", "kubeScheduler", "kubeProxy",
    )  # fmt: skip
    small = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    # By default only objects with the release's own label are read, so no PodMonitor of a model.
    selectors = ("rule", "serviceMonitor", "podMonitor", "probe", "scrapeConfig")
    return {
        **dict.fromkeys(unused, off),
        "fullnameOverride": MONITORING_NAME,
        "defaultRules": {"create": False},
        "kube-state-metrics": {"resources": small},
        "prometheusOperator": {
            "resources": small,
            "kubeletService": off,
            # Without its webhook the operator needs no certificate and no patch Job.
            "admissionWebhooks": off,
            "tls": off,
            "prometheusConfigReloader": {"resources": small},
        },
        "prometheus": {
            "prometheusSpec": {
                **{f"{selector}SelectorNilUsesHelmValues": False for selector in selectors},
                "retention": "6h",
                "resources": {
                    "requests": {"cpu": "200m", "memory": "512Mi"},
                    "limits": {"memory": "2Gi"},
                },
            }
        },
    }


def waking_values(replicas: int) -> dict[str, Any]:
    """The HTTP add-on: its proxy holds requests while the first replica starts."""
    small = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    part = {"pullPolicy": "IfNotPresent", "resources": small}
    return {
        "operator": part,
        "scaler": {**part, "replicas": replicas},
        "interceptor": {**part, "replicas": {"min": replicas, "max": 10}},
        # The chart's own settings lack what "restricted" asks for.
        "podSecurityContext": {
            "runAsNonRoot": True,
            "runAsUser": NON_ROOT_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
