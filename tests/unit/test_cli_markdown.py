"""A plan as a comment of a pull request."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from stack_examples import planned
from typer.testing import CliRunner

from coldstart.cli import markdown
from coldstart.cli.app import app
from coldstart.cli.markdown import STARTS
from coldstart.report import summary
from coldstart.units import format_seconds

PLAN = summary(planned())


def test_the_comment_has_the_models_the_cost_and_folded_decisions() -> None:
    done = CliRunner().invoke(app, ["plan", "eks-prod", "--format", "markdown"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "<!-- coldstart plan eks-prod -->"
    row = "| qwen3-8b | g6e.xlarge | 2 min 42 s | 2 min 42 s | 2 min 0 s | 7 min 15 s | 4 min 0 s |"
    assert row in lines
    assert any(line.startswith("**Cost:** $26.69/h idle, $103.80/h at maximum") for line in lines)
    assert f"<details><summary>{len(PLAN['decisions'])} decisions</summary>" in lines
    assert lines[-1] == "</details>"
    for decision in PLAN["decisions"]:
        assert any(line.startswith(f"| {decision['path']} | ") for line in lines)


def test_each_way_to_start_has_its_percentiles() -> None:
    lines = markdown.plan(PLAN).splitlines()
    for name, model in PLAN["models"].items():
        for key, words in markdown.STARTS.items():
            shown = [format_seconds(model[key][f"p{share}Seconds"]) for share in (50, 95, 99)]
            assert f"| {name} | {words} | {' | '.join(shown)} |" in lines
    (told,) = (line for line in lines if line.startswith("Percentiles are rather too low"))
    assert told.endswith("for engine image, weights to GPU, weights to local NVMe.")
    name, model = next(iter(PLAN["models"].items()))
    every = {key: {**line, "withoutSpread": []} for key, line in model.items() if key in STARTS}
    assert "too low" not in markdown.plan({**PLAN, "models": {name: {**model, **every}}})
    assert "p99" not in markdown.plan({**PLAN, "models": {}})


def test_the_typical_cost_is_told_where_it_is_known() -> None:
    known = {**PLAN["cost"], "typicalUsdPerHour": 31.254}
    assert "/h idle, $31.25/h at mean traffic, $" in markdown.cost_line(known)
    assert "mean traffic" not in markdown.cost_line(PLAN["cost"])


def test_every_row_has_as_many_cells_as_its_head() -> None:
    text = markdown.plan(PLAN, alternatives=True)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1


def test_what_was_turned_down_comes_when_asked_for() -> None:
    assert "not snapshot" in markdown.plan(PLAN, alternatives=True)
    assert "not snapshot" not in markdown.plan(PLAN)


def test_json_and_format_json_are_the_same_answer() -> None:
    short, long = (
        CliRunner().invoke(app, ["plan", "eks-dev", *words]).stdout
        for words in (("--json",), ("--format", "json"))
    )
    assert short == long
    assert json.loads(short)["stack"] == "eks-dev"


def test_a_plan_too_long_for_a_comment_keeps_its_table_and_says_what_it_leaves_out() -> None:
    long = {**PLAN, "decisions": PLAN["decisions"] * 60}
    text = markdown.plan(long)
    assert len(text) <= markdown.LARGEST_COMMENT_CHARACTERS
    assert "| qwen3-8b |" in text
    assert "too long for a comment; `coldstart plan` prints them" in text
    assert "<details>" not in text


def test_what_has_no_price_is_named() -> None:
    cost = {**PLAN["cost"], "unpriced": ["pool x (g9.large in eu-north-1)"]}
    assert "No price known for: pool x (g9.large in eu-north-1)." in markdown.cost_line(cost)


@given(st.text())
@settings(deadline=None)
def test_no_text_breaks_out_of_its_cell(text: str) -> None:
    cell = markdown.escaped(text)
    assert "\n" not in cell
    assert "|" not in cell
    assert not re.search(r"<|>|@", cell)
    assert not re.search(r"(?<![\\])(?:\\\\)*[`*_\[\]~]", cell)
    assert not re.search(r"(?<!&)#", cell)
