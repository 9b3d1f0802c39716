"""A real API server in place of the imaginary cluster: what a rehearsal has to know of it."""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coldstart.errors import UserError

CONNECTION_VARIABLE = "COLDSTART_CLUSTER"
"""Names the connection file for the provider (`offline.cluster_client`)."""


class ClusterAccessError(UserError):
    """The cluster cannot be reached as described; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How a rehearsal reaches a real API server.

    `kubeconfig` is complete in itself and belongs to an administrator; `charts` is a folder as
    `coldstart.controlplane.charts` lays it out; without `helm` every release is only recorded.
    `patience_seconds` is how long a request is tried again while the server is absent, busy or
    unwell; a restart takes 5 to 10 s.
    """

    kubeconfig: Path
    charts: Path | None = None
    helm: Path | None = None
    patience_seconds: float = 40.0


def write_connection(folder: Path, access: ClusterAccess) -> Path:
    """Write the connection file into `folder`, readable by nobody else.

    Raises ClusterAccessError when the kubeconfig is missing or not complete in itself.
    """
    cluster, user = _current(access.kubeconfig)
    authority = folder / "cluster-ca.pem"
    try:
        authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        connection = {
            "url": str(cluster["server"]).rstrip("/"),
            "ca": str(authority),
            "token": user["token"],
            "kubeconfig": str(access.kubeconfig.resolve()),
            "helm": str(access.helm) if access.helm else None,
            "charts": str(access.charts) if access.charts else None,
            "patience_seconds": access.patience_seconds,
        }
    except (KeyError, binascii.Error) as error:
        raise ClusterAccessError(
            f"{access.kubeconfig}: the current context needs a server, its"
            f" certificate-authority-data and a token ({error})"
        ) from None
    target = folder / "cluster.json"
    target.unlink(missing_ok=True)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(connection, file)
    return target


def _current(kubeconfig: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        found = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        contexts = {item["name"]: item["context"] for item in found["contexts"]}
        clusters = {item["name"]: item["cluster"] for item in found["clusters"]}
        users = {item["name"]: item["user"] for item in found["users"]}
        context = contexts[found["current-context"]]
        return clusters[context["cluster"]], users[context["user"]]
    except OSError as error:
        raise ClusterAccessError(f"{kubeconfig}: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ClusterAccessError(f"{kubeconfig} is no kubeconfig ({error!r})") from None
