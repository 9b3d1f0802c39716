"""Scale settings that a platform quietly ignores, and warm capacity that holds its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    is_true,
    judge_each,
    mapping_at,
    text_at,
    whole,
)
from policies.reading.workloads import Container, Pod, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

_MODE = "serving.kserve.io/deploymentMode"
_SCALER = "serving.kserve.io/autoscalerClass"
_STANDARD_MODES = frozenset({"Standard", "RawDeployment"})
_COMPONENTS = ("predictor", "transformer", "explainer")
_WARM = re.compile(r"warm|pause|placeholder|overprovision|balloon|headroom", re.IGNORECASE)
# Classes that Kubernetes makes itself, scheduling.k8s.io/v1.
_BUILT_IN = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


@dataclass(frozen=True)
class _Class:
    """A PriorityClass: its value, and whether its pods may take another pod's place."""

    name: str
    value: int
    preempts: bool = True


def _judge_kserve(resource: Resource, _: Settings) -> Iterator[str]:
    annotations = mapping_at(resource.properties, "metadata", "annotations")
    if text_at(annotations, _MODE) not in _STANDARD_MODES:
        return
    if text_at(annotations, _SCALER, default="hpa") != "hpa":
        return

    def judge(component: str) -> Iterator[str]:
        stated = at(resource.properties, "spec", component, "minReplicas")
        if stated is not None and whole(stated, 1) == 0:
            yield (
                f"InferenceService {resource.object_name} has spec.{component}.minReplicas=0 in "
                f"deployment mode {text_at(annotations, _MODE)}: KServe's autoscaler makes that 1 "
                "without a word, so a GPU stays taken day and night. Use the Knative mode or the "
                f"annotation {_SCALER}=keda or external with a ScaledObject, or write the 1."
            )

    yield from judge_each(_COMPONENTS, judge)


def _is_inference_service(resource_type: str) -> bool:
    return resource_type.startswith("kubernetes:serving.kserve.io/") and resource_type.endswith(
        (":InferenceService", ":InferenceServicePatch")
    )


def _judge_priorities(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [item for item in resources if item.is_kubernetes]
    found, unknown_classes = gather(kubernetes, _classes)
    classes = {item.name: item for item in found}
    classes |= {name: _Class(name, value) for name, value in _BUILT_IN.items()}
    default = next(iter(gather(kubernetes, _default_class)[0]), _Class("", 0))
    pods, unknown_pods = gather(kubernetes, _gpu_pods)
    serving = [pod for pod in pods if not _holds_places(pod) and pod.runs_forever]

    def class_of(pod: Pod) -> _Class | None:
        name = text_at(pod.spec, "priorityClassName")
        if name not in classes and unknown_classes:
            raise NotYetKnown(*unknown_classes)
        # One that is made somewhere else has a value nobody sees here.
        return classes.get(name) if name else default

    def judge(pod: Pod) -> Iterator[Finding]:
        own = class_of(pod)
        if own is None:
            return
        for other in serving:
            theirs = class_of(other)
            if theirs is not None and not (theirs.preempts and theirs.value > own.value):
                yield Finding(pod.owner, _cannot_take(pod, own, other, theirs))
                return
        # A paused pod alone may also be a test of how a pool scales.
        if not serving and _is_named_warm(pod) and own.value >= 0 and not unknown_pods:
            yield Finding(pod.owner, _never_yields(pod, own))

    yield from judge_each(filter(_holds_places, pods), judge)
    if unknown_pods:
        raise NotYetKnown(*unknown_pods)


def _cannot_take(pod: Pod, own: _Class, other: Pod, theirs: _Class) -> str:
    why = (
        f"has priority {theirs.value}, not above it"
        if theirs.value <= own.value
        else f"has preemptionPolicy Never (PriorityClass {theirs.name})"
    )
    return (
        f"{pod.owner.kind} {pod.owner.object_name} keeps GPUs warm with priority {own.value} "
        f"({pod.field('priorityClassName')}), and {other.owner.kind} {other.owner.object_name} "
        f"{why}: the model cannot take the warm place and waits for a new node all the same. Give "
        "the warm pods a PriorityClass with a value from -10 to -1, and the model a higher one "
        "that may preempt."
    )


def _never_yields(pod: Pod, own: _Class) -> str:
    return (
        f"{pod.owner.kind} {pod.owner.object_name} keeps GPUs warm with priority {own.value} "
        f"({pod.field('priorityClassName')}): a pod without a PriorityClass has 0 as well and "
        "cannot take the warm place. Give the warm pods a PriorityClass with a value from -10 to "
        "-1."
    )


def _gpu_pods(resource: Resource) -> Iterator[Pod]:
    for pod in pods_of(resource):
        if pod.requests_gpu:
            yield pod


def _holds_places(pod: Pod) -> bool:
    """Whether a pod is warm capacity: it pauses, or it sleeps and is named so.

    A pod that sleeps may also be somebody's workbench.
    """
    containers = list(pod.containers(with_init=False))
    if not containers or not all(item.holds_a_place_only for item in containers):
        return False
    return any(map(_is_pause, containers)) or _is_named_warm(pod)


def _is_named_warm(pod: Pod) -> bool:
    names = (pod.owner.object_name, text_at(pod.spec, "priorityClassName"))
    return any(map(_WARM.search, names))


def _is_pause(container: Container) -> bool:
    image = text_at(container.spec, "image").split("@")[0].rsplit("/", 1)[-1]
    return image.split(":")[0] == "pause"


def _classes(resource: Resource) -> Iterator[_Class]:
    if resource.kind == "PriorityClass" and resource.group == "scheduling.k8s.io":
        value = whole(at(resource.properties, "value"), 0)
        policy = at(resource.properties, "preemptionPolicy")
        yield _Class(resource.object_name, value, policy != "Never")


def _default_class(resource: Resource) -> Iterator[_Class]:
    if resource.kind == "PriorityClass" and is_true(at(resource.properties, "globalDefault")):
        yield from _classes(resource)


FORBID_ZERO_IN_STANDARD_MODE = ResourceRule(
    code="CS507",
    name="kserve-inferenceservice-forbid-zero-in-standard-mode",
    concern="scaling",
    title="KServe's Standard mode is not asked for zero replicas",
    description="An InferenceService in Standard (RawDeployment) mode with KServe's own autoscaler "
    "must not set minReplicas to 0.",
    severity="medium",
    tags=("kserve", "cost"),
    remediation="Set minReplicas to 1, or use Knative mode, or hand scaling to KEDA with the "
    "annotation serving.kserve.io/autoscalerClass.",
    reason="KServe raises the minimum of its HorizontalPodAutoscaler to 1, so a GPU is paid for "
    "although the manifest says it is not.",
    links=(
        "https://github.com/kserve/kserve/issues/3514",
        "https://github.com/kserve/kserve/issues/4007",
    ),
    reads=_is_inference_service,
    judge=_judge_kserve,
)

REQUIRE_LOWER_WARM_PRIORITY = StackRule(
    code="CS508",
    name="kubernetes-priorityclass-require-lower-warm-priority",
    concern="scaling",
    title="Models can take the place of warm capacity",
    description="Pods that only hold GPUs warm must have a lower priority than every model's pods, "
    "and those must be allowed to preempt.",
    severity="high",
    tags=("kubernetes", "warm-capacity", "cold-start"),
    remediation="Give warm pods a PriorityClass of value -5 (from -10 to -1, so that Cluster "
    "Autoscaler still counts them) and leave preemptionPolicy of the models' class at "
    "PreemptLowerPriority.",
    reason="Warm capacity that nothing can preempt is a node that is paid for and never used.",
    links=(
        "https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/",
        "https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md",
    ),
    judge=_judge_priorities,
)
