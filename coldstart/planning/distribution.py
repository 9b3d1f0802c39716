"""How long a phase takes at a given share of all starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

Z95 = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The duration of one phase by three points: 5 %, 50 % and 95 % of starts stay below them.

    Between the points the logarithm of the duration is normal, with one width below the median and
    one above it: durations are positive and lean to the long side (Limpert, Stahel and Abbt,
    "Log-normal Distributions across the Sciences", BioScience 51(5), 2001; two halves: Wallis,
    "The Two-Piece Normal, Binormal, or Double Gaussian Distribution", Statistical Science 29(1),
    2014). A published range of low to high is read as 5 % to 95 %. No start is faster than
    `floor_seconds`, the time the network alone would take.
    """

    p05_seconds: float
    p50_seconds: float
    p95_seconds: float
    floor_seconds: float = 0.0

    def __post_init__(self) -> None:
        points = (self.p05_seconds, self.p50_seconds, self.p95_seconds)
        if not 0 <= points[0] <= points[1] <= points[2] < math.inf or self.floor_seconds < 0:
            raise ValueError(f"{points} s are not three ascending durations")

    def seconds(self, score: float) -> float:
        """The duration at a standard normal score: 0 is the median, 1.645 is 95 %."""
        return self.many((score,))[0]

    def many(self, scores: tuple[float, ...]) -> list[float]:
        """The durations at many scores."""
        median, floor = self.p50_seconds, self.floor_seconds
        if self.p05_seconds <= 0:
            # A logarithm has no zero: straight lines instead.
            down, up = median / Z95, (self.p95_seconds - median) / Z95
            found = [max(0.0, median + z * (up if z > 0 else down)) for z in scores]
        else:
            down = math.log(median / self.p05_seconds) / Z95
            up = math.log(self.p95_seconds / median) / Z95
            exp = math.exp
            found = [median * exp(z * (up if z > 0 else down)) for z in scores]
        return [max(floor, seconds) for seconds in found] if floor else found


def from_measurement(p50_seconds: float, p95_seconds: float) -> Distribution:
    """A plain lognormal through a measured median and 95th percentile."""
    low = p50_seconds * (p50_seconds / p95_seconds) if p95_seconds else 0.0
    return Distribution(low, p50_seconds, p95_seconds)


def from_range(
    seconds: float,
    low: float | None,
    middle: float | None,
    high: float | None,
    floor_seconds: float = 0.0,
) -> Distribution | None:
    """A published range carried over to `seconds` in proportion; None where none is published.

    `low`, `middle` and `high` are of the published run; a missing end stands at the middle.
    """
    if not middle or (low is None and high is None):
        return None
    return Distribution(
        seconds * (1.0 if low is None else low / middle),
        seconds,
        seconds * (1.0 if high is None else high / middle),
        floor_seconds,
    )
