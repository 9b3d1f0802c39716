"""What a rule is and how one is run. Knows nothing of Pulumi, so other front ends can reuse it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.reading.values import NotYetKnown, Resource

Severity = Literal["low", "medium", "high", "critical"]
Level = Literal["advisory", "mandatory", "disabled"]
Concern = Literal[
    "nodes",
    "images",
    "weights",
    "compile-cache",
    "scaling",
    "serving",
    "security",
    "cost",
    "reliability",
]
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
    """Metadata that every rule carries; the judging function lives in a subclass.

    `name` is `<service>-<resource>-<verb>-<what>`; `code` is short and never reused. `level` holds
    without a preset and in `baseline`; `production` and `development` are the presets' levels.
    """

    code: str
    name: str
    concern: Concern
    title: str
    description: str
    severity: Severity
    tags: tuple[str, ...]
    remediation: str
    reason: str
    links: tuple[str, ...]
    """Where the fact behind the rule is published."""
    frameworks: tuple[str, ...] = ()
    """Controls of published benchmarks that the rule holds, such as `CIS EKS 1.7.0 5.4.1`."""
    options: tuple[Option, ...] = ()
    level: Level = "mandatory"
    production: Level = "mandatory"
    development: Level = "mandatory"

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


def verdict(
    rule: Rule, resources: Sequence[Resource], config: Mapping[str, Any] | None = None
) -> Outcome:
    """What a rule says about resources: each alone or all together, as its kind asks."""
    if isinstance(rule, StackRule):
        return rule.run(resources, config)
    if not isinstance(rule, ResourceRule):
        raise TypeError(f"rule {rule.name} is neither a ResourceRule nor a StackRule")
    outcomes = [rule.run(resource, config) for resource in resources]
    return Outcome(
        tuple(finding for outcome in outcomes for finding in outcome.findings),
        tuple(path for outcome in outcomes for path in outcome.undecided),
    )


def _collect(findings: Iterable[Finding]) -> Outcome:
    kept: list[Finding] = []
    undecided: tuple[tuple[str, ...], ...] = ()
    try:
        kept.extend(findings)
    except NotYetKnown as unknown:
        undecided = unknown.paths
    return Outcome(tuple(kept), undecided)
