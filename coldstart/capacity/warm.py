"""What keeping capacity warm costs against what a cold start costs.

Whether to keep a replica through a lull is the ski-rental problem: holding on until the idle cost
equals the cost of a start is never worse than twice the best that could have been done (Karlin and
others, Competitive Snoopy Caching, Algorithmica 1988). With measured gaps, or with Poisson
arrivals, more is known and the best choice can be computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NEVER_PER_DAY = 1e-6
"""Once in three thousand years."""


def lead_margin_seconds(lead_seconds: float, ready_seconds: float) -> float:
    """What is left when capacity asked for `lead_seconds` ahead is ready; negative: too late."""
    return lead_seconds - ready_seconds


def start_cost_usd(
    start_seconds: float,
    usd_per_hour: float,
    *,
    violated_seconds: float = 0.0,
    usd_per_violated_second: float = 0.0,
) -> float:
    """A cold start's cost: the node that serves nobody meanwhile, and the seconds users wait."""
    return start_seconds * usd_per_hour / 3600 + violated_seconds * usd_per_violated_second


def break_even_idle_seconds(start_usd: float, idle_usd_per_hour: float) -> float:
    """How long a replica may idle until that has cost as much as a start; inf if idling is free."""
    return math.inf if idle_usd_per_hour <= 0 else start_usd / idle_usd_per_hour * 3600


@dataclass(frozen=True, slots=True)
class CooldownCost:
    """What a cooldown does over the measured gaps: starts, idle seconds, US dollars."""

    cooldown_seconds: float
    starts: int
    idle_seconds: float
    usd: float


def cooldown_cost(
    gaps_seconds: Iterable[float],
    cooldown_seconds: float,
    *,
    start_usd: float,
    idle_usd_per_hour: float,
) -> CooldownCost:
    """Of every gap between requests the cooldown is idled; a longer gap ends in a cold start."""
    starts, idle = 0, 0.0
    for gap in gaps_seconds:
        starts += gap > cooldown_seconds
        idle += min(gap, cooldown_seconds)
    return CooldownCost(
        cooldown_seconds, starts, idle, starts * start_usd + idle * idle_usd_per_hour / 3600
    )


def best_cooldown(
    gaps_seconds: Sequence[float], *, start_usd: float, idle_usd_per_hour: float
) -> CooldownCost:
    """The cheapest cooldown for these gaps, the shortest of equals.

    Only the gaps themselves (and none at all) are worth trying: between two of them a longer
    cooldown idles more and saves no start.
    """
    choices = sorted({0.0, *gaps_seconds})
    return min(
        (
            cooldown_cost(
                gaps_seconds, choice, start_usd=start_usd, idle_usd_per_hour=idle_usd_per_hour
            )
            for choice in choices
        ),
        key=lambda cost: cost.usd,
    )


def cold_share(requests_per_second: float, start_seconds: float, cooldown_seconds: float) -> float:
    """The share of Poisson arrivals that meet a cold start of a model that sleeps when idle.

    An arrival after a gap longer than the cooldown starts the replica; it and those that come
    while it starts wait.
    """
    asleep = math.exp(-requests_per_second * cooldown_seconds)
    caught = asleep * (1 + requests_per_second * start_seconds)
    return caught / (1 + asleep * requests_per_second * start_seconds)


def cooldown_for_share_seconds(
    requests_per_second: float, start_seconds: float, allowed_share: float
) -> float:
    """The shortest cooldown that lets at most `allowed_share` of Poisson arrivals meet a start."""
    if not requests_per_second > 0:
        raise ValueError(f"no cooldown follows from {requests_per_second:g} requests a second")
    if not 0 < allowed_share < 1:
        raise ValueError(f"a share of {allowed_share:g} is not between 0 and 1")
    during = requests_per_second * start_seconds
    asleep = allowed_share / (1 + during * (1 - allowed_share))
    return -math.log(asleep) / requests_per_second


@dataclass(frozen=True, slots=True)
class Surge:
    """A rise of demand to `replicas` in all, and how often a day it comes."""

    replicas: int
    per_day: float

    def __post_init__(self) -> None:
        if self.replicas < 1 or not (math.isfinite(self.per_day) and self.per_day >= 0):
            raise ValueError(f"{self.per_day:g} rises a day to {self.replicas} replicas cannot be")


@dataclass(frozen=True, slots=True)
class WarmChoice:
    """So much warm capacity: what it costs idle, what is violated, and both in US dollars."""

    replicas: int
    nodes: int
    idle_usd_per_hour: float
    violated_seconds_per_hour: float
    violated_usd_per_hour: float

    @property
    def usd_per_hour(self) -> float:
        """Idle cost and the price of violated seconds together."""
        return self.idle_usd_per_hour + self.violated_usd_per_hour


@dataclass(frozen=True, slots=True)
class WarmCosts:
    """What warm capacity costs and saves.

    A surge is served at once by warm replicas, after `warm_start_seconds` by replicas on warm
    nodes (`replicas_per_node` each), and after `cold_start_seconds` by the rest.
    """

    usd_per_node_hour: float
    replicas_per_node: int
    warm_start_seconds: float
    cold_start_seconds: float

    def __post_init__(self) -> None:
        if self.replicas_per_node < 1:
            raise ValueError("a node holds at least one replica")
        if not 0 <= self.warm_start_seconds <= self.cold_start_seconds:
            raise ValueError("a start on a warm node cannot take longer than one on a cold node")


def warm_choice(
    surges: Iterable[Surge],
    costs: WarmCosts,
    *,
    replicas: int,
    nodes: int,
    usd_per_violated_second: float = 0.0,
) -> WarmChoice:
    """What so many warm replicas and nodes cost and leave violated.

    A surge's violated seconds are weighted by the share of its replicas that is missing: three of
    four warm means a quarter of the users wait.
    """
    on_nodes = nodes * costs.replicas_per_node
    violated = 0.0
    for surge in surges:
        missing = max(0, surge.replicas - replicas)
        warm = min(missing, on_nodes)
        waited = warm * costs.warm_start_seconds + (missing - warm) * costs.cold_start_seconds
        violated += surge.per_day / 24 * waited / surge.replicas
    violated = min(violated, 3600.0)
    idle_nodes = replicas / costs.replicas_per_node + nodes
    return WarmChoice(
        replicas,
        nodes,
        idle_nodes * costs.usd_per_node_hour,
        violated,
        violated * usd_per_violated_second,
    )


def warm_curve(
    surges: Sequence[Surge], costs: WarmCosts, *, usd_per_violated_second: float, nodes: int = 0
) -> tuple[WarmChoice, ...]:
    """The choices from no warm replica to as many as the largest surge needs."""
    largest = max((surge.replicas for surge in surges), default=0)
    return tuple(
        warm_choice(
            surges,
            costs,
            replicas=count,
            nodes=nodes,
            usd_per_violated_second=usd_per_violated_second,
        )
        for count in range(largest + 1)
    )


def warm_optimum(
    surges: Sequence[Surge],
    costs: WarmCosts,
    *,
    usd_per_violated_second: float | None = None,
    allowed_share: float | None = None,
    at_least: int = 0,
) -> WarmChoice:
    """The best warm replicas and nodes, of replicas `at_least` those that run anyway.

    With `usd_per_violated_second` the cheapest of idle cost and violated seconds together; with
    `allowed_share` the least idle cost that leaves at most this share of time violated. Exactly
    one of them is given. Of equals the one with less warm capacity is chosen.
    """
    if (usd_per_violated_second is None) == (allowed_share is None):
        raise ValueError("give usd_per_violated_second or allowed_share, one of the two")
    if allowed_share is not None and not 0 <= allowed_share <= 1:
        raise ValueError(f"a share of {allowed_share:g} is not from 0 to 1")
    price = usd_per_violated_second or 0.0
    largest = max(at_least, *(surge.replicas for surge in surges), 0)
    choices = (
        warm_choice(surges, costs, replicas=replicas, nodes=nodes, usd_per_violated_second=price)
        for replicas in range(at_least, largest + 1)
        for nodes in range(-(-(largest - replicas) // costs.replicas_per_node) + 1)
    )
    if allowed_share is not None:
        kept = 3600 * allowed_share
        choices = (c for c in choices if c.violated_seconds_per_hour <= kept)
    return min(choices, key=lambda c: (c.usd_per_hour, c.replicas + c.nodes, c.replicas))


def poisson_surges(
    requests_per_second: float, service_seconds: float, concurrency: int, max_replicas: int
) -> tuple[Surge, ...]:
    """How often random arrivals alone ask for one replica more, per level above the mean demand.

    Requests in service are Poisson (M/G/∞), so level n·k is crossed upwards
    rate x P(exactly n·k in service) times a second. Without arrivals there are none.
    """
    load = requests_per_second * service_seconds
    if load <= 0:
        return ()
    surges: list[Surge] = []
    for replicas in range(max(1, math.ceil(load / concurrency)), max_replicas):
        level = replicas * concurrency
        log_p = level * math.log(load) - load - math.lgamma(level + 1)
        per_day = 86_400 * requests_per_second * math.exp(log_p)
        if per_day < NEVER_PER_DAY:
            break
        surges.append(Surge(replicas + 1, per_day))
    return tuple(surges)
