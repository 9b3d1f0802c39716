"""The queue through which Karpenter learns that a node is about to go."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, ResourceOptions

from components.aws.account import Account
from components.aws.iam import document, only_tls
from components.aws.karpenter_iam import queue_name
from components.aws.naming import RULE_NAME_LIMIT, bounded

MESSAGE_RETENTION_SECONDS = 300
"""Karpenter's template, v1.14.1: a notice older than this is about a node that has gone."""

EVENTS = {
    "health": ("aws.health", "AWS Health Event"),
    "spot": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state-change": ("aws.ec2", "EC2 Instance State-change Notification"),
    "reservation": ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
}
"""Source and detail type of every event Karpenter 1.14.1 acts on."""


@dataclass(frozen=True)
class InterruptionQueueArgs:
    """Whose queue it is."""

    cluster_name: str
    account: Account


class InterruptionQueue(ComponentResource):
    """An encrypted queue, and the five rules that fill it."""

    def __init__(
        self, name: str, args: InterruptionQueueArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:InterruptionQueue", name, opts=opts)
        child = ResourceOptions(parent=self)
        queue = aws.sqs.Queue(
            f"{name}-queue",
            name=queue_name(args.cluster_name),
            message_retention_seconds=MESSAGE_RETENTION_SECONDS,
            sqs_managed_sse_enabled=True,
            opts=child,
        )
        aws.sqs.QueuePolicy(
            f"{name}-policy",
            queue_url=queue.url,
            policy=queue_policy(
                args.account.arn("sqs", queue_name(args.cluster_name)),
                args.account.arn("events", "rule/*"),
            ),
            opts=child,
        )
        for event, (source, detail) in EVENTS.items():
            rule = aws.cloudwatch.EventRule(
                f"{name}-{event}",
                name=bounded(f"{args.cluster_name}-karpenter-{event}", RULE_NAME_LIMIT),
                description=f"{detail}, for Karpenter of {args.cluster_name}",
                event_pattern=json.dumps({"source": [source], "detail-type": [detail]}),
                opts=child,
            )
            aws.cloudwatch.EventTarget(
                f"{name}-{event}",
                rule=rule.name,
                target_id="KarpenterInterruptionQueueTarget",
                arn=queue.arn,
                opts=child,
            )
        self.name = queue.name
        self.register_outputs({"name": self.name})


def queue_policy(queue_arn: str, rule_arns: str) -> str:
    """EventBridge may send for the account's own rules, nobody may speak plain HTTP.

    Karpenter's template lets the rules of every account in, and a false notice drains a node.
    """
    return document(
        {
            "Sid": "EventsMaySend",
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"ArnLike": {"aws:SourceArn": rule_arns}},
        },
        only_tls("sqs:*", queue_arn),
    )
