"""What a shell offers after `coldstart plan <TAB>`; a file that cannot be read offers nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from coldstart.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = (
    "natGateways",
    "sharedFileSystem",
    "os",
    "localStorage",
    "image",
    "capacity",
    "tensorParallel",
    "weights",
    "loadFormat",
    "compileCache",
    "rollout",
    "waitingRequests",
    "fit",
    "coldStart",
    "firstNode",
    "warmNode",
    "baseline",
    "levers",
    "coldStartBudget",
    "scaling",
    "drain",
    "cost",
)
"""What `explain` knows of a model, so that a shell need not wait for a plan; a test holds it."""


def stacks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stacks that have a file."""
    files = sorted((_root(ctx) / "stacks").glob("Pulumi.*.yaml"))
    return _starting((f.name[len("Pulumi.") : -len(".yaml")] for f in files), incomplete)


def models_and_pools(ctx: typer.Context, incomplete: str) -> list[str]:
    """Models and node pools of the stack that stands before on the line."""
    from coldstart.spec import PROJECT, read_config, stack_file

    path = stack_file(_root(ctx), str(ctx.params.get("stack")))
    try:
        config, _ = read_config(path, path.name)
    except UserError:
        return []
    named = [config.get(f"{PROJECT}:{key}") for key in ("models", "nodePools")]
    return _starting((n for part in named if isinstance(part, dict) for n in part), incomplete)


def decisions(incomplete: str) -> list[str]:
    """What can be explained."""
    return _starting(DECISIONS, incomplete)


def catalog_models(incomplete: str) -> list[str]:
    """Models of the catalog."""
    from coldstart.catalog import load

    return _starting(load().models, incomplete)


def regions(incomplete: str) -> list[str]:
    """Regions with prices."""
    from coldstart.catalog import load

    return _starting(sorted({region for region, _ in load().prices}), incomplete)


def _root(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("root") or ROOT)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
