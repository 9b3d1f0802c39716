"""A loopback proxy before an API server that answers some requests badly."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from coldstart.controlplane import ControlPlane

FORWARD_TIMEOUT_SECONDS = 60
# As an API server puts it.
_WORDS = {
    429: ("TooManyRequests", "the server has received too many requests"),
    500: ("InternalError", "Internal error occurred: the proxy of the test"),
}
_NOT_FORWARDED = {"host", "content-length", "connection", "accept-encoding", "transfer-encoding"}
_NOT_RETURNED = {"content-length", "connection", "transfer-encoding", "content-encoding"}


@dataclass(frozen=True)
class Bad:
    """An answer in place of the server's; `after` the server has done what was asked."""

    status: int
    retry_after_seconds: int | None = None
    after: bool = False


Choose = Callable[[int, str], Bad | None]


@dataclass
class Seen:
    """What went through a proxy."""

    requests: int = 0
    bad: Counter[int] = field(default_factory=Counter)
    too_early: list[str] = field(default_factory=list)
    """Requests that came back before the time that Retry-After had named."""
    _until: dict[str, float] = field(default_factory=dict)

    def turned_away(self, what: str, seconds: int) -> None:
        """`what` may come back after `seconds`."""
        self._until[what] = time.monotonic() + seconds

    def came(self, what: str) -> None:
        """Note a request that was told to wait and did not."""
        if time.monotonic() < self._until.pop(what, 0.0):
            self.too_early.append(what)


@contextmanager
def proxy(plane: ControlPlane, choose: Choose) -> Iterator[tuple[str, Seen]]:
    """A proxy before the API server of `plane`, with the same certificate: address and record.

    `choose` is given the number and method of each request.
    """
    server = _Proxy(plane, choose)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}", server.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, plane: ControlPlane, choose: Choose) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url, self.ca_file = plane.url, plane.ca_file
        self.choose, self.seen, self.lock = choose, Seen(), threading.Lock()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        keys = plane.folder / "keys"
        tls.load_cert_chain(keys / "serving.crt", keys / "serving.key")
        # The handshake belongs to the request's own thread.
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def judge(self, method: str, path: str) -> Bad | None:
        """Count a request and decide what becomes of it."""
        what = f"{method} {path.partition('?')[0]}"
        with self.lock:
            self.seen.requests += 1
            number = self.seen.requests
            self.seen.came(what)
        bad = self.choose(number, method)
        if bad is not None:
            with self.lock:
                self.seen.bad[bad.status] += 1
                if bad.retry_after_seconds is not None:
                    self.seen.turned_away(what, bad.retry_after_seconds)
        return bad


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bad = self.server.judge(self.command, self.path)
        if bad is None or bad.after:
            found = self._forwarded(body)
            if bad is None:
                headers = found.raw.headers.items()
                kept = [(k, v) for k, v in headers if k.lower() not in _NOT_RETURNED]
                self._answer(found.status_code, kept, found.content)
        if bad is not None:
            self._answer_badly(bad)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _forwarded(self, body: bytes) -> requests.Response:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_FORWARDED}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                self.command,
                self.server.url + self.path,
                data=body or None,
                headers=headers,
                verify=str(self.server.ca_file),
                timeout=FORWARD_TIMEOUT_SECONDS,
                allow_redirects=False,
            )

    def _answer_badly(self, bad: Bad) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": bad.status}
        reason, message = _WORDS[bad.status]
        headers = [("Content-Type", "application/json")]
        if bad.retry_after_seconds is not None:
            headers.append(("Retry-After", str(bad.retry_after_seconds)))
        text = json.dumps({**status, "reason": reason, "message": message})
        self._answer(bad.status, headers, text.encode())

    def _answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: pytest shows what matters."""
