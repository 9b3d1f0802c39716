"""The roles of Karpenter: its controller's, and its nodes'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from components.aws.account import Account
from components.aws.karpenter_policies import ControllerScope, controller_policies
from components.aws.naming import POLICY_NAME_LIMIT, QUEUE_NAME_LIMIT, ROLE_NAME_LIMIT, bounded
from components.aws.node_role import NodeRole, NodeRoleArgs
from components.aws.pod_identity import PodIdentity, PodIdentityArgs

NAMESPACE = "kube-system"
SERVICE_ACCOUNT = "karpenter"


def node_role_name(cluster: str, region: str) -> str:
    """The role of Karpenter's nodes, by a name that EC2NodeClasses can hold before it exists."""
    return bounded(f"{cluster}-{region}-karpenter-node", ROLE_NAME_LIMIT)


def queue_name(cluster: str) -> str:
    """The interruption queue, named as the cluster."""
    return bounded(cluster, QUEUE_NAME_LIMIT)


@dataclass(frozen=True)
class KarpenterIamArgs:
    """`node_policies` are further inline documents of the node role, by name."""

    cluster_name: Input[str]
    plain_cluster_name: str
    account: Account
    node_policies: Mapping[str, str] = field(default_factory=dict)


class KarpenterIam(ComponentResource):
    """Controller permissions through Pod Identity, and nodes that may join by an access entry."""

    def __init__(
        self, name: str, args: KarpenterIamArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:KarpenterIam", name, opts=opts)
        child = ResourceOptions(parent=self)
        account, cluster = args.account, args.plain_cluster_name
        role_name = node_role_name(cluster, account.region)
        self.node_role = NodeRole(
            f"{name}-node", NodeRoleArgs(role_name, account, args.node_policies), child
        )
        aws.eks.AccessEntry(
            f"{name}-node",
            cluster_name=args.cluster_name,
            principal_arn=self.node_role.arn,
            # EC2 is the type of Auto Mode's nodes; Karpenter's own join as EC2_LINUX.
            type="EC2_LINUX",
            opts=child,
        )
        documents = controller_policies(
            ControllerScope(
                partition=account.partition,
                region=account.region,
                account=account.id,
                cluster=cluster,
                node_role=account.iam_arn(f"role/{role_name}"),
                queue=account.arn("sqs", queue_name(cluster)),
            )
        )
        policies = {
            policy: aws.iam.Policy(
                f"{name}-{policy}",
                name=bounded(f"Karpenter{policy}-{cluster}-{account.region}", POLICY_NAME_LIMIT),
                policy=text,
                opts=child,
            ).arn
            for policy, text in documents.items()
        }
        self.controller = PodIdentity(
            f"{name}-controller",
            PodIdentityArgs(
                cluster_name=args.cluster_name,
                namespace=NAMESPACE,
                service_account=SERVICE_ACCOUNT,
                role_name=bounded(
                    f"{cluster}-{account.region}-karpenter-controller", ROLE_NAME_LIMIT
                ),
                policy_arns=policies,
            ),
            child,
        )
        self.register_outputs(
            {"nodeRoleArn": self.node_role.arn, "controllerRoleArn": self.controller.role_arn}
        )
