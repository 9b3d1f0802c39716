"""How weights come to the GPU: over the network page by page, or copied before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from policies.reading.command_lines import DOWNLOADS, commands_of
from policies.reading.engines import Engine, engines_of
from policies.reading.mounts import Mount, is_network_volume, mount_of, mounts_of, shared_claims
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    mapping_at,
)
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

# Formats of vLLM's default loader, which maps safetensors files lazily.
_DEFAULT_LOADER = frozenset({"auto", "hf", "mistral", "safetensors"})
_STRATEGY = "safetensors-load-strategy"
_MULTITHREAD = re.compile(r"enable[_-]multithread[_-]load", re.IGNORECASE)
_COPIES = re.compile(r"\bcp -\S*[raR]|\brsync\b|\bcurl\b|\bwget\b|\bgit clone\b")
_FETCHER = re.compile(
    r"download|fetch|prefetch|storage-initializer|model-?(?:cache|copy|sync|pull)", re.IGNORECASE
)


def _judge_loading(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [item for item in resources if item.is_kubernetes]
    claims, unknown_claims = gather(kubernetes, lambda item: shared_claims([item]))

    def judge(workload: Resource) -> Iterator[Finding]:
        def judge_pod(pod: Pod) -> Iterator[Finding]:
            for engine in engines_of(pod):
                mount = _weights_mount(pod, engine)
                how = _lazily(engine) if mount else None
                if mount is None or how is None:
                    continue
                if is_network_volume(mount, workload.namespace, claims):
                    yield Finding(workload, _slow(workload, engine, mount, how))
                elif unknown_claims and mapping_at(mount.volume, "persistentVolumeClaim"):
                    raise NotYetKnown(*unknown_claims)

        yield from judge_each(pods_of(workload), judge_pod)

    yield from judge_each(kubernetes, judge)


def _weights_mount(pod: Pod, engine: Engine) -> Mount | None:
    directory = engine.weights_directory
    return mount_of(pod, engine.container, directory) if directory else None


def _lazily(engine: Engine) -> str | None:
    """What makes an engine read lazily, in words; None where something else is stated."""
    if (engine.value("load-format") or "auto") not in _DEFAULT_LOADER or not engine.tells_all:
        return None
    strategy = engine.value(_STRATEGY)
    if strategy == "lazy":
        return f"--{_STRATEGY}=lazy"
    if strategy is not None or any(_MULTITHREAD.search(word) for word in engine.words):
        return None
    return f"the default loader without --{_STRATEGY}"


def _slow(workload: Resource, engine: Engine, mount: Mount, how: str) -> str:
    return (
        f"{workload.kind} {workload.object_name} reads its weights from {engine.weights_directory} "
        f"on network volume {mount.name!r} ({mount.path}) with {how} "
        f"({engine.container.field}.args): the files are mapped and read page by page in small "
        "requests, which can take minutes; vLLM prefetches by itself only on NFS and Lustre, in "
        "recent versions, and when the checkpoint fits the free memory. Set "
        f"--{_STRATEGY}=prefetch or eager, use --load-format=runai_streamer, or copy the weights "
        "to the node's own disk."
    )


def _judge_prefetch(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_prefetch_pod)


def _judge_prefetch_pod(pod: Pod) -> Iterator[str]:
    scratch = {
        mount.name
        for engine in engines_of(pod)
        if (mount := _weights_mount(pod, engine)) and _is_empty_at_start(mount)
    }

    def judge(container: Container) -> Iterator[str]:
        if not container.is_init or at(container.spec, "restartPolicy") == "Always":
            return
        filled = [mount.name for mount in mounts_of(pod, container) if mount.name in scratch]
        if filled and _fetches(container):
            yield (
                f"init container {container.name!r} ({container.field}) fills volume "
                f"{filled[0]!r} with the weights before anything else may start: the engine's "
                "image is only pulled afterwards, so download and pull add up in every cold start. "
                "Stream the weights with --load-format=runai_streamer, or make it a native "
                "sidecar (restartPolicy: Always) that works while the image is pulled."
            )

    if scratch:
        yield from judge_each(pod.containers(with_init=True), judge)


def _is_empty_at_start(mount: Mount) -> bool:
    """Whether every pod starts with an empty directory there, so that it is filled each time."""
    return "emptyDir" in mount.volume or "ephemeral" in mount.volume


def _fetches(container: Container) -> bool:
    image = str(at(container.spec, "image", default="")).rsplit("/", 1)[-1]
    if _FETCHER.search(container.name) or _FETCHER.search(image):
        return True
    lines = [" ".join(words) for words in commands_of(container)]
    return any(DOWNLOADS.search(line) or _COPIES.search(line) for line in lines)


REQUIRE_EAGER_LOADING = StackRule(
    code="CS301",
    name="kubernetes-pod-require-eager-network-loading",
    concern="weights",
    title="Weights on network file systems are read ahead",
    description="An engine whose weights lie on a network file system must state a loader or a "
    "strategy that reads ahead.",
    severity="medium",
    tags=("vllm", "weights", "cold-start"),
    remediation="Add --safetensors-load-strategy=prefetch (or eager), or --load-format="
    "runai_streamer with a concurrency of 16 or more.",
    reason="The default loader maps files, and page faults over a network reach a small part of "
    "its throughput; measured cures are 3 to 20 times faster.",
    links=(
        "https://docs.vllm.ai/en/latest/configuration/engine_args/",
        "https://github.com/vllm-project/vllm/pull/36012",
        "https://github.com/digitalocean/scale-with-simplicity",
    ),
    level="advisory",
    production="advisory",
    development="advisory",
    judge=_judge_loading,
)

FORBID_SERIAL_PREFETCH = ResourceRule(
    code="CS302",
    name="kubernetes-pod-forbid-serial-weight-prefetch",
    concern="weights",
    title="Weights and image are fetched at the same time",
    description="An init container that must end must not fill the pod's scratch directory with "
    "the weights of a vLLM engine.",
    severity="medium",
    tags=("vllm", "weights", "cold-start"),
    remediation="Stream the weights from the store, or turn the init container into a native "
    "sidecar with restartPolicy: Always and let the engine wait for its file.",
    reason="Init containers run before the kubelet pulls the engine's image, so two of the longest "
    "phases of a start come one behind the other.",
    links=(
        "https://kubernetes.io/docs/concepts/workloads/pods/init-containers/",
        "https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/",
        "https://github.com/kserve/kserve/issues/4899",
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_prefetch,
)
