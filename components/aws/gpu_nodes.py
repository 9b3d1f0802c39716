"""Which pods may stand on which GPU nodes, as Kubernetes writes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coldstart.planning import PoolPlan


def on_nodes_of(pools: Iterable[PoolPlan]) -> dict[str, Any]:
    """Node affinity for exactly the nodes of `pools`, by the label Karpenter itself puts there."""
    names = [pool.name for decided in pools for pool in decided.capacity.value]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "karpenter.sh/nodepool", "operator": "In", "values": names}
                        ]
                    }
                ]
            }
        }
    }


def tolerations_of(pools: Iterable[PoolPlan]) -> list[dict[str, str]]:
    """Tolerations for every taint of `pools`, start-up taints included.

    A daemon that makes a node usable must not wait for a taint that goes only once it is usable.
    """
    taints = [taint for pool in pools for taint in (*pool.taints, *pool.startup_taints)]
    keys = dict.fromkeys(taint.key for taint in taints)
    return [{"key": key, "operator": "Exists"} for key in keys]
