"""Probes that decide whether a slow start is allowed to finish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policies.reading.engines import engines_in
from policies.reading.quantities import quantity
from policies.reading.values import Resource, at, judge_each, list_at, mapping_at, whole
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

_PREDICTED = "coldstart.dev/predicted-cold-start-seconds"
# Defaults of a Kubernetes probe, core/v1 Probe.
_DEFAULT_PERIOD_SECONDS = 10
_DEFAULT_FAILURE_THRESHOLD = 3


def _judge(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        # The workers of a group serve nothing themselves: only the leader can be probed.
        if pod.runs_forever and pod.is_leader_or_only:
            yield from _judge_pod(pod, settings["minimumStartupSeconds"])

    yield from judge_each(pods_of(resource), judge_pod)


def _judge_pod(pod: Pod, minimum_seconds: float) -> Iterator[str]:
    containers = [
        container
        for container in pod.containers(with_init=False)
        if container.requests_gpu and not container.holds_a_place_only
    ]
    if not containers:
        return
    stated = at(pod.annotations, _PREDICTED)
    predicted_seconds = quantity(stated)
    if stated is not None and predicted_seconds is None:
        yield (
            f"annotation {_PREDICTED}={stated!r} is not a number of seconds, so nobody can tell "
            "whether the startup probe covers the cold start. Write the seconds as a number, such "
            'as "90".'
        )
    needed_seconds = max(float(predicted_seconds or 0), float(minimum_seconds))

    def judge_container(container: Container) -> Iterator[str]:
        if not mapping_at(container.spec, "startupProbe"):
            yield from _without_probe(pod, container)
        else:
            yield from _judge_container(container, needed_seconds)

    yield from judge_each(containers, judge_container)


def _without_probe(pod: Pod, container: Container) -> Iterator[str]:
    field = f"{container.field}.startupProbe"
    if mapping_at(container.spec, "livenessProbe"):
        yield (
            f"container {container.name!r} requests a GPU and has no {field}: its liveness probe "
            "runs while the model still loads and restarts the cold start from zero. Add a "
            "startupProbe that covers the predicted cold start."
        )
        return
    # Without a liveness probe nothing ends a slow start, and a readiness probe keeps requests away.
    if mapping_at(container.spec, "readinessProbe"):
        return
    if list_at(container.spec, "ports") or any(True for _ in engines_in(pod, container)):
        yield (
            f"container {container.name!r} serves on a GPU and has no {field} and no other probe: "
            "Kubernetes counts it as ready when its process starts, so requests reach a model that "
            "still loads, and a rollout ends the old pods too early. Add a startupProbe that "
            "covers the predicted cold start, and a readinessProbe."
        )


def _judge_container(container: Container, needed_seconds: float) -> Iterator[str]:
    field = f"{container.field}.startupProbe"
    probe = mapping_at(container.spec, "startupProbe")
    budget_seconds = _budget_seconds(probe)
    if budget_seconds < needed_seconds:
        yield (
            f"{field} of container {container.name!r} allows {budget_seconds} s "
            "(initialDelaySeconds + failureThreshold x periodSeconds), but the cold start needs "
            f"{needed_seconds:g} s: the pod is killed before it is ready, again and again. Raise "
            "failureThreshold."
        )


def _budget_seconds(probe: Any) -> int:
    period = whole(at(probe, "periodSeconds"), _DEFAULT_PERIOD_SECONDS)
    threshold = whole(at(probe, "failureThreshold"), _DEFAULT_FAILURE_THRESHOLD)
    return whole(at(probe, "initialDelaySeconds"), 0) + threshold * period


REQUIRE_STARTUP_BUDGET = ResourceRule(
    code="CS601",
    name="kubernetes-workload-require-startup-budget",
    concern="serving",
    title="The startup probe outlasts the cold start",
    description="Long-running GPU containers that have a liveness probe, or serve without any "
    "probe, must have a startupProbe whose budget covers the predicted cold start.",
    severity="high",
    tags=("kubernetes", "cold-start", "reliability"),
    remediation="Set startupProbe.failureThreshold x periodSeconds at least to the pod "
    f"template's annotation {_PREDICTED}, with room for a slow node.",
    reason="A probe that gives up early turns one slow start into an endless restart loop.",
    links=(
        "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/",
        "https://github.com/kserve/kserve/issues/5062",
    ),
    options=(
        Option(
            "minimumStartupSeconds",
            {"type": "number", "minimum": 0, "default": 0},
            0,
            "Budget every probe must reach, in seconds, also without the annotation.",
        ),
    ),
    reads=carries_pods,
    judge=_judge,
)
