"""The connection to a real API server: who it is, and how long a request is tried.

`COLDSTART_CLUSTER` names a file that `coldstart.engine.cluster` writes:
`{"url", "ca", "token", "kubeconfig", "helm", "charts", "patience_seconds"}`, where `helm` and
`charts` may be null.
"""

from __future__ import annotations

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
from coldstart.controlplane.http import Answer, Transport
from offline.package import RefusalError

_CONNECT_SECONDS = 5.0
# Longer than any request of a healthy server takes, far below the 60 s after which it gives up.
_READ_SECONDS = 15.0
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
        started, pause, attempts = time.monotonic(), _FIRST_PAUSE_SECONDS, 0
        while True:
            attempts += 1
            answer, wanted, problem = self._once(method, path, body, query, content_type)
            if answer is not None and not _may_pass(answer):
                return answer
            # Spread, so that callers who were turned away together do not come back together.
            wait = max(wanted, pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            if time.monotonic() + wait - started > self._patience_seconds:
                if answer is not None:
                    return answer
                elapsed = time.monotonic() - started
                raise Unreachable(
                    f"the API server at {self.url} did not answer {method} {path}"
                    f" in {attempts} attempts over {elapsed:.0f} s: {problem}"
                )
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _once(
        self, method: str, path: str, body: Any, query: Mapping[str, str] | None, content_type: str
    ) -> tuple[Answer | None, float, str]:
        """The answer, the seconds it asks to wait, and what went wrong without one."""
        try:
            response = self._session.request(
                method,
                self.url + path,
                params=dict(query or {}),
                data=None if body is None else json.dumps(body).encode(),
                headers={} if body is None else {"Content-Type": content_type},
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            return None, 0.0, str(error)
        return self._answer(method, path, response), _retry_after_seconds(response), ""


def _may_pass(answer: Answer) -> bool:
    if answer.status not in _PASSING:
        return False
    message = str(answer.body.get("message")) if isinstance(answer.body, dict) else ""
    return not any(words in message for words in _FINAL_INTERNAL_ERRORS)


def _retry_after_seconds(response: requests.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
