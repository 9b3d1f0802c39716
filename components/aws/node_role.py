"""The IAM role of nodes: joining the cluster, pulling images, nothing of any workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi_aws as aws
from pulumi import ComponentResource, ResourceOptions

from components.aws.account import Account
from components.aws.iam import trust

NODE_POLICIES = (
    "AmazonEKS_CNI_Policy",
    "AmazonEKSWorkerNodePolicy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
)
"""The node role of Karpenter's CloudFormation template, v1.14.1."""


@dataclass(frozen=True)
class NodeRoleArgs:
    """`role_name` within IAM's 64 characters; `policies` are further inline documents by name."""

    role_name: str
    account: Account
    policies: Mapping[str, str] = field(default_factory=dict)


class NodeRole(ComponentResource):
    """A role that EC2 instances assume."""

    def __init__(self, name: str, args: NodeRoleArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:aws:NodeRole", name, opts=opts)
        child = ResourceOptions(parent=self)
        role = aws.iam.Role(
            f"{name}-role",
            name=args.role_name,
            assume_role_policy=trust(f"ec2.{args.account.dns_suffix}"),
            opts=child,
        )
        for policy in NODE_POLICIES:
            aws.iam.RolePolicyAttachment(
                f"{name}-{policy}",
                role=role.name,
                policy_arn=args.account.managed_policy(policy),
                opts=child,
            )
        for key, document in args.policies.items():
            aws.iam.RolePolicy(
                f"{name}-{key}", name=key, role=role.name, policy=document, opts=child
            )
        self.name, self.arn = role.name, role.arn
        self.register_outputs({"name": self.name, "arn": self.arn})
