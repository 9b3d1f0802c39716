"""Commands. Exit codes: 0 fine, 1 the engine or a mandatory policy said no, 2 bad input."""

from __future__ import annotations

import signal

import typer

from coldstart.cli import catalog, compare, explain, init, lint, plan, preview, report, simulate
from coldstart.cli.breakeven import breakeven
from coldstart.cli.cluster import cluster_app
from coldstart.cli.shared import ROOT

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


def _end(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def main() -> None:
    """Entry point of `python -m coldstart`; a polite kill ends the engine as Ctrl-C does.

    A signal that the caller has told us to ignore, as nohup does, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    app(prog_name="coldstart")
