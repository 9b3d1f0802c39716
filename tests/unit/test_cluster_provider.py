"""The provider over a real API server, before a server that takes its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pulumi.runtime.proto import provider_pb2

from coldstart.controlplane.client import Applied, Client, Resource
from coldstart.controlplane.http import Answer
from offline.cluster_provider import ClusterProvider
from offline.cluster_releases import Releases
from offline.kubernetes import KubernetesPackage
from offline.wire import to_struct

URN = "urn:pulumi:one::given::kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition::gadgets"
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.given.dev"},
    "spec": {
        "group": "given.dev",
        "names": {"plural": "gadgets", "kind": "Gadget"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}
PROPERTIES = to_struct(DEFINITION)


class SlowServer:
    """Has a definition established at the second look, and its kind in discovery at the third."""

    def __init__(self) -> None:
        self.live: dict[str, Any] | None = None
        self.looks = 0
        self.dry_runs: list[bool] = []

    def resource(self, *_: str) -> Resource:
        return Resource("customresourcedefinitions", namespaced=False)

    def apply(self, wanted: dict[str, Any], *, dry_run: bool = False, **_: object) -> Applied:
        self.dry_runs.append(dry_run)
        made = {**wanted, "metadata": {**wanted["metadata"], "uid": "1"}}
        if not dry_run:
            self.live = made
        return Applied(made, ())

    def get(self, *_: object) -> dict[str, Any] | None:
        if self.live is None:
            return None
        self.looks += 1
        established = [{"type": "Established", "status": "True"}] if self.looks > 1 else []
        return {**self.live, "status": {"conditions": established}}

    def request(self, method: str, path: str, **_: object) -> Answer:
        kinds = [{"name": "gadgets"}] if self.serves else None
        return Answer(200, {"resources": kinds}, ())

    @property
    def serves(self) -> bool:
        return self.looks > 2

    def wait_for(self, probe: Callable[[], bool | None], what: str, seconds: float) -> bool:
        return any(probe() for _ in range(5))


def provider(server: SlowServer) -> ClusterProvider:
    client = cast("Client", server)
    return ClusterProvider(KubernetesPackage(), "1.0.0", client, cast("Releases", None))


def create(server: SlowServer, *, preview: bool = False) -> str:
    request = provider_pb2.CreateRequest(urn=URN, properties=PROPERTIES, preview=preview)
    return provider(server).Create(request, None).id


def update(server: SlowServer, *, preview: bool = False) -> None:
    request = provider_pb2.UpdateRequest(urn=URN, olds=PROPERTIES, news=PROPERTIES, preview=preview)
    provider(server).Update(request, None)


def test_a_definition_is_made_when_its_kind_is_served() -> None:
    server = SlowServer()
    assert create(server) == "gadgets.given.dev"
    assert server.serves


def test_a_changed_definition_is_there_when_its_kind_is_served() -> None:
    server = SlowServer()
    update(server)
    assert server.serves


def test_a_preview_of_a_definition_waits_for_nothing() -> None:
    server = SlowServer()
    create(server, preview=True)
    update(server, preview=True)
    assert server.dry_runs == [True, True]
    assert server.looks == 0
