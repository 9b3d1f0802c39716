"""Each picture with the words and the table that say the same."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.report.charts import break_even_spec, capacity_spec, simulation_spec, warm_spec
from coldstart.report.frame import NARROW, WIDE, Spec, amount
from coldstart.report.gantt import gantt_spec
from coldstart.report.series import (
    BreakEven,
    CapacityPlan,
    ColdStartGantt,
    SimulationRun,
    StartLine,
    WarmCurve,
    thinned,
)
from coldstart.units import format_seconds

UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts. Cells of the columns in `numeric` are figures; the first heads its row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn, for a desk and for a phone, and the same in words and in figures."""

    key: str
    title: str
    description: str
    wide: Spec
    narrow: Spec
    table: Table


def gantt_picture(gantt: ColdStartGantt) -> Picture:
    """The cold start against its baseline."""
    plan, baseline = gantt.plan, gantt.baseline
    path = ", ".join(row.phase for row in plan.rows if row.critical)
    words = f"{_total(plan)}. {_total(baseline)}. Critical path: {path}."
    if gantt.budget_seconds:
        words += f" Budget: {format_seconds(gantt.budget_seconds)}."
    rows = tuple(
        (
            row.phase,
            line.name,
            f"{row.start_seconds:.1f}",
            f"{row.seconds:.1f}",
            "yes" if row.critical else "no",
        )
        for line in (plan, baseline)
        for row in line.rows
    )
    table = Table(
        f"Phases of a cold start of {gantt.model}",
        ("Phase", "Start of", "From,\u00a0s", "Takes,\u00a0s", "On the critical path"),
        rows,
        frozenset({2, 3}),
    )
    return Picture(
        gantt.key,
        f"Cold start of {gantt.model}, phase by phase",
        words,
        gantt_spec(gantt, WIDE),
        gantt_spec(gantt, NARROW),
        table,
    )


def _total(line: StartLine) -> str:
    text = f"{line.name}: {format_seconds(line.total_seconds)}"
    if line.p50_seconds is None or line.p95_seconds is None:
        return text
    half, most = format_seconds(line.p50_seconds), format_seconds(line.p95_seconds)
    return f"{text}, half of all starts within {half}, 95 % within {most}"


def warm_picture(curve: WarmCurve) -> Picture:
    """Cost against warm capacity."""
    words = (
        "What warm replicas cost an hour, and for how many seconds of an hour the objective is "
        "still violated."
    )
    for point in curve.points:
        if point.warm_replicas == curve.chosen_replicas:
            words += (
                f" The plan keeps {point.warm_replicas}: ${point.idle_usd_per_hour:.2f} an hour, "
                f"{amount(point.violated_seconds_per_hour)} s violated."
            )
    words += f" {curve.remark}" if curve.remark else ""
    rows = tuple(
        (
            str(p.warm_replicas),
            f"{p.idle_usd_per_hour:.2f}",
            UNKNOWN if p.total_usd_per_hour is None else f"{p.total_usd_per_hour:.2f}",
            amount(p.violated_seconds_per_hour),
            "yes" if p.warm_replicas == curve.chosen_replicas else "",
        )
        for p in curve.points
    )
    columns = (
        "Warm replicas",
        "Kept warm, USD an hour",
        "Violations priced, USD an hour",
        "Violated,\u00a0s an hour",
        "Chosen",
    )
    return Picture(
        curve.key,
        f"Cost against warm capacity of {curve.model}",
        words,
        warm_spec(curve, WIDE),
        warm_spec(curve, NARROW),
        Table(f"Warm capacity of {curve.model}", columns, rows, frozenset({0, 1, 2, 3})),
    )


def break_even_picture(even: BreakEven) -> Picture:
    """Dedicated against serverless."""
    words = f"{even.dedicated.name}: paid by the hour; serverless: {even.billed}."
    if even.crossings:
        equal = "; ".join(
            f"{c.name}: {amount(c.x)} {even.load} (${c.usd_per_hour:.2f} an hour)"
            for c in even.crossings
        )
        words += f" Both cost the same at {equal}."
    if not even.crossings:
        words += " The lines do not meet within the loads shown."
    words += f" {even.remark}" if even.remark else ""
    rows = tuple(
        (curve.name, amount(x), f"{y:.2f}", "")
        for curve in (even.dedicated, *even.serverless)
        for x, y in curve.points
    ) + tuple((c.name, amount(c.x), f"{c.usd_per_hour:.2f}", "yes") for c in even.crossings)
    load = even.load[:1].upper() + even.load[1:]
    return Picture(
        even.key,
        f"Break-even of {even.model} against serverless {even.billed}",
        words,
        break_even_spec(even, WIDE),
        break_even_spec(even, NARROW),
        Table(
            f"Cost of serving {even.model}, serverless {even.billed}",
            ("Way of serving", load, "USD an hour", "Break-even"),
            rows,
            frozenset({1, 2}),
        ),
    )


def capacity_picture(plan: CapacityPlan) -> Picture:
    """Replicas against arrival rate."""
    last = plan.rows[-1]
    words = (
        f"Up to {amount(last.arrivals_per_second)} requests a second, "
        f"which need {last.replicas} replicas."
    )
    if plan.expected_per_second is not None:
        words += f" The stack file expects {amount(plan.expected_per_second)} a second"
        peak = plan.peak_per_second
        words += "." if peak is None else f", at peak {amount(peak)}."
    if plan.most_replicas is not None:
        words += f" It allows {plan.most_replicas} replicas."
    words += f" {plan.remark}" if plan.remark else ""
    rows = tuple(
        (
            amount(row.arrivals_per_second),
            str(row.replicas),
            UNKNOWN if row.utilisation is None else f"{row.utilisation:.0%}",
            UNKNOWN if row.ttft_seconds is None else f"{row.ttft_seconds:.2f}",
        )
        for row in plan.rows
    )
    return Picture(
        plan.key,
        f"Replicas that {plan.model} needs",
        words,
        capacity_spec(plan, WIDE),
        capacity_spec(plan, NARROW),
        Table(
            f"Capacity plan of {plan.model}",
            (
                "Requests a second",
                "Replicas",
                "Utilisation",
                f"TTFT p{plan.percentile:g},\u00a0s",
            ),
            rows,
            frozenset({0, 1, 2, 3}),
        ),
    )


def simulation_picture(run: SimulationRun) -> Picture:
    """A replayed trace over time."""
    points = thinned(run.points)
    answered = [p.ttft_p95_seconds for p in points if p.ttft_p95_seconds is not None]
    words = (
        f"Most replicas ready: {amount(max(p.replicas_ready for p in points))}. "
        f"Longest queue: {max(p.queued for p in points):,.0f} requests."
    )
    if answered:
        words += f" Worst 95th percentile of time to first token: {amount(max(answered))} s"
        target = run.ttft_target_seconds
        words += "." if target is None else f", against a target of {amount(target)} s."
    if len(points) < len(run.points):
        words += (
            f" Each point sums up {-(-len(run.points) // len(points))} intervals: mean arrivals, "
            "fewest replicas ready, and the greatest of the rest."
        )
    words = f"{run.remark} {words}" if run.remark else words
    rows = tuple(
        (
            f"{p.seconds / 60:.1f}",
            f"{p.arrivals_per_second:.2f}",
            amount(p.replicas_wanted),
            amount(p.replicas_ready),
            amount(p.queued),
            UNKNOWN if p.ttft_p95_seconds is None else f"{p.ttft_p95_seconds:.2f}",
        )
        for p in points
    )
    columns = (
        "Minute",
        "Requests a second",
        "Replicas wanted",
        "Replicas ready",
        "Requests waiting",
        "TTFT p95,\u00a0s",
    )
    return Picture(
        run.key,
        f"Simulation of {run.model} over time",
        words,
        simulation_spec(run, WIDE),
        simulation_spec(run, NARROW),
        Table(f"Simulation of {run.model}", columns, rows, frozenset(range(6))),
    )
