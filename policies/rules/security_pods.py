"""What pods outside the system's namespaces may do on their node: Pod Security as rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from policies.reading.pod_security import (
    effective,
    is_windows,
    is_written_out,
    pods_as_written,
    security_of,
)
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    is_true,
    judge_each,
    list_at,
    text_at,
    texts,
    whole,
)
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

# Where the installation guides of Kubernetes, the clouds, GPU drivers, networks and node monitors
# put agents that must see the node.
_SYSTEM_NAMESPACES = [
    "kube-system",
    "amazon-cloudwatch",
    "amazon-guardduty",
    "amd-gpu-operator",
    "calico-system",
    "cilium",
    "datadog",
    "dcgm-exporter",
    "falco",
    "gke-managed-system",
    "gmp-public",
    "gmp-system",
    "gpu-operator",
    "istio-system",
    "kserve",
    "kube-amd-gpu",
    "kube-flannel",
    "local-path-storage",
    "logging",
    "longhorn-system",
    "metallb-system",
    "monitoring",
    "network-operator",
    "node-feature-discovery",
    "nvidia-device-plugin",
    "nvidia-dra-driver-gpu",
    "nvidia-gpu-operator",
    "nvidia-network-operator",
    "openebs",
    "prometheus",
    "rook-ceph",
    "spegel",
    "tigera-operator",
    "topolvm-system",
    "velero",
]
_NAMESPACES = Option(
    "systemNamespaces",
    {"type": "array", "items": {"type": "string"}, "default": _SYSTEM_NAMESPACES},
    _SYSTEM_NAMESPACES,
    "Namespaces of node agents, which are left alone. Your list takes the place of this one.",
)
_STANDARD = "https://kubernetes.io/docs/concepts/security/pod-security-standards/"
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
# The one capability that Pod Security's restricted profile lets a container add.
_HARMLESS = "NET_BIND_SERVICE"
_SECCOMP_PROFILES = frozenset({"RuntimeDefault", "Localhost"})


def _in_system(resource: Resource, settings: Settings) -> bool:
    # A template's place holder (`${namespace}`) is filled in later: it decides nothing.
    if re.search(r"\$\{|\{\{", resource.namespace):
        raise NotYetKnown(("metadata", "namespace"))
    return resource.namespace in settings["systemNamespaces"]


def _outside_system(
    resource: Resource, settings: Settings, messages: Iterator[str]
) -> Iterator[str]:
    """`messages` unless the namespace is exempt, which is asked only where something is wrong.

    In a first preview no namespace is known yet, and most pods need no exemption.
    """
    try:
        for message in messages:
            if _in_system(resource, settings):
                return
            yield message
    except NotYetKnown:
        if not _in_system(resource, settings):
            raise


def _judge_host(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge(pod: Pod) -> Iterator[str]:
        if not is_windows(pod):
            found = judge_each(_parts_of(pod), lambda way: map(tell, way()))
            yield from _outside_system(resource, settings, found)

    def tell(found: str) -> str:
        return (
            f"{found}, in namespace {resource.namespace!r}, which holds no node agents. Who takes "
            "over this pod takes over the node, its credentials and every tenant on it; Pod "
            "Security 'baseline' refuses it. Remove it: GPUs come from the device plugin, fast "
            "disk from an emptyDir or a CSI volume. A node agent belongs into a namespace of its "
            "own, named in this rule's systemNamespaces."
        )

    yield from judge_each(pods_of(resource), judge)


def _parts_of(pod: Pod) -> Iterator[Callable[[], Iterator[str]]]:
    """What can open the host, each apart, so that one unknown value hides nothing else."""
    for name in _HOST_NAMESPACES:
        yield partial(_host_namespace, pod, name)
    for container in pod.containers(with_init=True):
        yield partial(_privileged, container)
    for index, volume in enumerate(list_at(pod.spec, "volumes")):
        yield partial(_host_path, pod, index, volume)


def _host_namespace(pod: Pod, name: str) -> Iterator[str]:
    if is_true(at(pod.spec, name)):
        yield f"{pod.field(name)} is true and opens the host's namespace"


def _privileged(container: Container) -> Iterator[str]:
    if is_true(at(security_of(container), "privileged")):
        yield f"{container.field}.securityContext.privileged is true"


def _host_path(pod: Pod, index: int, volume: object) -> Iterator[str]:
    path = text_at(volume, "hostPath", "path")
    if path:
        yield f"{pod.field(f'volumes[{index}]')}.hostPath mounts the host's {path}"


def _judge_root(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge(pod: Pod, container: Container) -> Iterator[str]:
        user = effective(pod, container, "runAsUser")
        if user is not None and whole(user, 1) == 0:
            found = "securityContext.runAsUser is 0"
        elif user is None and not is_true(effective(pod, container, "runAsNonRoot")):
            found = "securityContext sets neither runAsNonRoot=true nor a runAsUser"
        else:
            return
        yield (
            f"{container.field}: {found}, so container {container.name!r} runs as root where its "
            "image does not say otherwise, and vLLM's and most base images do not. Set "
            "runAsNonRoot=true with a runAsUser above 0, and give HOME and the cache paths a "
            "volume that this user may write."
        )

    yield from _judge_containers(resource, settings, judge)


def _judge_seccomp(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge(pod: Pod, container: Container) -> Iterator[str]:
        profile = effective(pod, container, "seccompProfile", "type")
        if isinstance(profile, str) and profile in _SECCOMP_PROFILES:
            return
        shown = "not set" if profile is None else str(profile)
        yield (
            f"{container.field}.securityContext.seccompProfile.type is {shown}, on the pod too: "
            f"every system call of the kernel is open to container {container.name!r}. Set "
            "seccompProfile.type=RuntimeDefault in the pod's securityContext; CUDA and NCCL work "
            "under it."
        )

    yield from _judge_containers(resource, settings, judge)


def _judge_escalation(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge(_: Pod, container: Container) -> Iterator[str]:
        security = security_of(container)
        if is_true(at(security, "privileged")):
            return  # A stronger word on the same container, and a rule of its own.
        wrong = list(_ways_to_more_rights(security))
        if wrong:
            yield (
                f"{container.field}.securityContext of container {container.name!r}: "
                f"{', '.join(wrong)}. A process in it can gain rights that it was not started "
                "with; Pod Security 'restricted' refuses it. Set allowPrivilegeEscalation=false "
                "and capabilities.drop=[ALL], and add nothing."
            )

    yield from _judge_containers(resource, settings, judge)


def _ways_to_more_rights(security: Mapping[str, object]) -> Iterator[str]:
    escalation = at(security, "allowPrivilegeEscalation")
    if str(escalation).lower() != "false":
        shown = "not set" if escalation is None else str(escalation).lower()
        yield f"allowPrivilegeEscalation is {shown}"
    if "ALL" not in map(str.upper, texts(list_at(security, "capabilities", "drop"))):
        yield "capabilities.drop does not name ALL"
    added = sorted(set(texts(list_at(security, "capabilities", "add"))) - {_HARMLESS})
    if added:
        yield f"capabilities.add names {', '.join(added)}"


def _judge_containers(
    resource: Resource, settings: Settings, judge: Callable[[Pod, Container], Iterator[str]]
) -> Iterator[str]:
    def judge_container(pod: Pod, container: Container) -> Iterator[str]:
        if is_written_out(container):
            yield from judge(pod, container)

    def judge_pod(pod: Pod) -> Iterator[str]:
        found = judge_each(pod.containers(with_init=True), partial(judge_container, pod))
        yield from _outside_system(resource, settings, found)

    yield from judge_each(pods_as_written(resource), judge_pod)


FORBID_HOST_ACCESS = ResourceRule(
    code="CS710",
    name="kubernetes-pod-forbid-host-access",
    concern="security",
    title="Pods keep off the node they run on",
    description="Outside the namespaces of node agents no pod may be privileged, use the host's "
    "network, process or IPC namespace, or mount a path of the host.",
    severity="high",
    tags=("kubernetes", "security", "pod-security"),
    remediation="Remove privileged, hostNetwork, hostPID, hostIPC and hostPath volumes: ask for "
    "GPUs by resource, for scratch space by emptyDir or a generic ephemeral volume, for shared "
    "memory by an emptyDir of medium Memory. Put node agents into a namespace of their own.",
    reason="One such pod is a way to the credentials, the memory and the disks of every other pod "
    "on the node.",
    links=(_STANDARD,),
    frameworks=(
        "Pod Security baseline",
        "CIS EKS 1.7.0 4.2.1",
        "CIS EKS 1.7.0 4.2.2",
        "CIS EKS 1.7.0 4.2.3",
        "CIS EKS 1.7.0 4.2.4",
        "CIS GKE 1.8.0 4.2.1",
    ),
    options=(_NAMESPACES,),
    development="advisory",
    reads=carries_pods,
    judge=_judge_host,
)

REQUIRE_NON_ROOT = ResourceRule(
    code="CS711",
    name="kubernetes-pod-require-non-root",
    concern="security",
    title="Containers do not run as root",
    description="Every container outside the namespaces of node agents must be kept from running "
    "as root.",
    severity="medium",
    tags=("kubernetes", "security", "pod-security"),
    remediation="Set runAsNonRoot to true and runAsUser to a number above 0 in the pod's "
    "securityContext, and set HOME, VLLM_CACHE_ROOT and HF_HOME to directories this user owns.",
    reason="Root in a container is root on the node for every flaw of the runtime or the kernel; "
    "images of model servers start as root by default.",
    links=(_STANDARD, "https://kubernetes.io/docs/tasks/configure-pod-container/security-context/"),
    frameworks=("Pod Security restricted",),
    options=(_NAMESPACES,),
    level="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_root,
)

REQUIRE_SECCOMP = ResourceRule(
    code="CS712",
    name="kubernetes-pod-require-seccomp",
    concern="security",
    title="Containers run under a seccomp profile",
    description="Every container outside the namespaces of node agents must run under "
    "RuntimeDefault or a profile of its own.",
    severity="medium",
    tags=("kubernetes", "security", "pod-security"),
    remediation="Set securityContext.seccompProfile.type to RuntimeDefault on the pod; remove "
    "Unconfined from its containers.",
    reason="Without a profile a container may use every system call, and most ways out of a "
    "container begin with a rare one.",
    links=(_STANDARD, "https://kubernetes.io/docs/tutorials/security/seccomp/"),
    frameworks=("Pod Security restricted", "CIS GKE 1.8.0 4.6.2"),
    options=(_NAMESPACES,),
    level="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_seccomp,
)

FORBID_ESCALATION = ResourceRule(
    code="CS720",
    name="kubernetes-pod-forbid-privilege-escalation",
    concern="security",
    title="Containers cannot gain rights",
    description="Every container outside the namespaces of node agents must forbid privilege "
    "escalation and drop all capabilities; it may add NET_BIND_SERVICE.",
    severity="medium",
    tags=("kubernetes", "security", "pod-security"),
    remediation="Set allowPrivilegeEscalation to false and capabilities.drop to [ALL] in the "
    "securityContext of every container, also of init containers and sidecars.",
    reason="A setuid program or a capability of the default set turns a flaw in a parser of model "
    "files into rights on the node.",
    links=(_STANDARD,),
    frameworks=("Pod Security restricted", "CIS EKS 1.7.0 4.2.5"),
    options=(_NAMESPACES,),
    level="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_escalation,
)
