"""Which pods others may reach over the pod network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.engines import engines_in
from policies.reading.network_policies import Guard, guards_of
from policies.reading.pod_security import makes_pods_as_written
from policies.reading.values import NotYetKnown, Resource, at, gather, judge_each, mapping_at
from policies.reading.workloads import Container, Pod, pods_of
from policies.rule import Finding, Settings, StackRule

_SIGNS_OF_A_SERVER = ("ports", "startupProbe", "readinessProbe", "livenessProbe")


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    guards, undecided = gather(resources, guards_of)

    def judge(resource: Resource) -> Iterator[Finding]:
        if any(map(_serves, pods_of(resource))):
            yield from judge_server(resource, list(pods_of(resource)))

    def judge_server(resource: Resource, pods: Sequence[Pod]) -> Iterator[Finding]:
        if all(_is_guarded(resource, pod, guards) for pod in pods if _serves(pod)):
            return
        if undecided:
            raise NotYetKnown(*undecided)
        yield Finding(
            resource,
            f"No NetworkPolicy in this stack limits who may connect to the GPU pods of "
            f"{resource.kind} {resource.object_name} in namespace {resource.namespace!r}: every "
            "pod of the cluster reaches the model server, also on paths that no API key guards "
            "(vLLM: /invocations, /metrics and the development endpoints). Add a policy that "
            "denies all, and one that lets in the gateway and the monitoring.",
        )

    yield from judge_each(resources, judge)


def _serves(pod: Pod) -> bool:
    """Whether a pod is a model server: it stays, has a GPU and answers requests."""
    stays = pod.runs_forever or not makes_pods_as_written(pod.owner)
    return (
        stays
        and pod.requests_gpu
        and any(_answers(pod, container) for container in pod.containers(with_init=False))
    )


def _answers(pod: Pod, container: Container) -> bool:
    """Whether a container shows that it answers others: by a port, a probe or its engine."""
    if container.holds_a_place_only:
        return False
    shown = any(at(container.spec, field) for field in _SIGNS_OF_A_SERVER)
    return shown or any(True for _ in engines_in(pod, container))


def _is_guarded(resource: Resource, pod: Pod, guards: Sequence[Guard]) -> bool:
    # The controller of another kind gives its pods labels that are not written here.
    labels = mapping_at(pod.template, "metadata", "labels")
    stated = labels if makes_pods_as_written(resource) else None
    return any(guard.holds_for(resource.namespace, stated) for guard in guards)


REQUIRE_NETWORK_POLICY = StackRule(
    code="CS718",
    name="kubernetes-namespace-require-network-policy",
    concern="security",
    title="Model servers are behind a NetworkPolicy",
    description="In a namespace with long-running GPU pods, a NetworkPolicy must limit who may "
    "connect to them.",
    severity="high",
    tags=("kubernetes", "security", "network"),
    remediation="Add a NetworkPolicy that selects every pod of the namespace and allows nothing, "
    "and another that lets the gateway and the monitoring reach the engine's port.",
    reason="Without one every pod may call the engine; vLLM's API key guards /v1 only, and its "
    "development endpoints not at all.",
    links=(
        "https://kubernetes.io/docs/concepts/services-networking/network-policies/",
        "https://docs.vllm.ai/en/latest/usage/security/",
    ),
    frameworks=("CIS EKS 1.7.0 4.3.2", "CIS GKE 1.8.0 4.3.2", "CIS AKS 1.7.0 4.4.2"),
    level="advisory",
    development="advisory",
    judge=_judge,
)
