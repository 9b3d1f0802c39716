"""Spegel: nodes of a pool serve image layers to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from coldstart.planning import ChartPlan, PoolPlan
from components.aws.gpu_nodes import on_nodes_of
from components.charts import privileged_namespace, release

RESOLVE_TIMEOUT = "1s"
"""The chart's 20 ms ends a look-up before a peer in another zone can answer. Every blob that no
peer has waits this long, manifests at most 3 s (Spegel v0.7.4, pkg/registry), so not longer."""
RESOLVE_RETRIES = 3
"""Peers tried for one blob before the registry is asked: the chart's default."""
PEER_PORTS = {"layers": (5000, 5001), "mirrors": (30020, 30021)}
"""Registry and router of the pods; host port and node port of the mirror (chart v0.7.4)."""


@dataclass(frozen=True)
class PeerMirrorArgs:
    """`registries` are the hosts whose images are shared, without scheme."""

    chart: ChartPlan
    pools: Sequence[PoolPlan]
    registries: Sequence[str]
    node_security_group_id: Input[str]
    environment: str


class PeerMirror(ComponentResource):
    """Spegel on the nodes of the pools that were decided for it.

    The rules between nodes say what EKS's own rule of the cluster security group happens to allow:
    where an operator narrows that one, pulls would go back to the registry without a word.
    """

    def __init__(
        self, name: str, args: PeerMirrorArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:PeerMirror", name, opts=opts)
        child = ResourceOptions(parent=self)
        for use, (first, last) in PEER_PORTS.items():
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-{use}",
                security_group_id=args.node_security_group_id,
                referenced_security_group_id=args.node_security_group_id,
                description=f"Image {use} between nodes",
                ip_protocol="tcp",
                from_port=first,
                to_port=last,
                opts=child,
            )
        namespace = privileged_namespace(
            f"{name}-namespace", args.chart.namespace, args.environment, child
        )
        release(
            f"{name}-spegel",
            args.chart,
            mirror_values(args.pools, args.registries),
            ResourceOptions.merge(child, ResourceOptions(depends_on=[namespace])),
            skip_await=True,
        )
        self.register_outputs({"pools": [pool.name for pool in args.pools]})


def mirror_values(pools: Sequence[PoolPlan], registries: Sequence[str]) -> dict[str, Any]:
    """The chart's values. Its tolerations stay as they are: they tolerate every taint, and a
    shorter list would start the mirror after the pulls it is there for."""
    return {
        "affinity": on_nodes_of(pools),
        "spegel": {
            "mirrorResolveTimeout": RESOLVE_TIMEOUT,
            "mirrorResolveRetries": RESOLVE_RETRIES,
            "mirroredRegistries": [f"https://{host}" for host in registries],
            # A tag answered by a peer may be older than the registry's; digests cannot be.
            "resolveTags": False,
        },
    }
