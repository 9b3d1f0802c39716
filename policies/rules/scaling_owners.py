"""Who sets the replicas of a model, how many there may be, and by which metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from policies.reading.engine_names import removed
from policies.reading.engines import Engine, engines_of
from policies.reading.gpus import architectures
from policies.reading.node_pools import is_node_pool
from policies.reading.quantities import quantity
from policies.reading.scalers import (
    Target,
    Trigger,
    is_autoscaler,
    is_scaled_object,
    key_of,
    target_of,
    triggers_of,
)
from policies.reading.scheduling import placement_of, pool_of
from policies.reading.values import (
    Resource,
    at,
    is_true,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    whole,
)
from policies.reading.workloads import Pod, pods_of
from policies.rule import Finding, Settings, StackRule

# KEDA's default, keda.sh/v1alpha1 ScaledObject spec.maxReplicaCount.
_DEFAULT_MAX_REPLICAS = 100
_TAKES_OVER = "scaledobject.keda.sh/transfer-hpa-ownership"
_KSERVE_MODE = "serving.kserve.io/deploymentMode"
_KSERVE_SCALER = "serving.kserve.io/autoscalerClass"
_STANDARD_MODES = frozenset({"Standard", "RawDeployment"})
_OWN_SCALERS = frozenset({"", "hpa", "keda"})
_GPUS = ("nvidia.com/gpu", "amd.com/gpu")
# Kinds of which one replica is one pod.
_ONE_POD_EACH = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Rollout"})
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SERIES = re.compile(r"_(?:bucket|sum|count|total)$")


def _judge_owners(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    owners: dict[Target, Resource] = {}

    def judge(scaler: Resource) -> Iterator[Finding]:
        for target in _owned_by(scaler):
            first = owners.setdefault(target, scaler)
            # The same object written twice, as in variants side by side, is one in the cluster.
            if not _is_same(first, scaler):
                yield Finding(
                    scaler,
                    f"{scaler.kind} {scaler.object_name} and {first.kind} {first.object_name} both "
                    f"set the replicas of {target[1]} {target[0]}/{target[2]} "
                    "(spec.scaleTargetRef): each undoes what the other decides, so pods start and "
                    "stop in turns and every turn is a cold start. Leave one of them and move its "
                    "triggers there.",
                )

    yield from judge_each(resources, judge)


def _is_same(one: Resource, other: Resource) -> bool:
    return (one.kind, one.namespace, one.object_name) == (
        other.kind,
        other.namespace,
        other.object_name,
    )


def _owned_by(resource: Resource) -> Iterator[Target]:
    if is_scaled_object(resource):
        annotations = mapping_at(resource.properties, "metadata", "annotations")
        target = target_of(resource)
        if target and not is_true(at(annotations, _TAKES_OVER)):
            yield target
    elif is_autoscaler(resource):
        target = target_of(resource)
        if target and not _is_made_by_keda(resource):
            yield target
    elif resource.kind == "InferenceService" and resource.group == "serving.kserve.io":
        annotations = mapping_at(resource.properties, "metadata", "annotations")
        own = text_at(annotations, _KSERVE_SCALER) in _OWN_SCALERS
        if own and text_at(annotations, _KSERVE_MODE) in _STANDARD_MODES:
            yield (resource.namespace, "Deployment", f"{resource.object_name}-predictor")


def _is_made_by_keda(autoscaler: Resource) -> bool:
    owners = map(known, list_at(autoscaler.properties, "metadata", "ownerReferences"))
    return any(text_at(owner, "kind") == "ScaledObject" for owner in owners)


def _judge_pool(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    pools = [item for item in resources if is_node_pool(item)]
    workloads = {
        key_of(item): item
        for item in resources
        if item.is_kubernetes and item.kind in _ONE_POD_EACH
    }

    def judge(scaler: Resource) -> Iterator[Finding]:
        target = target_of(scaler)
        workload = workloads.get(target) if target else None
        pod = next(pods_of(workload), None) if workload else None
        each = float(_gpus_of(pod)) if pod else 0
        if pod is None or not each:
            return
        room = _room_for(pod, pools)
        spec = mapping_at(scaler.properties, "spec")
        most = whole(at(spec, "maxReplicaCount"), _DEFAULT_MAX_REPLICAS)
        if room is not None and most * each > room[0]:
            yield Finding(
                scaler,
                f"ScaledObject {scaler.object_name} allows spec.maxReplicaCount={most} replicas of "
                f"{each:g} GPU each, {most * each:g} in all, and {room[1]} may hold {room[0]:g} "
                f"(spec.limits): from replica {int(room[0] // each) + 1} on, pods stay pending and "
                "a rollout finds no room. Lower maxReplicaCount or raise the pool's limit.",
            )

    if pools:
        yield from judge_each(filter(is_scaled_object, resources), judge)


def _gpus_of(pod: Pod) -> Decimal:
    total = Decimal(0)
    for container in pod.containers(with_init=False):
        for name in _GPUS:
            resources = mapping_at(container.spec, "resources")
            stated = at(resources, "limits", name, default=at(resources, "requests", name))
            total += quantity(stated) or 0
    return total


def _room_for(pod: Pod, pools: Sequence[Resource]) -> tuple[float, str] | None:
    """GPUs of all pools a pod can run on, with their names; None where one has no limit."""
    placement = placement_of(pod.spec)
    total, names = Decimal(0), []
    for node_pool in pools:
        pool = pool_of(node_pool)
        if not placement.can_run_on(pool) or not architectures(pool.requirements):
            continue
        limits = mapping_at(node_pool.properties, "spec", "limits")
        stated = [quantity(at(limits, name)) for name in _GPUS if at(limits, name) is not None]
        if not stated or None in stated:
            return None
        total += sum(amount for amount in stated if amount is not None)
        names.append(f"NodePool {node_pool.object_name}")
    return (float(total), " and ".join(names)) if names else None


def _judge_metrics(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    workloads = {key_of(item): item for item in resources if item.is_kubernetes}

    def judge(scaler: Resource) -> Iterator[Finding]:
        def judge_trigger(trigger: Trigger) -> Iterator[Finding]:
            at(trigger.metadata, "query")
            for name in sorted(set(_gone_metrics(trigger.query))):
                gone = removed("metrics")[name]
                if not all(item.is_without(gone.gone) for item in _engines(scaler, workloads)):
                    continue
                yield Finding(
                    scaler,
                    f"ScaledObject {scaler.object_name}: {trigger.field}.metadata.query asks for "
                    f"{name}, which vLLM has no more since {gone.version}: the query finds nothing "
                    "and the trigger never fires, or KEDA reads it as no load. Ask for "
                    f"{gone.instead}.",
                )

        yield from judge_each(triggers_of(scaler), judge_trigger)

    yield from judge_each(filter(is_scaled_object, resources), judge)


def _gone_metrics(query: str) -> Iterator[str]:
    table = removed("metrics")
    for name in _NAME.findall(query):
        found = next((word for word in (name, _SERIES.sub("", name)) if word in table), None)
        if found:
            yield found


def _engines(scaler: Resource, workloads: Mapping[Target, Resource]) -> Iterator[Engine]:
    target = target_of(scaler)
    workload = workloads.get(target) if target else None
    for pod in pods_of(workload) if workload else ():
        yield from engines_of(pod)


FORBID_TWO_SCALERS = StackRule(
    code="CS504",
    name="kubernetes-workload-forbid-two-scalers",
    concern="scaling",
    title="One controller sets the replicas",
    description="No two autoscalers may scale the same workload, be they ScaledObjects, "
    "HorizontalPodAutoscalers or a KServe InferenceService in Standard mode.",
    severity="high",
    tags=("keda", "kubernetes", "reliability"),
    remediation="Keep one autoscaler per workload; with KServe set the annotation "
    "serving.kserve.io/autoscalerClass to external when a ScaledObject scales the predictor.",
    reason="Two controllers with different targets make replicas flap, and each new replica is a "
    "cold start.",
    links=(
        "https://keda.sh/docs/latest/concepts/scaling-deployments/",
        "https://kserve.github.io/website/docs/model-serving/predictive-inference/autoscaling/keda-autoscaler",
        "https://github.com/kserve/kserve/pull/3086",
    ),
    judge=_judge_owners,
)

LIMIT_REPLICAS = StackRule(
    code="CS505",
    name="keda-scaledobject-limit-replicas-to-pool",
    concern="scaling",
    title="The node pool can hold every replica",
    description="The GPUs of spec.maxReplicaCount replicas must fit the GPU limits of the "
    "NodePools on which the pods can run.",
    severity="medium",
    tags=("keda", "karpenter", "reliability"),
    remediation="Lower spec.maxReplicaCount, or raise spec.limits of the NodePool in "
    "nvidia.com/gpu to maximum replicas times GPUs per replica.",
    reason="Replicas above what the pool may buy stay pending, and KEDA believes they are on "
    "their way.",
    links=(
        "https://karpenter.sh/docs/concepts/nodepools/#speclimits",
        "https://keda.sh/docs/latest/reference/scaledobject-spec/",
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    judge=_judge_pool,
)

FORBID_REMOVED_METRICS = StackRule(
    code="CS506",
    name="keda-scaledobject-forbid-deprecated-metrics",
    concern="scaling",
    title="Triggers ask for metrics that the engine has",
    description="Queries of a ScaledObject must not ask for vLLM metrics that current versions no "
    "longer have; targets with an image of an older or an unreadable version are left alone.",
    severity="high",
    tags=("keda", "vllm", "reliability"),
    remediation="Replace the metric by the one that the message names, and set ignoreNullValues to "
    '"false" so that a missing metric is an error.',
    reason="vLLM hides a deprecated metric one minor release later and removes it with the next; "
    "KEDA reads an empty answer as zero.",
    links=(
        "https://docs.vllm.ai/en/stable/usage/metrics/",
        "https://github.com/vllm-project/vllm/pull/29330",
        "https://github.com/vllm-project/vllm/pull/32661",
        "https://github.com/vllm-project/vllm/pull/15458",
    ),
    judge=_judge_metrics,
)
