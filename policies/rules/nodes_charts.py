"""Values of the charts that nodes depend on: Spegel and Karpenter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from policies.reading.charts import chart_name, chart_source, has_value_files
from policies.reading.durations import milliseconds
from policies.reading.node_pools import is_gpu_pool, is_node_pool, taints_in
from policies.reading.nodes import node_definition
from policies.reading.peer_mirrors import (
    is_chart,
    is_spegel,
    placement_of_spegel,
)
from policies.reading.scheduling import Placement, Pool, pool_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.reading.workloads import Container, carries_pods, pods_of
from policies.rule import Finding, Option, ResourceRule, Settings, StackRule

# Karpenter's kubelets register with it; it goes when Karpenter has synchronised the node.
_UNREGISTERED = {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}
# charts/spegel/values.yaml, v0.7.1 to v0.7.4, and the default of the program's flag.
_RESOLVE_TIMEOUT = "20ms"
_RESOLVE_FLAG = "--mirror-resolve-timeout"
_RESOLVE_VARIABLE = "MIRROR_RESOLVE_TIMEOUT"
# containerd's dial_timeout in the hosts.toml that Spegel v0.7.4 writes (pkg/oci/containerd.go).
_SHORTEST_MILLISECONDS = 200
# Spegel v0.7.4 ends the look-up of a manifest after 3 s whatever is set (pkg/registry).
_LONGEST_MILLISECONDS = 3000
# Karpenter's providers whose charts have the same name and no queue.
_OTHER_PROVIDERS = ("azure", "mcr.microsoft.com", "/aks/", "gcp", "alibaba")
_QUEUE_VARIABLE = "INTERRUPTION_QUEUE"
_QUEUE_FLAG = "--interruption-queue"
_CONTROLLER_IMAGE = "karpenter/controller"


def _judge_tolerations(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    node_pools = list(filter(is_node_pool, resources))
    if not node_pools:
        return
    without_mirror, undecided = gather(resources, _classes_without_mirror)

    def judge(candidate: Resource) -> Iterator[Finding]:
        if not is_spegel(candidate):
            return
        placement = placement_of_spegel(candidate)
        yield from judge_each(node_pools, lambda pool: judge_pool(candidate, placement, pool))

    def judge_pool(
        spegel: Resource, placement: Placement, node_pool: Resource
    ) -> Iterator[Finding]:
        if not is_gpu_pool(node_pool):
            return
        pool = pool_of(node_pool)
        selected = replace(placement, tolerations=None).can_run_on(pool)
        if not selected or pool.node_class in without_mirror:
            return
        refused = list(_refused(placement, node_pool))
        if refused and undecided:
            raise NotYetKnown(*undecided)
        if refused:
            yield Finding(spegel, _intolerant(spegel, pool.name, refused))

    yield from judge_each(resources, judge)


def _classes_without_mirror(resource: Resource) -> Iterator[str]:
    """Node classes whose containerd does not read a peer mirror, so that none is wanted there."""
    node = node_definition(resource)
    if node and resource.is_kubernetes and (node.is_bottlerocket or node.settings.soci_field):
        yield resource.object_name


def _refused(placement: Placement, node_pool: Resource) -> Iterator[str]:
    """Taints of a new node of the pool that keep the pod away."""
    anywhere = Placement(((),), placement.tolerations)
    for taint in (
        *taints_in(node_pool),
        *taints_in(node_pool, "startupTaints"),
        _UNREGISTERED,
    ):
        if not anywhere.can_run_on(Pool("", "", taints=(taint,))):
            yield f"{text_at(taint, 'key')}:{text_at(taint, 'effect')}"


def _intolerant(spegel: Resource, pool: str, refused: Sequence[str]) -> str:
    field = "values.tolerations" if is_chart(spegel) else "spec.template.spec.tolerations"
    return (
        f"{field} of Spegel do not tolerate {', '.join(refused)}, taints of a new node of GPU "
        f"NodePool {pool}. The mirror then starts there no sooner than the pods that pull, or "
        "never, and their images come from the registry. Leave the chart's tolerations as they "
        "are (they tolerate everything), or set [{operator: Exists}]."
    )


def _judge_resolve_timeout(resource: Resource, settings: Settings) -> Iterator[str]:
    if not is_spegel(resource):
        return
    found = _chart_timeout(resource) if is_chart(resource) else _program_timeout(resource)
    if found is None:
        return
    field, stated = found
    waits = milliseconds(stated or _RESOLVE_TIMEOUT)
    if waits is None:
        return
    shown = f"{field}={stated}" if stated else f"{field} is not set (default {_RESOLVE_TIMEOUT})"
    shortest, longest = settings["shortestMilliseconds"], settings["longestMilliseconds"]
    if waits < shortest:
        yield (
            f"{shown}, less than {shortest:g} ms. A peer in another zone cannot answer in that "
            "time, so Spegel gives up and containerd pulls from the registry, without an error. "
            "Set spegel.mirrorResolveTimeout: 1s."
        )
    elif waits > longest:
        yield (
            f"{shown}, more than {longest:g} ms. Every layer that no peer has waits this long "
            "before the registry is asked, so the first node with a new image starts later than "
            "without Spegel. Set spegel.mirrorResolveTimeout: 1s."
        )


def _chart_timeout(resource: Resource) -> tuple[str, str] | None:
    stated = text_at(resource.properties, "values", "spegel", "mirrorResolveTimeout")
    if not stated and has_value_files(resource):
        return None
    return "values.spegel.mirrorResolveTimeout", stated


def _program_timeout(resource: Resource) -> tuple[str, str] | None:
    for pod in pods_of(resource):
        for container in pod.containers(with_init=False):
            arguments = texts(list_at(container.spec, "args"))
            if "registry" in arguments:
                return _argument(container, arguments)
    return None


def _argument(container: Container, arguments: Sequence[str]) -> tuple[str, str] | None:
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{_RESOLVE_FLAG}="):
            return f"{container.field}.args {_RESOLVE_FLAG}", argument.partition("=")[2]
        if argument == _RESOLVE_FLAG and index + 1 < len(arguments):
            return f"{container.field}.args {_RESOLVE_FLAG}", arguments[index + 1]
    variable = _variable(container, _RESOLVE_VARIABLE)
    if variable is not None:
        return (f"{container.field}.env {_RESOLVE_VARIABLE}", variable) if variable else None
    return f"{container.field}.args {_RESOLVE_FLAG}", ""


def _variable(container: Container, name: str) -> str | None:
    """Value of an environment variable, empty where it comes from elsewhere; None without it."""
    for item in map(known, list_at(container.spec, "env")):
        if at(item, "name") == name:
            return str(at(item, "value", default=""))
    return None


def _judge_interruption_queue(resource: Resource, _: Settings) -> Iterator[str]:
    if chart_name(resource) == "karpenter":
        yield from _judge_karpenter_chart(resource)
    elif resource.is_kubernetes and resource.kind == "Deployment":
        yield from judge_each(_controllers(resource), _judge_controller)


def _judge_karpenter_chart(resource: Resource) -> Iterator[str]:
    if any(name in chart_source(resource) for name in _OTHER_PROVIDERS):
        return
    settings = mapping_at(resource.properties, "values", "settings")
    if at(settings, "interruptionQueue", default="") != "" or has_value_files(resource):
        return
    # Charts before 0.33 had other keys.
    old = text_at(resource.properties, "version").lstrip("v").startswith("0.")
    old_keys = (
        at(settings, "interruptionQueueName"),
        at(settings, "aws", "interruptionQueueName"),
    )
    if old and any(old_keys):
        return
    yield from _no_queue(
        "values.settings.interruptionQueueName is a key that the chart ignores, and "
        "values.settings.interruptionQueue is not set"
        if any(old_keys)
        else "values.settings.interruptionQueue of Karpenter's chart is not set"
    )


def _controllers(resource: Resource) -> Iterator[Container]:
    for pod in pods_of(resource):
        for container in pod.containers(with_init=False):
            image = text_at(container.spec, "image").lower()
            other = any(name in image for name in _OTHER_PROVIDERS)
            if _CONTROLLER_IMAGE in image and not other:
                yield container


def _judge_controller(container: Container) -> Iterator[str]:
    given: list[Any] = [*list_at(container.spec, "args"), *list_at(container.spec, "command")]
    if any(text.startswith(_QUEUE_FLAG) for text in texts(given)):
        return
    named = [
        item
        for item in map(known, list_at(container.spec, "env"))
        if at(item, "name") == _QUEUE_VARIABLE
    ]
    if any(at(item, "value") or at(item, "valueFrom") for item in named):
        return
    if list_at(container.spec, "envFrom"):
        return
    yield from _no_queue(
        f"{container.field}.env of Karpenter's controller has no {_QUEUE_VARIABLE}"
    )


def _no_queue(problem: str) -> Iterator[str]:
    yield (
        f"{problem}. Karpenter then hears neither of spot interruptions nor of hardware about to "
        "fail: nodes go without being drained, and their replacements start cold after the fact. "
        "Set settings.interruptionQueue to the SQS queue that EventBridge fills."
    )


REQUIRE_SPEGEL_TOLERATIONS = StackRule(
    code="CS112",
    name="helm-spegel-require-gpu-tolerations",
    concern="nodes",
    title="Spegel tolerates what GPU nodes are tainted with",
    description="Spegel must tolerate every taint, also at startup, of the Karpenter GPU pools "
    "that it is selected for. Pools whose nodes read no peer mirror are left out.",
    severity="high",
    tags=("helm", "karpenter", "cold-start", "image-delivery"),
    remediation="Drop tolerations from the chart's values, whose default tolerates everything, or "
    "set [{operator: Exists}]; keep Spegel off other pools with nodeSelector or affinity.",
    reason="A list in the values replaces the chart's own, which tolerates startup taints and "
    "Karpenter's karpenter.sh/unregistered too.",
    links=(
        "https://github.com/spegel-org/spegel/blob/main/charts/spegel/values.yaml",
        "https://karpenter.sh/docs/concepts/nodepools/#spectemplatespecstartuptaints",
    ),
    development="advisory",
    judge=_judge_tolerations,
)

LIMIT_RESOLVE_TIMEOUT = ResourceRule(
    code="CS113",
    name="helm-spegel-limit-resolve-timeout",
    concern="nodes",
    title="Spegel waits long enough for a peer, and no longer",
    description="Spegel's time to find a peer must be within limits; the chart's default of 20 ms "
    "is too short.",
    severity="medium",
    tags=("helm", "cold-start", "image-delivery"),
    remediation="Set spegel.mirrorResolveTimeout to about 1s in the chart's values.",
    reason="Too short, and no peer is ever found in time; too long, and every layer that no peer "
    "has waits.",
    links=(
        "https://github.com/spegel-org/spegel/blob/main/charts/spegel/values.yaml",
        "https://github.com/Manikandan-t/gpu-autoscaling-accelerator",
    ),
    options=(
        Option(
            "shortestMilliseconds",
            {"type": "number", "minimum": 0, "default": _SHORTEST_MILLISECONDS},
            _SHORTEST_MILLISECONDS,
            "Shortest time, in milliseconds, that Spegel may take to find a peer.",
        ),
        Option(
            "longestMilliseconds",
            {"type": "number", "minimum": 0, "default": _LONGEST_MILLISECONDS},
            _LONGEST_MILLISECONDS,
            "Longest time, in milliseconds, that Spegel may wait for a peer.",
        ),
    ),
    level="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_resolve_timeout,
)

REQUIRE_INTERRUPTION_QUEUE = ResourceRule(
    code="CS114",
    name="helm-karpenter-require-interruption-queue",
    concern="nodes",
    title="Karpenter hears when a node is about to go",
    description="Karpenter on AWS must have an interruption queue, under the key that its chart "
    "reads.",
    severity="high",
    tags=("helm", "karpenter", "reliability"),
    remediation="Set settings.interruptionQueue in the chart's values to the name of an SQS queue "
    "that receives EC2's and AWS Health's events.",
    reason="Without the queue a spot node is gone two minutes after a notice that nobody read, "
    "and Helm ignores settings.interruptionQueueName without an error.",
    links=(
        "https://karpenter.sh/docs/concepts/disruption/#interruption",
        "https://github.com/aws/karpenter-provider-aws/blob/main/charts/karpenter/values.yaml",
    ),
    development="advisory",
    reads=carries_pods,
    judge=_judge_interruption_queue,
)
