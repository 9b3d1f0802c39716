"""Nodes kept ready: a pause pod holds each of them until real work preempts it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import apps, core, meta, networking

from coldstart.planning import ModelPlan, PoolPlan
from coldstart.render import pods
from components.workload.images import Images
from components.workload.names import ENVIRONMENT_LABEL, WARM_CAPACITY_PRIORITY, labels
from components.workload.placement import node_selector, tolerations
from components.workload.security import (
    RESTRICTED,
    container_security,
    pod_security,
    pod_security_labels,
)

NAMESPACE = "warm-capacity"
TINY = {"cpu": "10m", "memory": "32Mi"}


@dataclass(frozen=True)
class WarmCapacityArgs:
    """The pools with warm nodes, the models they wait for, and what has to exist first."""

    pools: Mapping[str, PoolPlan]
    models: Collection[ModelPlan]
    images: Images
    environment: str
    after: Sequence[pulumi.Resource]


class WarmCapacity(ComponentResource):
    """One Deployment of pause pods per pool; each holds a node that a replica fits on."""

    def __init__(
        self, name: str, args: WarmCapacityArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:workload:WarmCapacity", name, opts=opts)
        namespace = core.v1.Namespace(
            NAMESPACE,
            metadata=meta.v1.ObjectMetaArgs(
                name=NAMESPACE,
                labels={**pod_security_labels(RESTRICTED), ENVIRONMENT_LABEL: args.environment},
            ),
            opts=ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        child = ResourceOptions(parent=self, depends_on=[namespace])
        networking.v1.NetworkPolicy(
            f"{NAMESPACE}-deny-all",
            metadata=meta.v1.ObjectMetaArgs(name="deny-all", namespace=NAMESPACE),
            spec=networking.v1.NetworkPolicySpecArgs(
                pod_selector=meta.v1.LabelSelectorArgs(), policy_types=["Ingress", "Egress"]
            ),
            opts=child,
        )
        for pool in args.pools.values():
            selected = labels(pool.name, NAMESPACE)
            apps.v1.Deployment(
                f"{NAMESPACE}-{pool.name}",
                metadata=meta.v1.ObjectMetaArgs(
                    name=pool.name,
                    namespace=NAMESPACE,
                    labels=selected,
                    # A reserve that waits for a node is no failed deployment.
                    annotations={"pulumi.com/skipAwait": "true"},
                ),
                spec=apps.v1.DeploymentSpecArgs(
                    replicas=pool.warm_nodes,
                    selector=meta.v1.LabelSelectorArgs(match_labels=selected),
                    strategy=apps.v1.DeploymentStrategyArgs(type="Recreate"),
                    template=core.v1.PodTemplateSpecArgs(
                        metadata=meta.v1.ObjectMetaArgs(labels=selected),
                        spec=pause_pod(pool, args.models, args.images),
                    ),
                ),
                opts=child,
            )
        self.register_outputs({"namespace": NAMESPACE})


def pause_pod(pool: PoolPlan, models: Collection[ModelPlan], images: Images) -> core.v1.PodSpecArgs:
    """Holds a whole node and leaves the engine's image on it."""
    held = pods.reserved_resources(pool, models)
    return core.v1.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=WARM_CAPACITY_PRIORITY,
        # Nothing runs here that would need a moment to stop.
        termination_grace_period_seconds=0,
        security_context=pod_security(),
        node_selector=node_selector(pool),
        tolerations=tolerations((*pool.taints, *pool.startup_taints)),
        init_containers=[
            # A held node without the image would save its boot and still pay for the pull.
            core.v1.ContainerArgs(
                name="engine-image",
                image=images.reference("engine"),
                image_pull_policy="IfNotPresent",
                command=["true"],
                # The image asks for every GPU, whose device hook writes into the root file system.
                env=[core.v1.EnvVarArgs(name="NVIDIA_VISIBLE_DEVICES", value="void")],
                security_context=container_security(),
                resources=core.v1.ResourceRequirementsArgs(requests=TINY, limits=TINY),
            )
        ],
        containers=[
            core.v1.ContainerArgs(
                name="pause",
                image=images.reference("pause"),
                image_pull_policy="IfNotPresent",
                security_context=container_security(),
                resources=core.v1.ResourceRequirementsArgs(
                    requests=held,
                    limits={key: held[key] for key in ("memory", pool.resource_name)},
                ),
            )
        ],
    )
