"""A shared file system for weights and golden caches: one directory per tenant namespace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.contract import SharedFileSystem as SharedFileSystemContract

DRIVER = "efs.csi.aws.com"
NFS_PORT = 2049
CLAIM_CAPACITY = "1Pi"
"""EFS grows by itself; Kubernetes only compares this with what a claim asks for."""


@dataclass(frozen=True)
class SharedFileSystemArgs:
    """Where it is reachable and by whom.

    `user_id` and `group_id` are the engine's, so that files of one tenant belong to its pods.
    """

    cluster_name: str
    tenants: Sequence[str]
    vpc_id: Input[str]
    subnet_ids: Sequence[Input[str]]
    client_security_group_id: Input[str]
    key_arn: Input[str]
    user_id: int = 2000
    group_id: int = 0


class SharedFileSystem(ComponentResource):
    """EFS with elastic throughput, in its standard class, without backups.

    A colder storage class would add tens of milliseconds to the first read of every block, in a
    cold start of all moments; nothing here is the only copy, so nothing is backed up.
    """

    def __init__(
        self, name: str, args: SharedFileSystemArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:SharedFileSystem", name, opts=opts)
        self._name, self._args = name, args
        self._child = ResourceOptions(parent=self)
        self.file_system = aws.efs.FileSystem(
            f"{name}-efs",
            creation_token=args.cluster_name,
            encrypted=True,
            kms_key_id=args.key_arn,
            # The provider's own default is bursting: about 50 KiB/s for each GiB stored.
            throughput_mode="elastic",
            performance_mode="generalPurpose",
            tags={"Name": args.cluster_name},
            opts=self._child,
        )
        aws.efs.BackupPolicy(
            f"{name}-backup",
            file_system_id=self.file_system.id,
            backup_policy={"status": "DISABLED"},
            opts=self._child,
        )
        aws.efs.FileSystemPolicy(
            f"{name}-policy",
            file_system_id=self.file_system.id,
            policy=self.file_system.arn.apply(file_system_policy),
            opts=self._child,
        )
        self._mount_targets()
        handles = Output.all(**{tenant: self._access_point(tenant) for tenant in args.tenants})
        self.contract = SharedFileSystemContract(
            driver=DRIVER, volume_handles=handles, mount_options=["tls"], capacity=CLAIM_CAPACITY
        )
        self.register_outputs({"id": self.file_system.id, "volumeHandles": handles})

    def _mount_targets(self) -> None:
        group = aws.ec2.SecurityGroup(
            f"{self._name}-nfs",
            description="NFS of the shared file system",
            vpc_id=self._args.vpc_id,
            opts=self._child,
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-nfs-nodes",
            security_group_id=group.id,
            description="NFS from the cluster's nodes",
            referenced_security_group_id=self._args.client_security_group_id,
            ip_protocol="tcp",
            from_port=NFS_PORT,
            to_port=NFS_PORT,
            opts=self._child,
        )
        for index, subnet_id in enumerate(self._args.subnet_ids):
            aws.efs.MountTarget(
                f"{self._name}-{index}",
                file_system_id=self.file_system.id,
                subnet_id=subnet_id,
                security_groups=[group.id],
                opts=self._child,
            )

    def _access_point(self, tenant: str) -> Output[str]:
        user_id, group_id = self._args.user_id, self._args.group_id
        point = aws.efs.AccessPoint(
            f"{self._name}-{tenant}",
            file_system_id=self.file_system.id,
            posix_user={"uid": user_id, "gid": group_id},
            root_directory={
                "path": f"/tenants/{tenant}",
                "creation_info": {
                    "owner_uid": user_id,
                    "owner_gid": group_id,
                    "permissions": "0750",
                },
            },
            tags={"Name": f"{self._args.cluster_name}-{tenant}"},
            opts=self._child,
        )
        return Output.concat(self.file_system.id, "::", point.id)


def file_system_policy(arn: str) -> str:
    """Mounting and writing only, only over TLS, only through an access point, never as root."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "ClientsThroughAccessPoints",
                    "Effect": "Allow",
                    "Principal": {"AWS": "*"},
                    "Action": [
                        "elasticfilesystem:ClientMount",
                        "elasticfilesystem:ClientWrite",
                    ],
                    "Resource": arn,
                    "Condition": {
                        "Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"},
                        "Null": {"elasticfilesystem:AccessPointArn": "false"},
                    },
                },
                {
                    "Sid": "DenyWithoutTls",
                    "Effect": "Deny",
                    "Principal": {"AWS": "*"},
                    "Action": "*",
                    "Resource": arn,
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
            ],
        }
    )
