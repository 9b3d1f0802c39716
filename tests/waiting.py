"""Waits of the tests, each with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from coldstart.controlplane.supervisor import identity

DEADLINE_SECONDS = 30
_POLL_SECONDS = 0.01


def until(
    probe: Callable[[], object], what: str, deadline_seconds: float = DEADLINE_SECONDS
) -> None:
    """Return when `probe` holds; fails, naming `what` was waited for, at the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while not probe():
        assert time.monotonic() < deadline, f"waited {deadline_seconds} s for {what}"
        time.sleep(_POLL_SECONDS)


def gone(*pids: int) -> bool:
    """Whether none of these processes is there any more."""
    return all(identity(pid) is None for pid in pids)
