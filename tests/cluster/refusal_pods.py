"""Wrong pods: what Pod Security, quota and the other admission controllers refuse."""

from __future__ import annotations

from typing import Any

from tests.cluster.refusal_rows import FORBIDDEN, INVALID, REMOVED, Place, Row

SPEC = "spec"
POD = "Pod"
CONTAINER: Place = (SPEC, "containers", 0)
SECURITY: Place = (*CONTAINER, "securityContext")
VOLUME: Place = (SPEC, "volumes", 0)


def _restricted(what: str, place: Place, value: Any, *says: str, passing: str = POD) -> Row:
    violated = 'violates PodSecurity "restricted:latest"'
    return Row(what, passing, {place: value}, FORBIDDEN, (violated, *says))


POD_SECURITY = (
    _restricted(
        "a privileged container",
        SECURITY,
        {"privileged": True, "capabilities": {"drop": ["ALL"]}},
        "must not set securityContext.privileged=true",
    ),
    _restricted(
        "a container that may gain privileges",
        (*SECURITY, "allowPrivilegeEscalation"),
        True,
        "allowPrivilegeEscalation != false",
    ),
    _restricted(
        "a container that keeps its capabilities",
        (*SECURITY, "capabilities"),
        {},
        "unrestricted capabilities",
        'must set securityContext.capabilities.drop=["ALL"]',
    ),
    _restricted(
        "an added capability",
        (*SECURITY, "capabilities", "add"),
        ["IPC_LOCK"],
        'must not include "IPC_LOCK" in securityContext.capabilities.add',
    ),
    _restricted(
        "a pod that may run as root",
        (SPEC, "securityContext", "runAsNonRoot"),
        REMOVED,
        "runAsNonRoot != true",
    ),
    _restricted(
        "a pod that runs as root", (SPEC, "securityContext", "runAsUser"), 0, "runAsUser=0"
    ),
    _restricted(
        "a container that runs as root", (*SECURITY, "runAsUser"), 0, "must not set runAsUser=0"
    ),
    _restricted(
        "a pod without a seccomp profile",
        (SPEC, "securityContext", "seccompProfile"),
        REMOVED,
        'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"',
    ),
    _restricted(
        "a container without seccomp",
        (*SECURITY, "seccompProfile"),
        {"type": "Unconfined"},
        'must not set securityContext.seccompProfile.type to "Unconfined"',
    ),
    _restricted("the node's network", (SPEC, "hostNetwork"), True, "host namespaces"),
    _restricted("the node's processes", (SPEC, "hostPID"), True, "hostPID=true"),
    _restricted("the node's shared memory", (SPEC, "hostIPC"), True, "hostIPC=true"),
    _restricted(
        "a directory of the node",
        VOLUME,
        {"name": "shm", "hostPath": {"path": "/mnt/k8s-disks/0"}},
        "restricted volume types",
        'uses restricted volume type "hostPath"',
    ),
    _restricted("a port of the node", (*CONTAINER, "ports", 0, "hostPort"), 8000, "hostPort"),
)
POD_SECURITY_OF_OTHERS = (
    _restricted(
        "a privileged container of a Job's pod",
        SECURITY,
        {"privileged": True, "capabilities": {"drop": ["ALL"]}},
        "must not set securityContext.privileged=true",
        passing="Pod of a Job",
    ),
    _restricted(
        "the disk daemon in a namespace that is not its own",
        ("metadata", "namespace"),
        "near",
        "host namespaces (hostPID=true)",
        "must not set securityContext.privileged=true",
        passing="Pod of the disk daemon",
    ),
    _restricted(
        "a warm pod with a directory of the node",
        (SPEC, "volumes"),
        [{"name": "disk", "hostPath": {"path": "/mnt"}}],
        "restricted volume types",
        passing="Pod of the warm capacity",
    ),
)

GPU = "nvidia.com/gpu"
ADMISSION = (
    Row(
        "more GPUs than the quota of the namespace has",
        POD,
        {(*CONTAINER, "resources", kind, GPU): "6" for kind in ("limits", "requests")},
        FORBIDDEN,
        ("exceeded quota: gpus, requested: requests.nvidia.com/gpu=6", "limited: ", GPU),
    ),
    Row(
        "GPUs requested and not limited",
        POD,
        {(*CONTAINER, "resources", "limits", GPU): REMOVED},
        INVALID,
        ("Limit must be set for non overcommitable resources",),
    ),
    Row(
        "fewer GPUs requested than limited",
        POD,
        {(*CONTAINER, "resources", "limits", GPU): "2"},
        INVALID,
        (GPU, "must be equal to nvidia.com/gpu limit"),
    ),
    Row(
        "half a GPU",
        POD,
        {(*CONTAINER, "resources", kind, GPU): "500m" for kind in ("limits", "requests")},
        INVALID,
        ("must be an integer",),
    ),
    Row(
        "more memory requested than limited",
        POD,
        {(*CONTAINER, "resources", "requests", "memory"): "900Gi"},
        INVALID,
        ("must be less than or equal to memory limit",),
    ),
    Row(
        "a priority class that does not exist",
        POD,
        {(SPEC, "priorityClassName"): "urgent"},
        FORBIDDEN,
        ("no PriorityClass with name urgent was found",),
    ),
    Row(
        "a service account that does not exist",
        POD,
        {(SPEC, "serviceAccountName"): "nobody"},
        FORBIDDEN,
        ('error looking up service account near/nobody: serviceaccount "nobody" not found',),
    ),
    Row(
        "a priority of a class of one's own reserved for the system",
        "PriorityClass",
        {("value",): 2_000_000_000, ("metadata", "name"): "coldstart-urgent"},
        (422, "Invalid"),
        ("maximum allowed value of a user defined priority is 1000000000",),
    ),
    Row(
        "a name kept for the system's classes",
        "PriorityClass",
        {("metadata", "name"): "system-serving"},
        INVALID,
        ("priority class names with 'system-' prefix are reserved for system use only",),
    ),
    Row(
        "an object in a namespace that does not exist",
        "Service",
        {("metadata", "namespace"): "nowhere"},
        (404, "NotFound"),
        ('namespaces "nowhere" not found',),
    ),
)
