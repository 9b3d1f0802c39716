"""Sample data for every picture of a report."""

from __future__ import annotations

import math

from coldstart.report.series import (
    BreakEven,
    CapacityPlan,
    CapacityRow,
    Crossing,
    Curve,
    LeverRow,
    Levers,
    Pictures,
    SimulationRun,
    TimePoint,
    WarmCurve,
    WarmPoint,
)

LEVERS = Levers(
    "qwen3-8b",
    434.9,
    161.9,
    119.5,
    (
        LeverRow("os: bottlerocket", True, 107.5, 73.0, 0.0),
        LeverRow("image: parallel", True, 88.1, 66.5, 0.03, 2216.7),
        LeverRow("compileCache: golden", True, 34.1, 37.1, 0.0, None, "one Job per key"),
        LeverRow("warmNodes: 1", False, None, 42.5, 1.861, 22.8, "next"),
    ),
)
CAPACITY = CapacityPlan(
    "qwen3-8b",
    tuple(
        CapacityRow(rate, math.ceil(rate / 2.4) or 1, min(0.95, rate / 2.4 / 6), 0.4 + rate / 40)
        for rate in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0)
    ),
    expected_per_second=6.0,
    most_replicas=6,
)
WARM = WarmCurve(
    "qwen3-8b",
    tuple(
        WarmPoint(n, 1.861 * n, 620 * 0.3**n, 1.861 * n + 620 * 0.3**n * 0.012) for n in range(7)
    ),
    chosen_replicas=2,
)
BREAK_EVEN = BreakEven(
    "gpt-oss-120b",
    "requests an hour",
    Curve("1 x MI300X", ((0, 1.99), (60000, 1.99))),
    (
        Curve("serverless, 150 tokens out", ((0, 0), (60000, 6.9))),
        Curve("serverless, 1,000 tokens out", ((0, 0), (5000, 3.55))),
        Curve("serverless, 300 tokens out", ((0, 0), (30000, 6.6))),
    ),
    (
        Crossing("150 tokens out", 17304, 1.99),
        Crossing("1,000 tokens out", 2803, 1.99),
        Crossing("300 tokens out", 9045, 1.99),
    ),
)
BY_SECOND = BreakEven(
    "qwen3-8b",
    "requests an hour",
    Curve("Replicas on g6e.xlarge", ((0, 1.86), (1330, 1.86))),
    tuple(
        Curve(name, tuple((x, usd * (1 - math.exp(-x / 50))) for x in range(0, 1331, 30)))
        for name, usd in (("runpod", 1.91), ("modal", 1.95))
    ),
    (Crossing("runpod", 182, 1.86), Crossing("modal", 154, 1.86)),
    billed="by the second",
    sources=(("modal, seconds of nvidia-l40s-48gb", "https://modal.com/pricing, 2026-07-01"),),
)


def _ready(seconds: float) -> int:
    return 1 if seconds < 700 else min(4, 1 + int((seconds - 700) // 200))


SIMULATION = SimulationRun(
    "qwen3-8b",
    tuple(
        TimePoint(
            float(s),
            2 + 6 * max(0.0, math.sin((s - 500) / 700)),
            min(5, 1 + int(s > 520) + int(s > 600) + int(s > 800) + int(s > 900)),
            _ready(s),
            max(0.0, 60 * math.sin((s - 500) / 500)) if s < 2000 else 0,
            None if s == 0 else 0.3 + max(0.0, 14 * math.sin((s - 500) / 500)) * (s < 2000),
        )
        for s in range(0, 3600, 20)
    ),
    ttft_target_seconds=2.0,
    totals=(("requests", "14,210"), ("GPU-hours", "3.1"), ("cost", "$5.77")),
)
EVERYTHING = Pictures((LEVERS,), (CAPACITY,), (WARM,), (BREAK_EVEN, BY_SECOND), (SIMULATION,))
