"""The imaginary world: one sqlite file that all stand-in providers share.

It is what the cloud and the cluster would remember. A refresh reads it, a destroy empties it, and
a test looks into it. Only the standard library is used, so anything may open it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORLD_VARIABLE = "COLDSTART_WORLD"
FAIL_CREATE_VARIABLE = "COLDSTART_FAIL_CREATE"
FAIL_MODE_VARIABLE = "COLDSTART_FAIL_CREATE_MODE"

# Several provider processes write at once; each write takes milliseconds.
LOCK_TIMEOUT_SECONDS = 30.0

_SCHEMA = Path(__file__).with_name("world.sql")


class WorldError(Exception):
    """The world file is missing, unusable, or says no."""


class AlreadyExistsError(WorldError):
    """An object of the same natural name is already there."""


@dataclass(frozen=True, slots=True)
class WorldObject:
    """One thing that exists in the imaginary world."""

    provider: str
    type: str
    id: str
    urn: str
    identity: str
    scope: str
    properties: dict[str, Any]
    created_count: int
    """How often an object was created for this URN since the world began."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of the world: `action` is create, update or delete."""

    number: int
    action: str
    provider: str
    type: str
    id: str
    urn: str


def create_world(path: Path) -> None:
    """Make an empty world at `path`; one that is already there is kept."""
    with contextlib.closing(_connect(path)) as connection:
        # Readers must not block the writers of the other provider processes.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))


def world_from_environment() -> World:
    """The world named by `COLDSTART_WORLD`.

    Raises WorldError when the variable is unset or the file does not exist.
    """
    path = os.environ.get(WORLD_VARIABLE)
    if not path:
        raise WorldError(
            f"{WORLD_VARIABLE} is not set: the stand-in providers only run inside a rehearsal"
        )
    return World(Path(path))


class World:
    """Reads and changes the world file; safe for several processes at once."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise WorldError(f"{path}: there is no world file here; create_world makes one")
        self.path = path

    @contextlib.contextmanager
    def change(self) -> Iterator[WorldChange]:
        """One transaction: everything inside happens, or nothing when an exception leaves it."""
        connection = _connect(self.path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield WorldChange(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.close()

    def objects(self, type_token: str | None = None) -> list[WorldObject]:
        """Everything that exists, or everything of one type, in the order of type and id."""
        query = (
            "SELECT provider, type, id, urn, identity, scope, properties,"
            " (SELECT count(*) FROM history h WHERE h.urn = objects.urn AND h.action = 'create')"
            " FROM objects WHERE ? IS NULL OR type = ? ORDER BY type, id"
        )
        with contextlib.closing(_connect(self.path)) as connection:
            rows = connection.execute(query, (type_token, type_token)).fetchall()
        return [
            WorldObject(provider, type_, id_, urn, identity, scope, json.loads(properties), created)
            for provider, type_, id_, urn, identity, scope, properties, created in rows
        ]

    def find(self, provider: str, type_token: str, scope: str, id_: str) -> WorldObject | None:
        """The object with this id, or None when it is gone."""
        matches = [
            found
            for found in self.objects(type_token)
            if (found.provider, found.scope, found.id) == (provider, scope, id_)
        ]
        return matches[0] if matches else None

    def history(self) -> list[Event]:
        """Every change since the world began, oldest first."""
        with contextlib.closing(_connect(self.path)) as connection:
            rows = connection.execute(
                "SELECT number, action, provider, type, id, urn FROM history ORDER BY number"
            ).fetchall()
        return [Event(*row) for row in rows]

    def counter(self, name: str) -> int:
        """The value of a counter; 0 when it was never touched."""
        with contextlib.closing(_connect(self.path)) as connection:
            row = connection.execute(
                "SELECT value FROM counters WHERE name = ?", (name,)
            ).fetchone()
        return row[0] if row else 0

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter, for instance to begin a new count of creates."""
        with self.change() as change:
            change.set_counter(name, value)

    def edit(self, type_token: str, id_: str, properties: dict[str, Any]) -> None:
        """Change an object behind the engine's back: drift, as an operator would cause it.

        Raises WorldError when there is no such object.
        """
        with self.change() as change:
            changed = change.execute(
                "UPDATE objects SET properties = ? WHERE type = ? AND id = ?",
                (json.dumps(properties), type_token, id_),
            )
        if changed == 0:
            raise WorldError(f"{self.path}: no {type_token} with id {id_}")

    def remove(self, type_token: str, id_: str) -> None:
        """Take an object away behind the engine's back. Raises WorldError when it is not there."""
        with self.change() as change:
            removed = change.execute(
                "DELETE FROM objects WHERE type = ? AND id = ?", (type_token, id_)
            )
        if removed == 0:
            raise WorldError(f"{self.path}: no {type_token} with id {id_}")


class WorldChange:
    """The open transaction of `World.change`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: tuple[Any, ...]) -> int:
        """Run one statement; returns how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def set_counter(self, name: str, value: int) -> None:
        """Set counter `name` to `value`."""
        self.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = ?",
            (name, value, value),
        )

    def count(self, name: str) -> int:
        """Add one to counter `name` and return its new value."""
        self.execute(
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
            (name,),
        )
        row = self._connection.execute(
            "SELECT value FROM counters WHERE name = ?", (name,)
        ).fetchone()
        return row[0]

    def created(self, urn: str) -> int:
        """How many objects were ever created for `urn`."""
        row = self._connection.execute(
            "SELECT count(*) FROM history WHERE urn = ? AND action = 'create'", (urn,)
        ).fetchone()
        return row[0]

    def properties_of(self, provider: str, type_token: str, scope: str) -> list[dict[str, Any]]:
        """The properties of all objects of one type in one scope."""
        rows = self._connection.execute(
            "SELECT properties FROM objects WHERE provider = ? AND type = ? AND scope = ?",
            (provider, type_token, scope),
        ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def insert(self, thing: WorldObject) -> None:
        """Add `thing`. Raises AlreadyExistsError when its natural name is taken."""
        try:
            self.execute(
                "INSERT INTO objects (provider, type, id, urn, identity, scope, properties)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    thing.provider,
                    thing.type,
                    thing.id,
                    thing.urn,
                    thing.identity,
                    thing.scope,
                    json.dumps(thing.properties),
                ),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyExistsError(f"{thing.type} {thing.identity} already exists") from error
        self._record("create", thing.provider, thing.type, thing.id, thing.urn)

    def update(self, thing: WorldObject) -> None:
        """Replace the properties of an object that exists. Raises WorldError when it is gone."""
        changed = self.execute(
            "UPDATE objects SET properties = ?"
            " WHERE provider = ? AND type = ? AND scope = ? AND id = ?",
            (json.dumps(thing.properties), thing.provider, thing.type, thing.scope, thing.id),
        )
        if changed == 0:
            raise WorldError(f"{thing.type} {thing.id} was not found")
        self._record("update", thing.provider, thing.type, thing.id, thing.urn)

    def delete(self, provider: str, type_token: str, scope: str, id_: str, urn: str) -> None:
        """Remove an object; one that is already gone is no error, as with the real services."""
        removed = self.execute(
            "DELETE FROM objects WHERE provider = ? AND type = ? AND scope = ? AND id = ?",
            (provider, type_token, scope, id_),
        )
        if removed:
            self._record("delete", provider, type_token, id_, urn)

    def _record(self, action: str, provider: str, type_token: str, id_: str, urn: str) -> None:
        self.execute(
            "INSERT INTO history (action, provider, type, id, urn) VALUES (?, ?, ?, ?, ?)",
            (action, provider, type_token, id_, urn),
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)
    # A rehearsal that loses power is simply run again.
    connection.execute("PRAGMA synchronous=OFF")
    return connection
