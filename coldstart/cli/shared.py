"""What every command shares: options, the console, and how an error ends a command.

Commands import what they work with when they run, so that help and shell completion need not wait
for it.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from coldstart.cli import completion
from coldstart.cli.completion import ROOT as ROOT
from coldstart.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from coldstart.planning import StackPlan

DEFAULT_STACK = "eks-prod"
PIPED_COLUMNS = 160
"""Width of a table when no terminal says otherwise, so that a log keeps its lines whole."""


class Format(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


class Target(StrEnum):
    """What stands behind the providers."""

    STAND_INS = "stand-ins"
    LOCAL = "local-control-plane"


StackArgument = Annotated[
    str,
    typer.Argument(help="A file stacks/Pulumi.<STACK>.yaml.", autocompletion=completion.stacks),
]
RootOption = Annotated[Path, typer.Option("--root", hidden=True, help="Another checkout.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data for machines.")]
FormatOption = Annotated[
    Format, typer.Option("--format", help="For people, machines, or a pull request.")
]
TargetOption = Annotated[
    Target, typer.Option(help="What stands behind Kubernetes; the cloud is a stand-in in any case.")
]


def planned(root: Path, stack: str) -> StackPlan:
    """The plan of a stack file. Raises SpecError or PlanFailedError."""
    from coldstart.planning import plan_stack
    from coldstart.spec import load_stack

    return plan_stack(load_stack(root, stack))


def chosen_format(output_format: Format, json_output: bool) -> Format:
    """What `--format` and its shorthand `--json` ask for together; refuses two answers at once."""
    if json_output and output_format is Format.MARKDOWN:
        refuse(f"--json and --format {output_format} ask for two answers; give one of them")
    return Format.JSON if json_output else output_format


def console() -> Console:
    """Colours and the terminal's width on a terminal; neither in a pipe or under NO_COLOR.

    Texts are shown as they are: a name in brackets is no markup, `:key:` no picture.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_COLUMNS
    return Console(width=width, markup=False, emoji=False, highlight=False)


def print_json(data: Any) -> None:
    """Data for machines, alone on standard output."""
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")


def progress(message: str) -> None:
    """A line beside the answer, on standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def refuse(message: str) -> NoReturn:
    """End the command as bad input does."""
    progress(message)
    raise typer.Exit(2)


@contextmanager
def told(left: str = "nothing was left running") -> Iterator[None]:
    """Turn what a user can mend into its message and an exit code; `left` is said of Ctrl-C."""
    try:
        yield
    except UserError as error:
        progress(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt as end:
        progress(f"interrupted; {left}")
        number = end.args[0] if end.args else signal.SIGINT
        raise typer.Exit(128 + number) from None
