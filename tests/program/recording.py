"""What a run of the program registered, as plain data with markers for unknown and secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from offline.strict import args_class
from offline.wire import UNKNOWN as WIRE_UNKNOWN
from offline.wire import is_secret, is_unknown
from offline.wire import secret as wire_secret


class _Unknown:
    """The one marker for a value that is only known after an up."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Secret:
    """A value the engine would encrypt in state."""

    value: Any


def decoded(wire: Any) -> Any:
    """Wire properties as plain Python, with UNKNOWN and Secret in the places of their wrappers."""
    if is_secret(wire):
        return Secret(decoded(wire.get("value")))
    if is_unknown(wire):
        return UNKNOWN
    if isinstance(wire, dict):
        return {key: decoded(value) for key, value in wire.items()}
    if isinstance(wire, list):
        return [decoded(value) for value in wire]
    return wire


def encoded(value: Any) -> Any:
    """The wire form of `decoded`'s result."""
    if isinstance(value, Secret):
        return wire_secret(encoded(value.value))
    if isinstance(value, _Unknown):
        return WIRE_UNKNOWN
    if isinstance(value, Mapping):
        return {key: encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    return value


def revealed(value: Any) -> Any:
    """`value` without Secret markers, at any depth."""
    if isinstance(value, Secret):
        return revealed(value.value)
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [revealed(item) for item in value]
    return value


def secret_texts(value: Any) -> Iterator[str]:
    """Every text inside a Secret marker."""
    if isinstance(value, Secret):
        yield from _texts(revealed(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secret_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secret_texts(item)


def open_texts(value: Any) -> Iterator[str]:
    """Every text that lies outside Secret markers, keys included: what state shows in plain."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from open_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from open_texts(item)
    elif isinstance(value, str):
        yield value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


@dataclass(frozen=True)
class Options:
    """Resource options as they reach the engine; times are the SDK's own texts (`30m`)."""

    protect: bool = False
    retain_on_delete: bool = False
    delete_before_replace: bool = False
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    additional_secret_outputs: tuple[str, ...] = ()
    deleted_with: str = ""
    import_id: str = ""
    version: str = ""
    timeouts: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Resource:
    """One registered resource.

    `inputs` are as the program gave them, `checked` as a provider completes them (names invented),
    which is what a policy sees; `outputs` is the state the program got back. `id` is empty in a
    preview; `provider` is the URN of an explicit provider, or empty.
    """

    type: str
    name: str
    urn: str
    id: str
    parent: str
    custom: bool
    inputs: dict[str, Any]
    checked: dict[str, Any]
    outputs: dict[str, Any]
    provider: str
    dependencies: tuple[str, ...]
    property_dependencies: Mapping[str, tuple[str, ...]]
    options: Options

    @property
    def is_custom_kubernetes_object(self) -> bool:
        """Whether a CustomResourceDefinition, not the cluster itself, says what it may hold."""
        return self.custom and self.type.startswith("kubernetes:") and args_class(self.type) is None

    def at(self, path: str) -> Any:
        """The input at a dotted path (`spec.template.0.name`), secrets revealed, or None."""
        value: Any = revealed(self.inputs)
        for key in path.split("."):
            if isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict):
                value = value.get(key)
            else:
                return None
        return value


@dataclass(frozen=True)
class Invoke:
    """One call of a data source."""

    token: str
    arguments: dict[str, Any]
    answer: dict[str, Any]
    provider: str


@dataclass
class Recorded:
    """Everything one run did, in the order of registration."""

    stack: str
    preview: bool
    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    component_outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    invokes: list[Invoke] = field(default_factory=list)
    stack_references: list[str] = field(default_factory=list)
    misspelt: list[str] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)

    def of_type(self, type_token: str) -> list[Resource]:
        """Resources of this type; `Deployment` alone matches tokens that end in `:Deployment`."""
        if ":" in type_token:
            return [found for found in self.resources if found.type == type_token]
        return [found for found in self.resources if found.type.endswith(f":{type_token}")]

    def one(self, type_token: str, name: str | None = None) -> Resource:
        """The only resource of this type, or the one of that name; AssertionError otherwise."""
        found = [item for item in self.of_type(type_token) if name in (None, item.name)]
        if len(found) != 1:
            names = [item.name for item in self.of_type(type_token)]
            raise AssertionError(
                f"{len(found)} resources {type_token} {name or ''}; there: {names}"
            )
        return found[0]

    def by_urn(self, urn: str) -> Resource:
        """The resource of this URN; KeyError when it was not registered."""
        for resource in self.resources:
            if resource.urn == urn:
                return resource
        raise KeyError(urn)

    def parents(self, resource: Resource) -> list[Resource]:
        """The components a resource lies in, nearest first, without the stack."""
        chain: list[Resource] = []
        urn = resource.parent
        while urn and any(item.urn == urn for item in self.resources):
            chain.append(self.by_urn(urn))
            urn = chain[-1].parent
        return chain

    def types(self) -> dict[str, int]:
        """How many resources of each type there are."""
        counts: dict[str, int] = {}
        for resource in self.resources:
            counts[resource.type] = counts.get(resource.type, 0) + 1
        return counts

    def custom_objects(self) -> list[dict[str, Any]]:
        """Custom resources as an API server would get them, for `crds.check`."""
        return [
            revealed(resource.checked)
            for resource in self.resources
            if resource.is_custom_kubernetes_object
        ]

    def exports(self) -> dict[str, Any]:
        """The stack's outputs, to hand to another run as `stack_outputs`."""
        return dict(self.outputs)
