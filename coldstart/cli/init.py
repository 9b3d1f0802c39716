"""`coldstart init`: a few answers become a stack file that previews."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import completion
from coldstart.cli.questions import answers, questions
from coldstart.cli.shared import (
    ROOT,
    JsonOption,
    RootOption,
    console,
    print_json,
    progress,
    refuse,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coldstart.planning import StackPlan
    from coldstart.planning.proposal import Option, Proposal, Wishes


def init(
    name: Annotated[str | None, typer.Option(help="The stack's name.")] = None,
    platform: Annotated[str | None, typer.Option(help="eks")] = None,
    region: Annotated[
        str | None,
        typer.Option(help="A region with known prices.", autocompletion=completion.regions),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of `coldstart models`.", autocompletion=completion.catalog_models
        ),
    ] = None,
    requests_per_second: Annotated[str | None, typer.Option(help="Expected arrivals.")] = None,
    prompt_tokens: Annotated[str | None, typer.Option(help="Mean length of a prompt.")] = None,
    output_tokens: Annotated[str | None, typer.Option(help="Mean length of an answer.")] = None,
    ttft: Annotated[str | None, typer.Option(help="Time to first token, such as 2s.")] = None,
    tpot: Annotated[str | None, typer.Option(help="Time per output token, such as 50ms.")] = None,
    environment: Annotated[str | None, typer.Option(help="prod or dev.")] = None,
    admin_cidr: Annotated[
        list[str] | None, typer.Option(help="A block that may reach the API endpoint; repeatable.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Longest cold start, such as 4m.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json_output: JsonOption = False,
    root: RootOption = ROOT,
) -> None:
    """Write a stack file: asks for model, traffic and objectives, and takes the cheapest GPU.

    On a terminal it asks for what no flag gives; elsewhere missing flags are named.

    Example: coldstart init --name chat --region us-west-2 --model Qwen/Qwen3-8B
    --requests-per-second 2 --prompt-tokens 800 --output-tokens 250 --ttft 2s --tpot 50ms
    """
    given = {
        "name": name,
        "platform": platform,
        "region": region,
        "model": model,
        "requests-per-second": requests_per_second,
        "prompt-tokens": prompt_tokens,
        "output-tokens": output_tokens,
        "ttft": ttft,
        "tpot": tpot,
        "environment": environment,
        "admin-cidr": None if admin_cidr is None else ",".join(admin_cidr),
        "budget": budget,
    }
    with told("nothing was written"):
        from coldstart.catalog import load
        from coldstart.planning.proposal import propose

        wishes = _wishes(answers(given, questions(root, force)))
        progress(f"planning {wishes.model.name} on every accelerator of the catalog")
        proposal = propose(wishes, load())
        plan = write(root, proposal)
        if json_output:
            print_json(_data(proposal, plan))
        else:
            _print(proposal, plan)


def _wishes(found: Mapping[str, Any]) -> Wishes:
    from coldstart.planning.proposal import Wishes

    return Wishes(
        name=found["name"],
        region=found["region"],
        environment=found["environment"],
        model=found["model"],
        requests_per_second=found["requests-per-second"],
        prompt_tokens=found["prompt-tokens"],
        output_tokens=found["output-tokens"],
        ttft_seconds=found["ttft"],
        tpot_seconds=found["tpot"],
        admin_cidrs=found["admin-cidr"],
        budget_seconds=found["budget"],
    )


def write(root: Path, proposal: Proposal) -> StackPlan:
    """Write the stack file once it has been read back and planned; all of it or nothing.

    Raises SpecError or PlanFailedError when the file would not preview.
    """
    from coldstart.planning import plan_stack
    from coldstart.spec import parse_config, read_config, stack_file

    name = proposal.wishes.name
    path = stack_file(root, name)
    shown = path.relative_to(root).as_posix()
    draft: Path | None = None
    try:
        path.parent.mkdir(exist_ok=True)
        handle, made = tempfile.mkstemp(prefix=f".{name}.", suffix=".yaml", dir=path.parent)
        draft = Path(made)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(proposal.file_text)
        config, lines = read_config(draft, shown)
        plan = plan_stack(parse_config(config, stack=name, file=shown, root=root, lines=lines))
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        refuse(f"{shown}: cannot be written: {error.strerror}")
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)
    return plan


def _row(option: Option, best: Option) -> tuple[str, ...]:
    from coldstart.units import format_seconds

    fitting = option.fitting
    if option.obstacle is not None:
        return (fitting.accelerator, "", "", "", "", f"not: {option.obstacle}")
    usd, least = option.usd_per_hour or 0.0, best.usd_per_hour or 0.0
    return (
        fitting.accelerator,
        f"{option.nodes} x {fitting.instance}",
        str(option.replicas),
        f"${usd:,.2f}/h",
        format_seconds(fitting.cold_start_seconds),
        "chosen" if option is best else f"+${usd - least:,.2f}/h",
    )


def _print(proposal: Proposal, plan: StackPlan) -> None:
    from rich.table import Table
    from rich.text import Text

    from coldstart.planning.proposal import reason

    out = console()
    head = ("Accelerator", "Nodes", "Replicas", "On demand", "Cold start", "")
    table = Table(*head, box=None, padding=(0, 2, 0, 0))
    for option in proposal.options:
        row = _row(option, proposal.chosen)
        table.add_row(*map(Text, row), style="bold" if row[-1] == "chosen" else None)
    out.print(table)
    name = proposal.wishes.name
    out.print(Text(f"{proposal.chosen.fitting.accelerator}: {reason(proposal.options)}"))
    for note in plan.notes:
        out.print(Text(f"Note: {note}"))
    out.print(
        Text(f"stacks/Pulumi.{name}.yaml is written. Next: coldstart preview {name}", style="bold")
    )


def _data(proposal: Proposal, plan: StackPlan) -> dict[str, Any]:
    from coldstart.planning.proposal import reason

    return {
        "stack": proposal.wishes.name,
        "file": f"stacks/Pulumi.{proposal.wishes.name}.yaml",
        "accelerator": proposal.chosen.fitting.accelerator,
        "reason": reason(proposal.options),
        "options": [
            {
                "accelerator": option.fitting.accelerator,
                "instanceType": option.fitting.instance or None,
                "replicas": option.replicas,
                "nodes": option.nodes,
                "usdPerHour": option.usd_per_hour,
                "obstacle": option.obstacle,
            }
            for option in proposal.options
        ],
        "notes": list(plan.notes),
    }
