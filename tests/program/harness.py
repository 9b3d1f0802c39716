# ruff: noqa: N802 - the method names of the gRPC services
"""Runs the whole program in this process against a monitor that records and answers.

The answers come from the stand-in providers of `offline`, so names, ids and outputs have the shape
the real providers give them. Runs do not see each other: each has a context and a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import json
import runpy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from google.protobuf import empty_pb2, json_format
from pulumi.runtime import mocks, resource, settings
from pulumi.runtime.proto import engine_pb2, resource_pb2, source_pb2

from offline import wire
from offline.package import CheckContext, MakeContext, Package
from tests.program.recording import Invoke, Options, Recorded, Resource, decoded, encoded

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "coldstart"
ORGANIZATION = "organization"
DEADLINE_SECONDS = 120
"""A program that waits for a value nobody gives would wait for ever."""

_STACK = "pulumi:pulumi:Stack"
_STACK_REFERENCE = "pulumi:pulumi:StackReference"
_PROVIDER = "pulumi:providers:"
_DEFAULT_REGION = "us-west-2"
_RANDOM_SEED = b"the same names in every run"

# Where a resource was made is for the engine, which is not here; it takes a tenth of a run.
resource._get_stack_trace = source_pb2.StackTrace

Answer = Callable[[dict[str, Any]], Mapping[str, Any]]


class MisspeltError(AssertionError):
    """The program set properties that the SDK's types do not have."""


def run_program(
    stack: str = "eks-dev",
    *,
    preview: bool = False,
    config: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    program: Path | Callable[[], object] | None = None,
    stack_outputs: Mapping[str, Mapping[str, Any]] | None = None,
    invokes: Mapping[str, Answer] | None = None,
    strict: bool = True,
) -> Recorded:
    """Run `program` (the repository's own by default) as stack `stack` and tell what it registered.

    `config` replaces the stack file's, `overrides` is laid over it, both with namespaced keys and
    plain values; `secrets` are configuration keys the engine would have decrypted. `stack_outputs`
    gives, by stack name, what stack references find. `invokes` answers data sources before the
    stand-ins do. With `strict`, property names the SDK does not have raise MisspeltError.
    Exceptions of the program come through; a run over `DEADLINE_SECONDS` raises TimeoutError.
    """
    base = read_config(ROOT / "stacks" / f"Pulumi.{stack}.yaml") if config is None else config
    values, secret_keys = engine_config({**base, **(overrides or {})}, secrets or {})
    recorded = Recorded(stack, preview)
    world = _World(recorded, values, stack_outputs or {}, invokes or {})
    monitor = RecordingMonitor(world)
    start = functools.partial(_start, monitor, program or ROOT / "__main__.py", values, secret_keys)
    with contextlib.chdir(ROOT):
        contextvars.copy_context().run(asyncio.run, start())
    if strict and recorded.misspelt:
        raise MisspeltError("\n".join(recorded.misspelt))
    return recorded


async def _start(
    monitor: RecordingMonitor,
    program: Path | Callable[[], object],
    values: dict[str, str],
    secret_keys: list[str],
) -> None:
    recorded = monitor.world.recorded
    settings.configure(
        mocks.MockSettings(
            monitor=monitor,
            monitor_features=set(monitor.GetDeploymentInfo(None).supportedFeatures),
            engine=_Engine(recorded),
            project=PROJECT,
            stack=recorded.stack,
            dry_run=recorded.preview,
            organization=ORGANIZATION,
            callbacks=None,
            root_directory=str(ROOT),
        )
    )
    settings.set_root_resource(None)  # type: ignore[arg-type]
    pulumi.runtime.set_all_config(values, secret_keys)

    def main() -> None:
        if isinstance(program, Path):
            runpy.run_path(str(program), run_name="__main__")
        else:
            program()

    # A program that fails leaves futures nobody awaits; its own error is what the caller gets.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    await asyncio.wait_for(pulumi.runtime.run_in_stack(main), DEADLINE_SECONDS)


def read_config(file: Path) -> dict[str, Any]:
    """The `config:` mapping of a stack file."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))["config"]


def engine_config(
    config: Mapping[str, Any], secrets: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Configuration as the engine hands it over: texts, objects as JSON, and the secret keys."""
    values: dict[str, str] = {}
    secret_keys = list(secrets)
    for key, value in config.items():
        if isinstance(value, Mapping) and set(value) == {"secure"}:
            secret_keys.append(key)
            values[key] = f"decrypted {key}"
        elif isinstance(value, str):
            values[key] = value
        else:
            values[key] = json.dumps(value, separators=(",", ":"))
    return {**values, **secrets}, secret_keys


class _Engine(mocks.MockEngine):
    def __init__(self, recorded: Recorded) -> None:
        super().__init__(None)
        self._recorded = recorded

    def Log(self, request: Any) -> None:
        severity = engine_pb2.LogSeverity.Name(request.severity)
        self._recorded.log.append((severity.lower(), request.message))


@dataclass
class _World:
    """What a run knows beside the program: configuration, other stacks, providers so far."""

    recorded: Recorded
    config: Mapping[str, str]
    stack_outputs: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Answer]
    packages: dict[str, Package] = field(default_factory=dict)

    def package(self, name: str, provider: str) -> Package | None:
        """The stand-in behind a provider's URN; None for a package that has no stand-in."""
        from offline.provider import PACKAGES

        key = provider or f"{_PROVIDER}{name}"
        if name in PACKAGES and key not in self.packages:
            made = PACKAGES[name]()
            if name == "aws":
                made.configure({"region": self.config.get("aws:region", _DEFAULT_REGION)})
            self.packages[key] = made
        return self.packages.get(key)

    def configure(self, urn: str, type_token: str, inputs: wire.Properties) -> None:
        """Take an explicit provider's inputs; like the engine, not while one is unknown."""
        package = self.package(type_token.removeprefix(_PROVIDER), urn)
        if package is not None and not wire.contains_unknown(inputs):
            package.configure(wire.plain(inputs))

    def reference(self, stack: str) -> wire.Properties:
        """The state of a stack reference. Raises LookupError for a stack nobody gave."""
        self.recorded.stack_references.append(stack)
        outputs = self.stack_outputs.get(stack, self.stack_outputs.get(stack.rsplit("/", 1)[-1]))
        if outputs is None:
            known = ", ".join(self.stack_outputs) or "none"
            raise LookupError(f"unknown stack {stack!r}; stack_outputs has {known}")
        sent = encoded(outputs)
        secret_names = [name for name, value in sent.items() if wire.is_secret(value)]
        return {"name": stack, "outputs": sent, "secretOutputNames": secret_names}


class RecordingMonitor(mocks.MockMonitor):
    """Answers the SDK as engine and stand-in providers would, and writes everything down."""

    def __init__(self, world: _World) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.world = world
        # The SDK registers from a pool of threads.
        self._lock = threading.Lock()
        self._urns: dict[str, str] = {}

    def RegisterResource(self, request: Any) -> resource_pb2.RegisterResourceResponse:
        """Record the resource and give it an id and outputs."""
        inputs = wire.from_struct(request.object)
        with self._lock:
            urn = self._new_urn(request.parent, request.type, request.name)
            if request.type == _STACK:
                return resource_pb2.RegisterResourceResponse(urn=urn)
            provider = request.provider.rpartition("::")[0]
            self._check_names(request, inputs)
            id_, checked, outputs = self._made(request, urn, provider, inputs)
            self.world.recorded.resources.append(
                Resource(
                    type=request.type,
                    name=request.name,
                    urn=urn,
                    id=id_,
                    parent=request.parent,
                    custom=request.custom,
                    inputs=decoded(inputs),
                    checked=decoded(checked),
                    outputs=decoded(outputs),
                    provider=provider,
                    dependencies=tuple(request.dependencies),
                    property_dependencies={
                        key: tuple(value.urns)
                        for key, value in request.propertyDependencies.items()
                    },
                    options=_options(request),
                )
            )
        return resource_pb2.RegisterResourceResponse(
            urn=urn, id=id_, object=wire.to_struct(outputs)
        )

    def RegisterResourceOutputs(self, request: Any) -> empty_pb2.Empty:
        """Outputs of a component, or the exports of the stack."""
        outputs = decoded(wire.from_struct(request.outputs))
        with self._lock:
            if self._urns[request.urn] == _STACK:
                self.world.recorded.outputs.update(outputs)
            else:
                self.world.recorded.component_outputs[request.urn] = outputs
        return empty_pb2.Empty()

    def ReadResource(self, request: Any) -> resource_pb2.ReadResourceResponse:
        """A stack reference, or an existing resource as the stand-in would make it."""
        with self._lock:
            urn = self._new_urn(request.parent, request.type, request.name)
            if request.type == _STACK_REFERENCE:
                state = self.world.reference(request.id)
            else:
                provider = request.provider.rpartition("::")[0]
                _, _, state = self._made(
                    request, urn, provider, wire.from_struct(request.properties)
                )
        return resource_pb2.ReadResourceResponse(urn=urn, properties=wire.to_struct(state))

    def Invoke(self, request: Any) -> resource_pb2.ResourceInvokeResponse:
        """Answer a data source: from `invokes` first, from the stand-in otherwise."""
        arguments = wire.plain(wire.from_struct(request.args))
        provider = request.provider.rpartition("::")[0]
        own = self.world.answers.get(request.tok)
        if own is not None:
            answer = encoded(own(arguments))
        else:
            package = self.world.package(request.tok.split(":")[0], provider)
            if package is None:
                raise LookupError(f"no answer for {request.tok}; pass one in invokes")
            answer = package.invoke(request.tok, arguments)
        with self._lock:
            self.world.recorded.invokes.append(
                Invoke(request.tok, arguments, decoded(answer), provider)
            )
        fields: dict[str, Any] = {"return": wire.to_struct(answer)}
        return resource_pb2.ResourceInvokeResponse(**fields)

    def _new_urn(self, parent: str, type_token: str, name: str) -> str:
        chain = type_token
        if parent and self._urns[parent] != _STACK:
            chain = f"{parent.split('::')[2]}${type_token}"
        urn = f"urn:pulumi:{self.world.recorded.stack}::{PROJECT}::{chain}::{name}"
        if urn in self._urns:
            raise AssertionError(f"duplicate resource URN {urn}; the engine refuses the second")
        self._urns[urn] = type_token
        return urn

    def _check_names(self, request: Any, inputs: wire.Properties) -> None:
        from offline.strict import UnknownTypeError, unknown_with_suggestions

        if not request.custom:
            return
        try:
            wrong = unknown_with_suggestions(request.type, inputs)
        except UnknownTypeError as error:
            self.world.recorded.misspelt.append(f"{request.name}: {error}")
            return
        self.world.recorded.misspelt += [
            f"{request.type} {request.name}: no property {path}"
            + (f"; did you mean {near}?" if near else "")
            for path, near in wrong
        ]

    def _made(
        self, request: Any, urn: str, provider: str, inputs: wire.Properties
    ) -> tuple[str, wire.Properties, wire.Properties]:
        """The id, the completed inputs and the state of one resource, as after its create."""
        known = not self.world.recorded.preview
        if request.type.startswith(_PROVIDER):
            self.world.configure(urn, request.type, inputs)
            return (wire.digest(urn, length=32) if known else ""), inputs, inputs
        package = self.world.package(request.type.split(":")[0], provider)
        if not getattr(request, "custom", True):
            return "", inputs, inputs
        if package is None:
            return (request.name if known else ""), inputs, inputs
        check = CheckContext(request.type, request.name, {}, inputs, _RANDOM_SEED)
        checked = package.check(check)
        id_, computed = package.make(MakeContext(request.type, urn, checked, seed=urn))
        if not known:
            settled = {key: computed[key] for key in package.known_in_preview & computed.keys()}
            id_, computed = "", {**wire.all_unknown(computed), **settled}
        outputs = wire.fill_in(checked, computed)
        return id_, _without_internals(checked), _without_internals(outputs)


def _without_internals(properties: wire.Properties) -> wire.Properties:
    return {key: value for key, value in properties.items() if not key.startswith("__")}


def _options(request: Any) -> Options:
    times = json_format.MessageToDict(request.customTimeouts)
    return Options(
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        delete_before_replace=request.deleteBeforeReplace,
        ignore_changes=tuple(request.ignoreChanges),
        replace_on_changes=tuple(request.replaceOnChanges),
        additional_secret_outputs=tuple(request.additionalSecretOutputs),
        deleted_with=request.deletedWith,
        import_id=request.importId,
        version=request.version,
        timeouts=times,
        aliases=tuple(json_format.MessageToDict(alias) for alias in request.aliases),
    )
