"""What is done later, on SimPy's clock."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from simpy import Environment
from simpy.events import Event


def later(environment: Environment, seconds: float, act: Callable[[], None]) -> None:
    """Do something once, in so many seconds."""
    environment.timeout(seconds).callbacks.append(lambda _: act())


def every(
    environment: Environment, seconds: float, act: Callable[[], None], first_seconds: float
) -> None:
    """Do something again and again, the first time in `first_seconds`."""

    def process() -> Generator[Event, Any, None]:
        yield environment.timeout(first_seconds)
        while True:
            act()
            yield environment.timeout(seconds)

    environment.process(process())
