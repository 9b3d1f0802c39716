"""The parts of the KEDA HTTP add-on as processes beside a control plane, and what they front.

What is replaced: the pods of the add-on are processes on the loopback address, so the endpoints of
its interceptor are written by the test, with an address that only the test's network leads on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from coldstart.controlplane import ControlPlane
from coldstart.controlplane.components import free_ports
from coldstart.engine.build import ensure_built
from tests.cluster.conftest import say
from tests.cluster.keda_network import LOOPBACK, ClusterNetwork
from tests.cluster.keda_process import NAMESPACE, REPOSITORY, await_health

OPERATOR, SCALER, INTERCEPTOR = (
    "keda-http-operator",
    "keda-http-scaler",
    "keda-http-interceptor",
)
ADMIN_SERVICE = "keda-add-ons-http-interceptor-admin"
ADMIN_PORT = 9090
_INTERCEPTOR_ADDRESS = "10.244.255.1"
"""Endpoints may not be on the loopback address; nobody but the test's network knows this one."""


class HttpAddOn:
    """Operator, scaler and interceptor; they end with the control plane.

    `scaler_address` and `proxy_address` are where the project's objects say that they are.
    """

    def __init__(
        self, plane: ControlPlane, network: ClusterNetwork, scaler_address: str, proxy_address: str
    ) -> None:
        self._plane, self._network = plane, network
        self._programs = ensure_built("keda", REPOSITORY, os.environ, say)
        self._scaler, self._proxy, self._admin, health = free_ports(4)
        network.lead(scaler_address, self._scaler)
        network.lead(proxy_address, self._proxy)
        network.lead(f"{_INTERCEPTOR_ADDRESS}:{ADMIN_PORT}", self._admin)
        for item in _admin_endpoints():
            plane.admin.apply(item)
        self._run(
            OPERATOR,
            ["--metrics-bind-address=0", f"--health-probe-bind-address={LOOPBACK}:{health}"],
            {
                "KEDA_HTTP_OPERATOR_EXTERNAL_SCALER_SERVICE": "keda-add-ons-http-external-scaler",
                "KEDA_HTTP_OPERATOR_NAMESPACE": NAMESPACE,
            },
        )
        self._run(
            INTERCEPTOR,
            ["--zap-log-level=info"],
            {
                "KEDA_HTTP_PROXY_PORT": str(self._proxy),
                "KEDA_HTTP_ADMIN_PORT": str(self._admin),
                "OTEL_PROM_EXPORTER_ENABLED": "false",
            },
        )
        self._run(
            SCALER,
            ["--zap-log-level=info"],
            {
                "KEDA_HTTP_SCALER_PORT": str(self._scaler),
                "KEDA_HTTP_SCALER_TARGET_ADMIN_NAMESPACE": NAMESPACE,
                "KEDA_HTTP_SCALER_TARGET_ADMIN_SERVICE": ADMIN_SERVICE,
                "KEDA_HTTP_SCALER_TARGET_ADMIN_DEPLOYMENT": "keda-add-ons-http-interceptor",
                "KEDA_HTTP_SCALER_TARGET_ADMIN_PORT": str(ADMIN_PORT),
                "OTEL_PROM_EXPORTER_ENABLED": "false",
            },
        )
        await_health(plane, OPERATOR, f"http://{LOOPBACK}:{health}/readyz")
        await_health(plane, INTERCEPTOR, f"http://{LOOPBACK}:{self._admin}/readyz")

    def held(self) -> Mapping[str, Any]:
        """The requests the interceptor counts, by route (`namespace/name`)."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"http://{LOOPBACK}:{self._admin}/queue", timeout=5)
        answer.raise_for_status()
        return answer.json()

    def _run(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        own = {"HOME": str(self._plane.folder), "KUBECONFIG": str(self._plane.kubeconfig)}
        self._plane.run(
            name,
            [self._programs / name, *arguments],
            own | self._network.environment | dict(environment),
        )


class Backend:
    """The HTTP server of a model's pods. Runs while its `with` block does.

    `hold` lets requests wait inside, as long generations do, until `release`.
    """

    def __init__(self) -> None:
        self.received: list[tuple[str, str, str, bytes, str]] = []
        """Method, path, Host, body and Authorization of every request that arrived."""
        self._free = threading.Event()
        self._free.set()
        self._server = _Server((LOOPBACK, 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Backend:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Its port on the loopback address."""
        return self._server.server_address[1]

    def hold(self) -> None:
        """From now on requests wait inside."""
        self._free.clear()

    def release(self) -> None:
        """Answer all that wait, and from now on at once."""
        self._free.set()

    def wait(self, deadline_seconds: float) -> bool:
        """Wait as a request does."""
        return self._free.wait(deadline_seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 makes many clients at once wait for a second try.
    request_queue_size = 128


def _handler(backend: Backend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            host, key = (self.headers.get(name, "") for name in ("Host", "Authorization"))
            backend.received.append((self.command, self.path, host, body, key))
            backend.wait(300)
            content = b'{"object": "chat.completion"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silence: what arrived is kept."""

    return Handler


def _admin_endpoints() -> list[dict[str, Any]]:
    metadata = {"name": ADMIN_SERVICE, "namespace": NAMESPACE}
    ports = [{"name": "admin", "port": ADMIN_PORT, "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"ports": ports},
    }
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {"kubernetes.io/service-name": ADMIN_SERVICE}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [_INTERCEPTOR_ADDRESS], "conditions": {"ready": True}}],
        "ports": ports,
    }
    return [service, slice_]
