"""Memory an engine needs: shared memory between its processes, and a bound for the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from policies.reading.engines import Engine, engines_of
from policies.reading.mounts import Mount, mounts_of
from policies.reading.quantities import quantity
from policies.reading.values import Resource, at, is_true, judge_each, mapping_at
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

_SHM_PATH = "/dev/shm"  # noqa: S108 - the path containers mount shared memory at
# NVIDIA asks for --shm-size=1g: NCCL user guide, troubleshooting, "Shared memory".
_MINIMUM_SHM_GIB = 1
_GIB = 2**30
# Accelerators whose processes talk to each other by other means than NCCL.
_OTHER_ACCELERATORS = ("google.com/tpu", "huawei.com/", "aws.amazon.com/neuron", "habana.ai/")


def _judge_shared_memory(resource: Resource, settings: Settings) -> Iterator[str]:
    minimum_gib = float(settings["minimumGib"])

    def judge_pod(pod: Pod) -> Iterator[str]:
        yield from judge_each(engines_of(pod), lambda item: _shared_memory(pod, item, minimum_gib))

    yield from judge_each(pods_of(resource), judge_pod)


def _shared_memory(pod: Pod, engine: Engine, minimum_gib: float) -> Iterator[str]:
    processes = engine.number("tensor-parallel-size") or 1
    if processes < 2 or is_true(at(pod.spec, "hostIPC")):
        return
    container = engine.container
    if any(name.startswith(_OTHER_ACCELERATORS) for name in _limits(container)):
        return
    mount = next((item for item in mounts_of(pod, container) if item.path == _SHM_PATH), None)
    says = f"container {container.name!r} runs vLLM with --tensor-parallel-size={processes}"
    if mount is None or not _is_memory(mount):
        lies = "no volume" if mount is None else f"volume {mount.name!r}, which is on disk,"
        yield (
            f"{says} and has {lies} at {_SHM_PATH} ({container.field}.volumeMounts): its processes "
            "exchange tensors through shared memory, which is 64 MiB without a volume, so NCCL "
            "fails or falls back. Mount an emptyDir with medium Memory and a sizeLimit there."
        )
        return
    size_bytes = quantity(at(mount.volume, "emptyDir", "sizeLimit"))
    if size_bytes is not None and size_bytes < minimum_gib * _GIB:
        yield (
            f"{says}, and volume {mount.name!r} at {_SHM_PATH} has sizeLimit="
            f"{float(size_bytes) / _GIB:.3g} GiB, under {minimum_gib:g} GiB: NCCL fails when it is "
            f"full. Raise emptyDir.sizeLimit in {pod.field('volumes')}, and the memory limit with "
            "it."
        )


def _limits(container: Container) -> Iterator[str]:
    yield from map(str, mapping_at(container.spec, "resources", "limits"))


def _is_memory(mount: Mount) -> bool:
    # A volume nobody sees here, or the node's own /dev/shm, may be memory.
    if not mapping_at(mount.volume, "emptyDir"):
        return "emptyDir" not in mount.volume and "persistentVolumeClaim" not in mount.volume
    return (
        re.fullmatch("Memory|HugePages.*", str(at(mount.volume, "emptyDir", "medium"))) is not None
    )


def _judge_limits(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_limits_pod)


def _judge_limits_pod(pod: Pod) -> Iterator[str]:
    def judge(container: Container) -> Iterator[str]:
        if not container.requests_gpu or container.holds_a_place_only:
            return
        stated = at(
            container.spec,
            "resources",
            "limits",
            "memory",
            default=at(pod.spec, "resources", "limits", "memory"),
        )
        if quantity(stated) is None:
            yield (
                f"container {container.name!r} requests a GPU and has no readable "
                f"{container.field}.resources.limits.memory ({stated!r}): page cache and pinned "
                "buffers of a load may take all the node's memory, and the kernel or the kubelet "
                "then ends pods at random. Set a limit above shared memory plus what the engine "
                "holds while it loads."
            )

    yield from judge_each(pod.containers(with_init=False), judge)


REQUIRE_SHARED_MEMORY = ResourceRule(
    code="CS604",
    name="kubernetes-pod-require-shared-memory",
    concern="serving",
    title="Engines on several GPUs have shared memory",
    description="A vLLM engine with tensor parallelism must mount a memory-backed volume at "
    "/dev/shm.",
    severity="high",
    tags=("kubernetes", "vllm", "memory"),
    remediation="Add a volume emptyDir {medium: Memory, sizeLimit: 16Gi}, mount it at /dev/shm and "
    "raise resources.limits.memory by its size.",
    reason="Container runtimes give 64 MiB of shared memory; the processes of a tensor-parallel "
    "engine need far more to talk to each other.",
    links=(
        "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html",
        "https://docs.vllm.ai/en/latest/deployment/k8s/",
    ),
    options=(
        Option(
            "minimumGib",
            {"type": "number", "minimum": 0, "default": _MINIMUM_SHM_GIB},
            _MINIMUM_SHM_GIB,
            "Least size of shared memory, in GiB, where the volume states a size.",
        ),
    ),
    reads=carries_pods,
    judge=_judge_shared_memory,
)

REQUIRE_MEMORY_LIMITS = ResourceRule(
    code="CS609",
    name="kubernetes-pod-require-memory-limits",
    concern="serving",
    title="GPU containers have a memory limit",
    description="A container that requests a GPU must have a memory limit of its own or of its "
    "pod.",
    severity="medium",
    tags=("kubernetes", "memory", "reliability"),
    remediation="Set resources.limits.memory, and requests.memory to the same value, above shared "
    "memory plus what the engine holds while it loads.",
    reason="Without a bound one engine's load takes memory from everything on its node, and the "
    "scheduler does not know what it needs.",
    links=(
        "https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/",
        "https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/",
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_limits,
)
