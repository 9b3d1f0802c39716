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
    gaps_seconds: Sequence[float],
    *,
    start_usd: float,
    idle_usd_per_hour: float,
    least_seconds: float = 0.0,
    most_seconds: float = math.inf,
    most_starts: int | None = None,
) -> CooldownCost:
    """The cheapest cooldown for these gaps within the two bounds, the shortest of equals.

    Only the gaps themselves (and the least) are worth trying: between two of them a longer
    cooldown idles more and saves no start. With `most_starts` only cooldowns that leave no more
    starts count; where none does, the one with the fewest is taken.
    """
    choices = sorted({min(max(gap, least_seconds), most_seconds) for gap in (0.0, *gaps_seconds)})
    costs = [
        cooldown_cost(
            gaps_seconds, choice, start_usd=start_usd, idle_usd_per_hour=idle_usd_per_hour
        )
        for choice in choices
    ]
    fewest = min(cost.starts for cost in costs)
    allowed = math.inf if most_starts is None else max(most_starts, fewest)
    return min((cost for cost in costs if cost.starts <= allowed), key=lambda cost: cost.usd)


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

    @property
    def usd_per_replica_hour(self) -> float:
        """A replica's share of its node."""
        return self.usd_per_node_hour / self.replicas_per_node


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
    return WarmChoice(
        replicas,
        nodes,
        replicas * costs.usd_per_replica_hour + nodes * costs.usd_per_node_hour,
        violated,
        violated * usd_per_violated_second,
    )


def warm_curve(
    surges: Sequence[Surge], costs: WarmCosts, *, usd_per_violated_second: float, nodes: int = 0
) -> tuple[WarmChoice, ...]:
    """The choices from no warm replica to as many as the largest surge needs."""
    return tuple(
        warm_choice(
            surges,
            costs,
            replicas=count,
            nodes=nodes,
            usd_per_violated_second=usd_per_violated_second,
        )
        for count in range(largest_surge(surges) + 1)
    )


def largest_surge(surges: Iterable[Surge]) -> int:
    """Replicas that the largest surge needs, 0 without any."""
    return max((surge.replicas for surge in surges), default=0)


@dataclass(frozen=True, slots=True)
class WarmDemand:
    """One model of a pool: its surges, what they cost, and the warm replicas it may have."""

    surges: tuple[Surge, ...]
    costs: WarmCosts
    usd_per_violated_second: float
    replicas: range

    def choice(self, replicas: int, nodes: int) -> WarmChoice:
        """What so many warm replicas and nodes cost this model and leave violated."""
        return warm_choice(
            self.surges,
            self.costs,
            replicas=replicas,
            nodes=nodes,
            usd_per_violated_second=self.usd_per_violated_second,
        )

    def best_replicas(self, nodes: int) -> WarmChoice:
        """The cheapest number of warm replicas beside so many warm nodes, the least of equals.

        Idle cost and violated seconds are straight lines between the numbers of replicas that hold
        a whole surge, alone or with the warm nodes: only these and the two ends are worth trying.
        """
        on_nodes = nodes * self.costs.replicas_per_node
        held = {s.replicas - places for s in self.surges for places in (0, on_nodes)}
        tried = {self.replicas[0], self.replicas[-1], *held.intersection(self.replicas)}
        return min(
            (self.choice(count, nodes) for count in sorted(tried)), key=lambda c: c.usd_per_hour
        )


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """Warm nodes of a pool, and the choice of each of its models beside them.

    `held_nodes` are those that warm replicas fill, in parts of a node, and the warm ones.
    """

    nodes: int
    models: tuple[WarmChoice, ...]
    idle_usd_per_hour: float
    held_nodes: float

    @property
    def violated_seconds_per_hour(self) -> float:
        """Of all models together."""
        return sum(choice.violated_seconds_per_hour for choice in self.models)

    @property
    def violated_usd_per_hour(self) -> float:
        """What these seconds cost, each at its model's price."""
        return sum(choice.violated_usd_per_hour for choice in self.models)

    @property
    def usd_per_hour(self) -> float:
        """Idle cost and the price of violated seconds together."""
        return self.idle_usd_per_hour + self.violated_usd_per_hour


def pool_choice(demands: Sequence[WarmDemand], nodes: int) -> PoolChoice:
    """The cheapest warm replicas of every model of a pool that keeps so many nodes warm.

    A warm node serves whichever model's demand rises, and is paid for once; models that rise at the
    same moment are not counted as such.
    """
    found = tuple(demand.best_replicas(nodes) for demand in demands)
    idle, held = nodes * max(d.costs.usd_per_node_hour for d in demands), float(nodes)
    for choice, demand in zip(found, demands, strict=True):
        idle += choice.replicas * demand.costs.usd_per_replica_hour
        held += choice.replicas / demand.costs.replicas_per_node
    return PoolChoice(nodes, found, idle, held)


def warm_optimum(
    demands: Sequence[WarmDemand], nodes: range, most_nodes: float = math.inf
) -> PoolChoice:
    """The warm nodes, and with them the warm replicas of every model, that cost least together.

    Of equals the one with fewer nodes is chosen; more than `most_nodes` in all are held only where
    the fewest warm nodes do not help it. ValueError without a model or a number of nodes.
    """
    if not demands or not nodes:
        raise ValueError("an optimum needs a model and a number of nodes to choose from")
    choices = (pool_choice(demands, count) for count in nodes)
    held = (c for c in choices if c.held_nodes <= most_nodes or c.nodes == nodes[0])
    return min(held, key=lambda choice: choice.usd_per_hour)


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
