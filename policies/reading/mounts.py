"""Which volume a path of a container lies on, and whether several nodes write to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.values import (
    Resource,
    at,
    is_true,
    known,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.reading.workloads import Container, Pod

_SHARED_MODE = "ReadWriteMany"
# Drivers of file systems that are reached over the network.
_NETWORK_DRIVERS = frozenset(
    {
        "blob.csi.azure.com",
        "efs.csi.aws.com",
        "file.csi.azure.com",
        "filestore.csi.storage.gke.io",
        "fsx.csi.aws.com",
        "gcsfuse.csi.storage.gke.io",
        "nfs.csi.k8s.io",
        "s3.csi.aws.com",
    }
)


@dataclass(frozen=True)
class Mount:
    """A volume at a path of a container."""

    name: str
    path: str
    spec: Mapping[str, Any]
    volume: Mapping[str, Any]

    @property
    def read_only(self) -> bool:
        return is_true(at(self.spec, "readOnly"))


def mounts_of(pod: Pod, container: Container) -> Iterator[Mount]:
    """What a container mounts, with the volume of the pod behind each mount."""
    volumes = pod.volumes()
    for entry in map(known, list_at(container.spec, "volumeMounts")):
        name, path = text_at(entry, "name"), text_at(entry, "mountPath")
        if path:
            yield Mount(name, path.rstrip("/") or "/", entry, volumes.get(name, {}))


def mount_of(pod: Pod, container: Container, path: str) -> Mount | None:
    """The mount a path lies on: the longest mount path above it."""
    return max(
        (mount for mount in mounts_of(pod, container) if is_below(path, mount.path)),
        key=lambda mount: len(mount.path),
        default=None,
    )


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it."""
    return f"{path.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")


def shared_claims(resources: Iterable[Resource]) -> Iterator[tuple[str, str]]:
    """Namespace and name of every claim that several nodes may write to."""
    for resource in resources:
        if resource.kind != "PersistentVolumeClaim" or resource.group:
            continue
        if _SHARED_MODE in texts(list_at(resource.properties, "spec", "accessModes")):
            yield resource.namespace, resource.object_name


def is_network_volume(mount: Mount, namespace: str, claims: Iterable[tuple[str, str]]) -> bool:
    """Whether a volume is a network file system: inline, or a claim that many nodes may write."""
    if mapping_at(mount.volume, "nfs"):
        return True
    if text_at(mount.volume, "csi", "driver") in _NETWORK_DRIVERS:
        return True
    claim = text_at(mount.volume, "persistentVolumeClaim", "claimName")
    return bool(claim) and (namespace, claim) in set(claims)
