"""What a rule is and how one is run. Knows nothing of Pulumi, so other front ends can reuse it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.reading.values import NotYetKnown, Resource

Severity = Literal["low", "medium", "high", "critical"]
Level = Literal["advisory", "mandatory", "disabled"]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """One setting of a rule: its JSON schema and the value used when nobody sets it."""

    name: str
    schema: Mapping[str, Any]
    default: Any
    meaning: str


@dataclass(frozen=True)
class Finding:
    """A violation: the resource it is reported on and what to tell the person who must act."""

    resource: Resource
    message: str


@dataclass(frozen=True)
class Outcome:
    """What a rule said about its subject; `undecided` holds fields whose value is not known yet."""

    findings: tuple[Finding, ...]
    undecided: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Metadata that every rule carries; the judging function lives in a subclass."""

    name: str
    title: str
    description: str
    severity: Severity
    tags: tuple[str, ...]
    remediation: str
    reason: str
    options: tuple[Option, ...] = ()
    level: Level = "mandatory"

    def settings(self, config: Mapping[str, Any] | None) -> dict[str, Any]:
        """Given configuration over the defaults; keys the rule does not declare are dropped."""
        given = config or {}
        return {option.name: given.get(option.name, option.default) for option in self.options}


@dataclass(frozen=True, kw_only=True)
class ResourceRule(Rule):
    """A rule that needs one resource only; `reads` says from the type token which ones."""

    reads: Callable[[str], bool]
    judge: Callable[[Resource, Settings], Iterable[str]] = field(repr=False)

    def run(self, resource: Resource, config: Mapping[str, Any] | None = None) -> Outcome:
        """Judge one resource. A value not known yet ends as undecided, never as a pass."""
        if not self.reads(resource.type):
            return Outcome((), ())
        messages = self.judge(resource, self.settings(config))
        return _collect(Finding(resource, message) for message in messages)


@dataclass(frozen=True, kw_only=True)
class StackRule(Rule):
    """A rule that compares several resources of one stack."""

    judge: Callable[[Sequence[Resource], Settings], Iterable[Finding]] = field(repr=False)

    def run(
        self, resources: Sequence[Resource], config: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Judge a whole stack. A value not known yet ends as undecided, never as a pass."""
        return _collect(self.judge(resources, self.settings(config)))


def _collect(findings: Iterable[Finding]) -> Outcome:
    kept: list[Finding] = []
    undecided: tuple[tuple[str, ...], ...] = ()
    try:
        kept.extend(findings)
    except NotYetKnown as unknown:
        undecided = unknown.paths
    return Outcome(tuple(kept), undecided)
