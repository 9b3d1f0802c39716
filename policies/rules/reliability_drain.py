"""Whether a replica and a node get the time to stop that they need, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from policies.reading.engines import engines_in
from policies.reading.node_pools import is_gpu_pool, is_node_pool_type
from policies.reading.quantities import quantity
from policies.reading.values import Resource, at, judge_each, list_at, mapping_at, texts, whole
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

# Default of terminationGracePeriodSeconds, core/v1 PodSpec.
_DEFAULT_GRACE_SECONDS = 30
# Default of NodePool spec.template.spec.expireAfter, karpenter.sh/v1.
_DEFAULT_EXPIRY = "720h"
_AUTO_MODE = "eks.amazonaws.com"
_SLEEP = re.compile(r"(?<![\w.-])sleep\s+(\d{1,6}(?:\.\d{1,3})?)([smh]?)(?![\w.])")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
# What follows may run any number of times, or not at all.
_UNCERTAIN = re.compile(r"\b(?:while|until|for|if|case)\b|\|\|")


def _judge_grace(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        if not pod.runs_forever:
            return
        grace_seconds = whole(at(pod.spec, "terminationGracePeriodSeconds"), _DEFAULT_GRACE_SECONDS)

        def judge_container(container: Container) -> Iterator[str]:
            yield from _judge_container(pod, container, grace_seconds, settings["teardownSeconds"])

        yield from judge_each(pod.containers(with_init=False), judge_container)

    yield from judge_each(pods_of(resource), judge_pod)


def _judge_container(
    pod: Pod, container: Container, grace_seconds: int, teardown_seconds: float
) -> Iterator[str]:
    hook_seconds = _hook_seconds(mapping_at(container.spec, "lifecycle", "preStop"))
    drain_seconds = max(
        (engine.number("shutdown-timeout") or 0 for engine in engines_in(pod, container)), default=0
    )
    if not hook_seconds and not drain_seconds:
        return
    needed_seconds = hook_seconds + drain_seconds + float(teardown_seconds)
    # A hook that ends with the grace period leaves the process no time at all.
    if needed_seconds < grace_seconds or (drain_seconds and needed_seconds == grace_seconds):
        return
    parts = [f"preStop sleeps {hook_seconds:g} s"] if hook_seconds else []
    parts += [f"--shutdown-timeout lets requests run on for {drain_seconds} s"] * bool(
        drain_seconds
    )
    parts += [f"{teardown_seconds:g} s go to the exit"] if teardown_seconds else []
    stated = at(pod.spec, "terminationGracePeriodSeconds") is not None
    yield (
        f"{pod.field('terminationGracePeriodSeconds')} is {grace_seconds}"
        f"{'' if stated else ' by default'}, but container {container.name!r} takes "
        f"{needed_seconds:g} s to stop: {', '.join(parts)}. The kubelet kills it before, with "
        "requests still running, on every rollout, scale-in and drained node. Raise "
        f"terminationGracePeriodSeconds above {needed_seconds:g}."
    )


def _hook_seconds(hook: Any) -> float:
    """Seconds a preStop hook surely takes; what hangs on a condition counts for nothing."""
    seconds = quantity(at(hook, "sleep", "seconds"))
    if seconds is not None:
        return float(seconds)
    script = " ".join(texts(list_at(hook, "exec", "command")))
    certain = _UNCERTAIN.split(script, maxsplit=1)[0]
    return sum(float(match[1]) * _SECONDS[match[2]] for match in _SLEEP.finditer(certain))


def _judge_node_grace(resource: Resource, _: Settings) -> Iterator[str]:
    spec = mapping_at(resource.properties, "spec", "template", "spec")
    # EKS Auto Mode ends every node itself after 21 days.
    if at(spec, "nodeClassRef", "group") == _AUTO_MODE or not is_gpu_pool(resource):
        return
    if at(spec, "terminationGracePeriod") is not None:
        return
    stated = at(spec, "expireAfter")
    if stated == "Never":
        return
    when = f"expireAfter={stated}" if stated else f"expireAfter is {_DEFAULT_EXPIRY} by default"
    yield (
        f"GPU NodePool {resource.object_name} has no spec.template.spec.terminationGracePeriod, "
        f"and {when}. An expired node with one pod that a PodDisruptionBudget or "
        "karpenter.sh/do-not-disrupt holds takes no new pods and never goes, while its GPUs are "
        "paid for. Set terminationGracePeriod to the longest request plus the drain, such as 1h."
    )


REQUIRE_DRAIN_GRACE = ResourceRule(
    code="CS904",
    name="kubernetes-pod-require-drain-grace",
    concern="reliability",
    title="The grace period outlasts the drain",
    description="terminationGracePeriodSeconds must cover what the preStop hook and the engine's "
    "shutdown timeout take together.",
    severity="high",
    tags=("kubernetes", "reliability", "serving"),
    remediation="Set terminationGracePeriodSeconds to the preStop hook's seconds plus "
    "--shutdown-timeout plus some seconds for the engine's exit.",
    reason="The grace period counts from the deletion of the pod, hook included; at its end the "
    "kubelet kills the engine and every stream it still serves.",
    links=(
        "https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow",
        "https://github.com/vllm-project/vllm/pull/43208",
        "https://github.com/ai-dynamo/dynamo/issues/13559",
    ),
    options=(
        Option(
            "teardownSeconds",
            {"type": "number", "minimum": 0, "default": 0},
            0,
            "Seconds an engine takes to exit after its last request, added to what it needs.",
        ),
    ),
    reads=carries_pods,
    judge=_judge_grace,
)

REQUIRE_NODE_GRACE = ResourceRule(
    code="CS907",
    name="karpenter-nodepool-require-termination-grace",
    concern="reliability",
    title="An expired GPU node goes in the end",
    description="A GPU NodePool whose nodes expire must have a terminationGracePeriod.",
    severity="medium",
    tags=("karpenter", "reliability", "cost"),
    remediation="Set spec.template.spec.terminationGracePeriod, longer than the longest pod's "
    "own grace period; or expireAfter: Never, and replace nodes by drift.",
    reason="Expiry begins to drain whatever the pods say, but without a terminationGracePeriod it "
    "waits for ever for a pod that may not be evicted.",
    links=(
        "https://karpenter.sh/docs/concepts/disruption/#terminationgraceperiod",
        "https://github.com/kubernetes-sigs/karpenter/pull/916",
    ),
    level="advisory",
    development="advisory",
    reads=is_node_pool_type,
    judge=_judge_node_grace,
)
