"""Plans as Markdown for a pull request: a table to look at, the rest folded away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coldstart.units import format_seconds

LARGEST_COMMENT_CHARACTERS = 65_000
"""GitHub refuses a comment of more than 65,536 characters (REST API, issue comments)."""
_SPECIAL = re.compile(r"([\\`*_\[\]|~#@<>&])")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;", "#": "&#35;", "|": "&#124;"}
"""A name must not become a mention, a reference to an issue, a tag or a column."""


def escaped(text: object) -> str:
    """Text that shows as it is, in a table cell too."""
    flat = " ".join(str(text).split())
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[1], f"\\{found[1]}"), flat)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> list[str]:
    """Lines of a table of cells that are Markdown; the last `numbers` columns stand right."""
    marks = ["---"] * (len(head) - numbers) + ["--:"] * numbers
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines behind a title that opens them."""
    return [f"<details><summary>{escaped(title)}</summary>", "", *lines, "", "</details>"]


def bounded(lines: list[str], folds: list[str]) -> str:
    """The comment whole, or without what is folded away where a comment cannot hold it."""
    whole = "\n".join([*lines, *folds]) + "\n"
    if len(whole) <= LARGEST_COMMENT_CHARACTERS:
        return whole
    note = "The decisions are too long for a comment; `coldstart plan` prints them."
    return "\n".join([*lines, note])[: LARGEST_COMMENT_CHARACTERS - 1] + "\n"


def plan(found: Mapping[str, Any], *, alternatives: bool = False) -> str:
    """A plan of `report.summary` as a comment; the first line lets a workflow find it again."""
    lines = [
        f"<!-- coldstart plan {found['stack']} -->",
        f"### Plan of {escaped(found['stack'])}",
        "",
        *table(
            ("Model", "Instance", "Cold start", "First node", "Warm node", "Baseline", "Budget"),
            [_model(name, model) for name, model in found["models"].items()],
            numbers=5,
        ),
        "",
        *percentiles(found["models"]),
        cost_line(found["cost"]),
    ]
    lines += [f"- {escaped(note)}" for note in found["notes"]]
    decisions = found["decisions"]
    return bounded(
        [*lines, ""], folded(f"{len(decisions)} decisions", _decisions(decisions, alternatives))
    )


STARTS = {
    "coldStart": "next replica",
    "firstNode": "first node of an empty cluster",
    "fromZero": "from zero replicas",
    "warmNode": "on a warm node",
}
"""The ways to start that have percentiles of their own."""


def percentiles(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How long half, 95 % and 99 % of starts take at most, and which phases count as constant."""
    rows = [
        (
            escaped(name),
            words,
            *(format_seconds(model[key][f"p{share}Seconds"]) for share in (50, 95, 99)),
        )
        for name, model in models.items()
        for key, words in STARTS.items()
    ]
    if not rows:
        return []
    lines = table(("Model", "Start", "p50", "p95", "p99"), rows, numbers=3)
    fixed = {
        phase["name"]: None
        for model in models.values()
        for key in STARTS
        for phase in model[key]["phases"]
        if phase["key"] in model[key]["withoutSpread"]
    }
    if fixed:
        names = escaped(", ".join(fixed))
        lines += ["", f"Percentiles are rather too low: no range is published for {names}."]
    return [*lines, ""]


def cost_line(cost: Mapping[str, Any]) -> str:
    """Hourly cost in one line."""
    typical = cost["typicalUsdPerHour"]
    line = (
        f"**Cost:** ${cost['idleUsdPerHour']:,.2f}/h idle, "
        f"{'' if typical is None else f'${typical:,.2f}/h at mean traffic, '}"
        f"${cost['maximumUsdPerHour']:,.2f}/h at maximum "
        "(on demand, list prices or the stack file's own)."
    )
    if cost["unpriced"]:
        line += f" No price known for: {escaped(', '.join(cost['unpriced']))}."
    return line


def _model(name: str, model: Mapping[str, Any]) -> tuple[str, ...]:
    budget = model["budgetSeconds"]
    return (
        escaped(name),
        escaped(model["instanceType"]),
        *(
            format_seconds(model[key]["totalSeconds"])
            for key in ("coldStart", "firstNode", "warmNode", "baseline")
        ),
        format_seconds(budget) if budget else "none",
    )


def _decisions(decisions: Iterable[Mapping[str, Any]], alternatives: bool) -> list[str]:
    rows = []
    for decision in decisions:
        reason = escaped(decision["reason"])
        if alternatives:
            for other in decision["rejected"]:
                reason += f"<br>not {escaped(other['value'])}: {escaped(other['reason'])}"
        rows.append((escaped(decision["path"]), f"**{escaped(decision['value'])}**", reason))
    return table(("Decision", "Value", "Reason"), rows)
