"""Kubernetes objects as the engine keeps them and as the API server does: from one to the other.

Everything here is a pure function of dictionaries.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from offline.wire import UNKNOWN, Properties, is_secret, look_up, plain, secret

FIELD_MANAGER = "__fieldManager"
"""Where the state keeps an object's field manager, under the name the real provider uses."""

# What a dry run invents anew each time.
_INVENTED = (
    ("metadata", "uid"),
    ("metadata", "resourceVersion"),
    ("metadata", "creationTimestamp"),
)
_INVENTED_BY_KIND = {"Service": (("spec", "clusterIP"), ("spec", "clusterIPs"))}

# What tells the items of a list apart, where the API merges lists item by item; the first that
# every item has and no two share.
_ITEM_KEYS = ("name", "key", "mountPath", "containerPort", "port", "topologyKey", "type")

# A shorter secret cannot be told from ordinary words of a message.
_LEAST_SECRET_LENGTH = 6


def manifest(inputs: Properties) -> Properties:
    """What is sent to the server: no wrappers, no nulls, and Secrets as the server stores them."""
    sent = _without_nulls(plain({k: v for k, v in inputs.items() if not k.startswith("__")}))
    if sent.get("kind") == "Secret" and "stringData" in sent:
        # The server moves it itself, but then nobody owns the fields, and nothing would vanish.
        texts = sent.pop("stringData")
        sent["data"] = {**(sent.get("data") or {}), **{k: _encoded(v) for k, v in texts.items()}}
    return sent


def outputs_of(live: Properties, inputs: Properties, manager: str) -> Properties:
    """What the state keeps of a live object; secrets of the inputs stay secrets."""
    metadata = {k: v for k, v in live.get("metadata", {}).items() if k != "managedFields"}
    marked = _with_secrets({**live, "metadata": metadata}, inputs)
    if live.get("kind") == "Secret":
        for key in ("data", "stringData"):
            if key in marked and not is_secret(marked[key]):
                marked[key] = secret(marked[key])
    if "stringData" in inputs:
        marked["stringData"] = secret(plain(inputs["stringData"]))
    return {**marked, FIELD_MANAGER: manager}


def preview_outputs(dry_run: Properties, inputs: Properties, manager: str) -> Properties:
    """As `outputs_of` for the answer of a dry run: what it invented is not known yet."""
    outputs = outputs_of(dry_run, inputs, manager)
    # An empty status of a dry run would be taken for the real one.
    outputs.pop("status", None)
    for place, key in (*_INVENTED, *_INVENTED_BY_KIND.get(str(dry_run.get("kind")), ())):
        if isinstance(outputs.get(place), dict) and key in outputs[place]:
            outputs[place] = {**outputs[place], key: UNKNOWN}
    return outputs


def live_inputs(inputs: Properties, applied: Properties, live: Properties) -> Properties:
    """`inputs` as the server has them now: what a refresh reports, so that drift shows.

    The server writes some values in its own way (`1000m` as `1`). A place therefore keeps the form
    it was written in for as long as the server holds there what it answered when it was `applied`;
    another value is drift. What other owners add beside is none.
    """
    written, now = dict(inputs), plain(live)
    texts = written.pop("stringData", None)
    seen = _seen(written, plain(applied), now)
    if texts is not None:
        stored = {k: _decoded(v) for k, v in (now.get("data") or {}).items()}
        seen["stringData"] = _seen(texts, plain(texts), stored)
    return seen


def imported_inputs(live: Properties) -> Properties:
    """Inputs for an object that no program has written: everything but what the server invents."""
    kept = {key: value for key, value in live.items() if key != "status"}
    ours = ("name", "namespace", "labels", "annotations")
    kept["metadata"] = {k: v for k, v in live.get("metadata", {}).items() if k in ours}
    return kept


def managers_of(live: Properties) -> frozenset[str]:
    """Who owns fields of a live object."""
    entries = look_up(live, "metadata.managedFields") or ()
    return frozenset(str(entry.get("manager")) for entry in entries)


def redacted(message: str, inputs: Properties) -> str:
    """`message` without the secrets of `inputs`, in plain text or as a Secret stores them."""
    for text in sorted(_secret_texts(inputs), key=len, reverse=True):
        if len(text) >= _LEAST_SECRET_LENGTH:
            message = message.replace(text, "[secret]").replace(_encoded(text), "[secret]")
    return message


def _seen(given: Any, applied: Any, live: Any) -> Any:
    if is_secret(given):
        inner = _seen(given["value"], applied, live)
        return given if inner == given["value"] else secret(inner)
    if isinstance(given, dict) and isinstance(applied, dict) and isinstance(live, dict):
        return _seen_in_mapping(given, applied, live)
    if isinstance(given, list) and isinstance(applied, list) and isinstance(live, list):
        return _seen_in_list(given, applied, live)
    return given if applied == live else live


def _seen_in_mapping(given: Properties, applied: Properties, live: Properties) -> Properties:
    seen: Properties = {}
    for key, value in given.items():
        if key.startswith("__"):
            seen[key] = value
        elif key not in applied:
            # The server keeps no empty value; its absence is what was applied.
            seen[key] = live.get(key, value)
        elif key in live:
            seen[key] = _seen(value, applied[key], live[key])
    return seen


def _seen_in_list(given: list[Any], applied: list[Any], live: list[Any]) -> list[Any]:
    if applied == live:
        return given
    key = _item_key(applied, live)
    if len(given) != len(applied) or key is None:
        same_length = len(given) == len(applied) == len(live)
        return (
            [_seen(*items) for items in zip(given, applied, live, strict=True)]
            if (same_length)
            else live
        )
    now = {item[key]: item for item in live}
    return [
        _seen(item, before, now[before[key]])
        for item, before in zip(given, applied, strict=True)
        if before[key] in now
    ]


def _item_key(*lists: Sequence[Any]) -> str | None:
    for key in _ITEM_KEYS:
        if all(_tells_apart(key, items) for items in lists):
            return key
    return None


def _tells_apart(key: str, items: Sequence[Any]) -> bool:
    if not all(isinstance(item, dict) and isinstance(item.get(key), str | int) for item in items):
        return False
    return len({item[key] for item in items}) == len(items)


def _with_secrets(value: Any, inputs: Any) -> Any:
    """`value` with each place wrapped that is a secret in `inputs`."""
    if is_secret(inputs):
        return value if is_secret(value) else secret(value)
    if isinstance(value, dict) and isinstance(inputs, dict):
        return {k: _with_secrets(item, inputs.get(k)) for k, item in value.items()}
    if isinstance(value, list) and isinstance(inputs, list) and len(value) == len(inputs):
        return [_with_secrets(*items) for items in zip(value, inputs, strict=True)]
    if isinstance(value, list) and _has_secret(inputs):
        # The server changed the list, so which item is the secret cannot be told.
        return secret(value)
    return value


def _has_secret(value: Any) -> bool:
    if is_secret(value):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_secret(item) for item in inner)


def _secret_texts(value: Any, inside: bool = False) -> set[str]:
    if is_secret(value):
        return _secret_texts(value["value"], inside=True)
    if isinstance(value, Mapping):
        return {text for item in value.values() for text in _secret_texts(item, inside)}
    if isinstance(value, list):
        return {text for item in value for text in _secret_texts(item, inside)}
    return {value} if inside and isinstance(value, str) else set()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _encoded(text: str) -> str:
    return base64.b64encode(str(text).encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode(errors="replace")
