"""The provider plugin the engine starts: `python -m offline.provider <package> [engine address]`.

It prints its port on the first line and serves until the engine ends it. One process serves one
provider instance, so its configuration is its own; the world is shared through its file.
"""

# ruff: noqa: N802 - gRPC names the methods

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from offline.aws import AwsPackage
from offline.difference import Change, compare
from offline.kubernetes import KubernetesPackage
from offline.package import CheckContext, MakeContext, Package, RefusalError
from offline.random_values import RandomPackage
from offline.strict import UnknownTypeError, unknown_with_suggestions
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
    AlreadyExistsError,
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

# The engine calls up to this many resources at once; more would only queue.
_WORKERS = 16

_ORPHAN_CHECK_SECONDS = 2.0

_T = TypeVar("_T")


class StandIn(provider_pb2_grpc.ResourceProviderServicer):
    """The ResourceProvider service over a `Package` and the world."""

    def __init__(self, name: str, package: Package, world: World, version: str) -> None:
        self._name = name
        self._package = package
        self._world = world
        self._version = version

    def Handshake(self, request: Any, context: Any) -> provider_pb2.ProviderHandshakeResponse:
        """Secrets stay wrapped all the way; resource references and outputs do not."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:
        """The version of the SDK this stands in for."""
        return plugin_pb2.PluginInfo(version=self._version)

    def Attach(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Nothing to attach; a debugger's engine asks all the same."""
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Every call is short, so there is nothing to cancel."""
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Refuse provider inputs that do not exist."""
        news = from_struct(request.news)
        failures = _misspelt(f"pulumi:providers:{self._name}", news)
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """Tell whether the account or the cluster becomes another one."""
        old = from_struct(request.old_inputs)
        new = from_struct(request.news)
        replaces = self._package.replaced_with(plain(old), plain(new))
        changes = compare(old, new)
        return provider_pb2.DiffResponse(
            changes=_changes_kind(changes),
            replaces=replaces,
            diffs=sorted({change.top_level for change in changes}),
        )

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:
        """Take the configuration of this provider instance."""
        settings = plain(from_struct(request.args))
        _refusing(context, lambda: self._package.configure(settings))
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Refuse unknown property names, then complete the inputs."""
        type_token = _type_of(request.urn)
        news = from_struct(request.news)
        failures = _refusing(context, lambda: _misspelt(type_token, news))
        if failures:
            return provider_pb2.CheckResponse(inputs=request.news, failures=failures)
        check = CheckContext(
            type=type_token,
            name=_name_of(request.urn),
            olds=from_struct(request.olds),
            news=news,
            random_seed=request.randomSeed,
        )
        return provider_pb2.CheckResponse(inputs=to_struct(self._package.check(check)))

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """The structural difference of the inputs, with what it forces to be replaced."""
        type_token = _type_of(request.urn)
        old = from_struct(request.old_inputs)
        new = from_struct(request.news)
        changes = compare(old, new)
        forced = self._package.replaces(type_token, plain(new))
        replaced = [change for change in changes if change.is_under(forced)]
        same_name = self._package.identity(
            type_token, plain(old), request.id
        ) == self._package.identity(type_token, plain(new), request.id)
        id_is_name = self._package.identity(type_token, plain(old), "") == ""
        return provider_pb2.DiffResponse(
            changes=_changes_kind(changes),
            replaces=sorted({change.top_level for change in replaced}),
            diffs=sorted({change.top_level for change in changes}),
            detailedDiff={
                change.path: provider_pb2.PropertyDiff(
                    kind=_detailed_kind(change, change in replaced), inputDiff=True
                )
                for change in changes
            },
            hasDetailedDiff=True,
            deleteBeforeReplace=bool(replaced) and same_name and not id_is_name,
        )

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Make the object in the world; a preview only tells what would be known."""
        type_token = _type_of(request.urn)
        inputs = from_struct(request.properties)
        if request.preview:
            make = MakeContext(type_token, request.urn, inputs, seed=f"{request.urn}#preview")
            _, computed = _refusing(context, lambda: self._package.make(make))
            known = {key: computed[key] for key in self._package.known_in_preview & computed.keys()}
            outputs = fill_in(inputs, {**all_unknown(computed), **known})
            return provider_pb2.CreateResponse(properties=to_struct(_outputs(outputs)))
        made = _refusing(context, lambda: self._create(type_token, request.urn, inputs))
        if _fails(made.created_count, "partial"):
            _abort_partially(context, made, inputs)
        return provider_pb2.CreateResponse(id=made.id, properties=to_struct(made.properties))

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """What the world says now; an empty answer means the object is gone."""
        found = self._world.find(
            self._name, _type_of(request.urn), self._package.scope(), request.id
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
        type_token = _type_of(request.urn)
        news = from_struct(request.news)
        olds = from_struct(request.olds)
        computed = without(olds, from_struct(request.old_inputs))
        make = MakeContext(type_token, request.urn, news, seed=request.urn)
        changed = self._package.remake(make, plain(olds))
        if request.preview:
            changed = all_unknown(changed)
        outputs = _outputs(overlay(fill_in(news, computed), changed))
        if not request.preview:
            _refusing(context, lambda: self._update(type_token, request, outputs))
        return provider_pb2.UpdateResponse(properties=to_struct(outputs))

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Take the object out of the world."""
        with self._world.change() as change:
            change.delete(
                self._name,
                _type_of(request.urn),
                self._package.scope(),
                request.id,
                request.urn,
            )
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:
        """Answer a data source from the package's table."""
        arguments = plain(from_struct(request.args))
        answer = _refusing(context, lambda: self._package.invoke(request.tok, arguments))
        response = provider_pb2.InvokeResponse()
        # `return` is a keyword of Python.
        getattr(response, "return").CopyFrom(to_struct(answer))
        return response

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
            outputs = _outputs(fill_in(inputs, computed))
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


def _misspelt(type_token: str, inputs: Properties) -> list[provider_pb2.CheckFailure]:
    try:
        found = unknown_with_suggestions(type_token, inputs)
    except UnknownTypeError as error:
        raise RefusalError(str(error)) from error
    return [
        provider_pb2.CheckFailure(property=path, reason=_no_such_property(type_token, path, near))
        for path, near in found
    ]


def _no_such_property(type_token: str, path: str, near: str | None) -> str:
    hint = f'; did you mean "{near}"?' if near else ""
    return f"{type_token} has no property {path}{hint}"


def _outputs(properties: Properties) -> Properties:
    return {key: value for key, value in properties.items() if not key.startswith("__")}


def _fails(number: int, mode: str) -> bool:
    wanted = os.environ.get(FAIL_CREATE_VARIABLE, "")
    chosen = os.environ.get(FAIL_MODE_VARIABLE) or "before"
    return wanted == str(number) and chosen == mode


def _refusing(context: Any, action: Callable[[], _T]) -> _T:
    """Run `action`; what the world or the package refuses becomes the call's error."""
    try:
        return action()
    except AlreadyExistsError as error:
        _abort(context, grpc.StatusCode.ALREADY_EXISTS, str(error))
    except (RefusalError, WorldError) as error:
        _abort(context, grpc.StatusCode.UNKNOWN, str(error))


def _abort(context: Any, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort always raises")


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
    _abort(context, grpc.StatusCode.UNKNOWN, message)


def _changes_kind(changes: list[Change]) -> provider_pb2.DiffResponse.DiffChanges.ValueType:
    kinds = provider_pb2.DiffResponse
    return kinds.DIFF_SOME if changes else kinds.DIFF_NONE


def _detailed_kind(change: Change, replaces: bool) -> provider_pb2.PropertyDiff.Kind.ValueType:
    suffix = "_REPLACE" if replaces else ""
    return provider_pb2.PropertyDiff.Kind.Value(f"{change.kind.upper()}{suffix}")


def _type_of(urn: str) -> str:
    """The type token in a URN; a parent's types stand before it, parted by `$`."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


def _name_of(urn: str) -> str:
    return urn.split("::", 3)[3]


def serve(name: str) -> None:
    """Serve package `name` on a free loopback port until SIGTERM or the engine's end.

    Raises WorldError without a world, KeyError for a package that has no stand-in.
    """
    version = importlib.metadata.version(f"pulumi-{name}")
    stand_in = StandIn(name, PACKAGES[name](), world_from_environment(), version)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_WORKERS),
        # The engine sends whole resources in one message; gRPC's own limit is 4 MiB.
        options=[("grpc.max_receive_message_length", 400 * 1024 * 1024)],
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(stand_in, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    engine = os.getppid()
    while not ended.wait(_ORPHAN_CHECK_SECONDS):
        # An engine that was killed cannot say goodbye.
        if os.getppid() != engine:
            break
    # The engine waits for this process, and taking a Python interpreter with a whole SDK apart
    # costs a sixth of a second; every change of the world is committed by now.
    os._exit(0)


def main() -> None:
    """Entry point; a mistake of the caller ends with one line on stderr."""
    try:
        serve(sys.argv[1])
    except (WorldError, IndexError, KeyError, importlib.metadata.PackageNotFoundError) as error:
        sys.exit(f"offline.provider {' '.join(sys.argv[1:2])}: {error}")


if __name__ == "__main__":
    main()
