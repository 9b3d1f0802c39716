"""The key that encrypts Kubernetes secrets, control-plane logs, weights and the file system."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, ResourceOptions

from components.aws.account import Account
from components.aws.iam import document

DELETION_WINDOW_DAYS = 30
"""The longest KMS allows: without the key every weight and secret is lost."""


@dataclass(frozen=True)
class EncryptionKeyArgs:
    """Whose key it is: `cluster_name` names the alias, `log_group_name` the logs it may encrypt."""

    cluster_name: str
    log_group_name: str
    account: Account


class EncryptionKey(ComponentResource):
    """A rotating customer key, usable through IAM and, for one log group, by CloudWatch Logs."""

    def __init__(
        self, name: str, args: EncryptionKeyArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:EncryptionKey", name, opts=opts)
        child = ResourceOptions(parent=self)
        key = aws.kms.Key(
            f"{name}-key",
            description=f"Secrets, logs and weights of {args.cluster_name}",
            enable_key_rotation=True,
            deletion_window_in_days=DELETION_WINDOW_DAYS,
            policy=key_policy(args),
            opts=child,
        )
        aws.kms.Alias(
            f"{name}-alias",
            name=f"alias/{args.cluster_name}",
            target_key_id=key.key_id,
            opts=child,
        )
        self.arn = key.arn
        self.register_outputs({"arn": self.arn})


def key_policy(args: EncryptionKeyArgs) -> str:
    """Leaves the key to the account's IAM policies and lets one log group use it."""
    account = args.account
    return document(
        {
            "Sid": "AccountDecidesByIam",
            "Effect": "Allow",
            "Principal": {"AWS": account.iam_arn("root")},
            "Action": "kms:*",
            "Resource": "*",
        },
        {
            "Sid": "ControlPlaneLogs",
            "Effect": "Allow",
            "Principal": {"Service": f"logs.{account.region}.{account.dns_suffix}"},
            "Action": [
                "kms:Encrypt*",
                "kms:Decrypt*",
                "kms:ReEncrypt*",
                "kms:GenerateDataKey*",
                "kms:Describe*",
            ],
            "Resource": "*",
            "Condition": {
                "ArnEquals": {
                    "kms:EncryptionContext:aws:logs:arn": account.arn(
                        "logs", f"log-group:{args.log_group_name}"
                    )
                }
            },
        },
    )
