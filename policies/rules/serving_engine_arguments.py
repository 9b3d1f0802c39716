"""Arguments with which an engine does not start, or does something else than meant."""

from __future__ import annotations

from collections.abc import Iterator

from policies.reading.command_lines import variables_of
from policies.reading.engine_names import removed
from policies.reading.engines import Engine, engines_of
from policies.reading.values import Resource, judge_each
from policies.reading.workloads import Pod, carries_pods, pods_of
from policies.rule import ResourceRule, Settings

# Flags whose empty value means "none" in vLLM's own parser, so that it starts.
_MAY_BE_EMPTY = frozenset(
    {
        "allowed-local-media-path",
        "reasoning-parser",
        "reasoning-parser-plugin",
        "root-path",
        "tool-parser-plugin",
    }
)


def _judge_empty(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_empty_pod)


def _judge_empty_pod(pod: Pod) -> Iterator[str]:
    yield from judge_each(engines_of(pod), _empty_arguments)


def _empty_arguments(engine: Engine) -> Iterator[str]:
    container = engine.container
    for name, value in engine.flags.items():
        if value is not None and not value.strip() and name not in _MAY_BE_EMPTY:
            yield (
                f"container {container.name!r} starts vLLM with --{name} and an empty value "
                f"({container.field}.args): the engine takes the empty text for the setting and "
                "stops with an error at every start. Leave the flag out when there is nothing to "
                "set."
            )
    if any(not word.strip() and not _follows_flag(engine, place) for place, word in _words(engine)):
        yield (
            f"container {container.name!r} starts vLLM with an empty argument of its own "
            f"({container.field}.args): no flag takes it, so the engine stops at every start. "
            "Remove the empty item; a template that has nothing to add must add no item."
        )


def _words(engine: Engine) -> list[tuple[int, str]]:
    return list(enumerate(engine.words))


def _follows_flag(engine: Engine, place: int) -> bool:
    before = engine.words[place - 1] if place else ""
    return before.startswith("-") and "=" not in before


def _judge_removed(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_removed_pod)


def _judge_removed_pod(pod: Pod) -> Iterator[str]:
    yield from judge_each(engines_of(pod), _removed_names)


def _removed_names(engine: Engine) -> Iterator[str]:
    container = engine.container
    for name, gone in removed("flags").items():
        stated = next((word for word in (name, f"no-{name}") if word in engine.flags), None)
        if stated and engine.is_without(gone.gone):
            yield (
                f"container {container.name!r} starts vLLM with --{stated}, which is gone since "
                f"vLLM {gone.version}{_unless(engine)}: the engine stops with 'unrecognized "
                f"arguments' at every start. Change {container.field}.args: {gone.instead}."
            )
    for name in variables_of(container):
        gone = removed("variables").get(name)
        if gone and engine.is_without(gone.gone):
            yield (
                f"container {container.name!r} sets {name} in {container.field}.env, which vLLM "
                f"no longer reads since {gone.version}{_unless(engine)}: the setting is "
                f"silently without effect. Change it: {gone.instead}."
            )


def _unless(engine: Engine) -> str:
    return "" if engine.version else ", and the image's tag names no older version"


FORBID_EMPTY_ARGUMENTS = ResourceRule(
    code="CS606",
    name="kubernetes-pod-forbid-empty-engine-arguments",
    concern="serving",
    title="No engine flag has an empty value",
    description="A vLLM engine must not be started with an empty argument, as `--quantization ''` "
    "from a template without a value.",
    severity="high",
    tags=("kubernetes", "vllm", "reliability"),
    remediation="Leave a flag out when it has no value; make the template add flag and value "
    "together or not at all.",
    reason="The engine reads the empty text as a value, refuses it and never starts.",
    links=("https://docs.vllm.ai/en/latest/configuration/engine_args/",),
    reads=carries_pods,
    judge=_judge_empty,
)

FORBID_REMOVED_FLAGS = ResourceRule(
    code="CS607",
    name="kubernetes-pod-forbid-deprecated-engine-flags",
    concern="serving",
    title="Engine flags and variables exist in the engine's version",
    description="A vLLM engine must not be given flags or variables that its version no longer "
    "has; images of an older or an unreadable version are left alone.",
    severity="medium",
    tags=("kubernetes", "vllm", "reliability"),
    remediation="Replace the flag or variable as the message says, or pin the image to the version "
    "that still has it.",
    reason="vLLM removes deprecated flags after two minor releases: a removed flag stops the "
    "start, a removed variable is ignored.",
    links=(
        "https://docs.vllm.ai/en/latest/contributing/deprecation_policy/",
        "https://github.com/vllm-project/vllm/pull/29402",
        "https://github.com/vllm-project/vllm/pull/36216",
        "https://github.com/vllm-project/vllm/pull/32812",
    ),
    reads=carries_pods,
    judge=_judge_removed,
)
