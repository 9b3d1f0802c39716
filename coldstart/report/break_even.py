"""Replicas by the hour against serverless inference, by the token and by the second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coldstart.capacity.breakeven import Case, GpuBySecond
from coldstart.capacity.sizing import replicas_of
from coldstart.catalog import Catalog, GpuSecondPrice, TokenPrice
from coldstart.planning import StackPlan
from coldstart.planning.alternatives import gpu_by_second, replica_usd_per_hour
from coldstart.planning.operation_plan import LoadPlan
from coldstart.report.series import BreakEven, Crossing, Curve
from coldstart.spec.traffic import TrafficSpec
from coldstart.units import format_seconds

MOST_OFFERS = 3
"""Serverless prices in one picture, the cheapest: it has four styles of line."""
STEPS = 40
"""Points of a line, beside those where it bends."""
HOURS = 3600
LOAD = "requests an hour"


def by_token_of(plan: StackPlan, name: str, load: LoadPlan, catalog: Catalog) -> BreakEven | None:
    """Replicas by the hour against tokens by the piece; None without both prices."""
    usd = replica_usd_per_hour(plan, name, catalog)
    traffic = plan.spec.models[name].traffic
    prices = catalog.token_prices_of(plan.models[name].repository)
    if usd is None or traffic is None or not prices:
        return None
    cases = sorted(
        ((price, _case(usd, price, traffic, load)) for price in prices),
        key=lambda pair: pair[1].request_usd,
    )[:MOST_OFFERS]
    capacity = load.replica.requests_per_second
    reached = [
        (price.provider, case.break_even_requests_per_second)
        for price, case in cases
        if case.break_even_requests_per_second <= capacity
    ]
    end = 1.25 * max(load.peak_requests_per_second, *(rate for _, rate in reached), 0.0)
    rates = _bends(end, capacity)
    remark = (
        f"{traffic.prompt_tokens.mean:,.0f} tokens in and {traffic.output_tokens.mean:,.0f} out. "
        f"{_replica_words(plan, name, load)}; the stack file expects "
        f"{load.requests_per_second * HOURS:,.0f}."
    )
    cheapest, case = cases[0]
    if case.break_even_requests_per_second > capacity:
        needed = case.break_even_requests_per_hour
        remark += f" Against {cheapest.provider} it would have to take {needed:,.0f}."
    return BreakEven(
        name,
        LOAD,
        _dedicated(plan, name, usd, capacity, rates),
        tuple(_by_token(price.provider, case, rates) for price, case in cases),
        tuple(Crossing(provider, rate * HOURS, usd) for provider, rate in reached),
        remark + _left_out(prices),
        sources=tuple(
            (f"{p.provider}, tokens of {name}", f"{p.source}, {p.date}") for p, _ in cases
        ),
    )


def by_second_of(plan: StackPlan, name: str, load: LoadPlan, catalog: Catalog) -> BreakEven | None:
    """Replicas by the hour against serverless GPUs by the second; None without both prices.

    Drawn to twice the last crossing, since lines change little above it; without one to the peak.
    """
    usd = replica_usd_per_hour(plan, name, catalog)
    prices = catalog.gpu_second_prices_of(plan.pools[plan.models[name].pool].accelerator)
    if usd is None or not prices:
        return None
    rate, capacity = load.requests_per_second, load.replica.requests_per_second
    workers = sorted(
        ((p, gpu_by_second(plan, name, p, load.replica.service_seconds)) for p in prices),
        key=lambda pair: pair[1].usd_per_hour(rate, capacity),
    )[:MOST_OFFERS]
    reached = [
        (price.provider, found)
        for price, worker in workers
        if (found := worker.break_even_requests_per_second(usd, capacity)) is not None
    ]
    end = max((2 * found for _, found in reached), default=1.25 * load.peak_requests_per_second)
    bends = _bends(end, capacity)
    # Closer together near zero, where a worker that mostly sleeps soon mostly runs.
    steep = (end * (step / STEPS) ** 2 for step in range(1, STEPS))
    rates = sorted({*bends, *(found for _, found in reached), *steep})
    return BreakEven(
        name,
        LOAD,
        _dedicated(plan, name, usd, capacity, bends),
        tuple(_by_second(price.provider, worker, rates, capacity) for price, worker in workers),
        tuple(Crossing(provider, found * HOURS, usd) for provider, found in reached),
        _second_words(plan, name, usd, load, workers) + _left_out(prices),
        billed="by the second",
        sources=tuple(
            (f"{p.provider}, seconds of {p.accelerator}", f"{p.source}{_dated(p)}")
            for p, _ in workers
        ),
    )


def _case(usd: float, price: TokenPrice, traffic: TrafficSpec, load: LoadPlan) -> Case:
    return Case(
        usd,
        price.input_usd_per_million,
        price.output_usd_per_million,
        traffic.prompt_tokens.mean,
        traffic.output_tokens.mean,
        load.replica.requests_per_second,
    )


def _replica_words(plan: StackPlan, name: str, load: LoadPlan) -> str:
    model = plan.models[name]
    return (
        f"A replica is priced by its GPUs ({model.fit.gpus} of {model.expected_instance_type}) and "
        f"takes {load.replica.requests_per_second * HOURS:,.0f} requests an hour, then another is "
        "added"
    )


def _second_words(
    plan: StackPlan,
    name: str,
    usd: float,
    load: LoadPlan,
    workers: Sequence[tuple[GpuSecondPrice, GpuBySecond]],
) -> str:
    """What was taken for granted, and what the expected traffic costs in each way."""
    rate, capacity = load.requests_per_second, load.replica.requests_per_second
    first = workers[0][1]
    stays = ", ".join(f"{p.provider} {w.idle_seconds:g} s" for p, w in workers)
    costs = ", ".join(f"{p.provider} ${w.usd_per_hour(rate, capacity):.2f}" for p, w in workers)
    free = [p.provider for p, w in workers if not w.bills_start]
    words = (
        f"A request runs {first.request_seconds:.3g} s. A worker has as many GPUs as a replica, "
        f"starts in {format_seconds(first.start_seconds)}, as this stack's containers do, and "
        f"stays after its last request, billed: {stays}. "
    )
    if free:
        words += f"The start is not billed by {', '.join(free)}. "
    return words + (
        "The CPU and memory that platforms bill beside the GPU are left out. "
        f"{_replica_words(plan, name, load)}. The {rate * HOURS:,.0f} requests an hour that the "
        f"stack file expects cost ${replicas_of(rate, capacity) * usd:.2f} an hour by replicas, "
        f"{costs}."
    )


def _left_out(prices: Sequence[object]) -> str:
    dearer = len(prices) - MOST_OFFERS
    return f" {dearer} dearer offers are left out." if dearer > 0 else ""


def _dated(price: GpuSecondPrice) -> str:
    return f", {price.date}" if price.date else ""


def _bends(end: float, capacity: float) -> list[float]:
    """Rates a second up to `end`: both sides of every step to another replica, or even ones."""
    steps = int(end / capacity)
    if steps > STEPS:
        return [end * step / STEPS for step in range(1, STEPS + 1)]
    sides = {n * capacity * side for n in range(1, steps + 1) for side in (1, 1 + 1e-9)}
    return sorted({end / STEPS, *sides, end})


def _dedicated(
    plan: StackPlan, name: str, usd: float, capacity: float, rates: Iterable[float]
) -> Curve:
    """Without any request one replica is paid for."""
    points = ((rate * HOURS, replicas_of(rate, capacity) * usd) for rate in rates)
    instance = plan.models[name].expected_instance_type
    return Curve(f"Replicas on {instance}", ((0.0, usd), *points))


def _by_token(provider: str, case: Case, rates: Iterable[float]) -> Curve:
    points = ((rate * HOURS, rate * HOURS * case.request_usd) for rate in rates)
    return Curve(provider, ((0.0, 0.0), *points))


def _by_second(
    provider: str, worker: GpuBySecond, rates: Iterable[float], capacity: float
) -> Curve:
    points = ((rate * HOURS, worker.usd_per_hour(rate, capacity)) for rate in rates)
    return Curve(provider, ((0.0, 0.0), *points))
