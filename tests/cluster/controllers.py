"""Whether controllers and the API server's own caches have done their part after a write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coldstart.controlplane import Client, Refused

_REFUSAL_DEADLINE_SECONDS = 30


def observed(item: dict[str, Any]) -> bool:
    """Whether the controller of an object has looked at it as it is now."""
    return item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]


def acted_on(client: Client, name: str, namespace: str) -> bool:
    """Whether a Deployment and each of its ReplicaSets have been looked at as they are now.

    Before that a pod of an older wish may still be made, and be taken for one of this wish.
    """
    deployment = client.get("apps/v1", "Deployment", name, namespace)
    if deployment is None:
        raise LookupError(f"Deployment {name} is not there")
    uid = deployment["metadata"]["uid"]
    sets = [
        found
        for found in client.list("apps/v1", "ReplicaSet", namespace)
        if any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences", []))
    ]
    return all(map(observed, [deployment, *sets]))


def takes_pods(client: Client, namespace: str) -> bool:
    """Whether a namespace has the account of its pods, without which each is refused."""
    return client.get("v1", "ServiceAccount", "default", namespace) is not None


def counted(client: Client, quota: dict[str, Any]) -> bool:
    """Whether a quota has been counted; before that it lets everything pass, uncounted."""
    metadata = quota["metadata"]
    live = client.get("v1", "ResourceQuota", metadata["name"], metadata["namespace"]) or {}
    return live.get("status", {}).get("hard") == quota["spec"]["hard"]


def refused_in_time(client: Client, ask: Callable[[], object]) -> Refused:
    """The refusal of what is asked, once the API server's own caches have what it rests on."""

    def probe() -> Refused | None:
        try:
            ask()
        except Refused as refusal:
            return refusal
        return None

    return client.wait_for(probe, "the API server to refuse", _REFUSAL_DEADLINE_SECONDS)
