"""A simulation as text for people: the verdict, figures, then curves over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from operator import itemgetter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldstart.simulation import SimulationInput, SimulationResult
from coldstart.simulation.result import Percentiles
from coldstart.units import format_seconds

CURVE_COLUMNS = 60
_BARS = " ▁▂▃▄▅▆▇█"
MOST_STEPS = 8
_REASONS = {
    "tooLong": "longer than the engine takes",
    "noReplica": "while no replica was ready and no proxy keeps requests",
    "heldTooLong": "held as long as the proxy does, in vain",
    "queueFull": "at a full queue",
}


def print_simulation(
    console: Console,
    stack: str,
    model: str,
    given: SimulationInput,
    result: SimulationResult,
) -> None:
    """Whether the objective was kept, who was not served and why, then the figures behind it."""
    console.print(
        Text(
            f"{model} of {stack}: {_count(result.requests.arrived, 'request')} in "
            f"{_span(given.trace.seconds)}, over after {_span(result.seconds)}",
            style="bold",
        )
    )
    console.print(_objective(model, given, result))
    console.print(_outcome(result))
    _print_latencies(console, result)
    for line in (
        *_slowest(given, result),
        *_scaling(given, result),
        *_limits(given, result),
        _cost(given, result),
    ):
        console.print(line)
    _print_curves(console, result)


def _objective(model: str, given: SimulationInput, result: SimulationResult) -> str:
    if given.slo is None or result.slo_share is None:
        return f"Objective: none; models.{model}.slo in the stack file says what is to be kept"
    verdict = "kept" if result.slo_share * 100 >= given.slo.percentile else "missed"
    return (
        f"Objective {verdict}: {result.slo_share:.2%} of all requests, {given.slo.percentile:g}% "
        f"are to, had their first token within {_short(given.slo.ttft_seconds)} and further ones "
        f"within {_short(given.slo.tpot_seconds)} each"
    )


def _outcome(result: SimulationResult) -> str:
    requests = result.requests
    parts = [f"Served: {requests.served:,}, {requests.served / requests.arrived:.2%} of all"]
    parts += [
        f"{count:,} rejected {_REASONS[reason]}"
        for reason, count in result.rejections.items()
        if count
    ]
    if requests.cut:
        parts.append(f"{requests.cut:,} cut off when their replica left")
    if requests.unfinished:
        parts.append(f"{requests.unfinished:,} not finished at the end")
    waited = [f"at most {result.most_waiting:,} waited at once"]
    if requests.held:
        waited.append(f"{requests.held:,} were held until a replica was ready")
    return ", ".join(parts) + "; " + ", ".join(waited)


def _slowest(given: SimulationInput, result: SimulationResult) -> list[str]:
    """The step of the curves whose first tokens came latest."""
    steps = [
        (after.ttft_p95_seconds, before, after)
        for before, after in pairwise(result.series)
        if after.ttft_p95_seconds is not None
    ]
    if not steps:
        return []
    ttft, before, after = max(steps, key=itemgetter(0))
    return [
        f"Slowest: who came from {_when(given, before.seconds)} to {_when(given, after.seconds)} "
        f"had a p95 to the first token of {_short(ttft)}; "
        f"{_count(before.ready_replicas, 'replica')} ready as it began, at most "
        f"{after.waiting:,} waiting"
    ]


def _scaling(given: SimulationInput, result: SimulationResult) -> list[str]:
    starts = ", ".join(
        f"{_count(result.cold_starts[kind], 'start')} on {where}"
        for kind, where in (
            ("first", "the first node of an empty pool"),
            ("fresh", "a fresh node"),
            ("warm", "a node with the image"),
        )
        if result.cold_starts[kind]
    )
    line = (
        f"Scaling: {result.scale_ups} up, {result.scale_downs} down; at most "
        f"{_count(result.most_ready_replicas, 'replica')} ready on "
        f"{_count(result.most_nodes, 'node')}; {starts or 'no start'}"
    )
    if not result.events:
        return [line]
    steps = ", ".join(
        f"{event.before} → {event.after} at {_when(given, event.seconds)} ({event.by})"
        for event in result.events[:MOST_STEPS]
    )
    more = result.scale_ups + result.scale_downs - len(result.events[:MOST_STEPS])
    return [
        line,
        f"Steps: {steps}" + (f", and {more:,} more (--json has up to 1,000)" if more else ""),
    ]


def _limits(given: SimulationInput, result: SimulationResult) -> list[str]:
    """What stood in the way of more replicas."""
    found = []
    scaling = given.scaling
    if scaling and scaling.max_replicas > scaling.min_replicas and result.seconds_at_max:
        found.append(
            f"Limit: scaling.max of {scaling.max_replicas} was asked for during "
            f"{result.seconds_at_max / result.seconds:.0%} of the time"
        )
    if result.unplaced_seconds:
        found.append(
            f"Limit: replicas waited {_span(result.unplaced_seconds)} for a node, all together; "
            f"the pool has at most {_count(given.nodes.max_nodes, 'node')}"
        )
    return found


def _when(given: SimulationInput, seconds: float) -> str:
    """By the clock where the trace says it, else from its start."""
    starts_at = given.trace.starts_at
    if starts_at is None:
        return _span(seconds)
    return (starts_at + timedelta(seconds=seconds)).isoformat(" ", "seconds")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _print_latencies(console: Console, result: SimulationResult) -> None:
    table = Table("", "mean", "p50", "p90", "p95", "p99", "most", box=None, padding=(0, 2, 0, 0))
    for name, found in (
        ("time to first token", result.ttft_seconds),
        ("time per output token", result.tpot_seconds),
    ):
        table.add_row(name, *_row(found))
    console.print(table)


def _row(found: Percentiles | None) -> Sequence[str]:
    if found is None:
        return ("-",) * 6
    values = (found.mean, found.p50, found.p90, found.p95, found.p99, found.most)
    return tuple(_short(value) for value in values)


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else format_seconds(seconds)


def _cost(given: SimulationInput, result: SimulationResult) -> str:
    text = (
        f"Paid: {result.node_hours:.2f} node hours, {result.gpu_hours:.2f} GPU hours, of which "
        f"{result.ready_gpu_hours:.2f} ready to serve"
    )
    if result.cost_usd is None:
        return text + "; no price is known"
    text += f"; {result.cost_usd:.2f} USD at {given.nodes.usd_per_node_hour:.2f} an hour"
    if result.usd_per_million_output_tokens is not None:
        text += f", {result.usd_per_million_output_tokens:.2f} per million output tokens"
    return text


def _print_curves(console: Console, result: SimulationResult) -> None:
    table = Table("", "least", "most", f"0 to {_span(result.seconds)}", box=None, padding=(0, 1))
    for name, values in (
        ("requests/s", [point.arrivals_per_second for point in result.series]),
        ("waiting", [float(point.waiting) for point in result.series]),
        ("running", [float(point.running) for point in result.series]),
        ("replicas wanted", [float(point.wanted_replicas) for point in result.series]),
        ("replicas ready", [float(point.ready_replicas) for point in result.series]),
        ("nodes", [float(point.nodes) for point in result.series]),
    ):
        table.add_row(name, f"{min(values):g}", f"{max(values):.3g}", curve(values))
    console.print(table)


def curve(values: Sequence[float], columns: int = CURVE_COLUMNS) -> str:
    """A line of bars from zero to the highest value; each column shows the highest of its part."""
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * min(columns, len(values))
    bars = []
    for column in range(min(columns, len(values))):
        count = min(columns, len(values))
        part = values[column * len(values) // count : (column + 1) * len(values) // count]
        share = max(part) / most
        bars.append(_BARS[max(1, round(share * (len(_BARS) - 1))) if share > 0 else 0])
    return "".join(bars)


def _span(seconds: float) -> str:
    if seconds < 2 * 3600:
        return format_seconds(seconds)
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"
