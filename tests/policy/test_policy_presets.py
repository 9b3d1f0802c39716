"""The levels of all rules for an environment."""

from __future__ import annotations

import json

import pytest

from policies import presets
from policies.rules import RULES

STRICTNESS = {"disabled": 0, "advisory": 1, "mandatory": 2}


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_a_preset_gives_every_rule_a_level(preset: str) -> None:
    levels = presets.levels(preset)
    assert list(levels) == [rule.name for rule in RULES]
    assert set(levels.values()) <= set(STRICTNESS)


def test_the_baseline_is_what_the_rules_are_without_configuration() -> None:
    assert presets.levels("baseline") == {rule.name: rule.level for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_production_asks_at_least_as_much_as_the_baseline_and_development_at_most(rule) -> None:
    production, baseline, development = (
        STRICTNESS[presets.levels(preset)[rule.name]]
        for preset in ("production", "baseline", "development")
    )
    if "development" in rule.tags:
        assert development > 0, "a rule on development stacks says nothing there"
    else:
        assert production >= baseline >= development
        assert production > 0, "a rule that production does not ask for asks for nothing"


def test_nothing_critical_is_left_to_choice_in_production() -> None:
    levels = presets.levels("production")
    critical = [rule for rule in RULES if rule.severity == "critical"]
    assert critical and {levels[rule.name] for rule in critical} == {"mandatory"}


def test_an_unknown_preset_is_no_preset() -> None:
    with pytest.raises(KeyError):
        presets.levels("staging")


def test_a_preset_is_printed_as_the_configuration_that_the_engine_reads(capsys) -> None:
    assert presets.main(["development"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == presets.policy_config("development")
    assert all(set(entry) == {"enforcementLevel"} for entry in printed.values())


@pytest.mark.parametrize("arguments", [[], ["staging"], ["baseline", "production"]])
def test_a_preset_that_does_not_exist_is_told_with_those_that_do(arguments, capsys) -> None:
    assert presets.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == "" and all(preset in told.err for preset in presets.PRESETS)
