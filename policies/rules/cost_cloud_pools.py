"""What GPU node pools of the clouds' own Kubernetes services can cost."""

from __future__ import annotations

from collections.abc import Iterator

from policies.reading.cloud_pools import CloudPool, gpu_pools_of, is_cloud_pool_type
from policies.reading.values import Resource, judge_each
from policies.rule import Option, ResourceRule, Settings

_MAXIMUM_NODES = 100


def _judge_maximum(resource: Resource, settings: Settings) -> Iterator[str]:
    most_nodes = int(settings["maximumNodes"])

    def judge(pool: CloudPool) -> Iterator[str]:
        if not pool.autoscaled:
            return
        if pool.maximum is None:
            yield (
                f"GPU node pool {pool.name} scales by itself and {pool.fields} is not set, so one "
                "runaway autoscaler buys GPU nodes without an end. "
                f"Set {pool.fields} to the number of nodes the budget carries."
            )
        elif pool.maximum > most_nodes:
            yield (
                f"GPU node pool {pool.name} may grow to {pool.maximum} nodes ({pool.fields}), more "
                f"than the {most_nodes} that this rule counts as a maximum. "
                "Lower it to the number of nodes the budget carries."
            )

    yield from judge_each(gpu_pools_of(resource), judge)


REQUIRE_MAXIMUM = ResourceRule(
    code="CS802",
    name="gpu-nodepool-require-maximum",
    concern="cost",
    title="Every autoscaled GPU pool has a maximum",
    description="A GPU node pool of EKS, GKE, AKS or DOKS that scales by itself must have a "
    "maximum number of nodes that is a real one.",
    severity="high",
    tags=("aws", "gcp", "azure", "digitalocean", "cost"),
    remediation="Set the pool's maximum (maxSize, maxNodeCount, maxCount, maxNodes) to the number "
    "of GPU nodes the budget carries; on GKE maxNodeCount counts per zone.",
    reason="The cluster autoscaler buys as long as pods are pending; only the maximum stops it, "
    "and the clouds accept maxima of a thousand nodes.",
    links=(
        "https://cloud.google.com/kubernetes-engine/docs/concepts/cluster-autoscaler",
        "https://learn.microsoft.com/en-us/azure/aks/cluster-autoscaler-overview",
        "https://docs.digitalocean.com/products/kubernetes/how-to/autoscale/",
    ),
    options=(
        Option(
            "maximumNodes",
            {"type": "integer", "minimum": 1, "default": _MAXIMUM_NODES},
            _MAXIMUM_NODES,
            "Most nodes of one GPU pool; a higher maximum counts as none.",
        ),
    ),
    reads=is_cloud_pool_type,
    judge=_judge_maximum,
)
