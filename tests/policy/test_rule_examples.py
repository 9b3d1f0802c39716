"""Every rule against its own examples: passing, each violation, unknown, missing, other clouds."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from yaml import YAMLError

from policies.examples import FOLDER, Edit, Examples, examples_of
from policies.reading.values import Resource
from policies.rule import Outcome, ResourceRule, Rule, verdict
from policies.rules import RULES

NAMES = [rule.name for rule in RULES]
BY_NAME = dict(zip(NAMES, RULES, strict=True))


def _edits(kind: str) -> list[Any]:
    found = []
    for name in NAMES:
        try:
            edits = getattr(examples_of(name), kind)
        except (OSError, YAMLError, LookupError, TypeError, AttributeError):
            edits = ()  # The test of the passing examples says what is wrong with the file.
        found += [
            pytest.param(name, edit, id=f"{name}-{number}") for number, edit in enumerate(edits)
        ]
    return found


VIOLATIONS = _edits("violations")
ACCEPTED = _edits("accepted")
OTHERS = (
    Resource("gcp:storage/bucket:Bucket", "other", {"location": "EU"}),
    Resource("azure-native:storage:StorageAccount", "other", {"sku": {"name": "Standard_LRS"}}),
    Resource("digitalocean:index/vpc:Vpc", "other", {"region": "nyc2"}),
    Resource("aws:sqs/queue:Queue", "other", {"sqsManagedSseEnabled": True}),
    Resource("kubernetes:example.com/v1:Widget", "other", {"kind": "Widget", "spec": {}}),
    Resource("random:index/randomPassword:RandomPassword", "other", {"length": 20.0}),
    Resource("pulumi:pulumi:Stack", "other", {}),
)


@pytest.mark.parametrize("name", NAMES)
def test_the_passing_examples_pass_and_leave_nothing_open(name: str):
    examples = examples_of(name)
    assert verdict(BY_NAME[name], examples.passing, {}) == Outcome((), ())
    assert examples.violations, "a rule that nothing violates judges nothing"


@pytest.mark.parametrize(("name", "edit"), VIOLATIONS)
def test_a_passing_example_changed_in_one_place_is_a_violation(name: str, edit: Edit):
    found = verdict(BY_NAME[name], examples_of(name).after(edit), edit.options).findings
    assert found
    assert edit.says and any(edit.says in finding.message for finding in found)


@pytest.mark.parametrize(("name", "edit"), VIOLATIONS)
def test_a_message_says_where_and_ends_with_a_cure(name: str, edit: Edit):
    for finding in verdict(BY_NAME[name], examples_of(name).after(edit), edit.options).findings:
        assert len(finding.message) > 80 and finding.message.endswith(".")
        assert re.search(r"[.?] [^a-z]", finding.message), "what is wrong, and then the cure"


@pytest.mark.parametrize(("name", "edit"), VIOLATIONS)
def test_a_value_not_known_yet_is_never_a_pass(name: str, edit: Edit):
    outcome = verdict(BY_NAME[name], examples_of(name).with_unknown(edit), edit.options)
    assert (outcome.undecided or outcome.findings) or not edit.unknown


@pytest.mark.parametrize(("name", "edit"), ACCEPTED)
def test_an_accepted_variant_passes(name: str, edit: Edit):
    outcome = verdict(BY_NAME[name], examples_of(name).after(edit), edit.options)
    assert outcome == Outcome((), ())


@pytest.mark.parametrize(("name", "edit"), VIOLATIONS)
def test_numbers_that_arrive_as_floats_are_judged_and_told_alike(name: str, edit: Edit):
    resources = examples_of(name).after(edit)
    as_floats = [replace(item, properties=_floats(item.properties)) for item in resources]
    options = _floats(edit.options)
    assert _told(verdict(BY_NAME[name], as_floats, options)) == _told(
        verdict(BY_NAME[name], resources, edit.options)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_field_is_judged_and_never_an_error(name: str):
    examples = examples_of(name)
    for resources in _with_one_field_missing(examples):
        verdict(BY_NAME[name], resources, {})


@pytest.mark.parametrize("name", NAMES)
def test_resources_of_other_kinds_and_clouds_are_left_alone(name: str):
    assert verdict(BY_NAME[name], OTHERS, {}) == Outcome((), ())


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.options], ids=lambda r: r.name)
def test_every_option_changes_a_verdict_in_some_example(rule: Rule):
    examples = examples_of(rule.name)
    used = {key for edit in (*examples.violations, *examples.accepted) for key in edit.options}
    assert used == {option.name for option in rule.options}
    for edit in (*examples.violations, *examples.accepted):
        if edit.options:
            resources = examples.after(edit)
            with_options = verdict(rule, resources, edit.options)
            assert with_options != verdict(rule, resources, {}), edit


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if isinstance(rule, ResourceRule)], ids=lambda r: r.name
)
def test_every_passing_resource_can_be_changed_into_a_violation(rule: ResourceRule):
    examples = examples_of(rule.name)
    found = {
        index
        for edit in examples.violations
        for index, resource in enumerate(examples.after(edit))
        if rule.run(resource, edit.options).findings
    }
    assert found >= set(range(len(examples.documents)))


def test_no_examples_are_left_of_a_rule_that_is_gone():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(NAMES)


def _told(outcome: Outcome) -> list[tuple[str, str]]:
    return [(finding.resource.name, finding.message) for finding in outcome.findings]


def _floats(tree: Any) -> Any:
    """A tree as the engine hands it over: every number is a float."""
    if isinstance(tree, Mapping):
        return {key: _floats(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_floats(item) for item in tree]
    return float(tree) if isinstance(tree, int) and not isinstance(tree, bool) else tree


def _with_one_field_missing(examples: Examples) -> Iterator[list[Resource]]:
    for index, resource in enumerate(examples.passing):
        for path in _paths(resource.properties):
            properties = copy.deepcopy(dict(resource.properties))
            holder: Any = properties
            for key in path[:-1]:
                holder = holder[key]
            del holder[path[-1]]
            resources = examples.passing
            resources[index] = Resource(resource.type, resource.name, properties)
            yield resources


def _paths(tree: Any) -> Iterator[tuple[Any, ...]]:
    children = (
        tree.items()
        if isinstance(tree, Mapping)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in list(children):
        yield (key,)
        for below in _paths(value):
            yield (key, *below)
