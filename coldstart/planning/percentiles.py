"""Percentiles of a whole start: every phase drawn from its distribution, through the graph.

Phases that run at once count by the longer one in each sample, so the percentiles of a start are
not sums of the percentiles of its phases. Phases are taken as independent.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import NormalDist

from coldstart.planning.timeline import Phase, Timeline

SAMPLES = 256
"""One per stratum of each phase; p95 then moves by less than 2 % with more of them (a test)."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long half, 95 % and 99 % of starts take at most, in seconds.

    `without_spread` are the phases whose source states no range: they count as constant, so that
    the upper percentiles are too low by what those phases vary.
    """

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    without_spread: tuple[str, ...]


def percentiles(line: Timeline) -> Percentiles:
    """The percentiles of a timeline's length. The same timeline always gives the same ones."""
    return _percentiles(line.phases)


@lru_cache(maxsize=4096)
def _percentiles(phases: tuple[Phase, ...]) -> Percentiles:
    totals = _longest(list(_ends(phases).values()))
    return Percentiles(
        percentile(totals, 0.5),
        percentile(totals, 0.95),
        percentile(totals, 0.99),
        tuple(phase.key for phase in phases if phase.spread is None and phase.seconds > 0),
    )


def sampled_ends(line: Timeline) -> dict[str, list[float]]:
    """When each phase is over, in each of `SAMPLES` starts.

    Latin hypercube sampling (McKay, Beckman and Conover, Technometrics 21(2), 1979): each phase
    takes every stratum of its distribution once, in an order fixed by its key. Two timelines
    therefore meet the same luck in the phases they share, and differ by their decisions alone.
    """
    return _ends(line.phases)


def _ends(phases: tuple[Phase, ...]) -> dict[str, list[float]]:
    ends: dict[str, list[float]] = {}
    for phase in phases:
        before = _longest([ends[key] for key in phase.after])
        if phase.spread is None:
            ends[phase.key] = [moment + phase.seconds for moment in before]
        else:
            drawn = phase.spread.many(_scores(phase.key))
            ends[phase.key] = [moment + took for moment, took in zip(before, drawn, strict=True)]
    return ends


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _longest(columns: list[list[float]]) -> list[float]:
    if not columns:
        return [0.0] * SAMPLES
    if len(columns) == 1:
        return columns[0]
    return list(map(max, *columns))


@cache
def _scores(key: str) -> tuple[float, ...]:
    strata = [(index + 0.5) / SAMPLES for index in range(SAMPLES)]
    random.Random(key).shuffle(strata)  # noqa: S311 - luck that repeats is what is wanted
    normal = NormalDist()
    return tuple(normal.inv_cdf(share) for share in strata)
