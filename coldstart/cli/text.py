"""Plans and rehearsals as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from coldstart.cli.cost import print_cost_details
from coldstart.units import format_seconds

if TYPE_CHECKING:
    from coldstart.engine import Result, Step

BAR_COLUMNS = 36
LAYERS = (("infra", "coldstart:aws:"), ("workload", "coldstart:workload:"))


def print_plan(console: Console, found: Mapping[str, Any], *, alternatives: bool) -> None:
    """Decisions, cold starts, cost and notes of `report.summary`."""
    print_decisions(console, found["decisions"], alternatives=alternatives)
    for name, model in found["models"].items():
        print_cold_start(console, name, model)
    print_cost(console, found["cost"])
    for note in found["notes"]:
        console.print(f"Note: {note}")


def print_decisions(
    console: Console, decisions: Iterable[Mapping[str, Any]], *, alternatives: bool
) -> None:
    """One row per decision; below it what was turned down, when asked for."""
    table = Table(
        "Decision",
        "Value",
        "Reason",
        title="Decisions",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for decision in decisions:
        reason = Text(decision["reason"])
        if alternatives:
            for other in decision["rejected"]:
                reason.append(f"\nnot {other['value']}: {other['reason']}", style="dim")
        table.add_row(decision["path"], Text(decision["value"], style="bold"), reason)
    console.print(table, "")


def print_cold_start(console: Console, name: str, model: Mapping[str, Any]) -> None:
    """The phases on a common scale; those of the critical path are marked."""
    line = model["coldStart"]
    total, first = line["totalSeconds"], model["firstNode"]["totalSeconds"]
    budget = model["budgetSeconds"]
    head = f"Cold start of {name} on {model['instanceType']}: {format_seconds(total)}"
    if first > total:
        head += f", first node {format_seconds(first)}"
    head += f", from zero {format_seconds(model['fromZero']['totalSeconds'])}"
    head += f", on a warm node {format_seconds(model['warmNode']['totalSeconds'])}"
    head += f"; without these levers {format_seconds(model['baseline']['totalSeconds'])}"
    if budget:
        head += f"; budget {format_seconds(budget)}"
    table = Table("", "Phase", "From", "Takes", "", box=None, padding=(0, 1, 0, 0))
    for phase in line["phases"]:
        start = round(phase["startSeconds"] / total * BAR_COLUMNS)
        width = max(1, round(phase["seconds"] / total * BAR_COLUMNS))
        critical = phase["key"] in line["criticalPath"]
        table.add_row(
            "*" if critical else "",
            phase["name"],
            f"{phase['startSeconds']:.0f} s",
            format_seconds(phase["seconds"]),
            " " * start + ("█" if critical else "░") * width,
        )
    shares = (format_seconds(line[key]) for key in ("p50Seconds", "p95Seconds", "p99Seconds"))
    console.print(Text(head, style="bold"))
    console.print(
        Text("Half of all starts take at most {}, 95 % at most {}, 99 % at most {}".format(*shares))
    )
    console.print(table)
    console.print(
        "* critical path: "
        + " → ".join(p["name"] for p in line["phases"] if p["key"] in line["criticalPath"]),
        "",
    )


def print_cost(console: Console, cost: Mapping[str, Any]) -> None:
    """Hourly cost: idle, typical where the traffic is known, and at maximum."""
    moments = ["idle", "typical", "maximum"]
    if cost["typicalUsdPerHour"] is None:
        moments.remove("typical")
    table = Table("Cost in USD an hour", *moments, box=None, padding=(0, 2, 0, 0))
    total = {"name": Text("in all", style="bold"), **cost}
    for row in [*cost["lines"], total]:
        table.add_row(row["name"], *(f"{row[f'{moment}UsdPerHour']:.2f}" for moment in moments))
    console.print(table)
    if cost["unpriced"]:
        console.print("no price known for: " + ", ".join(cost["unpriced"]))
    print_cost_details(console, cost)
    console.print(
        "On demand at list prices or your own; storage in use and traffic are left out.",
        "",
        style="dim",
    )


def by_layer(steps: Iterable[Step]) -> dict[str, Counter[str]]:
    """Resources of each layer by their component; the rest counts as `stack`."""
    found: dict[str, Counter[str]] = {}
    for step in steps:
        chain = step.urn.split("::")[2].split("$") if step.urn.count("::") >= 3 else []
        component = next((part for part in chain if part.startswith("coldstart:")), "")
        layer = next((name for name, prefix in LAYERS if component.startswith(prefix)), "stack")
        found.setdefault(layer, Counter())[component.rpartition(":")[2] or "stack"] += 1
    return found


def print_resources(console: Console, result: Result, *, done: bool = False) -> None:
    """Resources by layer and component, and what would happen to them, or did when it is `done`."""
    way = "" if done else "to "
    table = Table(
        "Layer",
        "Resources",
        "Components",
        title_justify="left",
        title="Resources: "
        + (
            ", ".join(f"{count} {way}{op}" for op, count in sorted(result.summary.items()))
            or "none"
        ),
        box=None,
        padding=(0, 2, 0, 0),
    )
    for layer, components in by_layer(result.resources).items():
        table.add_row(
            layer,
            str(components.total()),
            ", ".join(f"{name} {count}" for name, count in sorted(components.items())),
        )
    console.print(table, "")


def print_messages(console: Console, result: Result) -> None:
    """What was warned of, then what went wrong."""
    for message in result.warnings:
        console.print(Text(f"warning: {message}", style="yellow"))
    for message in result.errors:
        console.print(Text(message, style="red"))


def print_policies(console: Console, result: Result) -> None:
    """How many policies passed, then those still open, then each violation."""
    still_open: dict[str, list[str]] = {}
    for item in result.undecided:
        still_open.setdefault(item.policy, []).append(item.field)
    names = {violation.policy for violation in result.violations}
    asked = {policy.policy for policy in result.policy_results} | names
    waiting = still_open.keys() - names
    console.print(
        f"Policies: {len(asked)} asked, {len(asked - names - waiting)} passed, {len(names)} broken,"
        f" {len(waiting)} open until values are known",
    )
    for name in sorted(waiting):
        fields = still_open[name]
        more = f" and {len(fields) - 1} more" if len(fields) > 1 else ""
        console.print(Padding(Text(f"open: {name}: {fields[0]}{more}"), (0, 2)))
    for violation in result.violations:
        text = f"[{violation.level}] {violation.policy}: {violation.message}"
        console.print(Padding(Text(text), (0, 2)))
    console.print("")


def print_acts(console: Console, acts: Iterable[Any]) -> None:
    """One row per act of a rehearsal, then the errors of the one that failed."""
    table = Table("Act", "Expected", "", "Changes", "Took", box=None, padding=(0, 2, 0, 0))
    for act in acts:
        changes = ", ".join(f"{n} {op}" for op, n in sorted(act.result.summary.items()))
        table.add_row(
            act.name,
            act.expected,
            "ok" if act.ok else "FAILED",
            changes,
            format_seconds(act.result.duration_seconds),
        )
    console.print(table)
    for act in acts:
        for message in act.result.errors:
            console.print(f"{act.name}: {message}", style="red")
