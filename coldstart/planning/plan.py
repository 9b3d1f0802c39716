"""From a stack spec to a whole plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from coldstart.catalog import Catalog, load
from coldstart.errors import UserError
from coldstart.planning.context import Context, ImageFacts
from coldstart.planning.cost import cost_plan
from coldstart.planning.decision import NAMED, Decision, PlanError, Rejection
from coldstart.planning.load import load_errors, load_notes, typical_replicas
from coldstart.planning.model import (
    ChartPlan,
    ClusterPlan,
    ImagePlan,
    ModelPlan,
    NetworkPlan,
    PoolPlan,
    StackPlan,
)
from coldstart.planning.network import network_plan
from coldstart.planning.operation import rollout_plan
from coldstart.planning.pool import plan_pool
from coldstart.planning.scaling import with_minimum
from coldstart.planning.serving import plan_model
from coldstart.planning.warm import warm_plan
from coldstart.spec.load import PROJECT
from coldstart.spec.model import Environment, Layer, StackSpec, WeightsPath
from coldstart.spec.problems import Problem

T = TypeVar("T")
PULL_THROUGH = {"registry.k8s.io": "k8s", "quay.io": "quay", "public.ecr.aws": "ecr-public"}
"""Upstreams ECR caches without a credential, and the prefix of each (ECR user guide)."""
DOCKER_HUB, DOCKER_HUB_PREFIX = "docker.io", "docker-hub"
ECR = "ecr.amazonaws.com"
SYSTEM_AMI_TYPES = {"amd64": "AL2023_x86_64_STANDARD", "arm64": "AL2023_ARM_64_STANDARD"}
"""The managed node group's image by CPU architecture (EKS API, NodeGroup amiType)."""
ENGINE = "vllm-0.31.0"


class PlanFailedError(UserError):
    """Every wish of a stack file that cannot work."""

    def __init__(self, spec: StackSpec, errors: list[PlanError]) -> None:
        self.errors = errors
        file = f"stacks/Pulumi.{spec.stack}.yaml"
        super().__init__(
            "\n".join(Problem(e.path, e.message, spec.line_of(e.path)).render(file) for e in errors)
        )


def plan_stack(spec: StackSpec, catalog: Catalog | None = None) -> StackPlan:
    """Take every decision of a stack. Pure: the same spec and catalog give the same plan.

    Raises PlanFailedError with everything that cannot work.
    """
    known = (catalog or load()).with_models(spec.local_models)
    images, mirrors, shared = _images(spec, known), _pull_through(spec), _shared_file_system(spec)
    context = Context(
        spec, known, known.engine(ENGINE), _image_facts(spec, images, mirrors, known), shared.value
    )
    errors: list[PlanError] = []
    network = _caught(errors, lambda: _network(spec, known))
    pools: dict[str, PoolPlan] = {}
    for name, pool_spec in spec.node_pools.items():
        pool = _caught(errors, partial(plan_pool, name, pool_spec, context))
        if pool is not None:
            pools[name] = pool
    models: dict[str, ModelPlan] = {}
    for name, model_spec in spec.models.items():
        if model_spec.node_pool in pools:
            model = _caught(errors, partial(plan_model, name, context, pools[model_spec.node_pool]))
            if model is not None:
                models[name] = model
    _keep_warm(pools, models, context, errors)
    errors += [
        *_name_errors(pools),
        *_capacity_errors(pools, models, known),
        *load_errors(models, pools, known),
    ]
    if errors or network is None:
        raise PlanFailedError(spec, errors)
    models = _with_surge(pools, models, known)
    cluster = _cluster(spec, known)
    return StackPlan(
        spec=spec,
        network=network,
        cluster=cluster,
        pools=pools,
        models=models,
        images=images,
        charts={
            key: ChartPlan(c.name, c.chart, c.repository, c.version, c.namespace)
            for key, c in known.charts.items()
        },
        pull_through=mirrors,
        shared_file_system=shared,
        cost=cost_plan(spec, network, cluster, pools, models, known, typical_replicas(models)),
        notes=(*_notes(spec, pools, models), *load_notes(models, pools, known)),
    )


def _keep_warm(
    pools: dict[str, PoolPlan],
    models: dict[str, ModelPlan],
    context: Context,
    errors: list[PlanError],
) -> None:
    """Decide warm nodes and the replicas that always run, now that all models of a pool are known.

    Only where a violated second has a price; everywhere else what was planned stays.
    """
    for name, pool in pools.items():
        served = [model for model in models.values() if model.pool == name]
        found = _caught(errors, partial(warm_plan, pool, served, context))
        if found is None:
            continue
        pools[name] = replace(pool, warm=found.nodes)
        for key, minimum in found.replicas.items():
            spec = context.spec.models[key]
            models[key] = with_minimum(models[key], spec, context.catalog, minimum)


def _caught(errors: list[PlanError], make: Callable[[], T]) -> T | None:
    try:
        return make()
    except PlanError as error:
        errors.append(error)
        return None


def _network(spec: StackSpec, catalog: Catalog) -> NetworkPlan:
    try:
        return network_plan(spec, catalog)
    except ValueError as error:
        raise PlanError("network.cidr", str(error)) from None


def _gpus_at_full_scale(models: Mapping[str, ModelPlan], pool: str) -> int:
    return sum(m.most_gpus for m in models.values() if m.pool == pool)


def _name_errors(pools: Mapping[str, PoolPlan]) -> list[PlanError]:
    """Weighted NodePools carry the capacity type in their name, which another pool may have."""
    return [
        PlanError(
            f"nodePools.{name}",
            f'its NodePool "{made.name}" would have the name of pool {made.name}; rename one',
        )
        for name, pool in pools.items()
        for made in pool.capacity.value
        if made.name != name and made.name in pools
    ]


def _capacity_errors(
    pools: Mapping[str, PoolPlan], models: Mapping[str, ModelPlan], catalog: Catalog
) -> list[PlanError]:
    """A maximum that the pool's own limit can never reach is a promise nobody keeps.

    Counted with the type Karpenter is expected to start, not with the largest the pool allows.
    """
    errors = []
    for name, model in models.items():
        pool = pools[model.pool]
        expected = catalog.instance(model.expected_instance_type)
        per_node = expected.accelerator_count // model.fit.gpus
        possible = pool.max_nodes * per_node
        if model.scaling.max_replicas > possible:
            needed = -(-model.scaling.max_replicas // per_node)
            errors.append(
                PlanError(
                    f"models.{name}.scaling.max",
                    f"{model.scaling.max_replicas} replicas of "
                    f"{model.fit.gpus} GPUs need {needed} nodes; pool {pool.name} stops "
                    f"at maxNodes {pool.max_nodes}. Use max: {possible}, or maxNodes: {needed}",
                )
            )
    for name, pool in pools.items():
        least = sum(m.least_gpus for m in models.values() if m.pool == name)
        if least > pool.max_nodes * pool.gpus_per_node:
            errors.append(
                PlanError(
                    f"nodePools.{name}.maxNodes",
                    f"{pool.max_nodes} nodes have {pool.max_nodes * pool.gpus_per_node} GPUs; the "
                    f"models of the pool ask for {least} at their scaling.min. "
                    f"Use maxNodes: {-(-least // pool.gpus_per_node)}, or a smaller scaling.min",
                )
            )
    return errors


def _with_surge(
    pools: Mapping[str, PoolPlan], models: Mapping[str, ModelPlan], catalog: Catalog
) -> dict[str, ModelPlan]:
    """What a rollout may use, now that every model's full scale is known.

    Counted with the smallest type Karpenter is expected to start: a surge that waits is worse than
    one that was not tried.
    """
    free = {}
    for name, pool in pools.items():
        kinds = [
            catalog.instance(m.expected_instance_type) for m in models.values() if m.pool == name
        ]
        per_node = min((kind.accelerator_count for kind in kinds), default=pool.gpus_per_node)
        free[name] = max(0, pool.max_nodes * per_node - _gpus_at_full_scale(models, name))
    return {
        name: replace(model, rollout=rollout_plan(model.fit.gpus, free[model.pool]))
        for name, model in models.items()
    }


def _cluster(spec: StackSpec, catalog: Catalog) -> ClusterPlan:
    release = catalog.eks_release(spec.cluster.version)
    system = catalog.instance(spec.cluster.system_instance_type)
    return ClusterPlan(
        name=spec.cluster_name,
        version=spec.cluster.version,
        admin_cidrs=spec.cluster.admin_cidrs,
        admin_principals=spec.cluster.admin_principals,
        deletion_protection=spec.environment is Environment.PROD,
        system_instance_type=spec.cluster.system_instance_type,
        system_nodes=spec.cluster.system_nodes,
        addons=dict(release.addons),
        system_ami_type=SYSTEM_AMI_TYPES[system.arch],
    )


def _images(spec: StackSpec, catalog: Catalog) -> dict[str, ImagePlan]:
    images: dict[str, ImagePlan] = {}
    for key, image in catalog.images.items():
        registry, _, repository = image.repository.partition("/")
        images[key] = ImagePlan(registry, repository, image.digest, image.tag)
    if spec.engine.image is not None:
        name, _, digest = spec.engine.image.partition("@")
        registry, _, repository = name.partition("/")
        if not repository or not (set(".:") & set(registry) or registry == "localhost"):
            registry, repository = DOCKER_HUB, name
        images["engine"] = ImagePlan(registry, repository.partition(":")[0], digest)
    return images


def _image_facts(
    spec: StackSpec, images: Mapping[str, ImagePlan], mirrors: Mapping[str, str], catalog: Catalog
) -> ImageFacts:
    image, known = images["engine"], catalog.image("engine")
    registry = ECR if image.registry in mirrors else image.registry
    if known.compressed_bytes is None or known.unpacked_bytes is None:
        raise ValueError("the catalog's engine image has no sizes")
    compressed = spec.engine.image_size or known.compressed_bytes
    ratio = known.unpacked_bytes / known.compressed_bytes
    return ImageFacts(registry, image.digest, compressed, round(compressed * ratio))


def _pull_through(spec: StackSpec) -> dict[str, str]:
    if not spec.registry.pull_through_cache:
        return {}
    with_credential = spec.registry.docker_hub_credential is not None
    return {**PULL_THROUGH, **({DOCKER_HUB: DOCKER_HUB_PREFIX} if with_credential else {})}


def _shared_file_system(spec: StackSpec) -> Decision[bool]:
    readers = [name for name, m in spec.models.items() if m.weights == WeightsPath.SHARED]
    if readers:
        return Decision(True, f"{', '.join(readers)} read weights from it")
    if spec.storage.shared_file_system:
        return Decision(
            True,
            f"{NAMED}: a home for what several pods share; empty it costs nothing",
        )
    return Decision(
        False,
        "no model reads weights from one",
        (Rejection(True, "its driver would stand in the way of every start"),),
    )


def _notes(
    spec: StackSpec, pools: Mapping[str, PoolPlan], models: Mapping[str, ModelPlan]
) -> tuple[str, ...]:
    notes = []
    for name, pool in pools.items():
        wanted, have = _gpus_at_full_scale(models, name), pool.max_nodes * pool.gpus_per_node
        if wanted > have:
            notes.append(
                f"nodePools.{name}: its models ask for {wanted} GPUs at full scale, the "
                f"pool stops at {have}; who asks last waits"
            )
    notes += [
        f"models.{name}: {model.repository} is gated; accept its terms and give a token of that "
        f"account: pulumi config set --secret {PROJECT}:huggingFaceToken"
        for name, model in models.items()
        if model.gated
    ]
    if Layer.INFRA not in spec.layers:
        notes.append(
            f"nodes of the pools are priced here and in {spec.infra_stack}: count them once"
        )
    if spec.environment is Environment.PROD and not spec.cluster.admin_cidrs:
        notes.append(
            "cluster.adminCidrs is empty: the API endpoint is private, so run pulumi from "
            "inside the network"
        )
    return tuple(notes)
