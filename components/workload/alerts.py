"""What tells people that a cold start took longer than planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import apiextensions, meta

from coldstart.planning import ModelPlan
from coldstart.planning.watch import watch
from coldstart.render.alerts import prometheus_rule
from components.workload import names


@dataclass(frozen=True)
class AlertsArgs:
    """The model, its namespace, and what has to exist first: Prometheus with its definitions, the
    namespace."""

    model: ModelPlan
    namespace: str
    after: Sequence[pulumi.Resource]


class Alerts(ComponentResource):
    """One PrometheusRule: seconds of each phase, and an alert for each that takes too long."""

    def __init__(self, name: str, args: AlertsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:workload:Alerts", name, opts=opts)
        apiextensions.CustomResource(
            f"{name}-cold-start",
            api_version="monitoring.coreos.com/v1",
            kind="PrometheusRule",
            metadata=meta.v1.ObjectMetaArgs(
                name="cold-start",
                namespace=args.namespace,
                labels=names.labels(args.model.name, names.SERVER),
            ),
            spec=prometheus_rule(args.model.name, names.ENGINE, watch(args.model)),
            opts=ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        self.register_outputs({})
