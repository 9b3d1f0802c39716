"""A create fails with the object there but not ready, somewhere in the whole program."""

from __future__ import annotations

import pytest

from coldstart.engine import Toolchain
from tests.engine.convergence import SPREAD, assert_converges


@pytest.mark.parametrize("part", range(SPREAD))
def test_the_next_up_loses_nothing_and_makes_nothing_twice(
    part: int, creates_of_eks_dev: int, toolchain: Toolchain
) -> None:
    assert_converges(part, "partial", creates_of_eks_dev, toolchain)
