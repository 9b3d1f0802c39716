"""A create fails somewhere in the whole program: the next up converges."""

from __future__ import annotations

import pytest

from coldstart.engine import Toolchain
from tests.engine.convergence import converge
from tests.program.harness import run_program

STACK = "eks-dev"
SPREAD = 10


@pytest.fixture(scope="module")
def total() -> int:
    """Creates of a clean up, counted without the engine."""
    resources = run_program(STACK).resources
    return sum(r.custom and not r.type.startswith("pulumi:") for r in resources)


@pytest.mark.parametrize("part", range(SPREAD))
def test_the_up_after_a_failed_create_loses_nothing_and_makes_nothing_twice(
    part: int, total: int, toolchain: Toolchain
) -> None:
    k = 1 + part * (total - 1) // (SPREAD - 1)
    outcome = converge(STACK, k, toolchain)
    assert outcome.met, f"create {k} was never reached"
    assert outcome.faults == ()
    assert outcome.made == total
