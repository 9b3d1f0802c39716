"""Local disk of model pods: bounded, and used for what it can do."""

from __future__ import annotations

from collections.abc import Iterator

from policies.reading.engines import Engine, engines_of
from policies.reading.mounts import mount_of, mounts_of
from policies.reading.quantities import quantity
from policies.reading.values import Resource, at, judge_each, text_at
from policies.reading.workloads import Pod, carries_pods, pods_of
from policies.rule import ResourceRule, Settings

# Paths of the host that only GPUDirect Storage needs: NVIDIA's GPUDirect Storage guide.
_GDS_PATHS = ("/dev/nvidia-fs", "/etc/cufile.json")
_GDS_VARIABLE = "CUFILE_ENV_PATH_JSON"
_LOCAL = ("emptyDir", "hostPath", "ephemeral")


def _judge_scratch(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_scratch_pod)


def _judge_scratch_pod(pod: Pod) -> Iterator[str]:
    if not pod.requests_gpu:
        return
    volumes = pod.volumes()
    limits = [
        quantity(at(container.spec, "resources", "limits", "ephemeral-storage"))
        for container in pod.containers(with_init=False)
    ]
    if limits and None not in limits:
        return  # The kubelet counts a pod's directories against the sum of these.
    for name, volume in volumes.items():
        if "emptyDir" not in volume or at(volume, "emptyDir", "medium") == "Memory":
            continue
        stated = at(volume, "emptyDir", "sizeLimit")
        if quantity(stated) is None:
            yield (
                f"volume {name!r} of a GPU pod is an emptyDir without a readable sizeLimit "
                f"({pod.field('volumes')}[{name}], {stated!r}), and not every container limits "
                "ephemeral-storage: weights or caches may fill the node's disk, and the kubelet "
                "then evicts other pods and drops images that the next start needs. Set "
                "emptyDir.sizeLimit to what the directory holds at most."
            )


def _judge_gds(resource: Resource, _: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        yield from judge_each(engines_of(pod), lambda engine: _gds_without_use(pod, engine))

    yield from judge_each(pods_of(resource), judge_pod)


def _gds_without_use(pod: Pod, engine: Engine) -> Iterator[str]:
    if engine.value("load-format") != "fastsafetensors":
        return
    asked = _asks_for_gds(pod, engine)
    if asked is None:
        return
    why = _why_unused(pod, engine)
    if why:
        yield (
            f"container {engine.container.name!r} asks for GPUDirect Storage ({asked}), and {why}: "
            "the loader reads through the CPU as without it, and the driver and its setup only "
            "lengthen the start. Remove it, and compare the loaders on this disk instead."
        )


def _asks_for_gds(pod: Pod, engine: Engine) -> str | None:
    if engine.variable(_GDS_VARIABLE):
        return f"{engine.container.field}.env {_GDS_VARIABLE}"
    for mount in mounts_of(pod, engine.container):
        path = text_at(mount.volume, "hostPath", "path")
        if path.startswith(_GDS_PATHS):
            return f"{pod.field('volumes')}[{mount.name}] {path}"
    return None


def _why_unused(pod: Pod, engine: Engine) -> str | None:
    processes = engine.number("tensor-parallel-size") or 1
    if processes > 1:
        return f"vLLM turns it off with --tensor-parallel-size={processes}"
    model = engine.model or ""
    mount = mount_of(pod, engine.container, model) if model.startswith("/") else None
    if mount and any(kind in mount.volume for kind in _LOCAL):
        return f"the weights at {model} lie on the node's own file system (volume {mount.name!r})"
    return None


FORBID_GDS_ON_LOCAL_DISK = ResourceRule(
    code="CS305",
    name="kubernetes-pod-forbid-gds-on-local-disk",
    concern="weights",
    title="GPUDirect Storage is used where it works",
    description="An engine that loads with fastsafetensors must not ask for GPUDirect Storage with "
    "weights on the node's own disk or with tensor parallelism.",
    severity="low",
    tags=("vllm", "weights", "kubernetes"),
    remediation="Remove the cuFile configuration and the nvidia-fs device, and use the loader that "
    "is fastest on the disk: instanttensor, runai_streamer or prefetch.",
    reason="On a node's ext4 or XFS array the loader falls back to ordinary reads, and vLLM never "
    "uses GPUDirect Storage with several processes.",
    links=(
        "https://github.com/Manikandan-t/gpu-autoscaling-accelerator",
        "https://docs.vllm.ai/en/latest/models/extensions/fastsafetensor/",
    ),
    level="advisory",
    production="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_gds,
)

REQUIRE_SCRATCH_LIMITS = ResourceRule(
    code="CS306",
    name="kubernetes-pod-require-scratch-limits",
    concern="weights",
    title="Scratch directories of model pods are bounded",
    description="Every emptyDir on disk in a pod that requests a GPU must have a sizeLimit, unless "
    "all containers limit ephemeral-storage.",
    severity="medium",
    tags=("kubernetes", "weights", "reliability"),
    remediation="Set emptyDir.sizeLimit on each directory and request ephemeral-storage for their "
    "sum, so that the pod is only placed where they fit.",
    reason="Weights of tens of gigabytes in an unbounded directory end in disk pressure, which "
    "evicts pods and deletes cached images.",
    links=(
        "https://kubernetes.io/docs/concepts/storage/volumes/#emptydir",
        "https://kubernetes.io/docs/concepts/storage/ephemeral-storage/",
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_scratch,
)
