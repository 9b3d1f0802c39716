"""The managed node group that carries Karpenter, DNS and the controllers, and no GPU work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from coldstart.planning import ClusterPlan

NODE_LABELS = {"coldstart.dev/role": "system"}
ROOT_VOLUME_GIB = 100
"""Images of the controllers, add-ons and monitoring; far below the gp3 baseline's limits."""
REPLACED_AT_A_TIME = 1


@dataclass(frozen=True)
class SystemNodesArgs:
    """Where the nodes stand and as whom; `tags` go on instances and volumes, which the provider's
    default tags do not reach."""

    plan: ClusterPlan
    cluster_name: Input[str]
    role_arn: Input[str]
    subnet_ids: Sequence[Input[str]]
    tags: Mapping[str, str]


class SystemNodes(ComponentResource):
    """A fixed number of on-demand nodes over the zones of the network."""

    def __init__(
        self, name: str, args: SystemNodesArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:SystemNodes", name, opts=opts)
        child = ResourceOptions(parent=self)
        tags = {**args.tags, "Name": f"{args.plan.name}-system"}
        template = aws.ec2.LaunchTemplate(
            f"{name}-template",
            update_default_version=True,
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "volume_type": "gp3",
                        "volume_size": ROOT_VOLUME_GIB,
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                }
            ],
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 1,
            },
            tag_specifications=[
                {"resource_type": kind, "tags": tags} for kind in ("instance", "volume")
            ],
            opts=child,
        )
        count = args.plan.system_nodes
        group = aws.eks.NodeGroup(
            f"{name}-group",
            cluster_name=args.cluster_name,
            node_role_arn=args.role_arn,
            subnet_ids=args.subnet_ids,
            version=args.plan.version,
            ami_type=args.plan.system_ami_type,
            capacity_type="ON_DEMAND",
            instance_types=[args.plan.system_instance_type],
            launch_template={
                "id": template.id,
                "version": template.latest_version.apply(str),
            },
            scaling_config={"min_size": count, "desired_size": count, "max_size": count},
            update_config={"max_unavailable": REPLACED_AT_A_TIME},
            node_repair_config={"enabled": True},
            labels=NODE_LABELS,
            opts=child,
        )
        self.register_outputs({"nodeGroup": group.node_group_name})
