"""What a row of the tables of wrong objects is, and how it is sent."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coldstart.controlplane import Applied, Client, Refused

Object = dict[str, Any]
Place = tuple[str | int, ...]

INVALID = (422, "Invalid")
FORBIDDEN = (403, "Forbidden")
BAD_REQUEST = (400, "BadRequest")
NO_KIND = (404, "NoSuchKind")
UNTYPED = (500, "Unknown")
"""What server-side apply answers when a field is unknown or of another type."""


_NOT_CHECKED = "some validation rules were not checked because the object was invalid"


class _Removed:
    """In place of a value: the field goes."""


REMOVED = _Removed()


@dataclass(frozen=True)
class Row:
    """A passing object, one mutation, and why the server refuses what comes of it.

    `passing` names the object in the table of passing ones; `changes` are the fields the mutation
    sets. Each of `says` must be in the server's message. With `update` the passing object is
    really made first, so that a rule about changes acts.
    """

    what: str
    passing: str
    changes: Mapping[Place, Any]
    refusal: tuple[int, str]
    says: tuple[str, ...]
    update: bool = False
    strict_create: bool = False
    """Sent as a create, as clients without server-side apply do."""


def invalid(what: str, passing: str, place: Place, value: Any, *says: str, **how: Any) -> Row:
    """A row of one field with a wrong value, which validation refuses."""
    return Row(what, passing, {place: value}, INVALID, says, **how)


def changed(passing: Object, changes: Mapping[Place, Any]) -> Object:
    """A copy of `passing` with the fields set, appended (index = length) or removed.

    Raises LookupError for a field that is to be removed and is not there.
    """
    copied = copy.deepcopy(passing)
    for place, value in changes.items():
        # A mapping or a list, at any depth.
        at: Any = copied
        for key in place[:-1]:
            at = _below(at, key)
        _set(at, place[-1], value)
    return copied


def _below(at: Any, key: Any) -> Any:
    return at[key] if isinstance(at, list) else at.setdefault(key, {})


def _set(at: Any, key: Any, value: Any) -> None:
    if value is REMOVED:
        del at[key]
    elif isinstance(at, list) and key == len(at):
        at.append(copy.deepcopy(value))
    else:
        at[key] = copy.deepcopy(value)


def sent(client: Client, obj: Object, *, create: bool = False) -> Applied | Refused:
    """What the server says of an object in a dry run, taken or refused."""
    try:
        if create:
            return client.create(obj, dry_run=True)
        return client.apply(obj, dry_run=True, force=True)
    except Refused as refusal:
        return refusal


@contextmanager
def made_first(client: Client, row: Row, passing: Object) -> Iterator[None]:
    """With the passing object really there for a row about a change, and gone again afterwards."""
    if not row.update:
        yield
        return
    kind, metadata = (passing["apiVersion"], passing["kind"]), passing["metadata"]
    place = (metadata["name"], metadata.get("namespace"))
    there = client.get(*kind, *place)
    client.apply(passing, force=True)
    try:
        yield
    finally:
        if there is None:
            client.delete(*kind, *place, grace_seconds=0)


def unexplained(refusal: Refused, row: Row) -> list[str]:
    """Causes of a refusal that the row does not speak of; there must be none."""
    causes = refusal.details.get("causes", [])
    texts = [f"{cause.get('field')}: {cause.get('message')}" for cause in causes]
    return [
        text
        for text in texts
        if _NOT_CHECKED not in text and not any(says in text for says in row.says)
    ]
