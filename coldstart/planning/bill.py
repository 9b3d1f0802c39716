"""The bill as plain data: lines, how nodes may be bought, what tokens cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coldstart.spec.model import CapacityType


@dataclass(frozen=True, slots=True)
class CostLine:
    """One position of the bill, in US dollars an hour; typical is None without known traffic."""

    name: str
    idle_usd_per_hour: float
    maximum_usd_per_hour: float
    source: str
    typical_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class MixLine:
    """How a pool may buy its nodes, and what an hour of one then costs in US dollars.

    `low` and `high` are the cheapest and the dearest price of the pool's capacity order;
    `expected` weighs its prices by the shares of the stack file, None without them. `list` is the
    price the bill counts with. `assumed` says in words what these prices take for granted.
    """

    pool: str
    instance_type: str
    capacity: tuple[CapacityType, ...]
    list_usd_per_hour: float
    low_usd_per_hour: float
    high_usd_per_hour: float
    expected_usd_per_hour: float | None
    idle_nodes: int
    typical_nodes: int | None
    maximum_nodes: int
    assumed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What a model's tokens cost at its mean traffic, input and output together.

    Its share of its pool's typical cost, by GPUs; what the stack costs beside its pools is left
    out, as no token makes it grow.
    """

    model: str
    replicas: int
    usd_per_hour: float
    usd_per_million_tokens: float


@dataclass(frozen=True, slots=True)
class MoneyRange:
    """US dollars an hour, from the cheapest to the dearest way to buy the nodes."""

    low_usd_per_hour: float
    high_usd_per_hour: float
    expected_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class CostPlan:
    """What the stack costs with no traffic, at its mean traffic and with every node running.

    `untold` names the models whose mean replicas would have to be known for the typical cost.
    """

    lines: tuple[CostLine, ...]
    unpriced: tuple[str, ...] = ()
    mix: tuple[MixLine, ...] = ()
    tokens: tuple[TokenCost, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def idle_usd_per_hour(self) -> float:
        """With no request at all."""
        return sum(line.idle_usd_per_hour for line in self.lines)

    @property
    def typical_usd_per_hour(self) -> float | None:
        """At the models' mean traffic, on demand; None where a position has no such figure."""
        known = [line.typical_usd_per_hour for line in self.lines]
        return None if None in known or not known else sum(usd for usd in known if usd is not None)

    @property
    def maximum_usd_per_hour(self) -> float:
        """With every pool at its limit, on demand."""
        return sum(line.maximum_usd_per_hour for line in self.lines)

    @property
    def idle_range(self) -> MoneyRange:
        """The idle cost as the pools may buy their nodes."""
        return self._range(self.idle_usd_per_hour, [line.idle_nodes for line in self.mix])

    @property
    def typical_range(self) -> MoneyRange | None:
        """The typical cost as the pools may buy their nodes; None where it is not known."""
        total = self.typical_usd_per_hour
        return None if total is None else self._range(total, [m.typical_nodes for m in self.mix])

    @property
    def maximum_range(self) -> MoneyRange:
        """The cost at every limit as the pools may buy their nodes."""
        return self._range(self.maximum_usd_per_hour, [line.maximum_nodes for line in self.mix])

    def _range(self, total_usd_per_hour: float, nodes: list[int] | list[int | None]) -> MoneyRange:
        counted = [(count or 0, line) for count, line in zip(nodes, self.mix, strict=True)]

        def bought(price: Callable[[MixLine], float]) -> float:
            more = sum(n * (price(line) - line.list_usd_per_hour) for n, line in counted)
            return total_usd_per_hour + more

        known = all(line.expected_usd_per_hour is not None for line in self.mix)
        return MoneyRange(
            bought(lambda line: line.low_usd_per_hour),
            bought(lambda line: line.high_usd_per_hour),
            bought(lambda line: line.expected_usd_per_hour or 0.0) if known else None,
        )
