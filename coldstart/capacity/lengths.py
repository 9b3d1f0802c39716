"""Lengths of prompts and answers as a lognormal distribution, from a mean and a 95th percentile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

Z95 = NormalDist().inv_cdf(0.95)
UNKNOWN_SPREAD = math.sqrt(math.log(2))
"""Where only a mean is known: a coefficient of variation of 1."""
HEAVIEST_RATIO = math.exp(Z95**2 / 2)
"""No lognormal has a 95th percentile above 3.87 times its mean; the spread of more is taken as
this, and percentiles still run through the given one."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """A positive quantity with this mean; lognormal, with the spread that `p95` implies."""

    mean: float
    p95: float | None = None

    def __post_init__(self) -> None:
        if self.mean <= 0:
            raise ValueError(f"a mean of {self.mean:g} is not a length")
        if self.p95 is not None and self.p95 < self.mean:
            raise ValueError(f"a 95th percentile of {self.p95:g} is below the mean {self.mean:g}")

    @classmethod
    def with_cv(cls, mean: float, cv: float) -> Lengths:
        """From a coefficient of variation, which p95 then expresses."""
        sigma = math.sqrt(math.log1p(cv**2))
        return cls(mean, mean * math.exp(Z95 * min(sigma, Z95) - min(sigma, Z95) ** 2 / 2))

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm.

        ln(p95 / mean) = z·σ - σ²/2, of whose two roots the smaller is the plausible one.
        """
        if self.p95 is None:
            return UNKNOWN_SPREAD
        ratio = min(self.p95 / self.mean, HEAVIEST_RATIO)
        return Z95 - math.sqrt(max(0.0, Z95**2 - 2 * math.log(ratio)))

    @property
    def cv(self) -> float:
        """Coefficient of variation."""
        return math.sqrt(math.expm1(self.sigma**2))

    def percentile(self, percent: float) -> float:
        """What `percent` per cent stay below."""
        z = NormalDist().inv_cdf(percent / 100)
        if self.p95 is not None:
            return self.p95 * math.exp((z - Z95) * self.sigma)
        return self.mean * math.exp(z * self.sigma - self.sigma**2 / 2)

    def share_below(self, limit: float) -> float:
        """The share that is shorter than `limit`."""
        if limit <= 0:
            return 0.0
        if self.sigma == 0:
            return 1.0 if limit >= self.mean else 0.0
        return NormalDist().cdf(
            (math.log(limit) - math.log(self.mean)) / self.sigma + self.sigma / 2
        )

    def mean_up_to(self, limit: float) -> float:
        """The mean when everything longer is cut at `limit`."""
        if limit <= 0:
            return 0.0
        if self.sigma == 0:
            return min(self.mean, limit)
        shorter = NormalDist().cdf(
            (math.log(limit) - math.log(self.mean)) / self.sigma - self.sigma / 2
        )
        return self.mean * shorter + limit * (1 - self.share_below(limit))

    def scaled(self, factor: float) -> Lengths:
        """The same distribution in another unit."""
        return Lengths(self.mean * factor, None if self.p95 is None else self.p95 * factor)
