"""Which requests finish while a replica stops.

A replica that is told to stop goes on with what runs: until its endpoint is out of every proxy, and
then for the engine's shutdown timeout. A spot interruption ends all of it when the notice is over,
less the time the engine needs to leave. "GPU Serving & Autoscaling", leetllm.com, spot drain
deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coldstart.capacity.lengths import Lengths
from coldstart.catalog import Catalog

NOTICE_LIMITS = {
    "aws": "spot_interruption_notice_seconds",
    "azure": "azure_spot_notice_seconds",
    "google": "google_spot_pod_seconds",
}
"""The limit that says how long pods have after a spot notice, by cloud. On Google the last half of
the notice is for system pods."""


def spot_notice_seconds(cloud: str, catalog: Catalog) -> float:
    """What a cloud leaves serving pods between the notice and the end.

    Raises KeyError for a cloud that gives no notice or is not known.
    """
    return catalog.limit(NOTICE_LIMITS[cloud]).value


@dataclass(frozen=True, slots=True)
class DrainWindow:
    """How long requests may still run: in an orderly stop, and after a spot notice.

    `running_seconds` counts for requests that run when the stop begins; those that still arrive
    while the endpoint is removed have only `arriving_seconds`.
    """

    running_seconds: float
    arriving_seconds: float


def stop_window(endpoint_removal_seconds: float, shutdown_timeout_seconds: float) -> DrainWindow:
    """An orderly stop: a rollout, a scale-down, a node that is consolidated."""
    return DrainWindow(
        endpoint_removal_seconds + shutdown_timeout_seconds, shutdown_timeout_seconds
    )


def notice_window(
    notice_seconds: float, endpoint_removal_seconds: float, teardown_seconds: float
) -> DrainWindow:
    """After a spot notice: what remains once the engine has left before the end."""
    budget = max(0.0, notice_seconds - teardown_seconds)
    return DrainWindow(budget, max(0.0, budget - endpoint_removal_seconds))


def earlier(first: DrainWindow, second: DrainWindow) -> DrainWindow:
    """What is left where both deadlines hold."""
    return DrainWindow(
        min(first.running_seconds, second.running_seconds),
        min(first.arriving_seconds, second.arriving_seconds),
    )


def finishing(remaining_seconds: Mapping[str, float], budget_seconds: float) -> Mapping[str, bool]:
    """Which of these requests finish within the budget; the others have to be sent again."""
    return {name: left <= budget_seconds for name, left in remaining_seconds.items()}


def finish_share(durations_seconds: Lengths, window_seconds: float) -> float:
    """The share of the requests running at any moment that finish within `window_seconds`.

    Running requests are longer than the average one, and caught in the middle: what they have left
    is distributed by the equilibrium law, E[min(X, t)] / E[X].
    """
    return durations_seconds.mean_up_to(window_seconds) / durations_seconds.mean
