"""Names in a stack file that must exist: accelerators, models, instance types, pools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coldstart.catalog import Catalog, Model, load
from coldstart.catalog.hugging_face import FOLDER, ModelFileError, local_model
from coldstart.spec.problems import Problem, did_you_mean, quoted

KINDS = ("reserved", "spot", "on-demand")
ON_DEMAND = "on-demand"
"""Ways to buy a node, as a stack file writes them; on demand is what a pool does by default."""
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""No part begins with a dot, so that a repository is never a path out of its folder."""


def reference_problems(
    data: Mapping[str, Any], root: Path
) -> tuple[list[Problem], dict[str, Model]]:
    """Problems of the raw stack data, so that they show beside errors of shape.

    With them the models that the catalog lacks and whose config.json lies below `root`.
    """
    catalog = load()
    problems: list[Problem] = []
    pools = data.get("nodePools")
    pools = pools if isinstance(pools, Mapping) else {}
    for name, pool in pools.items():
        if isinstance(pool, Mapping):
            problems += _pool_problems(f"nodePools.{name}", pool, catalog)
    models = data.get("models")
    local: dict[str, Model] = {}
    for name, model in models.items() if isinstance(models, Mapping) else ():
        if isinstance(model, Mapping):
            problems += _pool_of_model(f"models.{name}", model, pools)
            problems += _source_problems(f"models.{name}", model, catalog, root, local)
    problems += _price_problems(data.get("prices"), pools, catalog)
    return problems + _cluster_problems(data, catalog), local


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


def _pool_of_model(path: str, model: Mapping[str, Any], pools: Mapping[str, Any]) -> list[Problem]:
    pool = model.get("nodePool")
    if not isinstance(pool, str) or pool in pools:
        return []
    known = did_you_mean(pool, map(str, pools))
    return [Problem(f"{path}.nodePool", f"{quoted(pool)} is not a pool of this stack{known}")]


def _source_problems(
    path: str, model: Mapping[str, Any], catalog: Catalog, root: Path, local: dict[str, Model]
) -> list[Problem]:
    """The model's repository must be in the catalog, or its config.json below `root`."""
    source = model.get("source")
    if not isinstance(source, str) or not source.startswith("hf://"):
        return []
    repository = source.removeprefix("hf://").partition("@")[0]
    if repository in catalog.models:
        return []
    try:
        found = local_model(root, repository) if _REPOSITORY.fullmatch(repository) else None
    except ModelFileError as error:
        return [Problem(f"{path}.source", str(error))]
    if found is not None:
        local[repository] = found
        return []
    return [
        Problem(
            f"{path}.source",
            f"{quoted(repository)} is not in the model catalog"
            f"{did_you_mean(repository, catalog.models)}, or put its config.json into "
            f"{FOLDER}/{repository}/",
        )
    ]


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


def _price_problems(prices: object, pools: Mapping[str, Any], catalog: Catalog) -> list[Problem]:
    """Prices of instance types that do not exist, shares that a pool cannot buy."""
    if not isinstance(prices, Mapping):
        return []
    problems: list[Problem] = []
    instances, shares = prices.get("instances"), prices.get("shares")
    for name in instances if isinstance(instances, Mapping) else ():
        if name not in catalog.instance_types:
            problems.append(
                Problem(
                    f"prices.instances.{name}",
                    f"is not a known instance type{did_you_mean(name, catalog.instance_types)}",
                )
            )
    for name, share in shares.items() if isinstance(shares, Mapping) else ():
        path, pool = f"prices.shares.{name}", pools.get(name)
        if not isinstance(pool, Mapping):
            known = did_you_mean(name, map(str, pools))
            problems.append(Problem(path, f"is not a pool of this stack{known}"))
        elif isinstance(share, Mapping):
            problems += _share_problems(path, share, pool.get("capacity", [ON_DEMAND]))
    return problems


def _share_problems(path: str, share: Mapping[str, Any], capacity: object) -> list[Problem]:
    bought = capacity if isinstance(capacity, list) else []
    foreign = [kind for kind in share if kind in KINDS and kind not in bought]
    if foreign:
        return [
            Problem(
                f"{path}.{kind}", f"the pool buys {' and '.join(map(str, bought))}, never {kind}"
            )
            for kind in foreign
        ]
    percents = [value for value in share.values() if isinstance(value, int | float)]
    total = round(sum(percents), 6)
    if len(percents) < len(share) or total == 100:
        return []
    if total > 100:
        return [Problem(path, f"adds up to {total:g} percent; 100 are all nodes")]
    if ON_DEMAND in bought and ON_DEMAND not in share:
        return []
    return [
        Problem(path, f"adds up to {total:g} percent; say how the other {100 - total:g} are bought")
    ]
