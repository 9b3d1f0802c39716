"""Refuses property names that no such resource has, by the SDK's own type hints.

The Python SDKs pass a misspelt nested key through untranslated, and a mock accepts it; the real
provider would refuse it. `unknown_properties` is a pure function of the type token and the inputs,
so the stand-in providers and the tests under mocks share it.

Places the SDK types as free-form (labels, Helm values, a custom resource's spec) are not looked
into. Only the SDK module of the type asked for is imported, and only once per process.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import importlib
import json
import sys
import types
import typing
from typing import Any

from offline.wire import SIGNATURE_KEY, Properties, plain

# Keys the engine and the SDKs add to provider inputs on their own.
_PROVIDER_PLUMBING = frozenset({"version", "pluginDownloadURL", "__internal", "__defaults"})

# Below this likeness (difflib ratio, 0 to 1) a suggestion confuses more than it helps.
_LEAST_LIKENESS = 0.6

# What every Kubernetes object has; the type that is used for custom resources as well.
_KUBERNETES_METADATA = ("pulumi_kubernetes.meta.v1", "ObjectMetaArgs")


class UnknownTypeError(LookupError):
    """The SDK has no resource of this type token."""


def unknown_properties(type_token: str, inputs: Properties) -> list[str]:
    """Paths (camelCase, `vpcConfig.subnetIdz`, `rules[0].cidr`) that `type_token` does not have.

    Raises UnknownTypeError when the SDK of a known package has no such resource type.
    """
    return [path for path, _ in unknown_with_suggestions(type_token, inputs)]


def unknown_with_suggestions(type_token: str, inputs: Properties) -> list[tuple[str, str | None]]:
    """As `unknown_properties`, each path with the nearest name that exists at that place."""
    found: list[tuple[str, str | None]] = []
    values = plain(inputs)
    package = type_token.split(":")[0]
    if type_token.startswith("pulumi:providers:"):
        names = {key: _decoded(value) for key, value in values.items()}
        _walk_object(_provider_args(type_token), names, "", found, _PROVIDER_PLUMBING)
        return found
    args = args_class(type_token)
    if args is not None:
        _walk_object(args, values, "", found, frozenset({"__defaults"}))
    elif package == "kubernetes" and isinstance(values.get("metadata"), dict):
        _walk_object(_kubernetes_metadata(), values["metadata"], "metadata", found, frozenset())
    return found


def has_input(type_token: str, name: str) -> bool:
    """Whether resources of this type take a top-level input `name`."""
    args = args_class(type_token)
    return args is not None and name in _properties(args)


@functools.cache
def args_class(type_token: str) -> type | None:
    """The SDK's `<Resource>Args` class, or None for a custom Kubernetes resource.

    Raises UnknownTypeError when the package's SDK is installed and has no such type.
    """
    package, module, name = type_token.split(":")
    _import_package(package)
    from pulumi.runtime.rpc import get_resource_module

    registered = get_resource_module(package, module, "")
    info = getattr(registered, "mod_info", {})
    class_name = info.get("classes", {}).get(type_token)
    if class_name is None:
        if package == "kubernetes" and "." in module:
            return None
        raise UnknownTypeError(f"the {package} SDK has no resource type {type_token}")
    resource = getattr(importlib.import_module(info["fqn"]), class_name)
    home = sys.modules[resource.__module__]
    for candidate in (f"{class_name}InitArgs", f"{class_name}Args"):
        args = getattr(home, candidate, None)
        if args is not None:
            return args
    raise UnknownTypeError(f"{resource.__module__} has no arguments class for {name}")


def _import_package(package: str) -> None:
    try:
        importlib.import_module(f"pulumi_{package.replace('-', '_')}")
    except ImportError as error:
        raise UnknownTypeError(f"the SDK of package {package} is not installed") from error


@functools.cache
def _provider_args(type_token: str) -> type:
    package = type_token.rsplit(":", 1)[1]
    _import_package(package)
    module = sys.modules[f"pulumi_{package.replace('-', '_')}"]
    return sys.modules[module.Provider.__module__].ProviderArgs


@functools.cache
def _kubernetes_metadata() -> type:
    module, name = _KUBERNETES_METADATA
    return getattr(importlib.import_module(module), name)


@functools.cache
def _properties(args: type) -> dict[str, Any]:
    from pulumi import _types

    return _types.input_type_types(args)


@functools.cache
def _is_args(hint: Any) -> bool:
    from pulumi import _types

    return isinstance(hint, type) and _types.is_input_type(hint)


def _walk_object(
    args: type,
    value: Properties,
    path: str,
    found: list[tuple[str, str | None]],
    also_allowed: frozenset[str],
) -> None:
    properties = _properties(args)
    for key, item in value.items():
        place = f"{path}.{key}" if path else key
        if key in properties:
            _walk(properties[key], item, place, found)
        elif key not in also_allowed:
            found.append((place, _nearest(key, properties)))


def _walk(hint: Any, value: Any, path: str, found: list[tuple[str, str | None]]) -> None:
    if isinstance(value, dict) and SIGNATURE_KEY not in value:
        args = _first(hint, _is_args)
        if args is not None:
            _walk_object(args, value, path, found, frozenset())
            return
        mapping = _first(hint, _is_mapping)
        if mapping is not None:
            _, inner = typing.get_args(mapping)
            for key, item in value.items():
                _walk(inner, item, f"{path}.{key}", found)
    elif isinstance(value, list):
        sequence = _first(hint, _is_sequence)
        if sequence is not None:
            (inner,) = typing.get_args(sequence)
            for index, item in enumerate(value):
                _walk(inner, item, f"{path}[{index}]", found)


def _first(hint: Any, wanted: collections.abc.Callable[[Any], bool]) -> Any:
    """The first alternative of `hint` that is wanted, through Input, Optional and Union."""
    if wanted(hint):
        return hint
    origin = typing.get_origin(hint)
    transparent = origin in (typing.Union, types.UnionType, collections.abc.Awaitable)
    if not transparent and getattr(origin, "__name__", "") != "Output":
        return None
    alternatives = (_first(inner, wanted) for inner in typing.get_args(hint))
    return next((found for found in alternatives if found is not None), None)


def _is_mapping(hint: Any) -> bool:
    return typing.get_origin(hint) in (dict, collections.abc.Mapping) and bool(
        typing.get_args(hint)
    )


def _is_sequence(hint: Any) -> bool:
    return typing.get_origin(hint) in (list, collections.abc.Sequence) and bool(
        typing.get_args(hint)
    )


def _nearest(key: str, properties: dict[str, Any]) -> str | None:
    camel = key.split("_")[0] + "".join(part.capitalize() for part in key.split("_")[1:])
    close = difflib.get_close_matches(camel, properties, n=1, cutoff=_LEAST_LIKENESS)
    return close[0] if close else None


def _decoded(value: Any) -> Any:
    """Nested provider configuration travels as JSON text."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


__all__ = [
    "UnknownTypeError",
    "args_class",
    "has_input",
    "unknown_properties",
    "unknown_with_suggestions",
]
