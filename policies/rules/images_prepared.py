"""State that is prepared before a pod starts: cached node images of AKS, snapshots of GKE."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from policies.reading.quantities import quantity
from policies.reading.scheduling import Requirement, requirements_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.reading.workloads import Pod, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

# Microsoft.ContainerService/preparedImageSpecifications, named nodeCustomizations before 2026.
_SPECIFICATION = re.compile(
    r"azure-native\w*:containerservice(?:/\w+)?:(?:PreparedImageSpecification|NodeCustomization)"
    r"(?:Version)?"
)
_BUILD_TIME = "NodeImageBuildTime"
_CHANGES_CONTAINERD = (
    re.compile(r"/etc/containerd\b"),
    re.compile(r"\bcontainerd\s+config\b"),
    re.compile(
        r"\b(?:systemctl|service)\b(?=[^\n;&|]{0,200}\b(?:restart|stop|reload|edit|disable|mask)\b)"
        r"[^\n;&|]{0,200}\bcontainerd\b"
    ),
    re.compile(r"\b(?:apt|apt-get|tdnf|dnf)\b[^\n;&|]{0,200}\bcontainerd"),
)
_COMMENT_OR_LOOK = re.compile(r"\s*(?:#|(?:sudo\s+)?(?:cat|grep|ls|head|tail|stat)\b[^>|;&]*$)")
_SNAPSHOTS = "podsnapshot.gke.io"
_GPU = "nvidia.com/gpu"


def _is_specification(resource_type: str) -> bool:
    return _SPECIFICATION.fullmatch(resource_type) is not None


def _judge_containerd(resource: Resource, _: Settings) -> Iterator[str]:
    properties = resource.properties
    images = texts(list_at(properties, "containerImages"))
    if not images:
        return

    def judge(item: tuple[int, Any]) -> Iterator[str]:
        index, script = item[0], known(item[1])
        changed = _change(text_at(script, "script"))
        if changed and text_at(script, "executionPoint", default=_BUILD_TIME) == _BUILD_TIME:
            yield (
                f"customizationScripts[{index}].script "
                f"({text_at(script, 'name', default='unnamed')}) changes containerd "
                f"({changed!r}), and containerImages names {len(images)}. AKS runs the scripts "
                "first and caches the images afterwards with what they left: another store, "
                "snapshotter or mirror there fails the build, or caches what nodes do not find. "
                "Leave containerd as AKS configures it, or measure that a new node pulls nothing."
            )

    yield from judge_each(enumerate(list_at(properties, "customizationScripts")), judge)


def _change(script: str) -> str:
    """The first thing in a script that changes containerd, as written; empty without one."""
    lines = "\n".join(line for line in script.splitlines() if not _COMMENT_OR_LOOK.match(line))
    for pattern in _CHANGES_CONTAINERD:
        found = pattern.search(lines)
        if found:
            return found[0].strip()
    return ""


def _judge_multi_gpu(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    yield from _judge_selected(resources, _large_pods, _multi_gpu)


def _judge_env_secrets(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    yield from _judge_selected(resources, _pods_with_secrets, _env_secrets)


def _judge_selected(
    resources: Sequence[Resource],
    wrong_pods: Callable[[Resource], Iterator[tuple[Pod, str]]],
    message: Callable[[Resource, str], str],
) -> Iterator[Finding]:
    policies = [
        item for item in resources if item.kind == "PodSnapshotPolicy" and item.group == _SNAPSHOTS
    ]
    if not policies:
        return
    wrong, undecided = gather(resources, wrong_pods)

    def judge(policy: Resource) -> Iterator[Finding]:
        selected = [f"{pod.owner.name} ({what})" for pod, what in wrong if _selects(policy, pod)]
        if selected:
            yield Finding(policy, message(policy, ", ".join(selected)))
        if undecided:
            raise NotYetKnown(*undecided)

    yield from judge_each(policies, judge)


def _large_pods(resource: Resource) -> Iterator[tuple[Pod, str]]:
    for pod in pods_of(resource):
        gpus = sum(map(_gpus, pod.containers(with_init=False)), Decimal(0))
        if gpus > 1:
            yield pod, f"{int(gpus)} GPUs"


def _pods_with_secrets(resource: Resource) -> Iterator[tuple[Pod, str]]:
    for pod in pods_of(resource):
        names = [
            name
            for container in pod.containers(with_init=False)
            for name in _secrets_in_variables(container.spec)
        ]
        if names:
            yield pod, ", ".join(dict.fromkeys(names))


def _secrets_in_variables(container: Mapping[str, Any]) -> Iterator[str]:
    for entry in list_at(container, "env"):
        if at(entry, "valueFrom", "secretKeyRef") is not None:
            yield f"variable {text_at(entry, 'name', default='unnamed')}"
    for source in list_at(container, "envFrom"):
        if at(source, "secretRef") is not None:
            yield f"secret {text_at(source, 'secretRef', 'name', default='unnamed')}"


def _gpus(container: Any) -> Decimal:
    for part in ("limits", "requests"):
        asked = quantity(at(container.spec, "resources", part, _GPU))
        if asked is not None:
            return asked
    return Decimal(0)


def _selects(policy: Resource, pod: Pod) -> bool:
    own, others = (
        text_at(item.properties, "metadata", "namespace") for item in (policy, pod.owner)
    )
    if own and others and own != others:
        return False
    selector = mapping_at(policy.properties, "spec", "selector")
    conditions = [
        Requirement(key, "In", (str(known(value)),))
        for key, value in mapping_at(selector, "matchLabels").items()
    ]
    conditions += requirements_of(list_at(selector, "matchExpressions"))
    labels = mapping_at(pod.template, "metadata", "labels")
    return bool(conditions) and all(_holds(item, labels) for item in conditions)


def _holds(condition: Requirement, labels: Mapping[str, Any]) -> bool:
    if condition.key not in labels:
        return condition.operator in ("NotIn", "DoesNotExist")
    return condition.allows(str(known(labels[condition.key])))


def _multi_gpu(policy: Resource, selected: str) -> str:
    return (
        f"spec.selector of PodSnapshotPolicy {policy.object_name} takes in {selected}. "
        "A snapshot of several GPUs needs a barrier across the ranks that the launchers do not "
        "have, so the checkpoint hangs or the restored ranks wait for one another. Narrow it to "
        "pods with one GPU; a compile cache and streamed weights start larger models faster."
    )


def _env_secrets(policy: Resource, selected: str) -> str:
    return (
        f"spec.selector of PodSnapshotPolicy {policy.object_name} takes in pods with secrets in "
        f"their environment: {selected}. The environment is part of the snapshot: the secret lies "
        "in its bucket as text, and every restored pod has the value of that day, also after the "
        "secret was changed. Mount the secret as a file that is read after the restore, or narrow "
        "the selector."
    )


FORBID_CONTAINERD_CHANGE = ResourceRule(
    code="CS204",
    name="aks-imagespecification-forbid-containerd-change",
    concern="images",
    title="Prepared node images are cached by the containerd that serves them",
    description="A prepared image specification that caches container images must not change "
    "containerd in a script that runs before.",
    severity="medium",
    tags=("aks", "cold-start", "image-delivery"),
    remediation="Take the containerd lines out of the build-time script, or verify on a new node "
    "that the cached images are found.",
    reason="Scripts run before the images are cached, so they decide with which runtime "
    "configuration that happens.",
    links=("https://learn.microsoft.com/azure/aks/prepared-image-specification-overview",),
    level="advisory",
    production="advisory",
    development="advisory",
    reads=_is_specification,
    judge=_judge_containerd,
)

FORBID_MULTI_GPU_SNAPSHOT = StackRule(
    code="CS206",
    name="kubernetes-podsnapshot-forbid-multi-gpu",
    concern="images",
    title="Only pods with one GPU are snapshotted",
    description="A PodSnapshotPolicy of GKE must not select pods with more than one GPU.",
    severity="medium",
    tags=("gke", "cold-start"),
    remediation="Narrow the policy's selector to workloads with nvidia.com/gpu: 1.",
    reason="Snapshots of engines are made for one rank; nothing coordinates several during the "
    "checkpoint.",
    links=(
        "https://github.com/llm-d/llm-d/pull/2489",
        "https://cloud.google.com/kubernetes-engine/docs/concepts/pod-snapshots",
    ),
    level="advisory",
    development="advisory",
    judge=_judge_multi_gpu,
)

FORBID_SNAPSHOT_OF_ENV_SECRETS = StackRule(
    code="CS207",
    name="kubernetes-podsnapshot-forbid-env-secrets",
    concern="images",
    title="No secret is frozen in a snapshot",
    description="A PodSnapshotPolicy of GKE must not select pods that take secrets as environment "
    "variables.",
    severity="medium",
    tags=("gke", "cold-start", "security"),
    remediation="Mount the secret as a file and read it after the restore, or leave such pods out "
    "of the policy's selector.",
    reason="A snapshot holds the process with its environment, as it was when it was taken.",
    links=(
        "https://github.com/llm-d/llm-d/pull/2489",
        "https://cloud.google.com/kubernetes-engine/docs/concepts/pod-snapshots",
    ),
    level="advisory",
    development="advisory",
    judge=_judge_env_secrets,
)
