"""The EKS control plane and who may talk to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from coldstart.planning import ClusterPlan
from components.aws.account import Account
from components.aws.iam import document, trust
from components.aws.naming import ROLE_NAME_LIMIT, bounded
from components.aws.network import DISCOVERY_TAG

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
LOG_RETENTION_DAYS = 90
ADMIN_POLICY = "cluster-access-policy/AmazonEKSClusterAdminPolicy"


def log_group_name(cluster_name: str) -> str:
    """Where EKS writes control-plane logs; it makes the group itself, unencrypted, if absent."""
    return f"/aws/eks/{cluster_name}/cluster"


@dataclass(frozen=True)
class ClusterArgs:
    """The control plane as decided.

    `subnet_ids` are the private subnets; `key_arn` encrypts secrets and logs.
    """

    plan: ClusterPlan
    account: Account
    subnet_ids: Sequence[Input[str]]
    key_arn: Input[str]


class Cluster(ComponentResource):
    """EKS with access entries only, encrypted secrets, all logs, and a private endpoint.

    `access` are the resources that let the deploying identity in: everything made through the
    Kubernetes API depends on them, so that they go last when the stack is destroyed.
    """

    def __init__(self, name: str, args: ClusterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:aws:Cluster", name, opts=opts)
        self._name, self._args = name, args
        self._child = ResourceOptions(parent=self)
        needs = [*self._role(), self._logs()]
        self.cluster = self._control_plane(needs)
        self.name = self.cluster.name
        self.endpoint = self.cluster.endpoint
        self.certificate = self.cluster.certificate_authority.data
        self.security_group_id = cast(
            "Output[str]", self.cluster.vpc_config.cluster_security_group_id
        )
        self.discovery_tag = aws.ec2.Tag(
            f"{name}-discovery",
            resource_id=self.security_group_id,
            key=DISCOVERY_TAG,
            value=args.plan.name,
            opts=self._child,
        )
        self.access = self._access()
        self.register_outputs(
            {
                "name": self.name,
                "endpoint": self.endpoint,
                "securityGroupId": self.security_group_id,
            }
        )

    def _role(self) -> list[Resource]:
        account = self._args.account
        self._role_resource = aws.iam.Role(
            f"{self._name}-role",
            name=bounded(f"{self._args.plan.name}-{account.region}-cluster", ROLE_NAME_LIMIT),
            assume_role_policy=trust("eks.amazonaws.com"),
            opts=self._child,
        )
        managed = aws.iam.RolePolicyAttachment(
            f"{self._name}-role-eks",
            role=self._role_resource.name,
            policy_arn=account.managed_policy("AmazonEKSClusterPolicy"),
            opts=self._child,
        )
        key = aws.iam.RolePolicy(
            f"{self._name}-role-key",
            name="secrets-encryption",
            role=self._role_resource.name,
            policy=Output.from_input(self._args.key_arn).apply(
                lambda arn: document(
                    {
                        "Effect": "Allow",
                        "Action": [
                            "kms:Encrypt",
                            "kms:Decrypt",
                            "kms:ListGrants",
                            "kms:DescribeKey",
                        ],
                        "Resource": arn,
                    }
                )
            ),
            opts=self._child,
        )
        return [managed, key]

    def _logs(self) -> aws.cloudwatch.LogGroup:
        return aws.cloudwatch.LogGroup(
            f"{self._name}-logs",
            name=log_group_name(self._args.plan.name),
            retention_in_days=LOG_RETENTION_DAYS,
            kms_key_id=self._args.key_arn,
            opts=self._child,
        )

    def _control_plane(self, needs: Sequence[Resource]) -> aws.eks.Cluster:
        plan = self._args.plan
        public = list(plan.admin_cidrs)
        return aws.eks.Cluster(
            f"{self._name}-eks",
            name=plan.name,
            version=plan.version,
            role_arn=self._role_resource.arn,
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": False,
            },
            bootstrap_self_managed_addons=False,
            vpc_config={
                "subnet_ids": self._args.subnet_ids,
                "endpoint_private_access": True,
                "endpoint_public_access": bool(public),
                "public_access_cidrs": public or None,
            },
            encryption_config={
                "provider": {"key_arn": self._args.key_arn},
                "resources": ["secrets"],
            },
            enabled_cluster_log_types=list(LOG_TYPES),
            deletion_protection=plan.deletion_protection,
            upgrade_policy={"support_type": "STANDARD"},
            zonal_shift_config={"enabled": True},
            opts=ResourceOptions.merge(self._child, ResourceOptions(depends_on=list(needs))),
        )

    def _access(self) -> list[Resource]:
        """Access for the named administrators, and for whoever installs the charts.

        EKS admits nobody by itself here, and an operator who is not named could make the cluster
        but nothing in it. Once the file names the deploying role, that entry is all there is.
        """
        named = self._args.plan.admin_principals
        made = [self._admin(f"admin-{i}", principal) for i, principal in enumerate(named)]
        if self._args.account.deployer not in named:
            made.append(self._admin("deployer", self._args.account.deployer))
        return made

    def _admin(self, suffix: str, principal: str) -> Resource:
        entry = aws.eks.AccessEntry(
            f"{self._name}-{suffix}",
            cluster_name=self.name,
            principal_arn=principal,
            type="STANDARD",
            opts=self._child,
        )
        return aws.eks.AccessPolicyAssociation(
            f"{self._name}-{suffix}",
            cluster_name=self.name,
            principal_arn=entry.principal_arn,
            policy_arn=f"arn:{self._args.account.partition}:eks::aws:{ADMIN_POLICY}",
            access_scope={"type": "cluster"},
            opts=self._child,
        )
