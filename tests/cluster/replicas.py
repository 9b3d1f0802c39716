"""Whether controllers have acted on what a Deployment is asked for."""

from __future__ import annotations

from coldstart.controlplane import Client


def acted_on(client: Client, name: str, namespace: str) -> bool:
    """Whether the Deployment and each of its ReplicaSets have been looked at as they are now.

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
    return all(
        found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
        for found in [deployment, *sets]
    )
