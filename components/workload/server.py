"""One model's replicas and the way to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pulumi
from pulumi import ComponentResource, CustomTimeouts, ResourceOptions
from pulumi_kubernetes import apiextensions, apps, core, meta, policy

from coldstart.planning import ModelPlan
from coldstart.render import pods
from components.contract import SERVING_ACCOUNT
from components.workload import names
from components.workload.engine_pod import EnginePod
from components.workload.placement import spread
from components.workload.scripts import scripts_config
from components.workload.security import container_security

SCRIPTS = ("start-engine.sh", "stage.sh")
SCRAPE_SECONDS = 5
"""Half the way from load to signal; KEDA asks as often."""
READINESS = {"period_seconds": 2, "timeout_seconds": 2, "failure_threshold": 3}
LIVENESS = {"period_seconds": 10, "timeout_seconds": 5, "failure_threshold": 10}
"""Generous: a busy engine answers late, and a restart costs a whole cold start."""
OLD_REVISIONS = 3


@dataclass(frozen=True)
class ModelServerArgs:
    """The pod to serve with, the Secret with the API key, and what has to exist first."""

    pod: EnginePod
    namespace: str
    api_key_secret: pulumi.Input[str]
    after: Sequence[pulumi.Resource]
    monitors: Sequence[pulumi.Resource]


class ModelServer(ComponentResource):
    """Deployment, Service, disruption budget and metrics of one model.

    The number of replicas belongs to KEDA and is not named here.
    """

    def __init__(
        self, name: str, args: ModelServerArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:workload:ModelServer", name, opts=opts)
        child = ResourceOptions(parent=self, depends_on=list(args.after))
        model = args.pod.model
        selected = names.labels(model.name, names.SERVER)
        self._name, self._args, self._child = name, args, child
        self._selected = selected
        pod = args.pod
        if pod.awaited:
            name_of_scripts = f"engine-{pods.digest(*map(pods.script, SCRIPTS))}"
            scripts = scripts_config(name, name_of_scripts, args.namespace, SCRIPTS, child)
            pod = replace(pod, scripts=scripts.metadata.name)
        seconds = pods.progress_seconds(model)
        self.deployment = apps.v1.Deployment(
            name,
            metadata=self._metadata(cold_start(model)),
            spec=deployment_spec(pod, args.api_key_secret, selected),
            opts=ResourceOptions.merge(
                child,
                ResourceOptions(
                    custom_timeouts=CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s")
                ),
            ),
        )
        self.service = self._service()
        policy.v1.PodDisruptionBudget(
            name,
            metadata=self._metadata(),
            spec=policy.v1.PodDisruptionBudgetSpecArgs(
                # Not minAvailable: one replica could then never be drained.
                max_unavailable=1,
                selector=meta.v1.LabelSelectorArgs(match_labels=selected),
            ),
            opts=child,
        )
        self.monitor = self._pod_monitor()
        self.register_outputs({"service": self.service.metadata.name})

    def _metadata(self, annotations: dict[str, str] | None = None) -> meta.v1.ObjectMetaArgs:
        return meta.v1.ObjectMetaArgs(
            name=self._args.pod.model.name,
            namespace=self._args.namespace,
            labels=self._selected,
            annotations=annotations,
        )

    def _service(self) -> core.v1.Service:
        return core.v1.Service(
            self._name,
            # Waiting for endpoints would fail a model that has no replica just now.
            metadata=self._metadata({"pulumi.com/skipAwait": "true"}),
            spec=core.v1.ServiceSpecArgs(
                type="ClusterIP",
                selector=self._selected,
                ports=[
                    core.v1.ServicePortArgs(
                        name=names.HTTP_PORT, port=pods.PORT, target_port=names.HTTP_PORT
                    )
                ],
            ),
            opts=self._child,
        )

    def _pod_monitor(self) -> apiextensions.CustomResource:
        endpoint = {
            "port": names.HTTP_PORT,
            "path": names.METRICS_PATH,
            "interval": f"{SCRAPE_SECONDS}s",
        }
        return apiextensions.CustomResource(
            f"{self._name}-metrics",
            api_version="monitoring.coreos.com/v1",
            kind="PodMonitor",
            metadata=self._metadata(),
            spec={
                "selector": {"matchLabels": self._selected},
                "podMetricsEndpoints": [endpoint],
            },
            opts=ResourceOptions.merge(
                self._child, ResourceOptions(depends_on=list(self._args.monitors))
            ),
        )


def cold_start(model: ModelPlan) -> dict[str, str]:
    """What policies compare; on the Deployment, since on its pods a new figure would restart them.

    Rounded down to tenths, so that a prediction never exceeds its budget by rounding.
    """
    stated = {names.WHOLE_START_ANNOTATION: model.first_node.total_seconds}
    if model.budget_seconds is not None:
        stated[names.BUDGET_ANNOTATION] = model.budget_seconds
    return {name: f"{math.floor(seconds * 10) / 10:.15g}" for name, seconds in stated.items()}


def deployment_spec(
    pod: EnginePod, api_key_secret: pulumi.Input[str], selected: dict[str, str]
) -> apps.v1.DeploymentSpecArgs:
    """How replicas come and go."""
    model, rollout = pod.model, pod.model.rollout.value
    return apps.v1.DeploymentSpecArgs(
        selector=meta.v1.LabelSelectorArgs(match_labels=selected),
        revision_history_limit=OLD_REVISIONS,
        progress_deadline_seconds=pods.progress_seconds(model),
        strategy=apps.v1.DeploymentStrategyArgs(
            type="RollingUpdate",
            rolling_update=apps.v1.RollingUpdateDeploymentArgs(
                max_surge=rollout.max_surge, max_unavailable=rollout.max_unavailable
            ),
        ),
        template=core.v1.PodTemplateSpecArgs(
            metadata=meta.v1.ObjectMetaArgs(
                labels=selected,
                annotations={
                    **pod.annotations(),
                    # As a duration it protects the load and lets consolidation work afterwards.
                    names.DO_NOT_DISRUPT_ANNOTATION: f"{pods.startup_budget_seconds(model)}s",
                },
            ),
            spec=pod.spec(
                serving_engine(pod, api_key_secret),
                account=SERVING_ACCOUNT,
                priority=names.SERVING_PRIORITY,
                grace_seconds=model.drain.grace_seconds,
                # Karpenter takes even a soft spread for a must when it buys nodes: where a node
                # holds several replicas it would buy one for each.
                spread_over=spread(selected) if pods.fills_a_node(model, pod.pool) else None,
            ),
        ),
    )


def serving_engine(pod: EnginePod, api_key_secret: pulumi.Input[str]) -> core.v1.ContainerArgs:
    """The engine as clients see it."""
    model, awaited = pod.model, pod.awaited
    command, arguments = pod.command()[:2], pod.command()[2:]
    waiting: list[core.v1.EnvVarArgs] = []
    if awaited:
        arguments = [*command, *arguments]
        command = ["/bin/sh", f"{pods.SCRIPTS_MOUNT}/start-engine.sh"]
        waiting = [
            core.v1.EnvVarArgs(name="WAIT_FOR", value=" ".join(awaited)),
            core.v1.EnvVarArgs(name="WAIT_SECONDS", value=str(pods.startup_budget_seconds(model))),
        ]
    key = core.v1.SecretKeySelectorArgs(name=api_key_secret, key=names.API_KEY)
    return core.v1.ContainerArgs(
        name=names.ENGINE,
        image=pod.images.reference("engine"),
        image_pull_policy="IfNotPresent",
        command=command,
        args=arguments,
        env=[
            *pod.environment(),
            *waiting,
            core.v1.EnvVarArgs(
                name="VLLM_API_KEY", value_from=core.v1.EnvVarSourceArgs(secret_key_ref=key)
            ),
        ],
        env_from=pod.environment_sources() or None,
        ports=[core.v1.ContainerPortArgs(name=names.HTTP_PORT, container_port=pods.PORT)],
        resources=pod.resources(),
        # nvidia-cdi-hook writes into the container's root file system (kserve#5711); "restricted"
        # does not ask for a read-only one.
        security_context=container_security(writable_root=True),
        volume_mounts=pod.mounts(),
        startup_probe=health(
            period_seconds=model.probe.period_seconds,
            failure_threshold=model.probe.failure_threshold,
            timeout_seconds=model.probe.period_seconds,
        ),
        readiness_probe=health(**READINESS),
        liveness_probe=health(**LIVENESS),
        lifecycle=drain(model),
    )


def health(period_seconds: int, timeout_seconds: int, failure_threshold: int) -> core.v1.ProbeArgs:
    """A probe of /health, which answers only when the engine is up."""
    return core.v1.ProbeArgs(
        http_get=core.v1.HTTPGetActionArgs(path=names.HEALTH_PATH, port=names.HTTP_PORT),
        period_seconds=period_seconds,
        timeout_seconds=timeout_seconds,
        failure_threshold=failure_threshold,
    )


def drain(model: ModelPlan) -> core.v1.LifecycleArgs:
    """Waits until no proxy sends more: a draining vLLM still answers /health with 200 and new
    requests with 500, so readiness would not help."""
    return core.v1.LifecycleArgs(
        pre_stop=core.v1.LifecycleHandlerArgs(
            sleep=core.v1.SleepActionArgs(seconds=model.drain.endpoint_removal_seconds)
        )
    )
