"""Kubernetes objects as resources, with the type tokens that Pulumi gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.reading.values import Resource


def is_object(document: Any) -> bool:
    """Whether a document is a Kubernetes object: it names its API version and its kind."""
    return (
        isinstance(document, Mapping)
        and isinstance(document.get("apiVersion"), str)
        and isinstance(document.get("kind"), str)
    )


def resource_of(document: Mapping[str, Any]) -> Resource:
    """One object as a resource, named `namespace/name` (`name` where there is no namespace)."""
    version, kind = str(document["apiVersion"]), str(document["kind"])
    token = f"kubernetes:{version if '/' in version else f'core/{version}'}:{kind}"
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name = metadata.get("name") or metadata.get("generateName") or "unnamed"
    namespace = metadata.get("namespace")
    return Resource(token, f"{namespace}/{name}" if namespace else str(name), document)
