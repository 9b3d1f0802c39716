"""Whether somebody listens when EC2 takes a spot node back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from policies.reading.charts import chart_name, has_value_files
from policies.reading.node_pools import is_node_pool, requirements_in
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.reading.workloads import pods_of
from policies.rule import Finding, Settings, StackRule

_CAPACITY_TYPE = "karpenter.sh/capacity-type"
_RULE = "aws:cloudwatch/eventRule:EventRule"
_QUEUE = "aws:sqs/queue:Queue"
_WARNING = "EC2 Spot Instance Interruption Warning"
_OTHER_HANDLER = "aws-node-termination-handler"
_CONTROLLER_ARGUMENT = "--interruption-queue"
_CONTROLLER_VARIABLE = "INTERRUPTION_QUEUE"


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    node_pools = list(filter(is_node_pool, resources))
    if not node_pools:
        return
    missing, undecided = gather(resources, _missing_in_controller)
    heard, unheard = gather(resources, _hears_otherwise)
    rules, unread = gather(resources, _event_details)
    silent = _silence_of_queue(resources, rules)

    def judge(node_pool: Resource) -> Iterator[Finding]:
        if heard or not _buys_spot(node_pool):
            return
        if unheard:
            raise NotYetKnown(*unheard)
        if missing:
            yield Finding(node_pool, _message(node_pool, missing[0]))
        elif undecided:
            raise NotYetKnown(*undecided)
        elif silent and unread:
            raise NotYetKnown(*unread)
        elif silent:
            yield Finding(node_pool, _message(node_pool, silent))

    yield from judge_each(node_pools, judge)


def _message(node_pool: Resource, why: str) -> str:
    return (
        f"NodePool {node_pool.object_name} buys spot nodes, and {why}: nobody hears EC2's notice "
        "of 120 s, so the node goes with its requests, and its replacement starts only "
        "afterwards. Give Karpenter an SQS queue in settings.interruptionQueue, and send it the "
        f"EventBridge events '{_WARNING}'."
    )


def _buys_spot(node_pool: Resource) -> bool:
    reference = mapping_at(node_pool.properties, "spec", "template", "spec", "nodeClassRef")
    # EKS Auto Mode and the other clouds handle the notice themselves.
    if text_at(reference, "kind", default="EC2NodeClass") != "EC2NodeClass":
        return False
    wanted = [item for item in requirements_in(node_pool) if item.key == _CAPACITY_TYPE]
    return bool(wanted) and all(item.allows("spot") for item in wanted)


def _missing_in_controller(resource: Resource) -> Iterator[str]:
    """How a Karpenter of this stack says that it listens to no queue."""
    if chart_name(resource) == "karpenter":
        queue = at(resource.properties, "values", "settings", "interruptionQueue")
        if not queue and not has_value_files(resource):
            yield f"{resource.kind} {resource.name} sets no settings.interruptionQueue"
    elif _is_controller(resource) and not _controller_has_queue(resource):
        yield f"Deployment {resource.object_name} has no {_CONTROLLER_VARIABLE}"


def _is_controller(resource: Resource) -> bool:
    return resource.kind == "Deployment" and any(
        "karpenter/controller" in str(at(container.spec, "image", default=""))
        for pod in pods_of(resource)
        for container in pod.containers(with_init=False)
    )


def _controller_has_queue(resource: Resource) -> bool:
    for pod in pods_of(resource):
        for container in pod.containers(with_init=False):
            words = texts(list_at(container.spec, "args"))
            if any(word.startswith(_CONTROLLER_ARGUMENT) for word in words):
                return True
            if list_at(container.spec, "envFrom"):
                return True
            for index in range(len(list_at(container.spec, "env"))):
                if at(container.spec, "env", index, "name") == _CONTROLLER_VARIABLE:
                    return True
    return False


def _hears_otherwise(resource: Resource) -> Iterator[str]:
    if not resource.is_kubernetes:
        return
    if _OTHER_HANDLER in (chart_name(resource), resource.object_name):
        yield resource.name
    if resource.kind in ("DaemonSet", "Deployment"):
        for pod in pods_of(resource):
            for container in pod.containers(with_init=False):
                if _OTHER_HANDLER in str(at(container.spec, "image", default="")):
                    yield resource.name


def _event_details(resource: Resource) -> Iterator[str]:
    """Kinds of EC2 events that a rule of this stack passes on; `*` for every one."""
    if resource.type != _RULE:
        return
    pattern = at(resource.properties, "eventPattern", default="")
    try:
        read: Any = json.loads(pattern) if isinstance(pattern, str) else pattern
    except ValueError:
        read = {}
    details = list_at(read, "detail-type")
    # A pattern on something else than the kind of event may let any kind through.
    yield from texts(details) if details else ("*",)


def _silence_of_queue(resources: Sequence[Resource], details: Sequence[str]) -> str | None:
    """How the queue of this stack is never told of an interruption; None where it may be."""
    if _WARNING in details or "*" in details:
        return None
    queues, undecided = gather(resources, _queues)
    wanted, unknown = gather(resources, _queue_of_controller)
    # The rules belong to whoever makes the queue: another stack may hold both.
    named = [name for name in wanted if name in queues]
    if named and not undecided and not unknown:
        return f"no EventBridge rule of this stack sends them to its queue {named[0]}"
    return None


def _queues(resource: Resource) -> Iterator[str]:
    if resource.type == _QUEUE:
        yield text_at(resource.properties, "name")


def _queue_of_controller(resource: Resource) -> Iterator[str]:
    if chart_name(resource) == "karpenter":
        yield text_at(resource.properties, "values", "settings", "interruptionQueue")


REQUIRE_INTERRUPTION_HANDLING = StackRule(
    code="CS905",
    name="karpenter-nodepool-require-spot-interruption",
    concern="reliability",
    title="Spot nodes are drained before they are taken back",
    description="Where a NodePool buys spot nodes, Karpenter or a termination handler of the same "
    "stack must receive EC2's interruption notices.",
    severity="high",
    tags=("karpenter", "aws", "reliability"),
    remediation="Create an SQS queue with an EventBridge rule for 'EC2 Spot Instance Interruption "
    "Warning', and name the queue in settings.interruptionQueue of the Karpenter chart.",
    reason="EC2 gives two minutes; used, they drain the node and start its replacement.",
    links=(
        "https://karpenter.sh/docs/concepts/disruption/#interruption",
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html",
    ),
    level="advisory",
    development="advisory",
    judge=_judge,
)
