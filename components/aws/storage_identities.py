"""Per tenant namespace, one identity that reads the tenant's objects and one that writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.account import Account
from components.aws.iam import document
from components.aws.naming import ROLE_NAME_LIMIT, bounded
from components.aws.pod_identity import PodIdentity, PodIdentityArgs
from components.contract import PUBLISHER_ACCOUNT, SERVING_ACCOUNT

READ = ("s3:GetObject",)
WRITE = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
OBJECT_ACTIONS = {SERVING_ACCOUNT: READ, PUBLISHER_ACCOUNT: WRITE}
KEY_ACTIONS = {
    SERVING_ACCOUNT: ("kms:Decrypt",),
    PUBLISHER_ACCOUNT: ("kms:Decrypt", "kms:GenerateDataKey"),
}


@dataclass(frozen=True)
class StorageIdentitiesArgs:
    """`tenants` are namespaces; each owns the objects below its own name in `bucket`."""

    cluster_name: Input[str]
    plain_cluster_name: str
    tenants: Sequence[str]
    bucket: str
    key_arn: Input[str]
    account: Account


class StorageIdentities(ComponentResource):
    """Two Pod Identities per tenant; no credential comes from a node's role."""

    def __init__(
        self, name: str, args: StorageIdentitiesArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:StorageIdentities", name, opts=opts)
        child = ResourceOptions(parent=self)
        roles: dict[str, dict[str, Output[str]]] = {}
        self.by_tenant: dict[str, list[PodIdentity]] = {tenant: [] for tenant in args.tenants}
        for tenant in args.tenants:
            roles[tenant] = {}
            for service_account in OBJECT_ACTIONS:
                identity = PodIdentity(
                    f"{name}-{tenant}-{service_account}",
                    PodIdentityArgs(
                        cluster_name=args.cluster_name,
                        namespace=tenant,
                        service_account=service_account,
                        role_name=bounded(
                            f"{args.plain_cluster_name}-{args.account.region}-"
                            f"{tenant}-{service_account}",
                            ROLE_NAME_LIMIT,
                        ),
                        policies={"objects": self._policy(args, tenant, service_account)},
                    ),
                    child,
                )
                roles[tenant][service_account] = identity.role_arn
                self.by_tenant[tenant].append(identity)
        self.register_outputs({"roles": roles})

    def _policy(
        self, args: StorageIdentitiesArgs, tenant: str, service_account: str
    ) -> Output[str]:
        return Output.from_input(args.key_arn).apply(
            lambda key: storage_policy(args.account, args.bucket, key, tenant, service_account)
        )


def storage_policy(
    account: Account, bucket: str, key_arn: str, tenant: str, service_account: str
) -> str:
    """What `service_account` may do with the objects of `tenant`, and nobody else's."""
    arn = f"arn:{account.partition}:s3:::{bucket}"
    return document(
        {
            "Sid": "OwnObjects",
            "Effect": "Allow",
            "Action": list(OBJECT_ACTIONS[service_account]),
            "Resource": f"{arn}/{tenant}/*",
        },
        {
            "Sid": "OwnListing",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": arn,
            "Condition": {"StringLike": {"s3:prefix": [tenant, f"{tenant}/*"]}},
        },
        {
            "Sid": "KeyThroughS3",
            "Effect": "Allow",
            "Action": list(KEY_ACTIONS[service_account]),
            "Resource": key_arn,
            "Condition": {
                "StringEquals": {"kms:ViaService": f"s3.{account.region}.{account.dns_suffix}"}
            },
        },
    )
