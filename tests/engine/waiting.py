"""Waits of the tests, each with a deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

DEADLINE_SECONDS = 30.0


def until(condition: Callable[[], object], what: str) -> None:
    """Return when `condition` holds; fails, naming `what` was waited for, at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {DEADLINE_SECONDS} s"
        time.sleep(0.01)


def gone(process: int) -> bool:
    """Whether there is no process with this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False
