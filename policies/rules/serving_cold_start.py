"""Whether a workload can keep the cold start it promises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from policies.reading.values import Resource, at, judge_each, mapping_at
from policies.reading.workloads import Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

_BUDGET = "coldstart.dev/cold-start-budget-seconds"
_WHOLE = "coldstart.dev/predicted-first-token-seconds"
_CONTAINER = "coldstart.dev/predicted-cold-start-seconds"
_LINKS = (
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/",
    "https://dev.to/manikandan_t_6d72e32ac4e8/the-gpu-cold-starts-nobody-warns-you-about-"
    "autoscaling-llm-inference-on-kubernetes-88j",
)


@dataclass(frozen=True)
class _Stated:
    """An annotation of a workload or its pods: its name, what it says, and the seconds in it."""

    name: str
    value: Any
    seconds: float | None


def _stated(pod: Pod, name: str) -> _Stated | None:
    """What the workload says of itself, or its pod template where it says nothing."""
    own = mapping_at(pod.owner.properties, "metadata", "annotations")
    value = at(own, name, default=at(pod.annotations, name))
    return None if value is None else _Stated(name, value, _seconds(value))


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _limit(resource: Resource, settings: Settings) -> Iterator[str]:
    longest = float(settings["maximumSeconds"])

    def judge_pod(pod: Pod) -> Iterator[str]:
        if not pod.runs_forever or not pod.is_leader_or_only:
            return
        found = [_stated(pod, name) for name in (_BUDGET, _WHOLE, _CONTAINER)]
        for stated in found:
            if stated is not None and stated.seconds is None:
                yield _unreadable(resource, stated)
        budget, first_token, container = found
        prediction = _readable(first_token) or _readable(container)
        if prediction is None:
            return
        promised = _readable(budget)
        if promised and _exceeds(prediction, promised.seconds):
            yield _late(resource, prediction, f"{promised.seconds:g} s of its annotation {_BUDGET}")
        elif longest and _exceeds(prediction, longest):
            yield _late(resource, prediction, f"{longest:g} s that maximumSeconds allows")

    yield from judge_each(pods_of(resource), judge_pod)


def _readable(stated: _Stated | None) -> _Stated | None:
    return None if stated is None or stated.seconds is None else stated


def _exceeds(prediction: _Stated, seconds: float | None) -> bool:
    return seconds is not None and (prediction.seconds or 0.0) > seconds


def _unreadable(resource: Resource, stated: _Stated) -> str:
    return (
        f"{resource.kind} {resource.object_name}: annotation {stated.name}={stated.value!r} is not "
        "a number of seconds, so nobody can tell whether the cold start keeps its budget. Write "
        'the seconds as a number, such as "240".'
    )


def _late(resource: Resource, prediction: _Stated, limit: str) -> str:
    part = "the start of its container alone" if prediction.name == _CONTAINER else "its cold start"
    return (
        f"{resource.kind} {resource.object_name}: {part} is predicted to take "
        f"{prediction.seconds:g} s ({prediction.name}), more than the {limit}: requests wait for a "
        "replica that comes too late. Turn on a lever that the prediction still lacks (image on "
        "the node, staged weights, compile cache, warm node), or raise the budget to what can be "
        "kept."
    )


def _require(resource: Resource, _: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        if not pod.runs_forever or not pod.is_leader_or_only:
            return
        budget = _stated(pod, _BUDGET)
        if budget is None or _stated(pod, _WHOLE) or _stated(pod, _CONTAINER):
            return
        yield (
            f"{resource.kind} {resource.object_name} has a budget, {_BUDGET}={budget.value}, and "
            "no prediction to hold against it: the budget is checked by nobody. Annotate "
            f"{_WHOLE} with the measured or predicted seconds from the scaling signal to the "
            "first token on a fresh node."
        )

    yield from judge_each(pods_of(resource), judge_pod)


LIMIT_COLD_START = ResourceRule(
    code="CS610",
    name="kubernetes-workload-limit-cold-start",
    concern="serving",
    title="The predicted cold start keeps its budget",
    description="A long-running workload whose annotations state a cold-start budget must not be "
    "predicted to start more slowly than that.",
    severity="high",
    tags=("kubernetes", "cold-start", "serving"),
    remediation=f"Lower the prediction, or raise {_BUDGET} on the workload to seconds that a "
    "start on a fresh node can keep.",
    reason="A budget that the plan already misses is missed at every scale-up, and noticed only "
    "under load.",
    links=_LINKS,
    options=(
        Option(
            "maximumSeconds",
            {"type": "number", "minimum": 0, "default": 0},
            0,
            "Longest predicted cold start of any workload, in seconds, also without a budget of "
            "its own; 0 is no limit.",
        ),
    ),
    reads=carries_pods,
    judge=_limit,
)

REQUIRE_PREDICTION = ResourceRule(
    code="CS611",
    name="kubernetes-workload-require-cold-start-prediction",
    concern="serving",
    title="A cold-start budget has a prediction to be checked against",
    description="A long-running workload whose annotations state a cold-start budget must state "
    "its predicted cold start as well.",
    severity="low",
    tags=("kubernetes", "cold-start"),
    remediation=f"Annotate the workload with {_WHOLE}, in seconds, from a plan or from "
    "measurements.",
    reason="Without a prediction a budget is a wish: nothing compares it before the deployment.",
    links=_LINKS,
    level="advisory",
    production="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_require,
)
