"""Names in a stack file that must exist: accelerators, models, instance types, pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldstart.catalog import Catalog, load
from coldstart.spec.problems import Problem, did_you_mean, quoted


def reference_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Problems of the raw stack data, so that they show beside errors of shape."""
    catalog = load()
    problems: list[Problem] = []
    pools = data.get("nodePools")
    pools = pools if isinstance(pools, Mapping) else {}
    for name, pool in pools.items():
        if isinstance(pool, Mapping):
            problems += _pool_problems(f"nodePools.{name}", pool, catalog)
    models = data.get("models")
    for name, model in models.items() if isinstance(models, Mapping) else ():
        if isinstance(model, Mapping):
            problems += _model_problems(f"models.{name}", model, pools, catalog)
    return problems + _cluster_problems(data, catalog)


def _pool_problems(path: str, pool: Mapping[str, Any], catalog: Catalog) -> list[Problem]:
    accelerator = pool.get("accelerator")
    if not isinstance(accelerator, str):
        return []
    offered = {t.accelerator for t in catalog.instance_types.values() if t.accelerator}
    if accelerator not in offered:
        return [
            Problem(
                f"{path}.accelerator",
                f"{quoted(accelerator)} is not an accelerator of this "
                f"platform{did_you_mean(accelerator, offered)}",
            )
        ]
    fitting = {t.name for t in catalog.instances_with(accelerator)}
    named = pool.get("instanceTypes")
    return [
        Problem(
            f"{path}.instanceTypes[{i}]",
            f"{quoted(name)} does not carry {accelerator}{did_you_mean(name, fitting)}",
        )
        for i, name in enumerate(named if isinstance(named, list) else [])
        if isinstance(name, str) and name not in fitting
    ]


def _model_problems(
    path: str, model: Mapping[str, Any], pools: Mapping[str, Any], catalog: Catalog
) -> list[Problem]:
    problems: list[Problem] = []
    pool = model.get("nodePool")
    if isinstance(pool, str) and pool not in pools:
        problems.append(
            Problem(
                f"{path}.nodePool",
                f"{quoted(pool)} is not a pool of this stack{did_you_mean(pool, map(str, pools))}",
            )
        )
    source = model.get("source")
    if isinstance(source, str) and source.startswith("hf://"):
        repository = source.removeprefix("hf://").partition("@")[0]
        if repository not in catalog.models:
            problems.append(
                Problem(
                    f"{path}.source",
                    f"{quoted(repository)} is not in the model catalog"
                    f"{did_you_mean(repository, catalog.models)}",
                )
            )
    return problems


def _cluster_problems(data: Mapping[str, Any], catalog: Catalog) -> list[Problem]:
    cluster = data.get("cluster")
    cluster = cluster if isinstance(cluster, Mapping) else {}
    problems: list[Problem] = []
    system = cluster.get("systemInstanceType")
    plain = {t.name for t in catalog.instance_types.values() if t.accelerator is None}
    if isinstance(system, str) and system not in plain:
        problems.append(
            Problem(
                "cluster.systemInstanceType",
                f"{quoted(system)} is not a known type without GPUs{did_you_mean(system, plain)}",
            )
        )
    version = cluster.get("version")
    if isinstance(version, str) and version not in catalog.eks_releases:
        problems.append(
            Problem(
                "cluster.version",
                f"{quoted(version)} is outside the supported window"
                f"{did_you_mean(version, catalog.eks_releases)}",
            )
        )
    return problems
