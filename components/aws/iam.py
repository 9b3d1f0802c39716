"""IAM policy documents as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Statement = Mapping[str, Any]


def document(*statements: Statement) -> str:
    """A policy document of `statements`."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(service: str, *actions: str) -> str:
    """A trust policy: `service` may take `actions`, by default sts:AssumeRole alone."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": list(actions or ("sts:AssumeRole",)),
        }
    )


POD_IDENTITY_TRUST = trust("pods.eks.amazonaws.com", "sts:AssumeRole", "sts:TagSession")
"""EKS Pod Identity tags its sessions, so the trust needs both actions (EKS user guide)."""


def only_tls(action: str, *resources: str) -> Statement:
    """Refuses `action` on `resources` over plain HTTP."""
    return {
        "Sid": "DenyHTTP",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": list(resources),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
