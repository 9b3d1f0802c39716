"""How many replicas one model has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import apiextensions, core, meta

from coldstart.planning import ModelPlan, WakePlan
from coldstart.render import pods
from components.workload import names
from components.workload.platform import WAKING_PROXY_PORT

ENTRY = "entry"
"""The Service clients call when requests may have to wait for a first replica."""


@dataclass(frozen=True)
class ScalingArgs:
    """What to scale, where the signals are, and what has to exist first.

    `waking_scaler` and `waking_proxy` are addresses, None for a model that never scales to zero.
    """

    model: ModelPlan
    namespace: str
    prometheus: str
    waking_scaler: str | None
    waking_proxy: str | None
    after: Sequence[pulumi.Resource]


class Scaling(ComponentResource):
    """The ScaledObject, and for a model that scales to zero the route that wakes it."""

    def __init__(self, name: str, args: ScalingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:workload:Scaling", name, opts=opts)
        self._name, self._args = name, args
        after = list(args.after)
        wake = args.model.scaling.wake
        if wake is not None:
            after.append(self._route(wake, after))
        apiextensions.CustomResource(
            name,
            api_version="keda.sh/v1alpha1",
            kind="ScaledObject",
            metadata=self._metadata(args.model.name),
            spec=scaled_object(args),
            opts=ResourceOptions(parent=self, depends_on=after),
        )
        self.register_outputs({})

    def _metadata(self, name: str) -> meta.v1.ObjectMetaArgs:
        return meta.v1.ObjectMetaArgs(name=name, namespace=self._args.namespace)

    def _route(
        self, wake: WakePlan, after: Sequence[pulumi.Resource]
    ) -> apiextensions.CustomResource:
        model = self._args.model
        opts = ResourceOptions(parent=self, depends_on=list(after))
        core.v1.Service(
            f"{self._name}-{ENTRY}",
            metadata=self._metadata(ENTRY),
            spec=core.v1.ServiceSpecArgs(
                type="ExternalName", external_name=self._args.waking_proxy
            ),
            opts=opts,
        )
        return apiextensions.CustomResource(
            f"{self._name}-route",
            api_version="http.keda.sh/v1beta1",
            kind="InterceptorRoute",
            metadata=self._metadata(model.name),
            spec={
                "target": {"service": model.name, "portName": names.HTTP_PORT},
                "rules": [{"hosts": entry_hosts(model.name)}],
                "scalingMetric": {"concurrency": {"targetValue": wake.target_concurrency}},
                "timeouts": {"readiness": f"{wake.hold_seconds}s", "responseHeader": "0s"},
            },
            opts=opts,
        )


def entry_hosts(namespace: str) -> list[str]:
    """Every name of the entry Service, which is what clients send as Host."""
    return [f"{ENTRY}.{namespace}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local")]


def endpoint(model: ModelPlan) -> str:
    """Where clients inside the cluster send requests."""
    if model.scaling.wake is not None:
        return f"http://{ENTRY}.{model.name}.svc:{WAKING_PROXY_PORT}/v1"
    return f"http://{model.name}.{model.name}.svc:{pods.PORT}/v1"


def scaled_object(args: ScalingArgs) -> dict[str, Any]:
    """The specification of the ScaledObject."""
    model, plan = args.model, args.model.scaling
    triggers = [
        pods.prometheus_trigger(model, index, args.prometheus)
        for index in range(len(plan.triggers))
    ]
    triggers += [pods.cron_trigger(schedule) for schedule in plan.schedules.value]
    if plan.wake is not None:
        # Pushed, not polled: the first held request wakes the model at once.
        triggers.append(
            {
                "type": "external-push",
                "name": "held-requests",
                "metadata": {
                    "scalerAddress": str(args.waking_scaler),
                    "interceptorRoute": model.name,
                },
            }
        )
    fallback = {
        "failureThreshold": plan.fallback_failures,
        "replicas": plan.fallback_replicas,
        # Blind is no reason to take replicas away.
        "behavior": "currentReplicasIfHigher",
    }
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.name},
        "minReplicaCount": plan.min_replicas,
        "maxReplicaCount": plan.max_replicas,
        "pollingInterval": plan.polling_seconds,
        "cooldownPeriod": plan.cooldown_seconds,
        # A model just deployed has no metrics yet and must not count as idle.
        "initialCooldownPeriod": pods.startup_budget_seconds(model),
        **({"fallback": fallback} if plan.fallback_replicas is not None else {}),
        "advanced": {
            "restoreToOriginalReplicaCount": False,
            "horizontalPodAutoscalerConfig": {"behavior": pods.scale_behavior(model)},
        },
        "triggers": triggers,
    }
