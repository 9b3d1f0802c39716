"""The workload layer: serves the plan's models on a cluster it knows by contract only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pulumi import Output, ResourceOptions

from coldstart.planning import ModelPlan, StackPlan
from coldstart.render import pods
from coldstart.spec.model import Environment, WeightsPath
from components.contract import ClusterContract, ContractError
from components.workload.alerts import Alerts, AlertsArgs
from components.workload.compile_cache import CompileCache, CompileCacheArgs
from components.workload.engine_pod import EnginePod
from components.workload.images import Images
from components.workload.platform import Platform, PlatformArgs
from components.workload.scaling import Scaling, ScalingArgs, endpoint
from components.workload.server import ModelServer, ModelServerArgs
from components.workload.shared_volume import SharedVolume, SharedVolumeArgs
from components.workload.tenant import Tenant, TenantArgs
from components.workload.warm_capacity import WarmCapacity, WarmCapacityArgs
from components.workload.weights import Weights, WeightsArgs

API_KEY_LENGTH = 48
CONTROLLERS_IN_PROD, CONTROLLERS_IN_DEV = 2, 1

__all__ = ["Secrets", "deploy"]


@dataclass(frozen=True)
class Secrets:
    """What the stack's configuration keeps encrypted; without `api_key` one is generated."""

    api_key: Output[str] | None = None
    hugging_face_token: Output[str] | None = None


@dataclass(frozen=True)
class _Cluster:
    plan: StackPlan
    contract: ClusterContract
    images: Images
    platform: Platform
    api_key: Output[str]
    token: Output[str] | None
    opts: ResourceOptions

    def after(self, model: ModelPlan) -> Sequence[pulumi.Resource]:
        """What a tenant waits for: its own pool and identities, and the priorities, which wait for
        the rest of the cluster. Were all pools and tenants listed here, a stack would take time by
        the square of its size: the SDK walks everything behind each dependency."""
        contract = self.contract
        return [
            *self.platform.priorities,
            *contract.node_pools.get(model.pool, ()),
            *contract.identities.get(model.name, ()),
        ]


def deploy(plan: StackPlan, contract: ClusterContract, secrets: Secrets) -> dict[str, Output]:
    """Serve every model of `plan` on the cluster of `contract`.

    Returns the stack outputs: `endpoints` by model and the API key, a secret. Raises ContractError
    when a model needs a shared file system that the cluster does not have, RunError for a gated
    model without a token.
    """
    if not plan.models:
        return {}
    _refuse_gated_without_token(plan, secrets)
    provider = contract.provider or kubernetes.Provider(
        "workload",
        kubeconfig=contract.kubeconfig,
        # Otherwise a renewed certificate or endpoint would replace the provider and all it made.
        cluster_identifier=contract.name,
        enable_server_side_apply=True,
    )
    opts = ResourceOptions(provider=provider)
    images = Images(plan.images, contract.registry_mirrors)
    environment = plan.spec.environment
    prod = environment is Environment.PROD
    platform = Platform(
        "platform",
        PlatformArgs(
            charts=plan.charts,
            environment=str(environment),
            replicas=CONTROLLERS_IN_PROD if prod else CONTROLLERS_IN_DEV,
            wakes_from_zero=any(model.scaling.wake for model in plan.models.values()),
            after=contract.ready,
        ),
        opts,
    )
    warm = {name: pool for name, pool in plan.pools.items() if pool.warm_nodes}
    if warm:
        WarmCapacity(
            "warm-capacity",
            WarmCapacityArgs(
                warm,
                tuple(plan.models.values()),
                images,
                str(environment),
                after=[
                    *platform.priorities,
                    *(r for p in warm for r in contract.node_pools.get(p, ())),
                ],
            ),
            opts,
        )
    api_key = Output.secret(secrets.api_key or generated_key())
    cluster = _Cluster(plan, contract, images, platform, api_key, secrets.hugging_face_token, opts)
    for model in plan.models.values():
        _serve(model, cluster)
    return {
        "endpoints": Output.from_input({m.name: endpoint(m) for m in plan.models.values()}),
        "apiKey": api_key,
    }


def _refuse_gated_without_token(plan: StackPlan, secrets: Secrets) -> None:
    gated = [f"models.{m.name} ({m.repository})" for m in plan.models.values() if m.gated]
    if gated and secrets.hugging_face_token is None:
        raise pulumi.RunError(
            f"{', '.join(gated)}: gated on the Hugging Face Hub, and this stack has no token. "
            "Accept the terms there, then: pulumi config set --secret coldstart:huggingFaceToken"
        )


def generated_key() -> Output[str]:
    """A key only this stack's state knows, encrypted."""
    return random.RandomPassword("api-key", length=API_KEY_LENGTH, special=False).result


def _serve(model: ModelPlan, cluster: _Cluster) -> None:
    contract, platform, opts = cluster.contract, cluster.platform, cluster.opts
    pool = cluster.plan.pools[model.pool]
    tenant = Tenant(
        model.name,
        TenantArgs(
            model=model,
            pool=pool,
            platform=contract.platform,
            environment=str(cluster.plan.spec.environment),
            object_store=contract.object_store,
            api_key=cluster.api_key,
            hugging_face_token=cluster.token,
            monitoring_namespace=platform.monitoring_namespace,
            callers=platform.waking_namespace if model.scaling.wake else None,
            after=cluster.after(model),
        ),
        opts,
    )
    claim = _shared_claim(model, tenant, cluster)
    weights = Weights(
        model.name,
        WeightsArgs(
            model, tenant.namespace, cluster.images, contract.object_store,
            tenant.object_store_config, tenant.token_secret, claim,
            after=[*platform.priorities, tenant],
        ),
        opts,
    )  # fmt: skip
    pod = EnginePod(
        model, pool, cluster.images, contract.object_store, "", tenant.object_store_config, claim
    )
    # No GPU is booked before its weights are there.
    ready = [*platform.priorities, tenant, weights.job]
    server = ModelServer(
        model.name,
        ModelServerArgs(
            pod, tenant.namespace, tenant.api_key_secret, after=ready, monitors=platform.releases
        ),
        opts,
    )
    Alerts(
        model.name,
        AlertsArgs(model, tenant.namespace, after=[*platform.releases, tenant]),
        opts,
    )
    if pods.restores_cache(model):
        CompileCache(model.name, CompileCacheArgs(pod, tenant.namespace, after=ready), opts)
    Scaling(
        model.name,
        ScalingArgs(
            model, tenant.namespace, platform.prometheus, platform.waking_scaler,
            platform.waking_proxy, after=[*platform.releases, server.deployment, server.monitor],
        ),
        opts,
    )  # fmt: skip


def _shared_claim(model: ModelPlan, tenant: Tenant, cluster: _Cluster) -> pulumi.Input[str] | None:
    if model.weights.value is not WeightsPath.SHARED:
        return None
    file_system = cluster.contract.shared_file_system
    if file_system is None:
        raise ContractError(
            f"models.{model.name}.weights is shared, but cluster {cluster.plan.cluster.name} has "
            "no shared file system: set storage.sharedFileSystem: true and run pulumi up on the "
            "stack that makes the cluster"
        )
    return SharedVolume(
        model.name,
        SharedVolumeArgs(
            model.name, tenant.namespace, file_system, [*cluster.after(model), tenant]
        ),
        cluster.opts,
    ).claim
