"""GPUs that pods claim through Dynamic Resource Allocation instead of counting them."""

from __future__ import annotations

from collections.abc import Iterator

from policies.reading.values import Resource, known, list_at, text_at

_GROUP = "resource.k8s.io"
_KINDS = {"ResourceClaim": ("spec",), "ResourceClaimTemplate": ("spec", "spec")}


def gpu_claims_in(resource: Resource) -> Iterator[str]:
    """The name of a resource that claims GPUs; nothing for others.

    Device classes are told by their names: `gpu.nvidia.com`, `gpu.amd.com`, `mig.nvidia.com`.
    """
    path = _KINDS.get(resource.kind) if resource.group == _GROUP else None
    if path is None:
        return
    for request in list_at(resource.properties, *path, "devices", "requests"):
        if any("gpu" in name or name.startswith("mig.") for name in _classes(known(request))):
            yield f"{resource.kind} {resource.object_name}"
            return


def _classes(request: object) -> Iterator[str]:
    # Flat in v1beta1, one level deeper since v1beta2.
    yield text_at(request, "deviceClassName").lower()
    yield text_at(request, "exactly", "deviceClassName").lower()
    for subrequest in list_at(request, "firstAvailable"):
        yield text_at(subrequest, "deviceClassName").lower()
