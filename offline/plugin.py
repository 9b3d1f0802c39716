"""What every provider plugin here does alike: checks, differences, refusals, and how it is served.

A plugin prints its port on the first line and serves until the engine ends it. One process serves
one provider instance, so its configuration is its own.
"""

# ruff: noqa: N802 - gRPC names the methods

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from offline.difference import Change, compare
from offline.package import CheckContext, Package, RefusalError
from offline.strict import UnknownTypeError, unknown_with_suggestions
from offline.wire import Properties, from_struct, plain, to_struct
from offline.world import AlreadyExistsError, WorldError

# The engine calls up to this many resources at once; more would only queue.
_WORKERS = 16

_ORPHAN_CHECK_SECONDS = 2.0

_T = TypeVar("_T")


class Plugin(provider_pb2_grpc.ResourceProviderServicer):
    """The part of the ResourceProvider service that needs no object: it asks the `Package`."""

    def __init__(self, name: str, package: Package, version: str) -> None:
        self._name = name
        self._package = package
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
        failures = misspelt(f"pulumi:providers:{self._name}", news)
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
        refusing(context, lambda: self._package.configure(settings))
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Refuse unknown property names, then complete the inputs."""
        type_token = type_of(request.urn)
        news = from_struct(request.news)
        failures = refusing(context, lambda: misspelt(type_token, news))
        if failures:
            return provider_pb2.CheckResponse(inputs=request.news, failures=failures)
        check = CheckContext(
            type=type_token,
            name=name_of(request.urn),
            olds=from_struct(request.olds),
            news=news,
            random_seed=request.randomSeed,
        )
        return provider_pb2.CheckResponse(inputs=to_struct(self._package.check(check)))

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """The structural difference of the inputs, with what it forces to be replaced."""
        type_token = type_of(request.urn)
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

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:
        """Answer a data source from the package's table."""
        arguments = plain(from_struct(request.args))
        answer = refusing(context, lambda: self._package.invoke(request.tok, arguments))
        response = provider_pb2.InvokeResponse()
        # `return` is a keyword of Python.
        getattr(response, "return").CopyFrom(to_struct(answer))
        return response


def misspelt(type_token: str, inputs: Properties) -> list[provider_pb2.CheckFailure]:
    """A failure for each property that `type_token` does not have, with the nearest name."""
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


def without_private(properties: Properties) -> Properties:
    """What of inputs belongs into outputs: not what the engine and the SDKs add for themselves."""
    return {key: value for key, value in properties.items() if not key.startswith("__")}


def refusing(context: Any, action: Callable[[], _T]) -> _T:
    """Run `action`; what the world or the package refuses becomes the call's error."""
    try:
        return action()
    except AlreadyExistsError as error:
        abort(context, grpc.StatusCode.ALREADY_EXISTS, str(error))
    except (RefusalError, WorldError) as error:
        abort(context, grpc.StatusCode.UNKNOWN, str(error))


def abort(context: Any, code: grpc.StatusCode, message: str) -> NoReturn:
    """End the call with an error."""
    context.abort(code, message)
    raise AssertionError("abort always raises")


def _changes_kind(changes: list[Change]) -> provider_pb2.DiffResponse.DiffChanges.ValueType:
    kinds = provider_pb2.DiffResponse
    return kinds.DIFF_SOME if changes else kinds.DIFF_NONE


def _detailed_kind(change: Change, replaces: bool) -> provider_pb2.PropertyDiff.Kind.ValueType:
    suffix = "_REPLACE" if replaces else ""
    return provider_pb2.PropertyDiff.Kind.Value(f"{change.kind.upper()}{suffix}")


def type_of(urn: str) -> str:
    """The type token in a URN; a parent's types stand before it, parted by `$`."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


def name_of(urn: str) -> str:
    """The resource's own name in a URN."""
    return urn.split("::", 3)[3]


def serve(plugin: Plugin) -> None:
    """Serve `plugin` on a free loopback port until SIGTERM or the engine's end."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_WORKERS),
        # The engine sends whole resources in one message; gRPC's own limit is 4 MiB.
        options=[("grpc.max_receive_message_length", 400 * 1024 * 1024)],
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(plugin, server)
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
