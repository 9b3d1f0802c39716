"""Who deploys, into which account, with which tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions

from coldstart.planning import StackPlan


@dataclass(frozen=True)
class Account:
    """The account and region a program works in, known before anything is made.

    `deployer` is the IAM role or user behind the caller's session.
    """

    id: str
    partition: str
    dns_suffix: str
    service_prefix: str
    region: str
    deployer: str

    @staticmethod
    def current(region: str, provider: aws.Provider) -> Account:
        """Ask `provider` who the caller is."""
        opts = InvokeOptions(provider=provider)
        caller = aws.get_caller_identity(opts=opts)
        partition = aws.get_partition(opts=opts)
        return Account(
            id=caller.account_id,
            partition=partition.partition,
            dns_suffix=partition.dns_suffix,
            service_prefix=partition.reverse_dns_prefix,
            region=region,
            deployer=aws.iam.get_session_context(arn=caller.arn, opts=opts).issuer_arn,
        )

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a regional resource of this account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.id}:{resource}"

    def iam_arn(self, resource: str) -> str:
        """The ARN of an IAM resource of this account."""
        return f"arn:{self.partition}:iam::{self.id}:{resource}"

    def managed_policy(self, name: str) -> str:
        """The ARN of a policy that AWS maintains."""
        return f"arn:{self.partition}:iam::aws:policy/{name}"


def stack_tags(plan: StackPlan) -> dict[str, str]:
    """Tags of everything the stack makes, Karpenter's instances and volumes included."""
    return {
        "coldstart.dev/stack": plan.spec.stack,
        "coldstart.dev/environment": plan.spec.environment,
        **_configured_tags(),
    }


def aws_provider(plan: StackPlan) -> aws.Provider:
    """One explicit provider, so that every taggable resource carries the stack's tags.

    An explicit provider does not see the stack file's `aws:` settings; those that say who deploys
    are handed on, since ignoring them would deploy as somebody else.
    """
    settings = pulumi.Config("aws")
    return aws.Provider(
        "aws",
        region=plan.spec.region,
        profile=settings.get("profile"),
        assume_roles=settings.get_object("assumeRoles"),
        allowed_account_ids=settings.get_object("allowedAccountIds"),
        default_tags={"tags": stack_tags(plan)},
    )


def _configured_tags() -> Mapping[str, str]:
    configured = pulumi.Config("aws").get_object("defaultTags") or {}
    return configured.get("tags", {})
