"""`coldstart report`: a plan as a page, and its pictures as files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli.shared import (
    DEFAULT_STACK,
    ROOT,
    RootOption,
    StackArgument,
    planned,
    refuse,
    told,
)
from coldstart.report.files import ReportError

DEFAULT_PAGE = Path("report.html")


def report(
    stack: StackArgument = DEFAULT_STACK,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"The page to write: {DEFAULT_PAGE}, or none when --svg or --png is asked for."
        ),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every picture as SVG into a folder.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every picture as PNG into a folder.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Show this model only; can be given again.")
    ] = None,
    root: RootOption = ROOT,
) -> None:
    """Write the plan as one HTML file that opens anywhere, or its pictures as SVG and PNG.

    The file loads nothing and runs nothing: it works offline, on a phone and on paper.

    Example: coldstart report eks-prod --output eks-prod.html
    """
    from coldstart.report import summary
    from coldstart.report.write import only_models, write_report

    with told():
        found = summary(planned(root, stack))
        if output is None and svg is None and png is None:
            output = DEFAULT_PAGE
        try:
            found = only_models(found, model or ())
            written = write_report(found, output=output, svg=svg, png=png)
        except ReportError as error:
            refuse(str(error))
        sys.stdout.write("".join(f"wrote {path}\n" for path in written))
