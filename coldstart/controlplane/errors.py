"""What can go wrong with a control plane, for the person who must act."""

from __future__ import annotations

from coldstart.errors import UserError


class ControlPlaneError(UserError):
    """The control plane cannot be started or used as it stands; the message says what to do."""


class DeadlineError(ControlPlaneError):
    """What was awaited did not come; the message says what was last seen."""


class Unreachable(ControlPlaneError):  # noqa: N818 - the word of the contract
    """The API server gave no answer at all."""


class Refused(Exception):  # noqa: N818 - the word of the contract
    """The API server said no.

    `message` is the server's own, whole; `details` its `Status.details`, empty when there are none.
    """

    def __init__(self, status: int, reason: str, message: str, details: dict | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}
