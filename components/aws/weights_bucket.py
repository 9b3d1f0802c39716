"""The bucket of weights and golden caches."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from components.aws.account import Account
from components.aws.iam import document, only_tls
from components.aws.naming import bucket_name

ABANDONED_UPLOAD_DAYS = 7
REPLACED_VERSION_DAYS = 30


@dataclass(frozen=True)
class WeightsBucketArgs:
    """Whose bucket it is. `disposable` lets `destroy` delete it with its content."""

    cluster_name: str
    account: Account
    key_arn: Input[str]
    disposable: bool


def weights_bucket_name(cluster: str, account: Account) -> str:
    """Globally unique by account and region, and known before the bucket exists."""
    return bucket_name(cluster, "weights", account.id, account.region)


class WeightsBucket(ComponentResource):
    """Private, versioned, encrypted with the stack's key, reachable over TLS only."""

    def __init__(
        self, name: str, args: WeightsBucketArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:WeightsBucket", name, opts=opts)
        self._name = name
        self._child = ResourceOptions(parent=self)
        text = weights_bucket_name(args.cluster_name, args.account)
        bucket = aws.s3.Bucket(
            f"{name}-bucket", bucket=text, force_destroy=args.disposable, opts=self._child
        )
        self.bucket = bucket.bucket
        self._closed(args, text)
        self._kept()
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=self.bucket,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": args.key_arn,
                    },
                    # One KMS call per hour and caller instead of one per object.
                    "bucket_key_enabled": True,
                }
            ],
            opts=self._child,
        )
        self.register_outputs({"bucket": self.bucket})

    def _closed(self, args: WeightsBucketArgs, text: str) -> None:
        block = aws.s3.BucketPublicAccessBlock(
            f"{self._name}-private",
            bucket=self.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child,
        )
        aws.s3.BucketOwnershipControls(
            f"{self._name}-ownership",
            bucket=self.bucket,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=self._child,
        )
        arn = f"arn:{args.account.partition}:s3:::{text}"
        aws.s3.BucketPolicy(
            f"{self._name}-policy",
            bucket=self.bucket,
            policy=document(only_tls("s3:*", arn, f"{arn}/*")),
            # S3 refuses two changes of a bucket's access at the same moment.
            opts=ResourceOptions.merge(self._child, ResourceOptions(depends_on=[block])),
        )

    def _kept(self) -> None:
        versioning = aws.s3.BucketVersioning(
            f"{self._name}-versions",
            bucket=self.bucket,
            versioning_configuration={"status": "Enabled"},
            opts=self._child,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{self._name}-lifecycle",
            bucket=self.bucket,
            rules=[
                {
                    "id": "abandoned-uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "abort_incomplete_multipart_upload": {
                        "days_after_initiation": ABANDONED_UPLOAD_DAYS
                    },
                },
                {
                    "id": "replaced-versions",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": REPLACED_VERSION_DAYS},
                },
            ],
            opts=ResourceOptions.merge(self._child, ResourceOptions(depends_on=[versioning])),
        )
