"""No odd value makes a rule fail, and a stack of all examples is judged whole."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from policy_examples import Given, judge

from policies.examples import examples_of
from policies.reading.values import Resource, Unknown
from policies.rule import Rule, verdict
from policies.rules import RULES

ODD = (
    None,
    True,
    -1.5,
    "",
    "{[",
    "1e9",
    Unknown(("odd",)),
    [],
    [None],
    ["odd"],
    [{}],
    {},
    {"a": []},
)


def _places(tree: Any) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a tree that an edit can replace."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree or ())
    for key, value in items:
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *below) for below in _places(value))


def _edited(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A tree with another value at a path; only what lies above that path is copied."""
    if not path:
        return value
    changed = tree.copy()
    changed[path[0]] = _edited(tree[path[0]], path[1:], value)
    return changed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_value_at_any_place_of_an_example_makes_a_rule_fail(rule: Rule):
    resources = examples_of(rule.name).passing
    for index, subject in enumerate(resources):
        for path in list(_places(subject.properties)):
            for odd in ODD:
                properties = _edited(subject.properties, path, odd)
                verdict(
                    rule,
                    [
                        *resources[:index],
                        replace(subject, properties=properties),
                        *resources[index + 1 :],
                    ],
                )


def _as_given(resource: Resource) -> Given:
    return Given(resource.type, copy.deepcopy(dict(resource.properties)), resource.name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_engines_front_end_says_what_the_rule_says(rule: Rule):
    examples = examples_of(rule.name)
    assert judge(rule.name, *map(_as_given, examples.passing)).passed
    violation = examples.violations[0]
    resources = examples.after(violation)
    told = judge(rule.name, *map(_as_given, resources), config=violation.options)
    expected = verdict(rule, resources, violation.options).findings
    assert told.messages == [finding.message for finding in expected]


def test_the_examples_of_all_rules_in_one_stack_make_no_rule_fail():
    everything = [item for rule in RULES for item in examples_of(rule.name).passing]
    for rule in RULES:
        verdict(rule, everything)
