"""Requests to an API server: identity, timeouts, the one retry policy, warnings, refusals."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from coldstart.controlplane.errors import Refused, Unreachable

CONNECT_SECONDS = 5.0
# The API server itself gives up on a request after 60 s (--request-timeout).
READ_SECONDS = 65.0
_POOL = 16

_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
# A server that takes a minute to say 504 is not asked four times.
_RETRY_SECONDS = 20.0
_PASSING = frozenset({429, 502, 503, 504})
"""Answers that say nothing about the request: too many at once, or nobody behind the door."""

_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
_WARNING = re.compile(r'(\d{3}) (\S+) "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: `body` is decoded JSON, or text where it is not JSON."""

    status: int
    body: Any
    warnings: tuple[str, ...]


def parse_warnings(header: str) -> tuple[str, ...]:
    """The texts of the 299 warnings of one `Warning` header (RFC 7234, quoted strings)."""
    return tuple(
        _ESCAPED.sub(r"\1", text) for code, _, text in _WARNING.findall(header) if code == "299"
    )


class Transport:
    """One identity at one API server, with pooled connections.

    An idempotent request is sent up to four times when the connection failed or the answer was
    429, 502, 503 or 504: the server did not judge it, and doing it twice is doing it once. What the
    server did judge, 500 included, is final. Any other request is sent again only when the
    connection was refused, so that nobody can have seen it.
    """

    read_seconds = READ_SECONDS

    def __init__(self, url: str, ca_file: Path, token: str | None) -> None:
        self.url = url
        self._session = requests.Session()
        # A proxy or a CA bundle of the environment has no say on the loopback address.
        self._session.trust_env = False
        self._session.verify = str(ca_file)
        self._session.mount(url, HTTPAdapter(pool_connections=1, pool_maxsize=_POOL))
        self._session.headers["Accept"] = "application/json"
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"
        self._last = threading.local()

    @property
    def last(self) -> str:
        """The last answer this thread got, in short, for messages about waiting."""
        text, body = getattr(self._last, "seen", ("nothing", None))
        return text if body is None else f"{text}: {_short(body)}"

    def close(self) -> None:
        self._session.close()

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
        """Send one request and give whatever was answered; raises Unreachable without an answer."""
        headers = {} if body is None else {"Content-Type": content_type}
        content = None if body is None else json.dumps(body).encode()
        pause = _FIRST_PAUSE_SECONDS
        began = time.monotonic()
        for attempt in itertools.count(1):
            outcome = self._once(method, path, content, headers, query)
            final = attempt == _ATTEMPTS or time.monotonic() - began > _RETRY_SECONDS
            if isinstance(outcome, requests.Response):
                if final or not idempotent or outcome.status_code not in _PASSING:
                    return self._answer(method, path, outcome)
                pause = max(pause, retry_after_seconds(outcome))
            elif final or not (idempotent or _never_sent(outcome)):
                raise Unreachable(f"{method} {self.url}{path}: no answer: {outcome}")
            time.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None,
    ) -> requests.Response | Exception:
        try:
            return self._session.request(
                method,
                self.url + path,
                params=dict(query or {}),
                data=content,
                headers=dict(headers),
                timeout=(CONNECT_SECONDS, self.read_seconds),
                allow_redirects=False,
            )
        except _NO_ANSWER as error:
            self._last.seen = f"{method} {path}: {error}", None
            return error

    def _answer(self, method: str, path: str, response: requests.Response) -> Answer:
        try:
            body = response.json()
        except ValueError:
            body = response.text
        warnings = tuple(
            text
            for header in response.raw.headers.getlist("Warning")
            # http.client reads headers as Latin-1; Kubernetes writes UTF-8.
            for text in parse_warnings(header.encode("latin-1").decode("utf-8", "replace"))
        )
        # Put into words only when asked: some lists are megabytes, and most answers nobody quotes.
        self._last.seen = f"{method} {path}: {response.status_code}", body
        return Answer(response.status_code, body, warnings)


def refusal(answer: Answer) -> Refused:
    """The server's own words for a status of 400 and more."""
    body = answer.body
    if isinstance(body, dict) and body.get("kind") == "Status":
        return Refused(
            answer.status,
            body.get("reason") or "Unknown",
            body.get("message") or "",
            body.get("details"),
        )
    text = body if isinstance(body, str) else json.dumps(body)
    return Refused(answer.status, "Unknown", text)


def _never_sent(error: Exception) -> bool:
    """Whether there was not even a connection."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def retry_after_seconds(response: requests.Response) -> float:
    """What a server asks to wait, 0 when it asks nothing."""
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return 0.0


def _short(body: Any) -> str:
    if isinstance(body, dict):
        metadata = {k: v for k, v in body.get("metadata", {}).items() if k != "managedFields"}
        body = {**body, "metadata": metadata} if metadata else body
        if "status" in body and "spec" in body:
            body = {"metadata": {"name": metadata.get("name")}, "status": body["status"]}
    text = body if isinstance(body, str) else json.dumps(body)
    return text if len(text) <= 800 else text[:800] + " …"
