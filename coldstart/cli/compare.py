"""`coldstart compare`: what a change does to seconds and dollars."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import completion
from coldstart.cli.shared import (
    ROOT,
    Format,
    FormatOption,
    JsonOption,
    RootOption,
    chosen_format,
    console,
    planned,
    print_json,
    progress,
    refuse,
    told,
)

if TYPE_CHECKING:
    from coldstart.cli.difference import Change, Difference, Plan

_HELP = "A stack, or a file that `coldstart plan STACK --json` wrote."


def compare(
    before: Annotated[
        str, typer.Argument(metavar="STACK_A", help=_HELP, autocompletion=completion.stacks)
    ],
    after: Annotated[
        str, typer.Argument(metavar="STACK_B", help=_HELP, autocompletion=completion.stacks)
    ],
    json_output: JsonOption = False,
    output_format: FormatOption = Format.TEXT,
    fail_over_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="End with 1 when a cold start gets slower by more seconds."),
    ] = None,
    fail_over_usd: Annotated[
        float | None,
        typer.Option(min=0, help="End with 1 when the cost rises by more US dollars an hour."),
    ] = None,
    root: RootOption = ROOT,
) -> None:
    """Say what changes from one plan to another: seconds, dollars, decisions.

    Exit codes: 0 whatever changed, 1 more than the limits allow, 2 bad input.

    Example: coldstart compare base.json eks-prod --fail-over-seconds 30 --fail-over-usd 5
    """
    with told():
        from coldstart.cli.difference import difference, over_limits

        wanted = chosen_format(output_format, json_output)
        for name, limit in (("seconds", fail_over_seconds), ("usd", fail_over_usd)):
            if limit is not None and not math.isfinite(limit):
                refuse(f"--fail-over-{name}: {limit} is not a limit; give a number such as 30")
        found = difference(_given(root, before), _given(root, after))
        broken = over_limits(found, fail_over_seconds, fail_over_usd)
        if wanted is Format.JSON:
            print_json(_data(found, broken))
        elif wanted is Format.MARKDOWN:
            sys.stdout.write(_markdown(found, broken))
        else:
            _print_text(found)
        for line in broken:
            progress(line)
        raise typer.Exit(1 if broken else 0)


def _given(root: Path, word: str) -> Plan:
    """The plan of a stack, or the one in a file where the word names one."""
    from coldstart.cli.difference import parse_plan, read_plan
    from coldstart.report import summary

    if word.endswith(".json") or "/" in word:
        return read_plan(Path(word))
    return parse_plan(summary(planned(root, word)), word)


def _rows(found: Difference) -> list[tuple[str, str, str, str]]:
    from coldstart.cli.difference import signed_seconds, signed_usd
    from coldstart.units import format_seconds

    rows = [
        (c.name, format_seconds(c.before), format_seconds(c.after), signed_seconds(c.delta))
        for c in found.seconds
    ]
    rows += [(f"{name}: instance", old, new, "other") for name, old, new in found.instances]
    rows += [
        (f"cost {c.name}", f"${c.before:,.2f}/h", f"${c.after:,.2f}/h", signed_usd(c.delta))
        for c in found.usd
    ]
    return rows


def _told_of(found: Difference) -> list[tuple[str, str, str, str, str]]:
    """Changed decisions: path, values and reasons before and after."""
    rows = []
    for change in found.decisions:
        old, new = change.before, change.after
        before = (old.value, old.reason) if old else ("none", "there was no such decision")
        after = (new.value, new.reason) if new else ("none", "there is no such decision any more")
        rows.append((change.path, *before, *after))
    return rows


def _parts(found: Difference) -> list[str]:
    lines = [f"new: {part}" for part in found.added]
    lines += [f"gone: {part}" for part in found.removed]
    return [*lines, *(f"no price known for: {name}" for name in found.newly_unpriced)]


def _title(found: Difference) -> str:
    return found.after if found.before == found.after else f"{found.before} → {found.after}"


def _print_text(found: Difference) -> None:
    from rich.table import Table
    from rich.text import Text

    from coldstart.cli.difference import headline

    out = console()
    out.print(Text(f"{_title(found)}: {headline(found)}", style="bold"))
    if found.empty:
        return
    table = Table("", "before", "after", "change", box=None, padding=(0, 2, 0, 0))
    for name, before, after, change in _rows(found):
        style = "red" if change[0] == "+" else "green" if change[0] == "-" else "dim"
        table.add_row(Text(name), Text(before), Text(after), Text(change, style=style))
    out.print(table)
    for line in _parts(found):
        out.print(Text(line))
    for path, before, why_before, after, why_after in _told_of(found):
        out.print(Text(f"{path}: {before} → {after}", style="bold"))
        out.print(Text(f"  before: {why_before}\n  now: {why_after}"))


def _markdown(found: Difference, broken: tuple[str, ...]) -> str:
    from coldstart.cli.difference import headline
    from coldstart.cli.markdown import bounded, escaped, folded, table

    lines = [
        f"<!-- coldstart compare {found.after} -->",
        f"### What changes: {escaped(_title(found))}",
        "",
        f"**{escaped(headline(found))}**",
        "",
    ]
    lines += [f"- :x: {escaped(line)}" for line in broken]
    if found.empty:
        return bounded(lines, [])
    rows = [tuple(map(escaped, row)) for row in _rows(found)]
    lines += ["", *table(("", "Before", "After", "Change"), rows, numbers=3), ""]
    lines += [f"- {escaped(line)}" for line in _parts(found)]
    told_of = [
        (escaped(path), f"{escaped(old)}: {escaped(why)}", f"{escaped(new)}: {escaped(now)}")
        for path, old, why, new, now in _told_of(found)
    ]
    if not told_of:
        return bounded(lines, [])
    title = f"{len(told_of)} decision{'' if len(told_of) == 1 else 's'} changed"
    return bounded([*lines, ""], folded(title, table(("Decision", "Before", "After"), told_of)))


def _data(found: Difference, broken: tuple[str, ...]) -> dict[str, Any]:
    def figure(change: Change, unit: str) -> dict[str, Any]:
        return {
            "name": change.name,
            f"before{unit}": change.before,
            f"after{unit}": change.after,
            f"change{unit}": round(change.delta, 4),
        }

    return {
        "before": found.before,
        "after": found.after,
        "same": found.empty,
        "seconds": [figure(c, "Seconds") for c in found.seconds],
        "cost": [figure(c, "UsdPerHour") for c in found.usd],
        "instances": [
            {"model": name, "before": old, "after": new} for name, old, new in found.instances
        ],
        "decisions": [
            {
                "path": path,
                "before": {"value": old, "reason": why},
                "after": {"value": new, "reason": now},
            }
            for path, old, why, new, now in _told_of(found)
        ],
        "added": list(found.added),
        "removed": list(found.removed),
        "newlyUnpriced": list(found.newly_unpriced),
        "overLimits": list(broken),
    }
