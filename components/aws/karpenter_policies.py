"""What Karpenter's controller may do: six policies, eighteen statements, as data.

The permissions are those of the CloudFormation template published with Karpenter 1.14.1
(github.com/aws/karpenter-provider-aws, v1.14.1, getting-started). Names in braces are filled in by
`controller_policies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from components.aws.iam import document

_EC2 = "arn:{partition}:ec2:{region}:*:"
_PROFILES = "arn:{partition}:iam::{account}:instance-profile/*"
_CLUSTER = "arn:{partition}:eks:{region}:{account}:cluster/{cluster}"
_MADE_BY_LAUNCH = tuple(
    f"{_EC2}{kind}/*"
    for kind in (
        "fleet",
        "instance",
        "volume",
        "network-interface",
        "launch-template",
        "spot-instances-request",
    )
)
_OWNED = "kubernetes.io/cluster/{cluster}"
_NODE_CLASS = "karpenter.k8s.aws/ec2nodeclass"
_REGION = "topology.kubernetes.io/region"


def _tagged(kind: str, *, equal: Mapping[str, Any], like: str) -> dict[str, Any]:
    """A condition on `aws:RequestTag` or `aws:ResourceTag`: some tags equal, one just present."""
    return {
        "StringEquals": {f"aws:{kind}/{key}": value for key, value in equal.items()},
        "StringLike": {f"aws:{kind}/{like}": "*"},
    }


_LAUNCHED = _tagged("ResourceTag", equal={_OWNED: "owned"}, like="karpenter.sh/nodepool")
_LAUNCHING = _tagged(
    "RequestTag",
    equal={_OWNED: "owned", "eks:eks-cluster-name": "{cluster}"},
    like="karpenter.sh/nodepool",
)
_PROFILE_MADE = _tagged(
    "ResourceTag", equal={_OWNED: "owned", _REGION: "{region}"}, like=_NODE_CLASS
)
_PROFILE_MAKING = _tagged(
    "RequestTag",
    equal={_OWNED: "owned", "eks:eks-cluster-name": "{cluster}", _REGION: "{region}"},
    like=_NODE_CLASS,
)


@dataclass(frozen=True)
class PolicyStatement:
    """One Allow statement of the table."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


CONTROLLER_POLICIES: Mapping[str, tuple[PolicyStatement, ...]] = {
    "NodeLifecycle": (
        PolicyStatement(
            "AllowScopedEC2InstanceAccessActions",
            ("ec2:RunInstances", "ec2:CreateFleet"),
            (
                # Images and snapshots may belong to AWS, so their account is empty.
                "arn:{partition}:ec2:{region}::image/*",
                "arn:{partition}:ec2:{region}::snapshot/*",
                f"{_EC2}security-group/*",
                f"{_EC2}subnet/*",
                f"{_EC2}capacity-reservation/*",
                f"{_EC2}placement-group/*",
            ),
        ),
        PolicyStatement(
            "AllowScopedEC2LaunchTemplateAccessActions",
            ("ec2:RunInstances", "ec2:CreateFleet"),
            (f"{_EC2}launch-template/*",),
            _LAUNCHED,
        ),
        PolicyStatement(
            "AllowScopedEC2InstanceActionsWithTags",
            ("ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateLaunchTemplate"),
            _MADE_BY_LAUNCH,
            _LAUNCHING,
        ),
        PolicyStatement(
            "AllowScopedResourceCreationTagging",
            ("ec2:CreateTags",),
            _MADE_BY_LAUNCH,
            {
                **_LAUNCHING,
                "StringEquals": {
                    **_LAUNCHING["StringEquals"],
                    "ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"],
                },
            },
        ),
        PolicyStatement(
            "AllowScopedResourceTagging",
            ("ec2:CreateTags",),
            (f"{_EC2}instance/*",),
            {
                **_LAUNCHED,
                "StringEqualsIfExists": {"aws:RequestTag/eks:eks-cluster-name": "{cluster}"},
                "ForAllValues:StringEquals": {
                    "aws:TagKeys": ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
                },
            },
        ),
        PolicyStatement(
            "AllowScopedDeletion",
            ("ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"),
            (f"{_EC2}instance/*", f"{_EC2}launch-template/*"),
            _LAUNCHED,
        ),
    ),
    "IAMIntegration": (
        PolicyStatement(
            "AllowPassingInstanceRole",
            ("iam:PassRole",),
            ("{node_role}",),
            {
                "StringEquals": {
                    "iam:PassedToService": ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]
                }
            },
        ),
        PolicyStatement(
            "AllowScopedInstanceProfileCreationActions",
            ("iam:CreateInstanceProfile",),
            (_PROFILES,),
            _PROFILE_MAKING,
        ),
        PolicyStatement(
            "AllowScopedInstanceProfileTagActions",
            ("iam:TagInstanceProfile",),
            (_PROFILES,),
            {
                operator: {**_PROFILE_MADE[operator], **_PROFILE_MAKING[operator]}
                for operator in ("StringEquals", "StringLike")
            },
        ),
        PolicyStatement(
            "AllowScopedInstanceProfileActions",
            (
                "iam:AddRoleToInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile",
                "iam:DeleteInstanceProfile",
            ),
            (_PROFILES,),
            _PROFILE_MADE,
        ),
    ),
    "EKSIntegration": (
        PolicyStatement("AllowAPIServerEndpointDiscovery", ("eks:DescribeCluster",), (_CLUSTER,)),
    ),
    "Interruption": (
        PolicyStatement(
            "AllowInterruptionQueueActions",
            ("sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"),
            ("{queue}",),
        ),
    ),
    "ZonalShift": (
        PolicyStatement(
            "AllowZonalShiftStatusReadOnly",
            ("arc-zonal-shift:GetManagedResource",),
            condition={"StringEquals": {"arc-zonal-shift:ResourceIdentifier": _CLUSTER}},
        ),
    ),
    "ResourceDiscovery": (
        PolicyStatement(
            "AllowRegionalReadActions",
            tuple(
                f"ec2:Describe{noun}"
                for noun in (
                    "CapacityReservations",
                    "Images",
                    "Instances",
                    "InstanceStatus",
                    "InstanceTypeOfferings",
                    "InstanceTypes",
                    "LaunchTemplates",
                    "PlacementGroups",
                    "SecurityGroups",
                    "SpotPriceHistory",
                    "Subnets",
                )
            ),
            condition={"StringEquals": {"aws:RequestedRegion": "{region}"}},
        ),
        PolicyStatement(
            "AllowSSMReadActions",
            ("ssm:GetParameter",),
            ("arn:{partition}:ssm:{region}::parameter/aws/service/*",),
        ),
        PolicyStatement("AllowPricingReadActions", ("pricing:GetProducts",)),
        PolicyStatement("AllowUnscopedInstanceProfileListAction", ("iam:ListInstanceProfiles",)),
        PolicyStatement(
            "AllowInstanceProfileReadActions", ("iam:GetInstanceProfile",), (_PROFILES,)
        ),
    ),
}


@dataclass(frozen=True)
class ControllerScope:
    """What the table is filled in with; `node_role` and `queue` are ARNs."""

    partition: str
    region: str
    account: str
    cluster: str
    node_role: str
    queue: str


def controller_policies(scope: ControllerScope) -> dict[str, str]:
    """Every policy document of the table, by the name of its policy, for one cluster."""
    words = asdict(scope)
    return {
        policy: document(*(_statement(statement, words) for statement in statements))
        for policy, statements in CONTROLLER_POLICIES.items()
    }


def _statement(statement: PolicyStatement, words: Mapping[str, str]) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "Sid": statement.sid,
        "Effect": "Allow",
        "Action": list(statement.actions),
        "Resource": [resource.format(**words) for resource in statement.resources],
    }
    if statement.condition:
        rendered["Condition"] = _filled(statement.condition, words)
    return rendered


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**words)
    if isinstance(value, Mapping):
        return {key.format(**words): _filled(item, words) for key, item in value.items()}
    return [_filled(item, words) for item in value]
