"""KEDA's own operator and metrics adapter as processes beside a control plane.

They run as the chart of the catalog runs them, as far as a process can: the operator makes and
rotates the certificates of both and writes the authority into the APIService. The test plays the
kubelet, which would have brought the Secret with them into the pods.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from coldstart.controlplane import Client, ControlPlane
from coldstart.controlplane.components import free_ports
from coldstart.engine.build import ensure_built
from tests.cluster.keda_network import LOOPBACK, ClusterNetwork

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "keda"
OPERATOR, ADAPTER = "keda-operator", "keda-adapter"
CERTIFICATES = "kedaorg-certs"
"""Secret of the operator's certificates, by the name it has itself."""
METRICS_SERVICE = "keda-metrics-apiserver"
API_SERVICE = "v1beta1.external.metrics.k8s.io"
DEADLINE_SECONDS = 90.0
"""Each step took 1 to 5 s on two idle cores."""
POLL_SECONDS = 0.1
_SUFFIXES = {"m": 1e-3, "k": 1e3, "M": 1e6}


class Keda:
    """Operator and adapter of one control plane; they end with it.

    `network` is the way to all they are told to ask. With `blind_to_secrets` the operator reads no
    Secret but its own, which the chart calls `permissions.operator.restrict.secret`.
    """

    def __init__(
        self,
        plane: ControlPlane,
        network: ClusterNetwork,
        progress: Callable[[str], None] = lambda _: None,
        *,
        blind_to_secrets: bool = False,
    ) -> None:
        self._plane, self._network = plane, network
        self._restrict = str(blind_to_secrets).lower()
        self._programs = ensure_built("keda", REPOSITORY, os.environ, progress)
        self._folder = plane.folder / "keda-certificates"
        self._folder.mkdir(mode=0o700)
        self._metrics, self._health, self._grpc, self._api, self._own = free_ports(5)
        plane.admin.apply(_namespace(NAMESPACE))
        for item in self._api_service():
            plane.admin.apply(item)
        self._start_operator()
        self._mount_certificates()
        # With new certificates the operator ends, and its kubelet starts it again.
        plane.admin.wait_for(
            lambda: plane.pid(OPERATOR) is None, f"{OPERATOR} to end once", DEADLINE_SECONDS
        )
        self.start_operator()
        self._start_adapter()
        self._await_available()

    def _api_service(self) -> list[dict[str, Any]]:
        """As the chart has it, but the Service leads to the loopback address."""
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": METRICS_SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        group, version = "external.metrics.k8s.io", "v1beta1"
        api_service = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": {
                "service": {
                    "name": METRICS_SERVICE,
                    "namespace": NAMESPACE,
                    "port": self._api,
                },
                "group": group,
                "version": version,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        }
        return [service, api_service]

    def start_operator(self) -> None:
        """Start the operator, also after `plane.kill(OPERATOR)`, and wait until it is healthy."""
        self._start_operator()
        await_health(self._plane, OPERATOR, f"http://{LOOPBACK}:{self._health}/readyz")

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._plane.folder),
            "KUBECONFIG": str(self._plane.kubeconfig),
            "POD_NAMESPACE": NAMESPACE,
            "WATCH_NAMESPACE": "",
            "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
            "KEDA_RESTRICT_SECRET_ACCESS": self._restrict,
        }

    def _start_operator(self) -> None:
        command = [
            self._programs / OPERATOR,
            f"--metrics-bind-address={LOOPBACK}:{self._metrics}",
            f"--health-probe-bind-address={LOOPBACK}:{self._health}",
            f"--metrics-service-bind-address={LOOPBACK}:{self._grpc}",
            f"--cert-dir={self._folder}",
            "--enable-cert-rotation=true",
            # The webhook that judges ScaledObjects is not part of this.
            "--enable-webhook-patching=false",
            f"--metrics-server-service-name={METRICS_SERVICE}",
            "--zap-log-level=info",
            "--zap-encoder=console",
        ]
        self._plane.run(OPERATOR, command, self._environment() | self._network.environment)

    def _mount_certificates(self) -> None:
        def filled() -> Mapping[str, str] | None:
            secret = self._plane.admin.get("v1", "Secret", CERTIFICATES, NAMESPACE) or {}
            data = secret.get("data") or {}
            return data if {"tls.crt", "tls.key", "ca.crt"} <= data.keys() else None

        found = self._plane.admin.wait_for(filled, "the operator's certificates", DEADLINE_SECONDS)
        for name, content in found.items():
            (self._folder / name).write_bytes(base64.b64decode(content))

    def _start_adapter(self) -> None:
        kubeconfig = self._plane.kubeconfig
        command = [
            self._programs / ADAPTER,
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self._api}",
            f"--port={self._own}",
            f"--cert-dir={self._folder}",
            f"--client-ca-file={self._folder / 'ca.crt'}",
            f"--tls-cert-file={self._folder / 'tls.crt'}",
            f"--tls-private-key-file={self._folder / 'tls.key'}",
            f"--metrics-service-address={LOOPBACK}:{self._grpc}",
            f"--metrics-service-grpc-authority={OPERATOR}.{NAMESPACE}.svc.cluster.local",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--lister-kubeconfig={kubeconfig}",
        ]
        self._plane.run(ADAPTER, command, self._environment())

    def _await_available(self) -> None:
        def available() -> bool:
            if self._plane.pid(ADAPTER) is None:
                raise RuntimeError(f"{ADAPTER} ended:\n{self._plane.log(ADAPTER)[-3000:]}")
            found = self._plane.admin.get("apiregistration.k8s.io/v1", "APIService", API_SERVICE)
            conditions = (found or {}).get("status", {}).get("conditions", [])
            return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)

        self._plane.admin.wait_for(available, f"{API_SERVICE} to be available", DEADLINE_SECONDS)


def await_health(plane: ControlPlane, name: str, url: str) -> None:
    """Wait until a program that runs beside the control plane says that it is healthy."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline:
            if plane.pid(name) is None:
                raise RuntimeError(f"{name} ended:\n{plane.log(name)[-3000:]}")
            try:
                if session.get(url, timeout=5).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(POLL_SECONDS)
    raise TimeoutError(f"{name} is not healthy:\n{plane.log(name)[-3000:]}")


def external_metric(client: Client, namespace: str, name: str, scaled_object: str) -> float | None:
    """What the external metrics API says, as the autoscaler would read it; None for an error."""
    selector = f"scaledobject.keda.sh/name={scaled_object}"
    answer = client.request(
        "GET",
        f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{name}",
        query={"labelSelector": selector},
    )
    if answer.status != 200 or not answer.body["items"]:
        return None
    return quantity(answer.body["items"][0]["value"])


def quantity(text: str) -> float:
    """A figure as the API writes it: `1500m` is 1.5, `2k` is 2000."""
    factor = _SUFFIXES.get(text[-1])
    return float(text) if factor is None else float(text[:-1]) * factor


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
