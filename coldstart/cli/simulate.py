"""`coldstart simulate`: a trace against the autoscalers, nodes and engines of a stack."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldstart.cli.shared import (
    DEFAULT_STACK,
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
    from coldstart.capacity.lengths import Lengths
    from coldstart.capacity.speed import EngineSpeed
    from coldstart.planning import StackPlan
    from coldstart.simulation import SimulationInput, SimulationResult, Trace

STANDARD_INPUT = "-"
DEFAULT_DURATION = "1h"


class Shape(StrEnum):
    """How the rate of a made-up trace changes."""

    STEADY = "steady"
    DAY = "day"
    BURST = "burst"


class RoutingChoice(StrEnum):
    """How requests find a replica."""

    RANDOM = "random"
    LEAST_LOADED = "least-loaded"
    SHARED_QUEUE = "shared-queue"


TraceOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="CSV: arrival_seconds,prompt_tokens,output_tokens; - for standard input.",
    ),
]
StartsAtOption = Annotated[
    str | None, typer.Option(help="ISO time of the trace's second 0, for schedules.")
]
RateOption = Annotated[
    float | None, typer.Option(help="Make up a trace of this rate, outside of peaks.")
]
PeakOption = Annotated[float | None, typer.Option(help="The rate of peaks, for day and burst.")]
DurationOption = Annotated[str, typer.Option(help="Of the made-up trace: 30m, 4h, 7d.")]
TokensOption = Annotated[
    int | None, typer.Option(min=1, help="Mean, in place of the model's traffic.")
]
PrefillOption = Annotated[float | None, typer.Option(help="Rate at which a replica reads prompts.")]
StepOption = Annotated[float | None, typer.Option(help="Milliseconds of a decoding step.")]
SequenceOption = Annotated[
    float | None, typer.Option(help="Milliseconds each running sequence adds to a step.")
]
RoutingOption = Annotated[
    RoutingChoice, typer.Option(help="random: a Service; the others: a router in front.")
]


def simulate(
    stack: StackArgument = DEFAULT_STACK,
    model: Annotated[
        str | None, typer.Option(help="A model of the stack; may be left out if there is one.")
    ] = None,
    trace: TraceOption = None,
    requests_per_second: RateOption = None,
    peak_requests_per_second: PeakOption = None,
    shape: Annotated[Shape, typer.Option(help="Of the made-up trace.")] = Shape.STEADY,
    duration: DurationOption = DEFAULT_DURATION,
    prompt_tokens: TokensOption = None,
    output_tokens: TokensOption = None,
    prefill_tokens_per_second: PrefillOption = None,
    step_ms: StepOption = None,
    step_ms_per_sequence: SequenceOption = None,
    routing: RoutingOption = RoutingChoice.RANDOM,
    starts_at: StartsAtOption = None,
    seed: Annotated[int, typer.Option(help="Another seed, other random numbers.")] = 1,
    json_output: JsonOption = False,
    root: RootOption = ROOT,
) -> None:
    """Replay a trace through KEDA's and the HPA's rules, node starts and engines; no cluster.

    Exit codes: 0 simulated, 2 bad input.

    Example: coldstart simulate eks-prod --model qwen3-8b --trace examples/traces/morning-rush.csv
    """
    with told():
        from coldstart.simulation import Routing, from_plan
        from coldstart.simulation import simulate as play

        plan = planned(root, stack)
        name = model_name(plan, model)
        rates = requests_per_second, peak_requests_per_second
        tokens = prompt_tokens, output_tokens
        if trace is not None:
            refuse_two_traces(shape, rates, tokens, duration)
            found = read(trace)
        else:
            found = made_up(plan, name, shape, rates, tokens, duration, seed)
        figures = prefill_tokens_per_second, step_ms, step_ms_per_sequence
        given = from_plan(
            plan,
            name,
            found,
            speed_of(plan, name, found, figures),
            routing=Routing(routing.value),
            starts_at=moment(starts_at, found),
            seed=seed,
        )
        with progress_bar() as progress:
            result = play(given, progress)
        _print(stack, name, given, result, as_data=json_output)


def _print(
    stack: str, name: str, given: SimulationInput, result: SimulationResult, *, as_data: bool
) -> None:
    if as_data:
        print_json({"stack": stack, "model": name, **result.data()})
        return
    from coldstart.cli.simulation_text import print_simulation

    print_simulation(console(), stack, name, given, result)


def model_name(plan: StackPlan, model: str | None, option: str = "--model") -> str:
    """The model asked for, or the only one; refuses where that leaves it open."""
    names = tuple(plan.models)
    chosen = names[0] if model is None and len(names) == 1 else model
    if chosen is None or chosen not in names:
        what = "which of them?" if model is None else f"{model!r} is none of them."
        refuse(f"{option}: {what} Models of {plan.spec.stack}: {', '.join(names) or 'none'}")
    return chosen


def read(file: str) -> Trace:
    """The trace of a file or of standard input."""
    from coldstart.simulation import read_trace

    if file == STANDARD_INPUT:
        return read_trace(sys.stdin.buffer)
    return read_trace(Path(file), file)


def refuse_two_traces(
    shape: Shape,
    rates: tuple[float | None, float | None],
    tokens: tuple[int | None, int | None],
    duration: str,
) -> None:
    """Refuse options of a made-up trace beside a given one, which would leave them out."""
    made = {
        "--requests-per-second": rates[0],
        "--peak-requests-per-second": rates[1],
        "--shape": None if shape is Shape.STEADY else shape,
        "--duration": None if duration == DEFAULT_DURATION else duration,
        "--prompt-tokens": tokens[0],
        "--output-tokens": tokens[1],
    }
    for option, value in made.items():
        if value is not None:
            refuse(f"--trace and {option} are two traces; give one of them")


def made_up(
    plan: StackPlan,
    name: str,
    shape: Shape,
    rates: tuple[float | None, float | None],
    tokens: tuple[int | None, int | None],
    duration: str,
    seed: int,
) -> Trace:
    """A trace from the options, and from the model's traffic where they are silent."""
    from coldstart.simulation.synthetic import burst, day_curve, poisson
    from coldstart.units import parse_duration_seconds

    traffic = plan.spec.models[name].traffic
    rate, peak = rates
    if shape is Shape.STEADY and peak is not None:
        refuse("--peak-requests-per-second is for --shape day and --shape burst")
    if traffic is not None and rate is None:
        rate = traffic.requests_per_second
        peak = peak if peak is not None else traffic.peak_requests_per_second
    if rate is None:
        refuse(
            "no trace: give --trace FILE, or --requests-per-second with --prompt-tokens and "
            f"--output-tokens, or models.{name}.traffic in the stack file"
        )
    try:
        seconds = parse_duration_seconds(duration)
    except ValueError as error:
        refuse(f"--duration: {duration!r} {error}")
    prompt, output = lengths_of(plan, name, tokens)
    if shape is Shape.STEADY:
        return poisson(rate, seconds, prompt, output, seed)
    if peak is None or peak < rate:
        refuse(
            f"--peak-requests-per-second: --shape {shape} needs one of at least {rate:g}, "
            "the rate outside of peaks"
        )
    if shape is Shape.DAY:
        return day_curve(rate, peak, seconds, prompt, output, seed=seed)
    return burst(rate, peak, seconds, prompt, output, seed=seed)


def lengths_of(
    plan: StackPlan, name: str, tokens: tuple[int | None, int | None] = (None, None)
) -> tuple[Lengths, Lengths]:
    """Of prompts and answers: by the options, else by the model's traffic; refuses neither."""
    from coldstart.capacity.lengths import Lengths

    traffic = plan.spec.models[name].traffic
    specs = (traffic.prompt_tokens, traffic.output_tokens) if traffic else (None, None)
    found = []
    for option, mean, spec in zip(
        ("--prompt-tokens", "--output-tokens"), tokens, specs, strict=True
    ):
        if mean is not None:
            found.append(Lengths(mean, 3 * mean))
        elif spec is not None:
            found.append(Lengths(spec.mean, spec.p95))
        else:
            refuse(f"{option}: not given, and models.{name}.traffic does not say it")
    return found[0], found[1]


def speed_of(
    plan: StackPlan,
    name: str,
    trace: Trace,
    figures: tuple[float | None, float | None, float | None] = (None, None, None),
) -> EngineSpeed:
    """As the options say, or as the plan estimates it for the lengths of this trace."""
    from coldstart.capacity.speed import EngineSpeed

    prefill, step_ms, step_ms_per_sequence = figures
    if prefill is None and step_ms is None and step_ms_per_sequence is None:
        from coldstart.planning.load import replica_speed

        return replica_speed(plan, name, *trace.mean_tokens)
    if prefill is None or step_ms is None or step_ms_per_sequence is None:
        refuse(
            "the speed of a replica: --prefill-tokens-per-second, --step-ms and "
            "--step-ms-per-sequence go together; without them the plan estimates it"
        )
    if not all(map(math.isfinite, (prefill, step_ms, step_ms_per_sequence))):
        refuse("the speed of a replica: its figures must be finite")
    try:
        return EngineSpeed(prefill, step_ms / 1000, step_ms_per_sequence / 1000)
    except ValueError as error:
        refuse(f"the speed of a replica: {error}")


def moment(text: str | None, trace: Trace) -> datetime | None:
    """An ISO time, in UTC where it names no zone; refuses what is none, or a trace that has one."""
    from coldstart.simulation.trace import YEARS

    if text is None:
        return None
    if trace.starts_at is not None:
        refuse(
            f"--starts-at: the trace itself starts at {trace.starts_at.isoformat()}; leave it out"
        )
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"--starts-at: {text!r} is not a time; write for example 2026-03-02T08:00:00Z")
    if found.year not in YEARS:
        refuse(f"--starts-at: {text!r} is not of the years {YEARS[0]} to {YEARS[-1]}")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@contextmanager
def progress_bar() -> Iterator[Callable[[float], None]]:
    """A bar on standard error while it is a terminal; nothing otherwise."""
    from rich.console import Console
    from rich.progress import Progress

    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=1.0)
        yield lambda share: bar.update(task, completed=share)
