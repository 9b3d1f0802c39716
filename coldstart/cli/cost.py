"""What stands below the bill: how nodes may be bought, what tokens cost, what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

MOMENTS = (("idleRange", "idle"), ("typicalRange", "typical"), ("maximumRange", "at maximum"))


def print_cost_details(console: Console, cost: Mapping[str, Any]) -> None:
    """Ranges and assumptions of `report.summary`'s cost, in US dollars an hour."""
    if cost["mix"]:
        ranges = [f"{_span(cost[key])} {words}" for key, words in MOMENTS if cost[key]]
        console.print(f"As the pools may buy their nodes: {', '.join(ranges)}")
    for pool in cost["mix"]:
        order = ", ".join(pool["capacity"])
        price = _span(
            {k: pool[k] for k in ("lowUsdPerHour", "highUsdPerHour", "expectedUsdPerHour")}
        )
        text = f"  {pool['pool']}: {pool['instanceType']} at {price} ({order})"
        console.print(Text("; ".join([text, *pool["assumed"]]), style="dim"), soft_wrap=True)
    for tokens in cost["tokens"]:
        console.print(
            f"Tokens of {tokens['model']}: {tokens['usdPerMillionTokens']:.2f} USD per million at "
            f"its mean traffic, replicas: {tokens['replicas']}",
        )
    if cost["typicalUsdPerHour"] is None and cost["untold"]:
        names = ", ".join(cost["untold"])
        console.print(
            f"No typical cost: it takes the mean replicas of {names}, which follow from traffic",
            style="dim",
        )


def _span(money: Mapping[str, Any]) -> str:
    low, high = money["lowUsdPerHour"], money["highUsdPerHour"]
    expected = money["expectedUsdPerHour"]
    text = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    if expected is None or f"{low:.2f}" == f"{high:.2f}":
        return text
    return f"{text}, expected {expected:.2f},"
