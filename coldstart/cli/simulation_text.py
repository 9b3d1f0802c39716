"""A simulation as text for people: figures, then curves over time."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldstart.simulation import SimulationInput, SimulationResult
from coldstart.simulation.result import Percentiles
from coldstart.units import format_seconds

CURVE_COLUMNS = 60
_BARS = " ▁▂▃▄▅▆▇█"


def print_simulation(
    console: Console,
    stack: str,
    model: str,
    given: SimulationInput,
    result: SimulationResult,
) -> None:
    """Requests, latencies, scaling, cost, and the state over time."""
    requests = result.requests
    console.print(
        Text(
            f"{model} of {stack}: {requests.arrived:,} requests in "
            f"{_span(given.trace.seconds)}, over after {_span(result.seconds)}",
            style="bold",
        )
    )
    console.print(
        f"served {requests.served:,}, rejected {requests.rejected:,}, cut {requests.cut:,}, "
        f"unfinished {requests.unfinished:,}; {requests.held:,} were held for a first replica, "
        f"at most {result.most_waiting:,} waited at once",
    )
    _print_latencies(console, result)
    _print_objective(console, given, result)
    kinds = [f"{count} {kind}" for kind, count in result.cold_starts.items() if count]
    console.print(
        f"Scaling: {result.scale_ups} up, {result.scale_downs} down; at most "
        f"{result.most_ready_replicas} replicas on {result.most_nodes} nodes; "
        f"starts by node: {', '.join(kinds) or 'none'}",
    )
    _print_cost(console, given, result)
    _print_curves(console, result)


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


def _print_objective(console: Console, given: SimulationInput, result: SimulationResult) -> None:
    if given.slo is None or result.slo_share is None:
        return
    console.print(
        f"Objective: {result.slo_share:.2%} of all requests had their first token within "
        f"{_short(given.slo.ttft_seconds)} and further ones within "
        f"{_short(given.slo.tpot_seconds)} each",
    )


def _print_cost(console: Console, given: SimulationInput, result: SimulationResult) -> None:
    text = (
        f"Paid: {result.node_hours:.2f} node hours, {result.gpu_hours:.2f} GPU hours, of which "
        f"{result.ready_gpu_hours:.2f} ready to serve"
    )
    if result.cost_usd is None:
        text += "; no price is known"
    else:
        text += f"; {result.cost_usd:.2f} USD at {given.nodes.usd_per_node_hour:.2f} an hour"
        if result.usd_per_million_output_tokens is not None:
            text += f", {result.usd_per_million_output_tokens:.2f} per million output tokens"
    console.print(text)


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
