"""`coldstart explain`: one decision in depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import completion
from coldstart.cli.shared import (
    ROOT,
    JsonOption,
    RootOption,
    StackArgument,
    console,
    planned,
    print_json,
    refuse,
    told,
)

if TYPE_CHECKING:
    from coldstart.planning.explain import Alternative, Explanation
    from coldstart.planning.override import Effect


def explain(
    stack: StackArgument,
    model: Annotated[
        str,
        typer.Argument(
            help="A model or a node pool of the stack.", autocompletion=completion.models_and_pools
        ),
    ],
    decision: Annotated[
        str,
        typer.Argument(
            help="What to explain: weights, image, os, fit, coldStart, cost …",
            autocompletion=completion.decisions,
        ),
    ],
    json_output: JsonOption = False,
    root: RootOption = ROOT,
) -> None:
    """Say why one thing was decided so, on which figures, and what another value would do.

    Example: coldstart explain eks-prod qwen3-8b weights
    """
    with told():
        from coldstart.catalog import load
        from coldstart.planning.explain import UnknownTopicError
        from coldstart.planning.explain import explain as explained

        plan = planned(root, stack)
        try:
            found = explained(plan, model, decision, load())
        except UnknownTopicError as error:
            refuse(str(error))
        line = plan.spec.line_of(found.key) if found.key else None
        file = f"stacks/Pulumi.{stack}.yaml"
        if json_output:
            print_json(_data(found, file, line))
        else:
            _print(found, f"{file}:{line}" if line else file)


def _print(found: Explanation, place: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from coldstart.report import shown

    out = console()
    out.print(Text.assemble(f"{found.path}: ", (shown(found.value), "bold")))
    out.print(Text(f"  {found.reason}"))
    if found.figures:
        out.print(Text("\nIt rests on", style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim", overflow="fold")
        for figure in found.figures:
            table.add_row(Text(figure.name), Text(figure.value), Text(figure.source))
        out.print(table)
    if found.alternatives:
        out.print(Text("\nTurned down", style="bold"))
    for other in found.alternatives:
        out.print(Text.assemble("  ", (shown(other.value), "bold"), f": {other.reason}"))
        out.print(Text(f"    {_would(found, other)}"))
    if found.key:
        out.print(Text(f"\nTo change it, set {found.key} in {place}"))
    else:
        out.print(Text(f"\nIt has no key of its own: {found.follows}"))


def _would(found: Explanation, other: Alternative) -> str:
    """What the alternative would do, in words."""
    if other.effect is None:
        return "cannot be asked for: no key of the stack file takes it"
    if other.effect.refused:
        return "would be refused: " + "; ".join(
            f"{error.path}: {' '.join(error.message.split())}" for error in other.effect.refused
        )
    return "would give " + "; ".join(_changes(found, other.effect))


def _changes(found: Explanation, effect: Effect) -> list[str]:
    from coldstart.cli.difference import signed_seconds, signed_usd

    parts = []
    for slower in effect.slower:
        if slower.model in found.models:
            cold, first = map(
                signed_seconds, (slower.cold_start_seconds, slower.first_node_seconds)
            )
            parts.append(
                f"{slower.model}: cold start {cold}"
                + (f", first node {first}" if first != cold else "")
            )
    idle, most = map(signed_usd, (effect.idle_usd_per_hour, effect.maximum_usd_per_hour))
    parts.append(f"cost idle {idle}, at maximum {most}" if idle != most else f"cost {idle}")
    return parts


def _data(found: Explanation, file: str, line: int | None) -> dict[str, Any]:
    from coldstart.report import shown

    return {
        "path": found.path,
        "value": shown(found.value),
        "reason": found.reason,
        "figures": [{"name": f.name, "value": f.value, "source": f.source} for f in found.figures],
        "rejected": [
            {
                "value": shown(other.value),
                "reason": other.reason,
                "effect": _effect_data(other.effect),
            }
            for other in found.alternatives
        ],
        "key": found.key,
        "file": file,
        "line": line,
        "follows": found.follows,
    }


def _effect_data(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    if effect.refused:
        return {"refused": [{"path": e.path, "message": e.message} for e in effect.refused]}
    return {
        "models": {
            s.model: {
                "coldStartSeconds": round(s.cold_start_seconds, 1),
                "firstNodeSeconds": round(s.first_node_seconds, 1),
            }
            for s in effect.slower
        },
        "idleUsdPerHour": round(effect.idle_usd_per_hour, 4),
        "maximumUsdPerHour": round(effect.maximum_usd_per_hour, 4),
    }
