"""The pods' network of a cluster without machines: a proxy that knows Services by name.

KEDA and its HTTP add-on ask for what they need at the addresses the project's objects state. On a
machine without cluster DNS and pod addresses they take a proxy from their environment, which leads
each name to the port of the loopback address where the test has it. It joins connections and reads
nothing of what goes over them: SOCKS5 for plain HTTP, CONNECT for gRPC, whose library knows no
other kind.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import socketserver
import struct
import threading
from typing import Any

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 180.0
"""A connection over which nothing goes for as long is closed."""
_CHUNK = 65536
_SOCKS = 5
_IPV4, _NAME = 1, 3
_REFUSED = 5
_HEAD_LIMIT_BYTES = 8192


class ClusterNetwork:
    """Runs while its `with` block does, on a free port of the loopback address."""

    def __init__(self) -> None:
        self._routes: dict[str, int] = {}
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        self._server = _Server((LOOPBACK, 0), _Connection)
        self._server.network = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> ClusterNetwork:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def _port(self) -> int:
        return self._server.server_address[1]

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a Go program goes through the network for all but the loopback."""
        return {
            "HTTP_PROXY": f"socks5://{LOOPBACK}:{self._port}",
            "HTTPS_PROXY": f"http://{LOOPBACK}:{self._port}",
            "NO_PROXY": f"localhost,{LOOPBACK}",
        }

    def lead(self, address: str, port: int) -> None:
        """From now on `address` (`name:port`) is port `port` of the loopback address."""
        with self._lock:
            self._routes[address] = port

    def follow(self, address: str, name: str) -> None:
        """From now on `address` is where `name` leads at the same port, as a DNS alias does."""
        port = address.rpartition(":")[2]
        with self._lock:
            self._routes[address] = self._routes[f"{name}:{port}"]

    def asked(self) -> set[str]:
        """Every address somebody wanted to reach, also those that led nowhere."""
        with self._lock:
            return set(self._asked)

    def find(self, address: str) -> int | None:
        """Note the wish and give the port behind `address`."""
        with self._lock:
            self._asked.add(address)
            return self._routes.get(address)

    def connection(self, address: str, deadline_seconds: float) -> http.client.HTTPConnection:
        """A connection to `address` for a client of the test, through the network as well."""
        name, _, port = address.rpartition(":")
        made = http.client.HTTPConnection(LOOPBACK, self._port, timeout=deadline_seconds)
        made.set_tunnel(name, int(port))
        return made


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    network: ClusterNetwork

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away in the middle is what killed programs and ended tests look like."""


class _Connection(socketserver.BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(IDLE_SECONDS)
        first = self._exactly(1)
        if first[0] == _SOCKS:
            address = self._socks_address()
            yes, no = _socks_reply(0), _socks_reply(_REFUSED)
        else:
            address = self._connect_address(first)
            yes, no = (b"HTTP/1.1 %s\r\n\r\n" % word for word in (b"200 OK", b"502 Bad Gateway"))
        assert isinstance(self.server, _Server)
        port = self.server.network.find(address)
        upstream = None
        if port is not None:
            with contextlib.suppress(OSError):
                upstream = socket.create_connection((LOOPBACK, port), timeout=IDLE_SECONDS)
        if upstream is None:
            self.request.sendall(no)
            return
        with upstream:
            self.request.sendall(yes)
            _join(self.request, upstream)

    def _socks_address(self) -> str:
        """The address of a SOCKS5 request without authentication (RFC 1928)."""
        self._exactly(self._exactly(1)[0])
        self.request.sendall(bytes((_SOCKS, 0)))
        kind = self._exactly(4)[3]
        if kind == _NAME:
            name = self._exactly(self._exactly(1)[0]).decode()
        elif kind == _IPV4:
            name = socket.inet_ntoa(self._exactly(4))
        else:
            raise ConnectionError(f"SOCKS address of kind {kind}")
        return f"{name}:{struct.unpack('>H', self._exactly(2))[0]}"

    def _connect_address(self, head: bytes) -> str:
        while b"\r\n\r\n" not in head and len(head) < _HEAD_LIMIT_BYTES:
            head += self._exactly(1)
        method, address, _ = head.decode().split(" ", 2)
        if method != "CONNECT":
            raise ConnectionError(f"{method} to the network, which only joins connections")
        return address

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = self.request.recv(count - len(found))
            if not more:
                raise ConnectionError("closed in the middle")
            found += more
        return found


def _socks_reply(code: int) -> bytes:
    return bytes((_SOCKS, code, 0, _IPV4)) + bytes(6)


def _join(one: socket.socket, other: socket.socket) -> None:
    peers = {one: other, other: one}
    while True:
        ready, _, _ = select.select(list(peers), [], [], IDLE_SECONDS)
        if not ready:
            return
        for side in ready:
            data = side.recv(_CHUNK)
            if not data:
                return
            peers[side].sendall(data)
