"""Pods that take over the node they run on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from policies.reading.values import Resource, at, is_true, known, list_at, mapping_at, texts
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

_ENVIRONMENT_LABEL = "coldstart.dev/environment"
_DISK_COMMAND = re.compile(
    r"\b(mkfs(?:\.\w+)?|mdadm|wipefs|parted|sfdisk|sgdisk|fdisk|pvcreate|vgcreate|lvcreate|"
    r"nvme\s+format|blkdiscard|mount\s+(?:-\S+\s+)*/dev/)"
)
_BLOCK_DEVICE = re.compile(r"/dev/(?:nvme|sd|xvd|vd|md|mapper|disk|dm-)\S*")
_EVERY_DEVICE = re.compile(r"/(?:dev/?)?")
# Monitors and driver installers mount all of /dev as well; only these set disks up.
_STORAGE_NAME = re.compile(r"nvme|raid|mdadm|\blvm|ssd|disk|format|storage|volume-provisioner")
# A CSI node driver registers itself here; it needs /dev to attach volumes, not to set disks up.
_CSI_REGISTRATION = "/var/lib/kubelet/plugins_registry"


def _judge(resource: Resource, settings: Settings) -> Iterator[str]:
    if resource.kind != "DaemonSet" or _is_development(resource, settings):
        return
    name = f"{resource.namespace}/{resource.object_name}"
    if name in settings["allowedDaemonSets"]:
        return
    for pod in pods_of(resource):
        power = _power_over_node(pod)
        work = _work_on_disks(pod) if power else None
        if power and work:
            yield (
                f"DaemonSet {name} {work} with {power}, outside development. Pod Security and "
                "admission rules of a production cluster refuse it, so nodes stay without their "
                "fast disk, and whoever controls its image controls every node. Let the node do "
                "it: instanceStorePolicy: RAID0 on the EC2NodeClass, or nodeadm localStorage in "
                "the user data."
            )


def _is_development(resource: Resource, settings: Settings) -> bool:
    # A label is set by whoever writes the manifest: it can only make the judgement stricter.
    label = at(resource.properties, "metadata", "labels", _ENVIRONMENT_LABEL)
    return settings["environment"] == "dev" and label in (None, "dev")


def _power_over_node(pod: Pod) -> str | None:
    if is_true(at(pod.spec, "hostPID")):
        return f"{pod.field('hostPID')}=true"
    for container in pod.containers(with_init=True):
        security = mapping_at(container.spec, "securityContext")
        if is_true(at(security, "privileged")):
            return f"{container.field}.securityContext.privileged=true"
        if "SYS_ADMIN" in texts(list_at(security, "capabilities", "add")):
            return f"{container.field}.securityContext.capabilities.add=SYS_ADMIN"
    return None


def _work_on_disks(pod: Pod) -> str | None:
    paths = [_host_path(volume) for volume in pod.volumes().values()]
    attaches_only = any(path.startswith(_CSI_REGISTRATION) for path in paths)
    wanted = [_BLOCK_DEVICE, *([_EVERY_DEVICE] if _is_named_for_storage(pod) else [])]
    for path in paths if not attaches_only else []:
        if path and any(pattern.fullmatch(path) for pattern in wanted):
            return f"mounts the host's block devices (hostPath {path})"
    for container in pod.containers(with_init=True):
        command = _disk_command(container)
        if command:
            return f"runs {command!r} in container {container.name!r}"
    return None


def _is_named_for_storage(pod: Pod) -> bool:
    names = [pod.owner.object_name]
    for container in pod.containers(with_init=True):
        names += [container.name, str(at(container.spec, "image", default=""))]
    return any(_STORAGE_NAME.search(name.lower()) for name in names)


def _disk_command(container: Container) -> str | None:
    words = texts([*list_at(container.spec, "command"), *list_at(container.spec, "args")])
    match = _DISK_COMMAND.search("\n".join(words))
    return match[1] if match else None


def _host_path(volume: Mapping[str, object]) -> str:
    return str(known(at(volume, "hostPath", "path", default="")))


FORBID_PRIVILEGED_DISK_SETUP = ResourceRule(
    code="CS701",
    name="kubernetes-daemonset-forbid-privileged-disk-setup",
    concern="security",
    title="No privileged DaemonSet sets up disks outside development",
    description="A DaemonSet must not format or mount the node's disks with host privileges "
    "outside a development environment.",
    severity="critical",
    tags=("kubernetes", "security", "node-storage"),
    remediation="Set instanceStorePolicy: RAID0 on the EC2NodeClass, or "
    "spec.instance.localStorage in the NodeConfig of the user data, and remove the DaemonSet. "
    "For a development stack set this policy's 'environment' to 'dev'.",
    reason="Pod Security 'baseline' refuses privileged pods; the disk then stays unformatted.",
    links=("https://kubernetes.io/docs/concepts/security/pod-security-standards/",),
    frameworks=("CIS EKS 1.7.0 4.2.1", "Pod Security baseline"),
    development="advisory",
    options=(
        Option(
            "environment",
            {"type": "string", "enum": ["prod", "dev"], "default": "prod"},
            "prod",
            "'dev' allows such DaemonSets, unless they are labelled for another environment.",
        ),
        Option(
            "allowedDaemonSets",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Reviewed DaemonSets, each as 'namespace/name'.",
        ),
    ),
    reads=carries_pods,
    judge=_judge,
)
