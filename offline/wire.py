"""Property values as they travel between the engine and a provider.

Structs become plain dictionaries; secrets stay in their wire wrapper so that they survive every
round trip, and `plain` takes the wrappers off where a value has to be looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

Properties = dict[str, Any]

SIGNATURE_KEY = rpc._special_sig_key
SECRET_SIGNATURE = rpc._special_secret_sig
UNKNOWN = rpc.UNKNOWN

# Every typed variant of "not known before up" the SDKs may send; all start with this.
_UNKNOWN_VALUES = frozenset(
    {
        rpc.UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)


def from_struct(struct: struct_pb2.Struct) -> Properties:
    """The dictionary a Struct holds; whole numbers come back as int."""
    return json_format.MessageToDict(struct)


def to_struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """The Struct for a dictionary of JSON-like values."""
    return json_format.ParseDict(dict(properties), struct_pb2.Struct())


def is_unknown(value: Any) -> bool:
    """Whether `value` stands for something only known after an up."""
    return isinstance(value, str) and value in _UNKNOWN_VALUES


def contains_unknown(value: Any) -> bool:
    """Whether `value` or anything inside it is unknown."""
    if isinstance(value, dict):
        return any(contains_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(contains_unknown(item) for item in value)
    return is_unknown(value)


def secret(value: Any) -> Properties:
    """`value` wrapped so that the engine encrypts it in state."""
    return {SIGNATURE_KEY: SECRET_SIGNATURE, "value": value}


def is_secret(value: Any) -> bool:
    """Whether `value` is a secret's wire wrapper."""
    return isinstance(value, dict) and value.get(SIGNATURE_KEY) == SECRET_SIGNATURE


def plain(value: Any) -> Any:
    """`value` with every secret wrapper, at any depth, replaced by what it wraps."""
    if is_secret(value):
        return plain(value.get("value"))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def look_up(properties: Any, path: str) -> Any:
    """The value at a dotted `path` (`metadata.name`), without secret wrappers, or None."""
    value = plain(properties)
    for key in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def fill_in(properties: Mapping[str, Any], computed: Mapping[str, Any]) -> Properties:
    """`properties` with what `computed` adds; a value already given is never changed."""
    merged = dict(properties)
    for key, value in computed.items():
        given = merged.get(key)
        if given is None:
            merged[key] = value
        elif isinstance(given, dict) and isinstance(value, dict) and SIGNATURE_KEY not in given:
            merged[key] = fill_in(given, value)
    return merged


def overlay(properties: Mapping[str, Any], changes: Mapping[str, Any]) -> Properties:
    """`properties` with `changes` put over them, dictionary by dictionary."""
    merged = dict(properties)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and SIGNATURE_KEY not in value:
            merged[key] = overlay(below, value)
        else:
            merged[key] = value
    return merged


def without(properties: Mapping[str, Any], inputs: Mapping[str, Any]) -> Properties:
    """What of `properties` does not come from `inputs`: the computed part."""
    left: Properties = {}
    for key, value in properties.items():
        if key not in inputs:
            left[key] = value
        elif isinstance(value, dict) and isinstance(inputs[key], dict):
            computed = {} if SIGNATURE_KEY in value else without(value, inputs[key])
            if computed:
                left[key] = computed
    return left


def only(properties: Mapping[str, Any], inputs: Mapping[str, Any]) -> Properties:
    """`properties` cut down to the places that `inputs` has: what a refresh reports as inputs."""
    kept: Properties = {}
    for key, given in inputs.items():
        if key.startswith("__"):
            kept[key] = given
        elif key in properties:
            value = properties[key]
            nested = isinstance(value, dict) and isinstance(given, dict)
            kept[key] = only(value, given) if nested and SIGNATURE_KEY not in value else value
    return kept


def all_unknown(computed: Mapping[str, Any]) -> Properties:
    """The same keys as `computed`, each leaf unknown: what a preview knows of invented outputs."""
    return {
        key: all_unknown(value) if isinstance(value, dict) and not is_secret(value) else UNKNOWN
        for key, value in computed.items()
    }


def digest(*parts: object, length: int) -> str:
    """`length` hexadecimal digits that depend on all `parts` and on nothing else."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
