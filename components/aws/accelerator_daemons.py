"""The NVIDIA device plugin and the DCGM exporter, on GPU nodes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, ResourceOptions

from coldstart.planning import ChartPlan, PoolPlan
from coldstart.spec.model import OperatingSystem
from components.aws.gpu_nodes import on_nodes_of, tolerations_of
from components.charts import privileged_namespace, release

GPU_LABEL = {"nvidia.com/gpu.present": "true"}
PLUGIN_RESOURCES = {
    "requests": {"cpu": "50m", "memory": "64Mi"},
    "limits": {"memory": "128Mi"},
}
EXPORTER_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "512Mi"},
    "limits": {"memory": "1Gi"},
}
"""The exporter's chart limits it to 512 MiB, which profiling of eight GPUs can exceed."""


@dataclass(frozen=True)
class AcceleratorDaemonsArgs:
    """Which charts, and the pools whose nodes they serve."""

    device_plugin: ChartPlan
    exporter: ChartPlan
    pools: Sequence[PoolPlan]
    environment: str


class AcceleratorDaemons(ComponentResource):
    """What makes GPUs allocatable and visible.

    Without a node label from the pool the plugin would wait for node feature discovery: two more
    images and a label before the first GPU is allocatable, in the middle of every cold start.
    """

    def __init__(
        self, name: str, args: AcceleratorDaemonsArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:AcceleratorDaemons", name, opts=opts)
        child = ResourceOptions(parent=self)
        without_plugin = pools_without_plugin(args.pools)
        wanted = [(args.exporter, exporter_values(args.pools))]
        if without_plugin:
            wanted.append((args.device_plugin, device_plugin_values(without_plugin)))
        for chart, values in wanted:
            namespace = privileged_namespace(
                f"{name}-{chart.namespace}", chart.namespace, args.environment, child
            )
            release(
                f"{name}-{chart.name}",
                chart,
                values,
                ResourceOptions.merge(child, ResourceOptions(depends_on=[namespace])),
                skip_await=True,
            )
        self.register_outputs({"pools": [pool.name for pool in args.pools]})


def pools_without_plugin(pools: Sequence[PoolPlan]) -> list[PoolPlan]:
    """Pools whose operating system brings no device plugin; Bottlerocket's NVIDIA variant does."""
    return [p for p in pools if p.operating_system.value is not OperatingSystem.BOTTLEROCKET]


def device_plugin_values(pools: Sequence[PoolPlan]) -> dict[str, Any]:
    """The plugin alone: no feature discovery, whose labels the pools already carry."""
    return {
        "nfd": {"enabled": False},
        "gfd": {"enabled": False},
        "nodeSelector": GPU_LABEL,
        "affinity": on_nodes_of(pools),
        "tolerations": tolerations_of(pools),
        "resources": PLUGIN_RESOURCES,
    }


def exporter_values(pools: Sequence[PoolPlan]) -> dict[str, Any]:
    """Without a ServiceMonitor, whose CRD comes only with the workload layer's monitoring."""
    return {
        "serviceMonitor": {"enabled": False},
        "nodeSelector": GPU_LABEL,
        "affinity": on_nodes_of(pools),
        "tolerations": tolerations_of(pools),
        "resources": EXPORTER_RESOURCES,
    }
