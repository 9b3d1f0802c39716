"""The answer of `coldstart breakeven`, as text and as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from coldstart.capacity.breakeven import (
    Case,
    Costs,
    GpuBySecond,
    Swing,
    costs,
    curve,
    sensitivity,
)

SHOWN_UTILISATION = (0.1, 0.25, 0.5, 1.0)
WORDS = {
    "utilisation": "utilisation",
    "output_tokens": "output tokens",
    "input_tokens": "input tokens",
    "usd_per_hour": "price of the replica",
    "output_usd_per_million": "price of output tokens",
    "input_usd_per_million": "price of input tokens",
    "capacity_requests_per_second": "capacity of the replica",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A price per token and where it was read."""

    provider: str
    input_usd_per_million: float
    output_usd_per_million: float
    source: str | None = None


@dataclass(frozen=True, slots=True)
class SecondOffer:
    """A worker of a platform billed by the second, and where its price was read."""

    provider: str
    worker: GpuBySecond
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Cases by offer, cheapest first, workers by platform, and what was taken for granted."""

    cases: tuple[tuple[Offer, Case], ...]
    workers: tuple[SecondOffer, ...]
    requests_per_second: float | None
    change: float
    assumed: tuple[str, ...]

    @property
    def cheapest(self) -> Case:
        """The case against the cheapest offer, with the utilisation its traffic makes."""
        case = self.cases[0][1]
        rate, capacity = self.requests_per_second, case.capacity_requests_per_second
        if rate is None or capacity is None:
            return case
        replicas = costs(case, rate).replicas
        return replace(case, utilisation=min(1.0, rate / (capacity * replicas)))

    @property
    def cheapest_worker(self) -> SecondOffer | None:
        """The cheapest platform at the rate; without one, that with the cheapest second."""
        rate, capacity = self.requests_per_second, self.cases[0][1].capacity_requests_per_second

        def usd(offer: SecondOffer) -> float:
            worker = offer.worker
            return worker.usd_per_second if rate is None else worker.usd_per_hour(rate, capacity)

        return min(self.workers, key=usd, default=None)


def as_text(answer: Answer) -> str:
    """For people."""
    case = answer.cheapest
    lines = [
        f"A replica for {_usd(case.usd_per_hour)} USD an hour; {case.input_tokens:g} tokens in and "
        f"{case.output_tokens:g} out a request",
        "",
        *_table(answer),
        "",
        *(_capacity_lines(case)),
    ]
    if answer.workers:
        lines += [*_worker_lines(answer), ""]
    if answer.requests_per_second is not None:
        lines += [_at_rate(case, answer.requests_per_second, answer.cheapest_worker), ""]
    lines += _sensitivity_lines(answer)
    lines += [f"Taken for granted: {text}." for text in answer.assumed]
    return "\n".join(lines).rstrip() + "\n"


def _table(answer: Answer) -> list[str]:
    rows = [("Against", "in", "out", "USD a request", "break-even")]
    for offer, case in answer.cases:
        share = case.break_even_utilisation
        line = f"{_number(case.break_even_requests_per_second)} requests/s"
        if share is not None:
            line += f", {share:.0%} of a replica" if share <= 1 else ", more than a replica takes"
        rows.append(
            (
                offer.provider,
                f"{offer.input_usd_per_million:g}",
                f"{offer.output_usd_per_million:g}",
                _usd(case.request_usd),
                line,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:4], widths, strict=True)), row[4]])
        for row in rows
    ]


def _capacity_lines(case: Case) -> list[str]:
    token = f"{_usd(case.serverless_usd_per_million_tokens)} by the token"
    if case.capacity_requests_per_second is None:
        return [
            f"A million tokens: {token}; a replica's follow from its capacity "
            "(--requests-per-second-capacity).",
            "",
        ]
    dedicated = ", ".join(
        f"{_usd(case.dedicated_usd_per_million_tokens(share) or 0.0)} at {share:.0%}"
        for share in SHOWN_UTILISATION
    )
    lines = [f"A million tokens: {token}; of a replica in use {dedicated}."]
    if (case.break_even_utilisation or 0.0) > 1:
        lines.append("No number of such replicas is ever cheaper: full, they cost more per token.")
    return [*lines, ""]


def _worker_lines(answer: Answer) -> list[str]:
    case = answer.cases[0][1]
    lines = []
    for offer in answer.workers:
        worker = offer.worker
        rate = worker.break_even_requests_per_second(
            case.usd_per_hour, case.capacity_requests_per_second
        )
        end = (
            "never dearer than the replica"
            if rate is None
            else f"dearer than the replica from {_number(rate)} requests/s"
        )
        lines.append(
            f"By the second ({offer.provider}): {_usd(worker.usd_per_second)} USD, start "
            f"{worker.start_seconds:g} s, idle {worker.idle_seconds:g} s: {end}"
        )
    return lines


def _at_rate(case: Case, rate: float, offer: SecondOffer | None) -> str:
    found = costs(case, rate, offer and offer.worker)
    ways = [
        f"dedicated {found.dedicated_usd_per_hour:.2f} (replicas: {found.replicas})",
        f"by token {found.by_token_usd_per_hour:.2f}",
    ]
    if offer is not None and found.by_second_usd_per_hour is not None:
        ways.append(f"by second {found.by_second_usd_per_hour:.2f} ({offer.provider})")
    return (
        f"At {_number(found.requests_per_second)} requests/s, USD an hour: {', '.join(ways)}; "
        f"cheapest: {found.cheapest}"
    )


def _sensitivity_lines(answer: Answer) -> list[str]:
    swings = sensitivity(answer.cheapest, answer.change)
    what = "break-even in requests/s"
    if answer.cheapest.cost_ratio is not None:
        what = "cost of the replica as a multiple of cost by the token; longer requests lower "
        what += "the capacity too, which is held"
    rows = [
        f"  {WORDS[swing.parameter]:<24} {_number(swing.low)} to {_number(swing.high)}"
        for swing in swings
    ]
    head = (
        f"{answer.change:.0%} less and more of each, the rest held ({what}, now "
        f"{_number(swings[0].line)}):"
    )
    return [head, *rows, ""]


def as_data(answer: Answer) -> dict[str, Any]:
    """For machines, and for the charts of a page."""
    case = answer.cheapest
    rate = answer.requests_per_second
    worker = answer.cheapest_worker and answer.cheapest_worker.worker
    return {
        "replicaUsdPerHour": case.usd_per_hour,
        "inputTokens": case.input_tokens,
        "outputTokens": case.output_tokens,
        "capacityRequestsPerSecond": case.capacity_requests_per_second,
        "byToken": [_offer(offer, case) for offer, case in answer.cases],
        "bySecond": [
            {
                "provider": found.provider,
                "usdPerSecond": found.worker.usd_per_second,
                "startSeconds": found.worker.start_seconds,
                "idleSeconds": found.worker.idle_seconds,
                "breakEvenRequestsPerSecond": found.worker.break_even_requests_per_second(
                    case.usd_per_hour, case.capacity_requests_per_second
                ),
                "source": found.source,
            }
            for found in answer.workers
        ],
        "dedicatedUsdPerMillionTokens": {
            f"{share:g}": case.dedicated_usd_per_million_tokens(share)
            for share in SHOWN_UTILISATION
        },
        "costRatio": case.cost_ratio,
        "atRate": None if rate is None else _costs(costs(case, rate, worker)),
        "sensitivity": [_swing(swing) for swing in sensitivity(case, answer.change)],
        "curve": [_costs(point) for point in curve(case, worker)],
        "assumed": list(answer.assumed),
    }


def _offer(offer: Offer, case: Case) -> dict[str, Any]:
    return {
        "provider": offer.provider,
        "inputUsdPerMillion": offer.input_usd_per_million,
        "outputUsdPerMillion": offer.output_usd_per_million,
        "usdPerRequest": case.request_usd,
        "usdPerMillionTokens": case.serverless_usd_per_million_tokens,
        "breakEvenRequestsPerSecond": case.break_even_requests_per_second,
        "breakEvenRequestsPerHour": case.break_even_requests_per_hour,
        "breakEvenUtilisation": case.break_even_utilisation,
        "source": offer.source,
    }


def _costs(found: Costs) -> dict[str, Any]:
    return {
        "requestsPerSecond": found.requests_per_second,
        "replicas": found.replicas,
        "dedicatedUsdPerHour": found.dedicated_usd_per_hour,
        "byTokenUsdPerHour": found.by_token_usd_per_hour,
        "bySecondUsdPerHour": found.by_second_usd_per_hour,
        "cheapest": found.cheapest,
    }


def _swing(swing: Swing) -> dict[str, Any]:
    return {
        "parameter": swing.parameter,
        "low": swing.low,
        "line": swing.line,
        "high": swing.high,
        "span": swing.span,
    }


def _usd(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
