"""`coldstart plan` and `coldstart check`: what a stack file means, without an engine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from coldstart.cli.shared import (
    DEFAULT_STACK,
    ROOT,
    Format,
    FormatOption,
    JsonOption,
    RootOption,
    StackArgument,
    chosen_format,
    console,
    planned,
    print_json,
    told,
)


def plan(
    stack: StackArgument = DEFAULT_STACK,
    json_output: JsonOption = False,
    output_format: FormatOption = Format.TEXT,
    why: Annotated[bool, typer.Option("--why", help="Also say what was turned down.")] = False,
    root: RootOption = ROOT,
) -> None:
    """Print every decision, the predicted cold starts and the cost. Takes no engine.

    Example: coldstart plan eks-prod --why
    """
    with told():
        from coldstart.cli import markdown, text
        from coldstart.report import summary

        wanted = chosen_format(output_format, json_output)
        found = summary(planned(root, stack))
        if wanted is Format.JSON:
            print_json(found)
        elif wanted is Format.MARKDOWN:
            sys.stdout.write(markdown.plan(found, alternatives=why))
        else:
            text.print_plan(console(), found, alternatives=why)


def check(
    stack: StackArgument = DEFAULT_STACK,
    json_output: JsonOption = False,
    root: RootOption = ROOT,
) -> None:
    """Read a stack file and say everything that is wrong with it. Takes a second.

    Example: coldstart check eks-prod
    """
    with told():
        from coldstart.spec import stack_file

        found = planned(root, stack)
        file = stack_file(root, stack).relative_to(root).as_posix()
        if json_output:
            print_json({"stack": stack, "file": file, "ok": True})
        else:
            console().print(
                f"{file}: node pools: {len(found.pools)}, models: {len(found.models)}, ok"
            )
