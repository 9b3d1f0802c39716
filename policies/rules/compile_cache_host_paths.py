"""Host directories of GPU pods that do not lie on the node's fast disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from policies.reading.mounts import is_below, mounts_of
from policies.reading.node_pools import is_node_pool
from policies.reading.nodes import NodeDefinition, defines_nodes
from policies.reading.scheduling import placement_of, pool_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    gather,
    judge_each,
    mapping_at,
    text_at,
)
from policies.reading.workloads import Pod, pods_of
from policies.rule import Finding, Settings, StackRule

# What `apiclient ephemeral-storage bind` binds without --dirs on a Kubernetes variant
# (bottlerocket-core-kit pull requests 632 and 1001), and where the array itself is mounted.
_BOUND = (
    "/mnt/.ephemeral",
    "/var/lib/containerd",
    "/var/lib/host-containerd",
    "/var/lib/kubelet",
    "/var/lib/soci-snapshotter",
    "/var/lib/soci-snapshotter-grpc",
    "/var/log/pods",
)
# Where data is kept; everything else is devices, sockets and the system's own files.
_DATA = re.compile(r"/(?:mnt|data|opt|local|cache|caches|models?|scratch|nvme|var/lib)(?:/|$)")
_SYSTEM = re.compile(r"/opt/(?:cni|bin)(?:/|$)|/var/lib/(?:cni|calico|cilium|docker|etcd)(?:/|$)")


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [item for item in resources if item.is_kubernetes]
    bound_by_class, undecided = gather(filter(_is_class, kubernetes), _bound_directories)
    bound = dict(bound_by_class)
    if not bound and not undecided:
        return
    pools = [item for item in kubernetes if is_node_pool(item)]

    def judge(workload: Resource) -> Iterator[Finding]:
        for pod in pods_of(workload):
            if not pod.requests_gpu:
                continue
            paths = dict(_host_paths(pod))
            if paths:
                yield from _judge_pod(workload, pod, paths, pools, bound)
            if paths and undecided:
                raise NotYetKnown(*undecided)

    yield from judge_each(kubernetes, judge)


def _judge_pod(
    workload: Resource,
    pod: Pod,
    paths: Mapping[str, str],
    pools: Sequence[Resource],
    bound: Mapping[str, Sequence[str]],
) -> Iterator[Finding]:
    placement = placement_of(pod.spec)
    found = set()
    for node_pool in pools:
        pool = pool_of(node_pool)
        directories = bound.get(pool.node_class)
        if directories is None or not placement.can_run_on(pool):
            continue
        for name, path in paths.items():
            if name in found or any(is_below(path, directory) for directory in directories):
                continue
            found.add(name)
            yield Finding(
                workload,
                f"{workload.kind} {workload.object_name}: volume {name!r} is the host's {path} "
                f"({pod.field('volumes')}) and the pod may run on NodePool "
                f"{node_pool.object_name}, whose EC2NodeClass {pool.node_class} is Bottlerocket "
                "with instanceStorePolicy RAID0: only a fixed list of directories lies on the "
                "NVMe array there, so this one is on the slow EBS volume. Use an emptyDir, a "
                "directory below /var/lib/kubelet, or bind the directory with `apiclient "
                "ephemeral-storage bind --dirs`.",
            )


def _is_class(resource: Resource) -> bool:
    return defines_nodes(resource.type)


def _bound_directories(resource: Resource) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A Bottlerocket class with an array, and the directories on it; none for other classes."""
    node = NodeDefinition(resource)
    if node.instance_store_policy != "RAID0" or not node.is_bottlerocket:
        return
    settings = node.settings.bottlerocket
    if mapping_at(settings, "bootstrap-containers"):
        return  # A bootstrap container may mount and bind whatever it likes.
    yield resource.object_name, (*_BOUND, *_stated(mapping_at(settings, "bootstrap-commands")))


def _stated(commands: Mapping[str, object]) -> Iterator[str]:
    for entry in commands.values():
        lines = entry.get("commands") if isinstance(entry, Mapping) else None
        for words in lines if isinstance(lines, list) else ():
            if isinstance(words, list) and "ephemeral-storage" in words and "bind" in words:
                yield from (word for word in words if isinstance(word, str) and word[:1] == "/")


def _host_paths(pod: Pod) -> Iterator[tuple[str, str]]:
    """Volumes with a host directory for data that a GPU container mounts."""
    for container in pod.containers(with_init=True):
        for mount in mounts_of(pod, container) if container.requests_gpu else ():
            path = text_at(mount.volume, "hostPath", "path").rstrip("/")
            if _DATA.match(path) and not _SYSTEM.match(path):
                yield mount.name, path


FORBID_UNBOUND_HOST_PATH = StackRule(
    code="CS405",
    name="kubernetes-pod-forbid-unbound-host-path",
    concern="compile-cache",
    title="Host directories on Bottlerocket lie on the NVMe array",
    description="A GPU pod on Bottlerocket nodes with instanceStorePolicy RAID0 must not keep data "
    "in a host directory that is not bound to the array.",
    severity="medium",
    tags=("bottlerocket", "karpenter", "compile-cache"),
    remediation="Use an emptyDir with a sizeLimit (/var/lib/kubelet is on the array), or add the "
    "directory to `apiclient ephemeral-storage bind --dirs` in the user data.",
    reason="Bottlerocket binds a fixed list of directories to the array; any other path silently "
    "stays on the EBS volume.",
    links=(
        "https://github.com/bottlerocket-os/bottlerocket-core-kit/pull/320",
        "https://github.com/bottlerocket-os/bottlerocket-core-kit/pull/632",
    ),
    judge=_judge,
)
