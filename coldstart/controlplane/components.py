"""The command lines of the four components, and where their binaries come from."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldstart.controlplane.errors import ControlPlaneError
from coldstart.controlplane.keys import Keys
from coldstart.engine import build

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLERS = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
COMPONENTS = (ETCD, API_SERVER, CONTROLLERS, SCHEDULER)

BINARIES_VARIABLE = "COLDSTART_CONTROL_PLANE"
SERVICE_RANGE = "10.96.0.0/16"

# Below Linux's range for outgoing connections (32768 up): a connection that happens to leave from
# a stopped API server's port would keep it from coming back, and a client polling the port could
# even connect to itself.
_PORTS = range(20000, 30000)
_PORT_TRIES = 200


@dataclass(frozen=True, slots=True)
class Ports:
    etcd: int
    api_server: int
    controllers: int
    scheduler: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a command line is made of."""

    folder: Path
    keys: Keys
    ports: Ports
    controllers: bool
    """Without the controller-manager nobody makes service accounts, so no pod may ask for one."""
    extra_flags: Mapping[str, Sequence[str]]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports.api_server}"

    @property
    def etcd_url(self) -> str:
        return f"https://127.0.0.1:{self.ports.etcd}"

    def health_url(self, name: str) -> str:
        """The address that answers 200 once component `name` is ready."""
        return {
            ETCD: f"{self.etcd_url}/health",
            API_SERVER: f"{self.url}/readyz",
            CONTROLLERS: f"https://127.0.0.1:{self.ports.controllers}/healthz",
            SCHEDULER: f"https://127.0.0.1:{self.ports.scheduler}/readyz",
        }[name]

    def kubeconfig(self, user: str) -> Path:
        """Where the kubeconfig of one of the first identities is."""
        name = "kubeconfig" if user == "admin" else f"{user.removeprefix('system:')}.kubeconfig"
        return self.folder / name


def flags(name: str, settings: Settings) -> list[str]:
    """The flags of component `name`; the caller's come last, so that they win."""
    own = {
        ETCD: _etcd,
        API_SERVER: _api_server,
        CONTROLLERS: _controllers,
        SCHEDULER: _scheduler,
    }[name](settings)
    return [*own, *settings.extra_flags.get(name, ())]


def _etcd(settings: Settings) -> list[str]:
    keys = settings.keys
    crt, key, authority = keys.certificate("etcd"), keys.key("etcd"), keys.certificate("etcd-ca")
    return [
        "--name=default",
        f"--data-dir={settings.folder / 'etcd'}",
        f"--listen-client-urls={settings.etcd_url}",
        f"--advertise-client-urls={settings.etcd_url}",
        # One member has no peers; port 0 takes whichever is free.
        "--listen-peer-urls=https://127.0.0.1:0",
        f"--cert-file={crt}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority}",
        "--client-cert-auth",
        f"--peer-cert-file={crt}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={authority}",
        "--peer-client-cert-auth",
        # The state is thrown away: it has to outlive a killed etcd, not a lost machine.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(settings: Settings) -> list[str]:
    keys = settings.keys
    disabled = [] if settings.controllers else ["--disable-admission-plugins=ServiceAccount"]
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={settings.ports.api_server}",
        f"--cert-dir={keys.folder}",
        f"--tls-cert-file={keys.certificate('serving')}",
        f"--tls-private-key-file={keys.key('serving')}",
        f"--client-ca-file={keys.ca}",
        f"--token-auth-file={keys.token_file}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        *disabled,
        f"--service-account-issuer={settings.url}",
        f"--service-account-key-file={keys.key('service-accounts')}",
        f"--service-account-signing-key-file={keys.key('service-accounts')}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--etcd-servers={settings.etcd_url}",
        f"--etcd-cafile={keys.certificate('etcd-ca')}",
        f"--etcd-certfile={keys.certificate('etcd')}",
        f"--etcd-keyfile={keys.key('etcd')}",
        # The aggregation layer: an APIService whose Service is an ExternalName on localhost works.
        f"--requestheader-client-ca-file={keys.certificate('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={keys.certificate('front-proxy-client')}",
        f"--proxy-client-key-file={keys.key('front-proxy-client')}",
        "--endpoint-reconciler-type=none",
        # Watches would keep a polite end waiting for --request-timeout, a minute.
        "--shutdown-watch-termination-grace-period=2s",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def _controllers(settings: Settings) -> list[str]:
    keys = settings.keys
    config = settings.kubeconfig("system:kube-controller-manager")
    return [
        *_behind_api_server(settings, config, settings.ports.controllers),
        "--leader-elect=false",
        "--controllers=*,-bootstrapsigner,-tokencleaner",
        "--use-service-account-credentials=true",
        # Nodes share this machine: a heartbeat that comes late is a busy machine, no dead node.
        "--node-monitor-grace-period=5m",
        # One client per controller, made in turn: at the default 20 a second that takes 5 s.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        f"--root-ca-file={keys.ca}",
        f"--service-account-private-key-file={keys.key('service-accounts')}",
        f"--cluster-signing-cert-file={keys.ca}",
        f"--cluster-signing-key-file={keys.key('ca')}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
    ]


def _scheduler(settings: Settings) -> list[str]:
    config = settings.kubeconfig("system:kube-scheduler")
    return [
        *_behind_api_server(settings, config, settings.ports.scheduler),
        "--leader-elect=false",
    ]


def _behind_api_server(settings: Settings, kubeconfig: Path, port: int) -> list[str]:
    keys = settings.keys
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={keys.certificate('serving')}",
        f"--tls-private-key-file={keys.key('serving')}",
        "--profiling=false",
    ]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody had a moment ago."""
    generator = random.SystemRandom()
    found: list[int] = []
    for _ in range(_PORT_TRIES):
        if len(found) == count:
            break
        port = generator.choice(_PORTS)
        if port not in found and port_is_free(port):
            found.append(port)
    if len(found) < count:
        raise ControlPlaneError(
            f"no {count} free ports between {_PORTS.start} and {_PORTS.stop - 1} on 127.0.0.1:"
            " end what listens there (ss -ltnp)"
        )
    return found


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Go's listeners do, or a port just left by a stopped one would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_binaries(
    progress: Callable[[str], None], environment: Mapping[str, str], wanted: Sequence[str]
) -> Path:
    """The folder with the binaries: the one named by COLDSTART_CONTROL_PLANE, or one built here.

    Raises ControlPlaneError naming what is missing and what to do.
    """
    named = environment.get(BINARIES_VARIABLE)
    folder = Path(named).expanduser().absolute() if named else _built(progress, environment)
    missing = [name for name in wanted if not os.access(folder / name, os.X_OK)]
    if missing:
        cure = (
            f"name a folder with {', '.join(wanted)} in {BINARIES_VARIABLE}, or unset it to have"
            " them built from tools/"
            if named
            else f"remove {folder} to have it built again"
        )
        raise ControlPlaneError(f"{folder} has no executable {', '.join(missing)}: {cure}")
    return folder


def _built(progress: Callable[[str], None], environment: Mapping[str, str]) -> Path:
    repository = Path(__file__).resolve().parents[2]
    try:
        return build.ensure_built("control-plane", repository, environment, progress)
    except build.BuildError as error:
        raise ControlPlaneError(
            f"the control plane cannot be built: {error}\nInstall what is missing, or name a folder"
            f" with {', '.join(COMPONENTS)} in {BINARIES_VARIABLE}"
        ) from None
