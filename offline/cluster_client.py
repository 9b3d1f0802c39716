"""The connection to a real API server: who it is, and how long a request is tried.

`COLDSTART_CLUSTER` names a file that `coldstart.engine.cluster` writes:
`{"url", "ca", "token", "kubeconfig", "helm", "charts", "patience_seconds"}`, where `helm` and
`charts` may be null.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from coldstart.controlplane.client import Client
from coldstart.controlplane.errors import Unreachable
from coldstart.controlplane.http import Answer, Transport, retry_after_seconds
from offline.package import RefusalError

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 4.0

# A server that answers so has not judged the request.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
# Server-side apply tells of a field that no schema has as an internal error.
_FINAL_INTERNAL_ERRORS = ("typed patch object", "typed live object", "not declared in schema")


@dataclass(frozen=True, slots=True)
class Connection:
    """What the connection file says."""

    url: str
    ca: str
    token: str
    kubeconfig: str
    helm: str | None
    charts: str | None
    patience_seconds: float
    """How long a request is tried while the server does not judge it."""

    @staticmethod
    def read(path: Path) -> Connection:
        """Raises RefusalError when the file is missing or is not one."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return Connection(**found)
        except (OSError, ValueError, TypeError) as error:
            raise RefusalError(f"{path} is no connection file: {error}") from None


def client_of(connection: Connection) -> Client:
    """A client that is as patient as `PatientTransport`."""
    ca = Path(connection.ca)
    transport = PatientTransport(connection.url, ca, connection.token, connection.patience_seconds)
    return Client(connection.url, ca, connection.token, transport=transport)


class PatientTransport(Transport):
    """Tries a request again while the server is absent, busy or unwell, up to a deadline.

    Only requests go through it that do no harm when they are done twice: reads, applies, deletes.
    """

    # Longer than any request of a healthy server takes, far below the 60 s after which it gives up.
    read_seconds = 15.0

    def __init__(self, url: str, ca_file: Path, token: str, patience_seconds: float) -> None:
        super().__init__(url, ca_file, token)
        self._patience_seconds = patience_seconds

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        *,
        content_type: str = "application/json",
        idempotent: bool = False,
    ) -> Answer:
        """As in the base class; raises Unreachable when there was no answer until the deadline."""
        headers = {} if body is None else {"Content-Type": content_type}
        content = None if body is None else json.dumps(body).encode()
        began, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        for attempt in itertools.count(1):
            outcome = self._once(method, path, content, headers, query)
            # Spread, so that callers who were turned away together do not come back together.
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            answer = None
            if isinstance(outcome, requests.Response):
                answer = self._answer(method, path, outcome)
                if not _may_pass(answer):
                    return answer
                wait = max(wait, retry_after_seconds(outcome))
            elapsed = time.monotonic() - began
            if elapsed + wait > self._patience_seconds:
                if answer is not None:
                    return answer
                raise Unreachable(
                    f"the API server at {self.url} did not answer {method} {path}"
                    f" in {attempt} attempts over {elapsed:.0f} s: {outcome}"
                )
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")


def _may_pass(answer: Answer) -> bool:
    if answer.status not in _PASSING:
        return False
    message = str(answer.body.get("message")) if isinstance(answer.body, dict) else ""
    return not any(words in message for words in _FINAL_INTERNAL_ERRORS)
