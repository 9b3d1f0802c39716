"""A Prometheus that says what the test wants it to say, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOOPBACK = "127.0.0.1"
QUERY_PATH = "/api/v1/query"
EMPTY = None
"""The answer to a query that no series matches."""


class Prometheus:
    """Answers instant queries. Runs while its `with` block does.

    A query nobody set gets an empty result, as a real server gives for series it does not have.
    """

    def __init__(self) -> None:
        self._figures: dict[str, float | None] = {}
        self._failing: set[str] = set()
        self._asked: dict[str, int] = {}
        self._odd: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Prometheus:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Its port on the loopback address."""
        return self._server.server_address[1]

    def says(self, query: str, figure: float | None) -> None:
        """From now on `query` has this result; EMPTY: no series."""
        with self._lock:
            self._figures[query] = figure
            self._failing.discard(query)

    def fails(self, query: str) -> None:
        """From now on `query` is answered with 503, as by a server that is overloaded."""
        with self._lock:
            self._failing.add(query)

    def asked(self, query: str) -> int:
        """How many times `query` was asked, letter for letter."""
        with self._lock:
            return self._asked.get(query, 0)

    def queries(self) -> set[str]:
        """Every text that was asked."""
        with self._lock:
            return set(self._asked)

    def odd_requests(self) -> list[str]:
        """Paths other than that of an instant query."""
        with self._lock:
            return list(self._odd)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body for a request."""
        split = urlsplit(path)
        query = parse_qs(split.query).get("query", [""])[0]
        with self._lock:
            if split.path != QUERY_PATH:
                self._odd.append(path)
                return 404, {"status": "error", "error": "not found"}
            self._asked[query] = self._asked.get(query, 0) + 1
            if query in self._failing:
                return 503, {"status": "error", "errorType": "unavailable", "error": "too busy"}
            figure = self._figures.get(query)
        vector = [] if figure is None else [{"metric": {}, "value": [time.time(), f"{figure:g}"]}]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": vector}}


def _handler(prometheus: Prometheus) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = prometheus.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silence: what was asked is kept."""

    return Handler
