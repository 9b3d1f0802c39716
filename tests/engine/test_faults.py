"""A provider that fails at the k-th create: the next up converges, nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from coldstart.engine import Rehearsal
from offline.world import World

STACK = "whole"
REAL_RESOURCES = 10


@pytest.mark.parametrize("k", (1, 6, REAL_RESOURCES))
def test_an_up_after_a_failed_create_converges(
    k: int, program: Callable[[str], Path], rehearse: Callable[[Path], Rehearsal]
) -> None:
    rehearsal = rehearse(program("toy"))
    # Both ways to fail: before anything exists, and with the object there but not ready.
    mode = "partial" if k % 2 else "before"
    failed = rehearsal.up(STACK, fail_create=k, fail_mode=mode)
    assert not failed.ok
    assert any("COLDSTART_FAIL_CREATE" in error for error in failed.errors)

    assert rehearsal.up(STACK).ok
    world = World(rehearsal.world_path)
    objects = world.objects()
    assert len(objects) == REAL_RESOURCES
    made = Counter(event.urn for event in world.history() if event.action == "create")
    assert set(made.values()) == {1}, "a resource was made twice"
    in_state = {resource["urn"] for resource in _resources(rehearsal.export(STACK))}
    assert {thing.urn for thing in objects} <= in_state, "a resource was lost from the state"


def test_a_fault_beyond_the_last_create_is_never_met(
    program: Callable[[str], Path], rehearse: Callable[[Path], Rehearsal]
) -> None:
    result = rehearse(program("joined")).up("below", fail_create=REAL_RESOURCES)
    assert result.ok


def _resources(state: dict) -> list[dict]:
    return state["deployment"]["resources"]
