"""`coldstart report`: a plan as a page, and its pictures as files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from coldstart.cli.simulate import StartsAtOption, TraceOption

if TYPE_CHECKING:
    from coldstart.planning import StackPlan
    from coldstart.simulation import SimulationResult, Trace

DEFAULT_PAGE = Path("report.html")
MADE_UP_SECONDS = 4 * 3600
MADE_UP_REQUESTS = 100_000
"""A made-up trace ends early rather than hold more: that many take some ten seconds."""
SEED = 1


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
    simulate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Also simulate this model: with --trace, or a made-up rise of its traffic to its "
            "peak; can be given again.",
        ),
    ] = None,
    trace: TraceOption = None,
    starts_at: StartsAtOption = None,
    root: RootOption = ROOT,
) -> None:
    """Write the plan as one HTML file that opens anywhere, or its pictures as SVG and PNG.

    The file loads nothing and runs nothing: it works offline, on a phone and on paper. Models with
    traffic in the stack file also show their capacity, warm capacity and break-even.

    Example: coldstart report eks-prod --output eks-prod.html

    Example: coldstart report eks-prod --simulate qwen3-8b --trace examples/traces/morning-rush.csv
    """
    from coldstart.catalog import load
    from coldstart.report import summary
    from coldstart.report.analysis import pictures
    from coldstart.report.write import check_places, only_models, write_report

    with told():
        if output is None and svg is None and png is None:
            output = DEFAULT_PAGE
        check_places(output, svg, png)
        if starts_at is not None and not simulate and trace is None:
            refuse("--starts-at is of a simulation; give --simulate or --trace too")
        plan = planned(root, stack)
        found = summary(plan)
        found = only_models(found, model or ())
        names = tuple(found["models"])
        results, traces = _simulated(plan, simulate or (), names, trace, starts_at)
        more = pictures(plan, load(), models=names, simulations=results, traces=traces)
        written = write_report(found, more, output=output, svg=svg, png=png)
        sys.stdout.write("".join(f"wrote {path}\n" for path in written))


def _simulated(
    plan: StackPlan,
    asked: Sequence[str],
    shown: Sequence[str],
    file: str | None,
    starts_at: str | None,
) -> tuple[dict[str, SimulationResult], dict[str, str]]:
    """Each model's simulation, and its trace in words."""
    if not asked and file is None:
        return {}, {}
    from coldstart.cli.simulate import model_name, moment, progress_bar, read, speed_of
    from coldstart.simulation import from_plan
    from coldstart.simulation import simulate as play

    names = [model_name(plan, name, "--simulate") for name in asked or (None,)]
    if hidden := [name for name in names if name not in shown]:
        refuse(f"--simulate: {hidden[0]} is not shown; name it by --model too, or leave both out")
    if file is not None and len(names) > 1:
        refuse("--trace: a trace is of one model; name one by --simulate")
    results, words = {}, {}
    for name in names:
        found = read(file) if file is not None else _made_up(plan, name)
        speed = speed_of(plan, name, found)
        given = from_plan(plan, name, found, speed, starts_at=moment(starts_at, found), seed=SEED)
        with progress_bar() as progress:
            results[name] = play(given, progress)
        words[name] = (
            f"The trace {_file_name(file)} was replayed."
            if file is not None
            else _made_up_words(plan, name, found)
        )
    return results, words


def _file_name(file: str) -> str:
    return "from standard input" if file == "-" else Path(file).name


def _made_up(plan: StackPlan, name: str) -> Trace:
    """The model's traffic as one rise from its mean to its peak, or steady without a peak."""
    from coldstart.cli.simulate import lengths_of
    from coldstart.simulation.synthetic import day_curve, poisson

    traffic = plan.spec.models[name].traffic
    if traffic is None:
        refuse(
            f"--simulate: no trace of {name}: give --trace FILE, or models.{name}.traffic in the "
            "stack file"
        )
    rate, peak = traffic.requests_per_second, traffic.peak_requests_per_second
    seconds = min(MADE_UP_SECONDS, MADE_UP_REQUESTS / (peak or rate))
    prompt, output = lengths_of(plan, name)
    if peak is None:
        return poisson(rate, seconds, prompt, output, SEED)
    middle = seconds / 2 / 3600
    return day_curve(
        rate,
        peak,
        seconds,
        prompt,
        output,
        peak_hours=(middle,),
        peak_width_hours=middle,
        seed=SEED,
    )


def _made_up_words(plan: StackPlan, name: str, trace: Trace) -> str:
    traffic = plan.spec.models[name].traffic
    peak = traffic and traffic.peak_requests_per_second
    shape = f"rise to its peak of {peak:g} requests a second" if peak else "steady rate"
    return (
        f"The trace is made up: {len(trace):,} requests over {trace.seconds / 3600:.1f} hours by "
        f"models.{name}.traffic, a {shape}."
    )
