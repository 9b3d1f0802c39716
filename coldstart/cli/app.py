"""Commands. Exit codes: 0 fine, 1 the engine or a mandatory policy said no, 2 bad input."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys

import typer

from coldstart.cli import catalog, compare, explain, init, lint, plan, preview, report, simulate
from coldstart.cli.breakeven import breakeven
from coldstart.cli.cluster import cluster_app
from coldstart.cli.shared import ROOT, progress

__all__ = ["ROOT", "app", "main"]

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Plan LLM serving stacks; rehearse them with the real Pulumi engine, with no account.",
)
app.command()(init.init)
app.command()(plan.plan)
app.command()(explain.explain)
app.command()(compare.compare)
app.command()(catalog.models)
app.command()(catalog.gpus)
app.command()(preview.preview)
app.command()(preview.up)
app.command()(preview.rehearse)
app.command()(plan.check)
app.command()(lint.lint)
app.command()(lint.rules)
app.command()(simulate.simulate)
app.command()(report.report)
app.command()(breakeven)
app.add_typer(cluster_app, name="cluster")


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What ends a command whose answer goes into a file on a disk that is full or broken."""


def _end(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def main() -> None:
    """Entry point of `python -m coldstart`; a polite kill ends the engine as Ctrl-C does.

    A signal that the caller has told us to ignore, as nohup does, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows few letters still gets an answer.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app(prog_name="coldstart")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        # What is still held back would fail once more while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        progress(f"the answer cannot be written: {error.strerror}")
        raise SystemExit(2) from None
