"""Helm releases of pinned charts, and namespaces for charts that run on nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.helm.v3 import Release

from coldstart.planning import ChartPlan

INSTALL_TIMEOUT_SECONDS = 600


def release(
    name: str,
    chart: ChartPlan,
    values: Mapping[str, Input[Any]],
    opts: ResourceOptions,
    *,
    skip_crds: bool = False,
    skip_await: bool = False,
) -> Release:
    """A release of `chart`; one that fails is rolled back, so that the next run can repeat it.

    `skip_await` is for DaemonSets on GPU nodes: an update must not fail because one of many nodes
    is being replaced.
    """
    oci = chart.repository.startswith("oci://")
    return Release(
        name,
        name=chart.name,
        chart=f"{chart.repository}/{chart.chart}" if oci else chart.chart,
        repository_opts=None if oci else {"repo": chart.repository},
        version=chart.version,
        namespace=chart.namespace,
        values=values,
        skip_crds=skip_crds,
        skip_await=skip_await,
        atomic=not skip_await,
        timeout=INSTALL_TIMEOUT_SECONDS,
        opts=opts,
    )


def privileged_namespace(
    name: str, namespace: str, environment: str, opts: ResourceOptions
) -> kubernetes.core.v1.Namespace:
    """A namespace for DaemonSets that need the node: hostPath or added capabilities."""
    return kubernetes.core.v1.Namespace(
        name,
        metadata={
            "name": namespace,
            "labels": {
                "coldstart.dev/environment": environment,
                "pod-security.kubernetes.io/enforce": "privileged",
            },
        },
        opts=opts,
    )
