"""What a simulation found, as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coldstart.simulation.series import Point, ScaleEvent


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of seconds, by nearest rank; None where nothing was measured."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Requests:
    """What became of the requests: the last four add up to those that arrived.

    `held` were kept by the waking proxy for a while, `rejected` found no place, too short a wait or
    too small an engine, `cut` were lost with a replica, `unfinished` ran when the patience ended.
    """

    arrived: int
    held: int
    served: int
    rejected: int
    cut: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """One run.

    `gpu_hours` are those of the nodes that were paid for, `ready_gpu_hours` those of replicas that
    could serve. `slo_share` is the share of all requests that were served and kept the objective,
    None without one. `rejections` are the rejected ones by reason (Rejection). Cold starts are
    counted by node: the first of an empty pool, fresh, warm. `seconds_at_max` is how long as many
    replicas were asked for as may be, `unplaced_seconds` how long replicas, added up, had no node.
    """

    requests: Requests
    rejections: dict[str, int]
    ttft_seconds: Percentiles | None
    tpot_seconds: Percentiles | None
    slo_share: float | None
    seconds: float
    prompt_tokens: int
    output_tokens: int
    most_waiting: int
    most_ready_replicas: int
    most_nodes: int
    cold_starts: dict[str, int]
    scale_ups: int
    scale_downs: int
    seconds_at_max: float
    unplaced_seconds: float
    node_hours: float
    gpu_hours: float
    ready_gpu_hours: float
    cost_usd: float | None
    series: tuple[Point, ...]
    events: tuple[ScaleEvent, ...]

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """The nodes' cost over the tokens they wrote; None without price or tokens."""
        if self.cost_usd is None or not self.output_tokens:
            return None
        return self.cost_usd / self.output_tokens * 1e6

    def data(self) -> dict[str, Any]:
        """For JSON: camelCase keys, the series by column."""
        found = {_camel(key): value for key, value in asdict(self).items() if key != "series"}
        for key in ("requests", "ttftSeconds", "tpotSeconds"):
            if found[key] is not None:
                found[key] = {_camel(name): value for name, value in found[key].items()}
        found["usdPerMillionOutputTokens"] = self.usd_per_million_output_tokens
        found["series"] = {
            _camel(name): [getattr(point, name) for point in self.series]
            for name in Point.__dataclass_fields__
        }
        return found


def percentiles(values: Iterable[float]) -> Percentiles | None:
    """Of the values that are numbers."""
    known = sorted(value for value in values if value == value)
    if not known:
        return None
    return Percentiles(
        mean=math.fsum(known) / len(known),
        p50=_ranked(known, 0.5),
        p90=_ranked(known, 0.9),
        p95=_ranked(known, 0.95),
        p99=_ranked(known, 0.99),
        most=known[-1],
    )


def _ranked(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
