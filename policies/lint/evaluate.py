"""Runs the rules over stacks of resources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.lint.settings import Settings
from policies.lint.sources import Place, Problem, Stack
from policies.rule import Level, Outcome, ResourceRule, Rule, StackRule
from policies.rules import RULES


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a resource breaks."""

    rule: Rule
    level: Level
    resource: str
    place: Place
    message: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """A rule that could not be decided, because a value is known only after deployment."""

    rule: Rule
    place: Place
    field: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to say about the given paths."""

    violations: tuple[Violation, ...]
    undecided: tuple[Undecided, ...]
    problems: tuple[Problem, ...]
    files: int
    resources: int
    rules: int


def evaluate(stacks: Sequence[Stack], settings: Settings) -> Report:
    """Judge each stack by every rule that is not disabled; findings in the order of their place."""
    rules = [rule for rule in RULES if settings.levels[rule.name] != "disabled"]
    violations: list[Violation] = []
    undecided: list[Undecided] = []
    for stack in stacks:
        for rule in rules:
            for where, outcome in _outcomes(rule, stack, settings):
                level = settings.levels[rule.name]
                violations += [
                    Violation(
                        rule,
                        level,
                        f"{finding.resource.kind} {finding.resource.name}",
                        stack.place_of(finding.resource),
                        finding.message,
                    )
                    for finding in outcome.findings
                ]
                undecided += [Undecided(rule, where, ".".join(path)) for path in outcome.undecided]
    violations.sort(key=lambda item: (item.place.path, item.place.line, item.rule.code))
    return Report(
        tuple(violations),
        # A rule with options has no hash.
        tuple({(item.rule.name, item.place, item.field): item for item in undecided}.values()),
        tuple(problem for stack in stacks for problem in stack.problems),
        sum(stack.files for stack in stacks),
        sum(len(stack.resources) for stack in stacks),
        len(rules),
    )


def _outcomes(rule: Rule, stack: Stack, settings: Settings) -> Iterator[tuple[Place, Outcome]]:
    options = settings.options.get(rule.name)
    if isinstance(rule, StackRule):
        yield Place(stack.path, 1), rule.run(stack.resources, options)
    elif isinstance(rule, ResourceRule):
        for resource in stack.resources:
            if rule.reads(resource.type):
                yield stack.place_of(resource), rule.run(resource, options)
