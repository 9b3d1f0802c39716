"""The Kubernetes provider over a real API server: the engine's objects, the server's judgement.

An object is written by server-side apply with strict field validation, as a dry run in a preview.
The program's kubeconfig is not used: it names the stand-in for the cloud's cluster. Nothing is
awaited, because no node is there on which anything could become ready; only deletes wait until the
object is gone, and definitions until their kinds are served.
"""

# ruff: noqa: N802 - gRPC names the methods

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2

from coldstart.controlplane.client import Applied, Client
from coldstart.controlplane.definitions import DEFINITION, await_served
from coldstart.controlplane.errors import ControlPlaneError, Refused
from offline.cluster_client import Connection, client_of
from offline.cluster_objects import (
    FIELD_MANAGER,
    imported_inputs,
    live_inputs,
    managers_of,
    manifest,
    outputs_of,
    preview_outputs,
    redacted,
)
from offline.cluster_releases import Releases, values_as_found
from offline.kubernetes_shapes import RELEASE
from offline.package import Package, RefusalError
from offline.plugin import Plugin, refusing, type_of, without_private
from offline.wire import (
    Properties,
    contains_unknown,
    digest,
    from_struct,
    look_up,
    plain,
    to_struct,
)
from offline.world import AlreadyExistsError

DELETE_DEADLINE_SECONDS = 120.0
"""A namespace takes 5 to 10 s to empty itself; far beyond that a finalizer holds it."""

_LOG_DEADLINE_SECONDS = 5.0


class ClusterProvider(Plugin):
    """Objects through `client`, Helm releases through `releases`."""

    def __init__(
        self, package: Package, version: str, client: Client, releases: Releases, engine: Any = None
    ) -> None:
        super().__init__("kubernetes", package, version)
        self._client = client
        self._releases = releases
        self._engine = engine

    @staticmethod
    def connected(
        package: Package, version: str, connection: Path, engine_address: str | None
    ) -> ClusterProvider:
        """The provider for the cluster of a connection file. Raises RefusalError without one."""
        found = Connection.read(connection)
        client = client_of(found)
        engine = None
        if engine_address:
            engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine_address))
        return ClusterProvider(package, version, client, Releases(client, found), engine)

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Apply a new object; in a preview as a dry run, where that can tell anything."""
        inputs = from_struct(request.properties)
        if type_of(request.urn) == RELEASE:
            return self._create_release(request, context, inputs)
        manager = _manager_of(request.urn)
        if request.preview:
            dry_run = None
            if not contains_unknown(inputs):
                dry_run = self._refusing(context, inputs, lambda: self._try(inputs, manager))
            if dry_run is None:
                return provider_pb2.CreateResponse(properties=request.properties)
            self._warn(request.urn, dry_run.warnings)
            outputs = preview_outputs(dry_run.object, inputs, manager)
            return provider_pb2.CreateResponse(properties=to_struct(outputs))
        made = self._refusing(context, inputs, lambda: self._make(inputs, manager))
        self._warn(request.urn, made.warnings)
        outputs = outputs_of(made.object, inputs, manager)
        return provider_pb2.CreateResponse(id=_id_of(made.object), properties=to_struct(outputs))

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """What the server holds now; an empty answer means the object is gone."""
        state, inputs = from_struct(request.properties), from_struct(request.inputs)
        read = self._read_release if type_of(request.urn) == RELEASE else self._read
        found = self._refusing(context, inputs, lambda: read(request, inputs, state))
        if found is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=request.id, inputs=to_struct(found[0]), properties=to_struct(found[1])
        )

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:
        """Apply the object again, over whatever another owner made of our fields.

        What the new inputs no longer have vanishes: the server takes it from the field manager.
        """
        inputs, state = from_struct(request.news), from_struct(request.olds)
        if type_of(request.urn) == RELEASE:
            return self._update_release(request, context, inputs, state)
        manager = state.get(FIELD_MANAGER) or _manager_of(request.urn)
        if request.preview and contains_unknown(inputs):
            return provider_pb2.UpdateResponse(properties=request.news)
        applied = self._refusing(
            context,
            inputs,
            lambda: self._apply(
                self._placed(manifest(inputs)), manager, dry_run=request.preview, force=True
            ),
        )
        self._warn(request.urn, applied.warnings)
        outputs = (preview_outputs if request.preview else outputs_of)(
            applied.object, inputs, manager
        )
        return provider_pb2.UpdateResponse(properties=to_struct(outputs))

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Delete and wait until the object is gone; one that is already gone is no error."""
        state = from_struct(request.properties)
        if type_of(request.urn) == RELEASE:
            self._refusing(context, state, lambda: self._releases.uninstall(request.id, state))
        else:
            self._refusing(context, state, lambda: self._delete(request.urn, request.id))
        return empty_pb2.Empty()

    def _create_release(
        self, request: Any, context: Any, inputs: Properties
    ) -> provider_pb2.CreateResponse:
        id_, owner = self._package.identity(RELEASE, plain(inputs), ""), _manager_of(request.urn)
        done = self._refusing(
            context,
            inputs,
            lambda: self._releases.install(id_, inputs, owner, preview=request.preview),
        )
        self._warn(request.urn, done.warnings)
        return provider_pb2.CreateResponse(
            id="" if request.preview else id_,
            properties=to_struct({**done.outputs, FIELD_MANAGER: owner}),
        )

    def _update_release(
        self, request: Any, context: Any, inputs: Properties, state: Properties
    ) -> provider_pb2.UpdateResponse:
        owner = state.get(FIELD_MANAGER) or _manager_of(request.urn)
        done = self._refusing(
            context,
            inputs,
            lambda: self._releases.upgrade(inputs, state, owner, preview=request.preview),
        )
        self._warn(request.urn, done.warnings)
        return provider_pb2.UpdateResponse(
            properties=to_struct({**done.outputs, FIELD_MANAGER: owner})
        )

    def _read_release(
        self, request: Any, inputs: Properties, state: Properties
    ) -> tuple[Properties, Properties] | None:
        release = self._releases.find(request.id)
        if release is None:
            return None
        found = values_as_found(inputs, release)
        return found, {**state, **without_private(found)}

    def _read(
        self, request: Any, inputs: Properties, state: Properties
    ) -> tuple[Properties, Properties] | None:
        live = self._find(request)
        if live is None:
            return None
        found = live_inputs(inputs, state, live) if inputs else imported_inputs(live)
        manager = state.get(FIELD_MANAGER) or _manager_of(request.urn)
        return found, outputs_of(live, found, manager)

    def _try(self, inputs: Properties, manager: str) -> Applied | None:
        """A dry run of a new object; None where it could tell nothing.

        As the real provider (v4, provider.go and await.go, `Create`): a kind that the server does
        not know yet and a namespace that is not there yet may both come with the same update, so
        such an object is taken as it is. An object that a replacement deletes first is still
        there; the dry run then is of the same object under another name.
        """
        wanted = manifest(inputs)
        try:
            return self._client.apply(self._placed(wanted), dry_run=True, owner=manager, force=True)
        except Refused as refused:
            if refused.reason == "NoSuchKind" or _no_namespace(refused):
                return None
            if refused.status != 422 or "immutable" not in refused.message:
                raise
            name = wanted["metadata"]["name"]
            other = {**wanted, "metadata": {**wanted["metadata"], "name": f"{name[:50]}-preview"}}
            tried = self._client.apply(self._placed(other), dry_run=True, owner=manager, force=True)
            tried.object["metadata"]["name"] = name
            return tried

    def _make(self, inputs: Properties, manager: str) -> Applied:
        wanted = self._placed(manifest(inputs))
        metadata = wanted["metadata"]
        there = self._client.get(
            wanted["apiVersion"], wanted["kind"], metadata["name"], metadata.get("namespace")
        )
        # Ours is what an interrupted run made before the engine could write it down. Anybody else's
        # is refused, as by the real provider, which would only take it with upsertExistingObjects.
        if there is not None and manager not in managers_of(there):
            owners = ", ".join(sorted(managers_of(there)))
            raise AlreadyExistsError(
                f'{wanted["kind"]} "{_id_of(there)}" already exists; its fields belong to {owners}'
            )
        return self._apply(wanted, manager)

    def _apply(
        self, wanted: Properties, manager: str, *, dry_run: bool = False, force: bool = False
    ) -> Applied:
        applied = self._client.apply(wanted, dry_run=dry_run, owner=manager, force=force)
        if wanted["kind"] == DEFINITION[1] and not dry_run:
            # What comes after it in the program may be of its kind.
            await_served(self._client, [applied.object])
        return applied

    def _find(self, request: Any) -> Properties | None:
        api_version, kind = _kind_of(request.urn)
        namespace, name = _parts_of(request.id)
        try:
            return self._client.get(api_version, kind, name, namespace)
        except Refused as refused:
            if refused.reason == "NoSuchKind":
                return None
            raise

    def _delete(self, urn: str, id_: str) -> None:
        api_version, kind = _kind_of(urn)
        namespace, name = _parts_of(id_)
        try:
            self._client.delete(
                api_version, kind, name, namespace, deadline_seconds=DELETE_DEADLINE_SECONDS
            )
        except Refused as refused:
            # With its definition every object of a kind is gone.
            if refused.reason != "NoSuchKind":
                raise

    def _placed(self, wanted: Properties) -> Properties:
        """With a namespace where the kind has one and none is given, as a kubeconfig would add."""
        metadata = wanted.get("metadata", {})
        kind = self._client.resource(wanted["apiVersion"], wanted["kind"])
        if kind.namespaced and not metadata.get("namespace"):
            return {**wanted, "metadata": {**metadata, "namespace": "default"}}
        return wanted

    def _refusing(self, context: Any, inputs: Properties, action: Any) -> Any:
        """As `refusing`, with the server's own message and without the secrets it may repeat."""

        def judged() -> Any:
            try:
                return action()
            except Refused as refused:
                message = refused.message or f"{refused.status} {refused.reason}"
                if refused.reason == "NoSuchKind":
                    # In the words that kubectl and the real provider have for it.
                    kind, version = inputs.get("kind"), inputs.get("apiVersion")
                    message = f'no matches for kind "{kind}" in version "{version}"'
                raise RefusalError(redacted(message, inputs)) from None
            except ControlPlaneError as error:
                raise RefusalError(redacted(str(error), inputs)) from None

        return refusing(context, judged)

    def _warn(self, urn: str, warnings: tuple[str, ...]) -> None:
        if self._engine is None:
            return
        for warning in dict.fromkeys(warnings):
            self._engine.Log(
                engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=warning, urn=urn),
                timeout=_LOG_DEADLINE_SECONDS,
            )


def _manager_of(urn: str) -> str:
    """One field manager per resource; the same after an interruption, so that it knows its own."""
    return f"pulumi-kubernetes-{digest(urn, length=8)}"


def _kind_of(urn: str) -> tuple[str, str]:
    """`kubernetes:apps/v1:Deployment` gives `apps/v1` and `Deployment`; the core group is ``."""
    _, version, kind = type_of(urn).split(":")
    return version.removeprefix("core/"), kind


def _id_of(live: Properties) -> str:
    name, namespace = look_up(live, "metadata.name"), look_up(live, "metadata.namespace")
    return f"{namespace}/{name}" if namespace else str(name)


def _parts_of(id_: str) -> tuple[str | None, str]:
    namespace, _, name = id_.rpartition("/")
    return namespace or None, name


def _no_namespace(refused: Refused) -> bool:
    return refused.status == 404 and refused.details.get("kind") == "namespaces"
