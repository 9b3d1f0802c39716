"""One builder at a time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.2


@contextmanager
def locked(
    path: Path, deadline_seconds: float, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the system frees it when the process ends in any way.

    `waiting` is called once when another process has it. Raises TimeoutError past the deadline.
    """
    deadline = time.monotonic() + deadline_seconds
    said = False
    with path.open("a+b") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"another process has held {path} for {deadline_seconds:g} s"
                    ) from None
                if not said:
                    waiting()
                    said = True
                time.sleep(POLL_SECONDS)
        yield
