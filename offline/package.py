"""What the provider server asks of each package it stands in for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from offline.wire import Properties, digest

CLUSTER_VARIABLE = "COLDSTART_CLUSTER"
"""Names the connection file of a real API server; without it Kubernetes is a stand-in too."""


class RefusalError(Exception):
    """What the real service would say no to; the message goes to the user."""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """One resource whose inputs are to be completed."""

    type: str
    name: str
    olds: Properties
    news: Properties
    random_seed: bytes

    def random(self, length: int) -> str:
        """`length` digits from the engine's seed, for a name that must be new."""
        return digest(self.name, self.random_seed.hex(), length=length)


@dataclass(frozen=True, slots=True)
class MakeContext:
    """One resource that is about to be made or changed."""

    type: str
    urn: str
    inputs: Properties
    seed: str
    """What invented digits depend on."""


Existing = Callable[[str], list[Properties]]
"""Gives the properties of all objects of a type in the same account or cluster."""


class Package(Protocol):
    """A package the stand-in knows: AWS, Kubernetes, random."""

    known_in_preview: frozenset[str]
    """Computed outputs that the real provider already knows in a preview."""

    def configure(self, settings: Properties) -> None:
        """Take the provider's inputs; raises RefusalError when they cannot work."""
        ...

    def replaced_with(self, old: Properties, new: Properties) -> list[str]:
        """Provider inputs whose change means another account or cluster."""
        ...

    def scope(self) -> str:
        """Within what natural names and ids are unique."""
        ...

    def check(self, context: CheckContext) -> Properties:
        """Complete inputs, with invented names where the service wants one."""
        ...

    def replaces(self, type_token: str, inputs: Properties) -> tuple[str, ...]:
        """Input paths that cannot change in place."""
        ...

    def identity(self, type_token: str, inputs: Properties, id_: str) -> str:
        """The natural name: only one object may have it."""
        ...

    def make(self, context: MakeContext) -> tuple[str, Properties]:
        """The id and the computed outputs of a new object."""
        ...

    def refuse(self, context: MakeContext, existing: Existing) -> None:
        """Raise RefusalError when the object cannot be made now."""
        ...

    def remake(self, context: MakeContext, old: Properties) -> Properties:
        """Computed outputs that an update changes."""
        ...

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Answer a data source; raises RefusalError for one that is not known."""
        ...
