"""Memory of containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from policies.reading.quantities import quantity
from policies.reading.values import Resource, at, judge_each, known, list_at, text_at
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import ResourceRule, Settings

_SHM_PATH = "/dev/shm"  # noqa: S108 - the path containers mount shared memory at


def _judge(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_pod)


def _judge_pod(pod: Pod) -> Iterator[str]:
    in_memory = {
        name: volume
        for name, volume in pod.volumes().items()
        if at(volume, "emptyDir", "medium") == "Memory"
    }

    def judge(container: Container) -> Iterator[str]:
        yield from _judge_container(pod, container, in_memory)

    if in_memory:
        yield from judge_each(pod.containers(with_init=True), judge)


def _judge_container(
    pod: Pod, container: Container, in_memory: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    mounts = {
        text_at(mount, "name"): text_at(mount, "mountPath")
        for mount in map(known, list_at(container.spec, "volumeMounts"))
        if text_at(mount, "name") in in_memory
    }
    stated_limit = at(
        container.spec,
        "resources",
        "limits",
        "memory",
        default=at(pod.spec, "resources", "limits", "memory"),
    )
    limit_bytes = quantity(stated_limit)
    total_bytes = Decimal(0)
    for name, mount_path in mounts.items():
        size = at(in_memory[name], "emptyDir", "sizeLimit")
        size_bytes = quantity(size)
        total_bytes += size_bytes or 0
        if size_bytes is None and (mount_path == _SHM_PATH or container.requests_gpu):
            yield (
                f"{pod.field('volumes')}[{name}].emptyDir has medium Memory and no readable "
                f"sizeLimit ({size!r}), mounted at {mount_path} by container "
                f"{container.name!r}: it may grow to all the pod's memory and the kernel kills "
                "the engine. Set sizeLimit, and a memory limit above it."
            )
    if limit_bytes is not None and mounts and total_bytes >= limit_bytes:
        yield (
            f"container {container.name!r} mounts {_gib(total_bytes)} GiB of memory volumes "
            f"({', '.join(mounts)}) under {container.field}.resources.limits.memory="
            f"{stated_limit!r}. Files there count as the container's memory, so filling them "
            "leaves nothing for the process and it is killed while it loads. Raise the limit "
            "above shared memory plus the engine's own memory, or lower sizeLimit."
        )


def _gib(amount_bytes: Decimal) -> str:
    return f"{float(amount_bytes) / 2**30:.3g}"


LIMIT_SHARED_MEMORY = ResourceRule(
    code="CS603",
    name="kubernetes-pod-limit-shared-memory",
    concern="serving",
    title="Shared memory stays below the memory limit",
    description="Memory-backed volumes must have a size limit whose sum is below the memory limit "
    "of the containers that mount them.",
    severity="high",
    tags=("kubernetes", "reliability", "memory"),
    remediation="Set emptyDir.sizeLimit on every volume with medium Memory and raise "
    "resources.limits.memory above their sum plus what the process itself needs.",
    reason="tmpfs pages are charged to the container; a limit at or under them ends in an OOM "
    "kill during load.",
    links=("https://kubernetes.io/docs/concepts/storage/volumes/#emptydir",),
    reads=carries_pods,
    judge=_judge,
)
