"""EKS add-ons at pinned versions: those a node needs to become ready, and those that need nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from components.aws.account import Account
from components.aws.iam import POD_IDENTITY_TRUST
from components.aws.naming import ROLE_NAME_LIMIT, bounded

NODE_MONITORING = "eks-node-monitoring-agent"
BEFORE_NODES = frozenset({"vpc-cni", "kube-proxy", "eks-pod-identity-agent"})
"""DaemonSets without which a node never becomes ready, or its pods never get credentials."""

CONTROLLERS = {
    "aws-ebs-csi-driver": ("ebs-csi-controller-sa", "service-role/AmazonEBSCSIDriverPolicy"),
    "aws-efs-csi-driver": ("efs-csi-controller-sa", "service-role/AmazonEFSCSIDriverPolicy"),
}
"""Service account and AWS policy of each add-on that calls AWS (EKS user guide, add-ons)."""


@dataclass(frozen=True)
class AddonsArgs:
    """Which add-ons, by name and version.

    `mounts_on_gpu_nodes` is set when pods on GPU nodes mount the shared file system.
    """

    cluster_name: Input[str]
    plain_cluster_name: str
    versions: Mapping[str, str]
    mounts_on_gpu_nodes: bool
    account: Account


def configuration(addon: str, *, mounts_on_gpu_nodes: bool) -> dict[str, Any] | None:
    """What differs from the add-on's own defaults, None when nothing does."""
    if addon == "vpc-cni":
        # Prefixes lift the pod limit of small instances; without the policy agent the
        # NetworkPolicies of the workload layer would be accepted and ignored.
        return {
            "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
            "enableNetworkPolicy": "true",
        }
    if addon == "aws-efs-csi-driver":
        tolerations = [{"operator": "Exists"}] if mounts_on_gpu_nodes else []
        return {"node": {"tolerations": tolerations}}
    return None


class Addons(ComponentResource):
    """A group of add-ons that can be installed at the same time."""

    def __init__(self, name: str, args: AddonsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:aws:Addons", name, opts=opts)
        child = ResourceOptions(parent=self)
        for addon, version in args.versions.items():
            config = configuration(addon, mounts_on_gpu_nodes=args.mounts_on_gpu_nodes)
            aws.eks.Addon(
                f"{name}-{addon}",
                cluster_name=args.cluster_name,
                addon_name=addon,
                addon_version=version,
                configuration_values=json.dumps(config) if config else None,
                pod_identity_associations=self._identity(name, addon, args, child),
                # A create that failed half-way leaves objects which the next one must take over.
                resolve_conflicts_on_create="OVERWRITE",
                resolve_conflicts_on_update="OVERWRITE",
                opts=child,
            )
        self.register_outputs({"versions": dict(args.versions)})

    def _identity(
        self, name: str, addon: str, args: AddonsArgs, child: ResourceOptions
    ) -> list[aws.eks.AddonPodIdentityAssociationArgs] | None:
        if addon not in CONTROLLERS:
            return None
        account, policy = CONTROLLERS[addon]
        role = aws.iam.Role(
            f"{name}-{addon}",
            name=bounded(
                f"{args.plain_cluster_name}-{args.account.region}-{addon}", ROLE_NAME_LIMIT
            ),
            assume_role_policy=POD_IDENTITY_TRUST,
            opts=child,
        )
        attached = aws.iam.RolePolicyAttachment(
            f"{name}-{addon}",
            role=role.name,
            policy_arn=args.account.managed_policy(policy),
            opts=child,
        )
        return [
            aws.eks.AddonPodIdentityAssociationArgs(
                # Through the attachment, so that the controller never starts without permission.
                role_arn=role.arn.apply(lambda arn: attached.id.apply(lambda _: arn)),
                service_account=account,
            )
        ]
