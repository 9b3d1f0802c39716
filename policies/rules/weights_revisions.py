"""Which revision of a model is served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from policies.reading.command_lines import commands_of, is_open
from policies.reading.engines import Engine, engines_of
from policies.reading.values import Resource, judge_each
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import ResourceRule, Settings

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = frozenset({"1", "true", "yes", "on"})
# A whole call: one that a shell's word cuts off may name its revision further on.
_SNAPSHOT = re.compile(r"\b(?:snapshot_download|hf_hub_download)\s*\([^)]+\)")
_REVISION = re.compile(r"\brevision\s*=")


def _judge(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_pod)


def _judge_pod(pod: Pod) -> Iterator[str]:
    yield from judge_each(engines_of(pod), _judge_engine)
    yield from judge_each(pod.containers(with_init=True), _judge_download)


def _judge_engine(engine: Engine) -> Iterator[str]:
    if engine.hub_model is None or _is_offline(engine):
        return
    revision = engine.value("revision")
    if is_open(revision) or (revision is None and not engine.tells_all):
        return
    if revision is None or not _COMMIT.fullmatch(revision):
        says = f"--revision={revision}" if revision else "no --revision"
        yield (
            f"container {engine.container.name!r} serves {engine.hub_model} from the model hub "
            f"with {says} ({engine.container.field}.args): a push to the repository changes what "
            "the next pod serves, so replicas differ, and the compile cache no longer fits. Set "
            "--revision to the 40 characters of a commit."
        )


def _is_offline(engine: Engine) -> bool:
    """Whether the hub is never asked: what is served was pinned where it was downloaded."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_USE_MODELSCOPE")
    return any((engine.variable(name) or "").lower() in _TRUE for name in names)


def _judge_download(container: Container) -> Iterator[str]:
    for words in commands_of(container):
        says = _unpinned_command(words) or _unpinned_call(words)
        if says:
            yield (
                f"container {container.name!r} downloads a model with {says} ({container.field}): "
                "the same Job brings other files once the repository changes, and nobody can say "
                "which ones are served. Name the commit: --revision, or revision=, with its 40 "
                "characters."
            )


def _unpinned_command(words: tuple[str, ...]) -> str | None:
    for place, word in enumerate(words[:-1]):
        tool = word.rsplit("/", 1)[-1]
        if tool not in ("hf", "huggingface-cli") or words[place + 1] != "download":
            continue
        rest = words[place + 2 :]
        if "--repo-type" in rest or any(item.startswith("--repo-type=") for item in rest):
            return None
        stated = [item.partition("=")[2] for item in rest if item.startswith("--revision=")]
        stated += [after for item, after in pairwise(rest) if item == "--revision"]
        revision = stated[-1] if stated else None
        if revision is None:
            return f"`{tool} download` and no --revision"
        if not is_open(revision) and not _COMMIT.fullmatch(revision):
            return f"`{tool} download` and --revision={revision}"
    return None


def _unpinned_call(words: tuple[str, ...]) -> str | None:
    for word in words:
        if _SNAPSHOT.search(word) and not _REVISION.search(word):
            return "a call of huggingface_hub and no revision="
    return None


REQUIRE_PINNED_REVISION = ResourceRule(
    code="CS307",
    name="kubernetes-pod-require-pinned-model-revision",
    concern="weights",
    title="Models from the hub are pinned to a commit",
    description="An engine or a download that takes a model from the Hugging Face Hub must name "
    "the commit.",
    severity="medium",
    tags=("vllm", "weights", "supply-chain"),
    remediation="Add --revision with the full commit of the model repository to the engine or to "
    "the download, and serve with HF_HUB_OFFLINE=1.",
    reason="A branch of a model repository moves: two replicas started a day apart may serve "
    "different weights.",
    links=(
        "https://huggingface.co/docs/huggingface_hub/guides/download",
        "https://docs.vllm.ai/en/latest/configuration/engine_args/",
    ),
    level="advisory",
    production="mandatory",
    development="disabled",
    reads=carries_pods,
    judge=_judge,
)
