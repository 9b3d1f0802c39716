"""Traces made up from rates and lengths: steady, by the time of day, in bursts."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from random import Random

from coldstart.capacity.lengths import Lengths
from coldstart.simulation.inputs import SimulationError, stream
from coldstart.simulation.trace import MAX_REQUESTS, MAX_SECONDS, MAX_TOKENS, Trace

DAY_SECONDS = 86_400


def poisson(
    requests_per_second: float, seconds: float, prompt: Lengths, output: Lengths, seed: int = 1
) -> Trace:
    """Independent requests at one rate."""
    return _thinned(
        lambda _: requests_per_second, requests_per_second, seconds, prompt, output, seed
    )


def day_curve(
    night_per_second: float,
    peak_per_second: float,
    seconds: float,
    prompt: Lengths,
    output: Lengths,
    *,
    peak_hours: tuple[float, ...] = (10.0, 15.0),
    peak_width_hours: float = 2.0,
    seed: int = 1,
) -> Trace:
    """A quiet night and bell-shaped peaks, the same every day; second 0 is midnight."""
    _check_rates(night_per_second, peak_per_second)

    def rate(second: float) -> float:
        hour = second % DAY_SECONDS / 3600
        shape = max(
            math.exp(-(((hour - peak + 12) % 24 - 12) ** 2) / (2 * (peak_width_hours / 2) ** 2))
            for peak in peak_hours
        )
        return night_per_second + (peak_per_second - night_per_second) * shape

    return _thinned(rate, peak_per_second, seconds, prompt, output, seed)


def burst(
    base_per_second: float,
    burst_per_second: float,
    seconds: float,
    prompt: Lengths,
    output: Lengths,
    *,
    every_seconds: float = 1800.0,
    burst_seconds: float = 120.0,
    seed: int = 1,
) -> Trace:
    """A steady rate, and a higher one for `burst_seconds` in the middle of each period."""
    _check_rates(base_per_second, burst_per_second)

    def rate(second: float) -> float:
        middle = (every_seconds - burst_seconds) / 2
        inside = middle <= second % every_seconds < middle + burst_seconds
        return burst_per_second if inside else base_per_second

    return _thinned(rate, burst_per_second, seconds, prompt, output, seed)


def _check_rates(quiet_per_second: float, peak_per_second: float) -> None:
    if not 0 <= quiet_per_second <= peak_per_second:
        raise SimulationError(
            f"a quiet rate of {quiet_per_second:g} and a peak of {peak_per_second:g} requests a "
            "second make no trace; the quiet one must be 0 or more and no more than the peak"
        )


def _drawn(lengths: Lengths, rng: Random) -> Callable[[], int]:
    """Draws whole tokens, as many as a trace may hold."""
    sigma = lengths.sigma
    mu = math.log(lengths.mean) - sigma**2 / 2
    draw = rng.lognormvariate
    return lambda: min(MAX_TOKENS, max(1, round(draw(mu, sigma))))


def _thinned(
    rate: Callable[[float], float],
    highest: float,
    seconds: float,
    prompt: Lengths,
    output: Lengths,
    seed: int,
) -> Trace:
    """A Poisson process of a rate that changes: candidates at the highest rate, some kept."""
    if not (math.isfinite(highest) and highest > 0 and 0 < seconds <= MAX_SECONDS):
        raise SimulationError(
            f"{highest:g} requests a second over {seconds:g} s make no trace; both must be "
            f"positive, and the time at most {MAX_SECONDS} s"
        )
    if highest * seconds > MAX_REQUESTS:
        raise SimulationError(
            f"{highest:g} requests a second over {seconds:g} s are {highest * seconds:,.0f} "
            f"requests, more than {MAX_REQUESTS:,}; simulate at most {MAX_REQUESTS / highest:.0f} s"
        )
    rng = stream(seed, "arrivals")
    prompts = _drawn(prompt, stream(seed, "prompts"))
    outputs = _drawn(output, stream(seed, "outputs"))
    columns = array("d"), array("i"), array("i")
    now = rng.expovariate(highest)
    while now < seconds:
        if rng.random() * highest < rate(now):
            columns[0].append(now)
            columns[1].append(prompts())
            columns[2].append(outputs())
        now += rng.expovariate(highest)
    if not columns[0]:
        raise SimulationError(
            f"no request came in {seconds:g} s at {highest:g} a second; simulate longer"
        )
    return Trace(*columns)
