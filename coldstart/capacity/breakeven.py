"""Where a GPU rented by the hour, tokens by the piece and a GPU by the second cost the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from coldstart.capacity.sizing import replicas_of

SECONDS_PER_HOUR = 3600
TOKENS_PER_PRICE = 1_000_000
"""Providers name prices for a million tokens."""
STEPS_OF_BISECTION = 200
"""More than halvings a float has digits for: the answer is as exact as floats are."""


@dataclass(frozen=True, slots=True)
class Case:
    """One dedicated replica set against a price per token.

    `usd_per_hour` is what all GPUs of the replica cost. `capacity_requests_per_second` is the most
    one replica answers, `utilisation` the share of it (0 to 1] that is asked for on average; None
    where they are not known. Raises ValueError naming the figure that cannot be.
    """

    usd_per_hour: float
    input_usd_per_million: float
    output_usd_per_million: float
    input_tokens: float
    output_tokens: float
    capacity_requests_per_second: float | None = None
    utilisation: float | None = None

    def __post_init__(self) -> None:
        for name in ("usd_per_hour", "input_usd_per_million", "output_usd_per_million"):
            _positive(name, getattr(self, name))
        _positive("output_tokens", self.output_tokens)
        _not_negative("input_tokens", self.input_tokens)
        if self.capacity_requests_per_second is not None:
            _positive("capacity_requests_per_second", self.capacity_requests_per_second)
        if self.utilisation is not None:
            _share("utilisation", self.utilisation)

    @property
    def request_usd(self) -> float:
        """What one request costs by the token."""
        return (
            self.input_tokens * self.input_usd_per_million
            + self.output_tokens * self.output_usd_per_million
        ) / TOKENS_PER_PRICE

    @property
    def break_even_requests_per_hour(self) -> float:
        """Requests an hour from which the replica is the cheaper one."""
        return self.usd_per_hour / self.request_usd

    @property
    def break_even_requests_per_second(self) -> float:
        """The same per second, as a steady mean over all hours the replica is paid for."""
        return self.break_even_requests_per_hour / SECONDS_PER_HOUR

    @property
    def break_even_utilisation(self) -> float | None:
        """The break-even as a share of the replica's capacity; None without a capacity.

        Above 1 the replica is the dearer one however busy it is, and so is any number of them.
        """
        capacity = self.capacity_requests_per_second
        return None if capacity is None else self.break_even_requests_per_second / capacity

    @property
    def serverless_usd_per_million_tokens(self) -> float:
        """A million tokens, input and output in this case's proportion, by the token."""
        return self.request_usd / self._tokens * TOKENS_PER_PRICE

    def dedicated_usd_per_million_tokens(self, utilisation: float) -> float | None:
        """The same million from the replica at `utilisation`; None without a capacity."""
        _share("utilisation", utilisation)
        capacity = self.capacity_requests_per_second
        if capacity is None:
            return None
        tokens_per_hour = capacity * utilisation * SECONDS_PER_HOUR * self._tokens
        return self.usd_per_hour / tokens_per_hour * TOKENS_PER_PRICE

    @property
    def cost_ratio(self) -> float | None:
        """What the replica costs of what the same requests cost by the token; below 1 it wins.

        None unless capacity and utilisation are known.
        """
        share = self.break_even_utilisation
        if share is None or self.utilisation is None:
            return None
        return share / self.utilisation

    @property
    def _tokens(self) -> float:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class GpuBySecond:
    """A serverless GPU: a worker starts for the first request and stops after an idle time.

    `usd_per_second` is what all GPUs of a worker cost; `request_seconds` how long a request runs;
    `start_seconds` from its start to its first answer; `idle_seconds` how long it stays, billed,
    after its last request; `rounding_seconds` is added to each life, the most rounding up can add.
    """

    usd_per_second: float
    request_seconds: float
    start_seconds: float = 0.0
    idle_seconds: float = 0.0
    bills_start: bool = True
    rounding_seconds: float = 0.0

    def __post_init__(self) -> None:
        _positive("usd_per_second", self.usd_per_second)
        _positive("request_seconds", self.request_seconds)
        for name in ("start_seconds", "idle_seconds", "rounding_seconds"):
            _not_negative(name, getattr(self, name))

    def starts_per_hour(self, requests_per_second: float) -> float:
        """Cold starts an hour with requests that arrive independently (Poisson).

        The life of a worker that serves what comes at once is a busy period of the M/D/∞ queue
        whose requests last `request_seconds + idle_seconds` (L. Takács, Introduction to the Theory
        of Queues, 1962), after the start, during which requests wait.
        """
        _positive("requests_per_second", requests_per_second)
        quiet = self._quiet(requests_per_second)
        cycles = (
            requests_per_second * quiet / (1 + requests_per_second * self.start_seconds * quiet)
        )
        return SECONDS_PER_HOUR * cycles

    def billed_share(self, requests_per_second: float) -> float:
        """Billed seconds of a second, of one worker that takes all requests at once."""
        starts_per_second = self.starts_per_hour(requests_per_second) / SECONDS_PER_HOUR
        quiet = self._quiet(requests_per_second)
        serving = (1 - quiet) / (1 + requests_per_second * self.start_seconds * quiet)
        billed = self.rounding_seconds + (self.start_seconds if self.bills_start else 0.0)
        return serving + starts_per_second * billed

    def usd_per_hour(
        self, requests_per_second: float, capacity_requests_per_second: float | None = None
    ) -> float:
        """What an hour of such traffic costs.

        Above one worker's capacity as many are counted as the load keeps busy, without their idle
        and starting seconds: the least it can cost.
        """
        workers = self.billed_share(requests_per_second)
        if capacity_requests_per_second is not None:
            _positive("capacity_requests_per_second", capacity_requests_per_second)
            workers = max(workers, requests_per_second / capacity_requests_per_second)
        return self.usd_per_second * SECONDS_PER_HOUR * workers

    def break_even_requests_per_second(
        self, usd_per_hour: float, capacity_requests_per_second: float | None = None
    ) -> float | None:
        """The rate from which a replica for `usd_per_hour` is the cheaper one.

        None when an hour of the serverless GPU is no dearer than the replica: it never is.
        """
        _positive("usd_per_hour", usd_per_hour)
        if self.usd_per_second * SECONDS_PER_HOUR <= usd_per_hour:
            return None
        high = 1 / SECONDS_PER_HOUR
        while self.usd_per_hour(high, capacity_requests_per_second) < usd_per_hour:
            high *= 2
        low = 0.0
        for _ in range(STEPS_OF_BISECTION):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            if self.usd_per_hour(middle, capacity_requests_per_second) < usd_per_hour:
                low = middle
            else:
                high = middle
        return high

    def _quiet(self, requests_per_second: float) -> float:
        """The chance that no request comes while one runs and the worker then idles."""
        return math.exp(-requests_per_second * (self.request_seconds + self.idle_seconds))


@dataclass(frozen=True, slots=True)
class Costs:
    """US dollars an hour for the same traffic, bought in three ways.

    `dedicated` is what `replicas` whole replicas cost; `by_second` is None without such a platform.
    """

    requests_per_second: float
    replicas: int
    dedicated_usd_per_hour: float
    by_token_usd_per_hour: float
    by_second_usd_per_hour: float | None

    @property
    def cheapest(self) -> str:
        """`dedicated`, `by token` or `by second`; the earlier of two that cost the same."""
        ways = {
            "dedicated": self.dedicated_usd_per_hour,
            "by token": self.by_token_usd_per_hour,
            "by second": self.by_second_usd_per_hour,
        }
        known = {name: usd for name, usd in ways.items() if usd is not None}
        return min(known, key=lambda name: known[name])


def costs(case: Case, requests_per_second: float, gpu: GpuBySecond | None = None) -> Costs:
    """What `requests_per_second` cost in each way.

    Dedicated replicas are as many as the rate needs at full capacity, and at least one; without a
    capacity one replica is taken to be enough.
    """
    _positive("requests_per_second", requests_per_second)
    capacity = case.capacity_requests_per_second
    replicas = 1 if capacity is None else replicas_of(requests_per_second, capacity)
    return Costs(
        requests_per_second=requests_per_second,
        replicas=replicas,
        dedicated_usd_per_hour=replicas * case.usd_per_hour,
        by_token_usd_per_hour=requests_per_second * SECONDS_PER_HOUR * case.request_usd,
        by_second_usd_per_hour=gpu and gpu.usd_per_hour(requests_per_second, capacity),
    )


def curve(
    case: Case, gpu: GpuBySecond | None = None, rates: Iterable[float] | None = None
) -> tuple[Costs, ...]:
    """Points for a chart: at `rates`, or at 40 even steps up to twice the break-even."""
    end = 2 * case.break_even_requests_per_second
    chosen = [end * step / 40 for step in range(1, 41)] if rates is None else rates
    return tuple(costs(case, rate, gpu) for rate in chosen)


@dataclass(frozen=True, slots=True)
class Swing:
    """Where the line lies when one figure is lower or higher and all others stay.

    The line is the cost ratio where capacity and utilisation are known, else the break-even in
    requests a second. `span` is how far apart the two ends are, as a share of the line itself.
    """

    parameter: str
    low: float
    line: float
    high: float

    @property
    def span(self) -> float:
        """Distance between both ends, relative to the line."""
        return abs(self.high - self.low) / self.line


SWUNG = (
    "utilisation",
    "output_tokens",
    "usd_per_hour",
    "output_usd_per_million",
    "input_tokens",
    "input_usd_per_million",
    "capacity_requests_per_second",
)
"""Figures of a case that `sensitivity` moves; of two that move the line alike the earlier leads."""


def sensitivity(case: Case, change: float = 0.2) -> tuple[Swing, ...]:
    """Each figure of `case` lower and higher by the share `change`; what moves most comes first.

    A utilisation cannot rise above 1. Capacity and utilisation move the line only together: where
    one of them is not known, the line is a rate, which neither moves, and both are left out.
    """
    if not 0 < change < 1:
        raise ValueError(f"change {change:g} must be above 0 and below 1")
    known = case.cost_ratio is not None
    found = [
        Swing(
            name,
            _line(_moved(case, name, 1 - change)),
            _line(case),
            _line(_moved(case, name, 1 + change)),
        )
        for name in SWUNG
        if known or name not in ("utilisation", "capacity_requests_per_second")
    ]
    return tuple(sorted(found, key=lambda swing: -round(swing.span, 9)))


def _moved(case: Case, name: str, factor: float) -> Case:
    value = getattr(case, name) * factor
    return replace(case, **{name: min(1.0, value) if name == "utilisation" else value})


def _line(case: Case) -> float:
    ratio = case.cost_ratio
    return case.break_even_requests_per_second if ratio is None else ratio


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} {value:g} must be a number above 0")


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} {value:g} must be 0 or more")


def _share(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 < value <= 1):
        raise ValueError(f"{name} {value:g} must be above 0 and at most 1")
