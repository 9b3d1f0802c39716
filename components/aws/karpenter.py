"""Karpenter itself: its CRDs and its controller, as two charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, Input, ResourceOptions

from coldstart.planning import ChartPlan
from components.aws.karpenter_iam import SERVICE_ACCOUNT
from components.charts import release

CONTROLLER_RESOURCES = {
    "requests": {"cpu": "1", "memory": "1Gi"},
    "limits": {"memory": "1Gi"},
}
"""Karpenter's getting-started guide, v1.14; the chart's own default is none at all."""
REPLICAS = 2


@dataclass(frozen=True)
class KarpenterArgs:
    """What the controller has to know.

    `repairs_nodes` replaces nodes that the monitoring agent finds broken.
    """

    crds: ChartPlan
    chart: ChartPlan
    cluster_name: Input[str]
    queue_name: Input[str]
    region: str
    repairs_nodes: bool


class Karpenter(ComponentResource):
    """The CRD chart first and separately, since Helm never upgrades CRDs of a chart's own."""

    def __init__(self, name: str, args: KarpenterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:aws:Karpenter", name, opts=opts)
        child = ResourceOptions(parent=self)
        crds = release(f"{name}-crds", args.crds, {}, child)
        self.release = release(
            f"{name}-controller",
            args.chart,
            controller_values(args),
            ResourceOptions.merge(child, ResourceOptions(depends_on=[crds])),
            skip_crds=True,
        )
        self.register_outputs({"status": self.release.status})


def controller_values(args: KarpenterArgs) -> dict[str, Any]:
    """The chart's values; it ignores unknown keys, so these names are checked by a test."""
    return {
        "replicas": REPLICAS,
        "serviceAccount": {"name": SERVICE_ACCOUNT},
        "settings": {
            "clusterName": args.cluster_name,
            "interruptionQueue": args.queue_name,
            "enableZonalShift": True,
            "featureGates": {"reservedCapacity": True, "nodeRepair": args.repairs_nodes},
        },
        "controller": {
            "resources": CONTROLLER_RESOURCES,
            # Pods cannot ask the instance metadata for it behind a hop limit of one.
            "env": [{"name": "AWS_REGION", "value": args.region}],
        },
    }
