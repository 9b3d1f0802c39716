"""Where an engine keeps what it compiles, and whom that directory is shared with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from policies.reading.command_lines import takes_variables_from_elsewhere, variables_of
from policies.reading.engines import Engine, engines_of
from policies.reading.mounts import (
    Mount,
    is_below,
    is_network_volume,
    mount_of,
    mounts_of,
    shared_claims,
)
from policies.reading.scalers import is_autoscaler, is_scaled_object, key_of, target_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    known,
    mapping_at,
    whole,
)
from policies.reading.workloads import Pod, carries_pods, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

_OBJECT_STORES = ("s3://", "gs://", "az://")
_OWN_KINDS = ("emptyDir", "ephemeral", "configMap", "secret", "projected", "downwardAPI")
_CACHE_NAME = re.compile(
    r"(?:compil|torch|inductor|vllm|kernel)[a-z]*[-_]?(?:compile[-_]?)?cache", re.IGNORECASE
)
_CACHE_PATH = re.compile(r"/\.cache(?:/vllm)?$|torch_compile_cache|torchinductor")


def _judge_over_streamer(resource: Resource, _: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        yield from judge_each(engines_of(pod), lambda engine: _over_streamer(pod, engine))

    yield from judge_each(pods_of(resource), judge_pod)


def _over_streamer(pod: Pod, engine: Engine) -> Iterator[str]:
    streams = (engine.value("load-format") or "").startswith("runai_streamer")
    if not streams or not (engine.model or "").startswith(_OBJECT_STORES):
        return
    root = engine.cache_root
    assets = engine.variable("VLLM_ASSETS_CACHE") or (f"{root}/assets" if root else "")
    mount = mount_of(pod, engine.container, assets) if assets.startswith("/") else None
    if mount and mount.volume and not any(kind in mount.volume for kind in _OWN_KINDS):
        yield (
            f"container {engine.container.name!r} streams {engine.model} and mounts volume "
            f"{mount.name!r} at {mount.path} ({engine.container.field}.volumeMounts), which also "
            f"covers {assets}: the streamer keeps the model's files there, so pods that share the "
            "volume overwrite each other's and the cache grows with every model. Mount only "
            "torch_compile_cache below it, or set VLLM_ASSETS_CACHE to a directory of the pod."
        )


def _judge_shared(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [item for item in resources if item.is_kubernetes]
    claims, unknown_claims = gather(kubernetes, lambda item: shared_claims([item]))
    scaled, unknown_scalers = gather(
        (item for item in kubernetes if is_scaled_object(item) or is_autoscaler(item)),
        lambda item: iter([target] if (target := target_of(item)) else []),
    )

    def judge(workload: Resource) -> Iterator[Finding]:
        def judge_pod(pod: Pod) -> Iterator[Finding]:
            for engine in engines_of(pod) if pod.runs_forever else ():
                mount = _cache_mount(pod, engine)
                if mount is None or mount.read_only or _is_alone(workload, scaled):
                    continue
                if is_network_volume(mount, workload.namespace, claims):
                    yield Finding(workload, _writes(workload, engine, mount))
                elif unknown_claims and mapping_at(mount.volume, "persistentVolumeClaim"):
                    raise NotYetKnown(*unknown_claims)

        yield from judge_each(pods_of(workload), judge_pod)

    yield from judge_each(kubernetes, judge)
    if unknown_scalers:
        raise NotYetKnown(*unknown_scalers)


def _cache_mount(pod: Pod, engine: Engine) -> Mount | None:
    root = engine.cache_root
    return mount_of(pod, engine.container, f"{root}/torch_compile_cache") if root else None


def _is_alone(workload: Resource, scaled: Sequence[tuple[str, str, str]]) -> bool:
    """Whether one pod writes: one replica, and nothing that makes more of them."""
    replicas = at(workload.properties, "spec", "replicas")
    one = workload.kind in ("Deployment", "StatefulSet") and whole(replicas, 1) <= 1
    return one and key_of(workload) not in scaled


def _writes(workload: Resource, engine: Engine, mount: Mount) -> str:
    return (
        f"{workload.kind} {workload.object_name}: every pod writes its compile cache "
        f"{engine.cache_root} to volume {mount.name!r}, which all of them share over the network "
        f"({engine.container.field}.volumeMounts): temporary files are named after process "
        "numbers that repeat between containers, and what one pod writes all others load as code. "
        "Give each pod a cache of its own (emptyDir) and fill it at start from one archive that a "
        "single Job made."
    )


def _judge_path(resource: Resource, _: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        yield from judge_each(engines_of(pod), lambda engine: _unused_cache(pod, engine))

    yield from judge_each(pods_of(resource), judge_pod)


def _unused_cache(pod: Pod, engine: Engine) -> Iterator[str]:
    container = engine.container
    root = engine.cache_root
    caches = [mount for mount in mounts_of(pod, container) if _looks_like_cache(mount)]
    if not caches or root is None or takes_variables_from_elsewhere(container):
        return
    texts = [str(known(value)) for value in variables_of(container).values()]
    texts += [word.partition("=")[2] or word for word in engine.words]
    for mount in caches:
        used = is_below(root, mount.path) or is_below(mount.path, root)
        if used or any(is_below(text, mount.path) for text in texts):
            continue
        yield (
            f"container {container.name!r} mounts a compile cache at {mount.path} (volume "
            f"{mount.name!r}, {container.field}.volumeMounts) and vLLM keeps its cache in {root}: "
            "the mounted one stays empty and every start compiles again. Set VLLM_CACHE_ROOT to a "
            "directory of that mount, or mount it where HOME leads."
        )


def _looks_like_cache(mount: Mount) -> bool:
    return bool(_CACHE_NAME.search(mount.name) or _CACHE_PATH.search(mount.path))


def _judge_read_only(resource: Resource, _: Settings) -> Iterator[str]:
    def judge(engine: Engine) -> Iterator[str]:
        mount = _cache_mount(engine.pod, engine)
        if mount and mount.read_only:
            yield (
                f"container {engine.container.name!r} mounts volume {mount.name!r} read-only at "
                f"{mount.path} ({engine.container.field}.volumeMounts), where vLLM keeps its cache "
                f"({engine.cache_root}): the engine makes lock files there even when everything "
                "is compiled and stops with 'Read-only file system'. Mount a writable directory "
                "of the pod there and copy the prepared cache into it before the start."
            )

    def judge_pod(pod: Pod) -> Iterator[str]:
        yield from judge_each(engines_of(pod), judge)

    yield from judge_each(pods_of(resource), judge_pod)


FORBID_CACHE_OVER_STREAMER = ResourceRule(
    code="CS402",
    name="kubernetes-pod-forbid-cache-over-streamer",
    concern="compile-cache",
    title="A kept compile cache leaves the streamer's files alone",
    description="A volume that outlives the pod must not cover the directory in which the Run:ai "
    "streamer keeps a model's files.",
    severity="high",
    tags=("vllm", "compile-cache", "kubernetes"),
    remediation="Mount the volume at <cache root>/torch_compile_cache only, or set "
    "VLLM_ASSETS_CACHE to an emptyDir.",
    reason="The streamer writes below the same root as the compile cache, and shared files of two "
    "models or two pods damage each other.",
    links=(
        "https://docs.vllm.ai/en/latest/configuration/env_vars/",
        "https://docs.vllm.ai/en/latest/models/extensions/runai_model_streamer/",
    ),
    reads=carries_pods,
    judge=_judge_over_streamer,
)

FORBID_WRITABLE_SHARED_CACHE = StackRule(
    code="CS403",
    name="kubernetes-pod-forbid-writable-shared-cache",
    concern="compile-cache",
    title="No two pods write one compile cache",
    description="Serving pods that can have several replicas must not keep their compile cache on "
    "a volume that all of them write over the network.",
    severity="high",
    tags=("vllm", "compile-cache", "supply-chain"),
    remediation="Set VLLM_CACHE_ROOT to an emptyDir and restore a golden archive into it at pod "
    "start; let one Job per image, GPU and model make the archive.",
    reason="The cache holds code that is loaded, its temporary names collide between containers, "
    "and locks do not hold on network file systems.",
    links=(
        "https://docs.vllm.ai/en/latest/usage/security/",
        "https://github.com/vllm-project/vllm/issues/35061",
        "https://github.com/vllm-project/vllm/issues/24601",
    ),
    development="advisory",
    judge=_judge_shared,
)

REQUIRE_CACHE_PATH_IN_USE = ResourceRule(
    code="CS404",
    name="kubernetes-pod-require-cache-path-in-use",
    concern="compile-cache",
    title="The mounted compile cache is the one in use",
    description="A volume that is mounted as compile cache must lie where the engine keeps its "
    "cache by VLLM_CACHE_ROOT, XDG_CACHE_HOME or HOME.",
    severity="medium",
    tags=("vllm", "compile-cache", "cold-start"),
    remediation="Set VLLM_CACHE_ROOT to the mount's path, or move the mount to $HOME/.cache/vllm.",
    reason="A cache that nothing reads looks like an optimisation and saves no second.",
    links=(
        "https://docs.vllm.ai/en/latest/configuration/env_vars/",
        "https://docs.vllm.ai/en/latest/design/torch_compile/",
    ),
    reads=carries_pods,
    judge=_judge_path,
)

FORBID_READ_ONLY_CACHE = ResourceRule(
    code="CS406",
    name="kubernetes-pod-forbid-read-only-cache",
    concern="compile-cache",
    title="The compile cache is writable",
    description="The directory in which a vLLM engine keeps its compile cache must not be mounted "
    "read-only.",
    severity="high",
    tags=("vllm", "compile-cache", "reliability"),
    remediation="Mount an emptyDir at VLLM_CACHE_ROOT and copy the prepared cache into it with an "
    "init container or a native sidecar.",
    reason="The compiler takes locks beside its artefacts; on a read-only file system the engine "
    "does not start.",
    links=(
        "https://docs.vllm.ai/en/latest/design/torch_compile/",
        "https://docs.vllm.ai/en/latest/configuration/env_vars/",
    ),
    reads=carries_pods,
    judge=_judge_read_only,
)
