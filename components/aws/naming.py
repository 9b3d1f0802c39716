"""Names that fit AWS's limits and stay the same from one run to the next."""

from __future__ import annotations

from hashlib import sha256

ROLE_NAME_LIMIT = 64
POLICY_NAME_LIMIT = 128
BUCKET_NAME_LIMIT = 63
QUEUE_NAME_LIMIT = 80
RULE_NAME_LIMIT = 64
"""Characters each service allows (IAM, S3, SQS and EventBridge quota pages)."""


def bounded(name: str, limit: int) -> str:
    """`name` itself, or its head with eight hexadecimal digits of its hash when it is too long."""
    if len(name) <= limit:
        return name
    return f"{name[: limit - 9].rstrip('-_.')}-{sha256(name.encode()).hexdigest()[:8]}"


def bucket_name(*parts: str) -> str:
    """A valid S3 bucket name: lower case, hyphens for underscores and dots, within the limit."""
    plain = "-".join(parts).lower().replace("_", "-").replace(".", "-").strip("-")
    return bounded(plain, BUCKET_NAME_LIMIT)
