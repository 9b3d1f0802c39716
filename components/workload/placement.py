"""Which nodes a pod runs on."""

from __future__ import annotations

from collections.abc import Iterable

from pulumi_kubernetes import core, meta

from coldstart.planning import PoolPlan, Taint
from components.workload.names import NODE_POOL_LABEL_PREFIX


def node_selector(pool: PoolPlan) -> dict[str, str]:
    """The label that only this pool's nodes carry."""
    return {key: value for key, value in pool.labels.items()
            if key.startswith(NODE_POOL_LABEL_PREFIX)}  # fmt: skip


def tolerations(taints: Iterable[Taint]) -> list[core.v1.TolerationArgs]:
    """One toleration per taint, whatever its value."""
    return [
        core.v1.TolerationArgs(key=taint.key, operator="Exists", effect=taint.effect)
        for taint in taints
    ]


def spread(selected: dict[str, str]) -> list[core.v1.TopologySpreadConstraintArgs]:
    """Over zones and nodes where possible; a replica in a full zone beats no replica."""
    return [
        core.v1.TopologySpreadConstraintArgs(
            topology_key=key,
            max_skew=1,
            when_unsatisfiable="ScheduleAnyway",
            label_selector=meta.v1.LabelSelectorArgs(match_labels=selected),
            match_label_keys=["pod-template-hash"],
        )
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
