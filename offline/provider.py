"""The provider plugin the engine starts: `python -m offline.provider <package> [engine address]`.

It prints its port on the first line and serves until the engine ends it. One process serves one
provider instance, so its configuration is its own; the world is shared through its file.
"""

# ruff: noqa: N802 - gRPC names the methods

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, status_pb2

from offline.aws import AwsPackage
from offline.kubernetes import KubernetesPackage
from offline.package import CLUSTER_VARIABLE, MakeContext, Package, RefusalError
from offline.plugin import Plugin, abort, refusing, serve, type_of, without_private
from offline.random_values import RandomPackage
from offline.wire import (
    Properties,
    all_unknown,
    fill_in,
    from_struct,
    only,
    overlay,
    plain,
    to_struct,
    without,
)
from offline.world import (
    FAIL_CREATE_VARIABLE,
    FAIL_MODE_VARIABLE,
    World,
    WorldChange,
    WorldError,
    WorldObject,
    world_from_environment,
)

PACKAGES: Mapping[str, Callable[[], Package]] = {
    "aws": AwsPackage,
    "kubernetes": KubernetesPackage,
    "random": RandomPackage,
}

CREATES_COUNTER = "creates"


class StandIn(Plugin):
    """The ResourceProvider service over a `Package` and the world."""

    def __init__(self, name: str, package: Package, world: World, version: str) -> None:
        super().__init__(name, package, version)
        self._world = world

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Make the object in the world; a preview only tells what would be known."""
        type_token = type_of(request.urn)
        inputs = from_struct(request.properties)
        if request.preview:
            make = MakeContext(type_token, request.urn, inputs, seed=f"{request.urn}#preview")
            _, computed = refusing(context, lambda: self._package.make(make))
            known = {key: computed[key] for key in self._package.known_in_preview & computed.keys()}
            outputs = fill_in(inputs, {**all_unknown(computed), **known})
            return provider_pb2.CreateResponse(properties=to_struct(without_private(outputs)))
        made = refusing(context, lambda: self._create(type_token, request.urn, inputs))
        if _fails(made.created_count, "partial"):
            _abort_partially(context, made, inputs)
        return provider_pb2.CreateResponse(id=made.id, properties=to_struct(made.properties))

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """What the world says now; an empty answer means the object is gone."""
        found = self._world.find(
            self._name, type_of(request.urn), self._package.scope(), request.id
        )
        if found is None:
            return provider_pb2.ReadResponse()
        asked = from_struct(request.inputs)
        inputs = only(found.properties, asked) if asked else found.properties
        return provider_pb2.ReadResponse(
            id=found.id, properties=to_struct(found.properties), inputs=to_struct(inputs)
        )

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:
        """Change the object in place, keeping what the service computed before."""
        type_token = type_of(request.urn)
        news = from_struct(request.news)
        olds = from_struct(request.olds)
        computed = without(olds, from_struct(request.old_inputs))
        make = MakeContext(type_token, request.urn, news, seed=request.urn)
        changed = self._package.remake(make, plain(olds))
        if request.preview:
            changed = all_unknown(changed)
        outputs = without_private(overlay(fill_in(news, computed), changed))
        if not request.preview:
            refusing(context, lambda: self._update(type_token, request, outputs))
        return provider_pb2.UpdateResponse(properties=to_struct(outputs))

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Take the object out of the world."""
        with self._world.change() as change:
            change.delete(
                self._name,
                type_of(request.urn),
                self._package.scope(),
                request.id,
                request.urn,
            )
        return empty_pb2.Empty()

    def _create(self, type_token: str, urn: str, inputs: Properties) -> WorldObject:
        scope = self._package.scope()
        with self._world.change() as change:
            number = change.count(CREATES_COUNTER)
            created_before = change.created(urn)
        if _fails(number, "before"):
            raise RefusalError(
                f"create number {number} fails because {FAIL_CREATE_VARIABLE}={number} asks for it"
            )
        make = MakeContext(type_token, urn, inputs, seed=f"{urn}#{created_before}")
        with self._world.change() as change:
            self._package.refuse(make, self._existing(change, scope))
            id_, computed = self._package.make(make)
            outputs = without_private(fill_in(inputs, computed))
            identity = self._package.identity(type_token, plain(outputs), id_)
            made = WorldObject(
                self._name, type_token, id_, urn, identity, scope, outputs, created_count=number
            )
            change.insert(made)
        return made

    def _update(self, type_token: str, request: Any, outputs: Properties) -> None:
        scope = self._package.scope()
        identity = self._package.identity(type_token, plain(outputs), request.id)
        thing = WorldObject(
            self._name, type_token, request.id, request.urn, identity, scope, outputs, 0
        )
        with self._world.change() as change:
            change.update(thing)

    def _existing(self, change: WorldChange, scope: str) -> Callable[[str], list[Properties]]:
        return lambda type_token: [
            plain(properties) for properties in change.properties_of(self._name, type_token, scope)
        ]


def _fails(number: int, mode: str) -> bool:
    wanted = os.environ.get(FAIL_CREATE_VARIABLE, "")
    chosen = os.environ.get(FAIL_MODE_VARIABLE) or "before"
    return wanted == str(number) and chosen == mode


def _abort_partially(context: Any, made: WorldObject, inputs: Properties) -> NoReturn:
    """Report a resource that exists but did not become ready, as the engine expects to hear it."""
    message = f"{made.type} {made.id} was created, but did not become ready"
    detail = provider_pb2.ErrorResourceInitFailed(
        id=made.id,
        properties=to_struct(made.properties),
        inputs=to_struct(inputs),
        reasons=[f"{FAIL_CREATE_VARIABLE} asks create {made.created_count} to end half way"],
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message)
    status.details.add().Pack(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    abort(context, grpc.StatusCode.UNKNOWN, message)


def plugin_for(name: str, engine_address: str | None) -> Plugin:
    """The plugin of package `name`: over a real cluster where one is given, else over the world.

    Raises WorldError without a world, KeyError for a package that has no stand-in.
    """
    version = importlib.metadata.version(f"pulumi-{name}")
    package, cluster = PACKAGES[name](), os.environ.get(CLUSTER_VARIABLE)
    if name == "kubernetes" and cluster:
        # Only here, because the others need no HTTP client.
        from offline.cluster_provider import ClusterProvider

        return ClusterProvider.connected(package, version, Path(cluster), engine_address)
    return StandIn(name, package, world_from_environment(), version)


def main() -> None:
    """Entry point; a mistake of the caller ends with one line on stderr."""
    try:
        serve(plugin_for(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
    except (
        RefusalError,
        WorldError,
        IndexError,
        KeyError,
        importlib.metadata.PackageNotFoundError,
    ) as error:
        sys.exit(f"offline.provider {' '.join(sys.argv[1:2])}: {error}")


if __name__ == "__main__":
    main()
