"""Stacks for tests: a good one with some values changed, planned or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bad_stacks import A100, BIG, L40S, SMALL, C, good, with_value

from coldstart.catalog import Catalog
from coldstart.planning import PlanFailedError, StackPlan, plan_stack
from coldstart.spec import SpecError, StackSpec, parse_config

__all__ = ["A100", "BIG", "L40S", "SMALL", "C", "planned", "refused", "spec_of"]

ROOT = Path(__file__).parents[2]
Changes = Mapping[Any, Any]
"""New values by their `Key` in the file; a dict of longer and shorter keys has no closer type."""


def spec_of(changes: Changes | None = None, stack: str = "eks-prod") -> StackSpec:
    """The spec of a good stack with those values changed."""
    config: dict[str, Any] = dict(good(stack))
    for key, value in (changes or {}).items():
        config = with_value(config, key, value)
    return parse_config(config, stack=stack, file=f"stacks/Pulumi.{stack}.yaml", root=ROOT)


def planned(
    changes: Changes | None = None, stack: str = "eks-prod", catalog: Catalog | None = None
) -> StackPlan:
    """The plan of that spec."""
    return plan_stack(spec_of(changes, stack), catalog)


def refused(changes: Changes, stack: str = "eks-prod") -> str:
    """What is said about values that cannot work."""
    with pytest.raises((SpecError, PlanFailedError)) as caught:
        planned(changes, stack)
    return str(caught.value)
