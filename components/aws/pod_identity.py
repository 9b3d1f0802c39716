"""An IAM role that one service account of the cluster gets, through EKS Pod Identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from components.aws.iam import POD_IDENTITY_TRUST


@dataclass(frozen=True)
class PodIdentityArgs:
    """Who gets what.

    `policies` are inline documents by name, `policy_arns` managed policies by name.
    """

    cluster_name: Input[str]
    namespace: str
    service_account: str
    role_name: str
    policies: Mapping[str, Input[str]] = field(default_factory=dict)
    policy_arns: Mapping[str, Input[str]] = field(default_factory=dict)


class PodIdentity(ComponentResource):
    """A role, its permissions and its association with one service account."""

    def __init__(
        self, name: str, args: PodIdentityArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:PodIdentity", name, opts=opts)
        child = ResourceOptions(parent=self)
        role = aws.iam.Role(
            f"{name}-role",
            name=args.role_name,
            assume_role_policy=POD_IDENTITY_TRUST,
            opts=child,
        )
        attached: Sequence[aws.iam.RolePolicy | aws.iam.RolePolicyAttachment] = [
            *(
                aws.iam.RolePolicy(
                    f"{name}-{key}", name=key, role=role.name, policy=policy, opts=child
                )
                for key, policy in args.policies.items()
            ),
            *(
                aws.iam.RolePolicyAttachment(
                    f"{name}-{key}", role=role.name, policy_arn=arn, opts=child
                )
                for key, arn in args.policy_arns.items()
            ),
        ]
        association = aws.eks.PodIdentityAssociation(
            f"{name}-association",
            cluster_name=args.cluster_name,
            namespace=args.namespace,
            service_account=args.service_account,
            role_arn=role.arn,
            # A pod that starts the moment the association exists must find its permissions.
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=list(attached))),
        )
        self.role_arn = role.arn
        self.register_outputs({"roleArn": role.arn, "associationId": association.association_id})
