"""A Kubernetes control plane of its own: etcd, API server, controller-manager, scheduler."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import requests

from coldstart.controlplane.client import Client
from coldstart.controlplane.components import (
    API_SERVER,
    COMPONENTS,
    CONTROLLERS,
    ETCD,
    SCHEDULER,
    Ports,
    Settings,
    find_binaries,
    flags,
    free_ports,
    port_is_free,
)
from coldstart.controlplane.errors import ControlPlaneError
from coldstart.controlplane.keys import make_keys, write_kubeconfig
from coldstart.controlplane.processes import POLL_SECONDS, Supervisor

# Measured 3 to 5 s on 2 idle cores; many at once or a cold disk take longer.
READY_DEADLINE_SECONDS = 120.0
_STOP_DEADLINE_SECONDS = 30.0
_PORT_ATTEMPTS = 5
_PORT_TAKEN = "address already in use"
_LAST_LINES = 8
_HEALTH_TIMEOUT_SECONDS = 2.0

# They live for minutes: memory is there, and Go's default of 100 costs an eighth more CPU.
_HEAP_GROWTH_PERCENT = "400"

_LAST_STAGE = 2
_STAGES = {ETCD: 0, API_SERVER: 1}
"""etcd outlives the API server, and that outlives everybody who talks to it."""
# Its polite end takes 1.1 s, and its state is thrown away.
_GRACE_SECONDS = {API_SERVER: 0.0}
_DEFAULT_GRACE_SECONDS = 5.0


class ControlPlane:
    """Runs while its `with` block does; every process ends with it, whatever ends it.

    `folder` is where the state goes, empty or not there yet; None makes a temporary one. It is
    removed at the end.
    `port` fixes the API server's port; None takes a free one. `extra_flags` are given to the
    component of that name after our own. `binaries` is a folder that goes before
    COLDSTART_CONTROL_PLANE and the build.
    Raises ControlPlaneError with what to do.
    """

    def __init__(
        self,
        progress: Callable[[str], None] = lambda _: None,
        folder: Path | None = None,
        scheduler: bool = True,
        controllers: bool = True,
        *,
        port: int | None = None,
        extra_flags: Mapping[str, Sequence[str]] | None = None,
        binaries: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        wanted = {CONTROLLERS: controllers, SCHEDULER: scheduler}
        self.components = tuple(name for name in COMPONENTS if wanted.get(name, True))
        self._progress = progress
        self._asked_folder = folder
        self._asked_port = port
        self._extra_flags = dict(extra_flags or {})
        unknown = self._extra_flags.keys() - set(COMPONENTS)
        if unknown:
            raise ControlPlaneError(
                f"extra flags for {', '.join(sorted(unknown))}: components are"
                f" {', '.join(COMPONENTS)}"
            )
        self._binaries = binaries
        self._environment = dict(os.environ if environment is None else environment)
        self._supervisor: Supervisor | None = None
        self._clients: list[Client] = []
        self._log_starts: dict[str, int] = {}
        self.seconds_to_ready = 0.0

    def __enter__(self) -> ControlPlane:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        began = time.monotonic()
        if self._binaries is None:
            self._binaries = find_binaries(self._progress, self._environment, self.components)
        if self._asked_port is not None and not port_is_free(self._asked_port):
            raise ControlPlaneError(
                f"port {self._asked_port} of 127.0.0.1 is in use: end what listens there"
                f" (ss -ltnp 'sport = :{self._asked_port}'), or ask for another port or for none"
            )
        self.folder = self._make_folder()
        self._supervisor = Supervisor(self.folder)
        (self.folder / "logs").mkdir()
        self._settings = Settings(
            self.folder,
            make_keys(self.folder / "keys"),
            self._ports(),
            CONTROLLERS in self.components,
            self._extra_flags,
        )
        # Together: the API server reads its settings for as long as etcd needs to answer.
        self._bring_up(ETCD, API_SERVER)
        self.kubeconfig = self._settings.kubeconfig("admin")
        for user, token in self._settings.keys.tokens.items():
            write_kubeconfig(self._settings.kubeconfig(user), self.url, self.ca_file, token)
        self.admin = self.client(self._settings.keys.tokens["admin"])
        self._bring_up(*self.components[2:])
        self.seconds_to_ready = time.monotonic() - began
        self._progress(f"the control plane is ready after {self.seconds_to_ready:.1f} s")

    def close(self) -> None:
        """End every process and remove the state; calling it twice does no harm."""
        for client in self._clients:
            client.close()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.end()
            shutil.rmtree(self.folder, ignore_errors=True)

    def detach(self) -> None:
        """Let it live on after this process; `end_recorded(folder)` ends it."""
        self._supervised.detach()
        self._supervisor = None

    @property
    def url(self) -> str:
        return self._settings.url

    @property
    def ca_file(self) -> Path:
        """The authority, in PEM, that signed what the API server shows."""
        return self._settings.keys.ca

    def client(self, token: str) -> Client:
        """A client for another identity, closed with the control plane."""
        made = Client(self.url, self.ca_file, token)
        self._clients.append(made)
        return made

    def kubeconfig_for(self, name: str, token: str) -> Path:
        """A kubeconfig of mode 0600 for another identity, in the state folder."""
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", self.url, self.ca_file, token)

    def log(self, name: str) -> str:
        """All that component `name` wrote, over its restarts."""
        path = self._log_path(name)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def pid(self, name: str) -> int | None:
        """The process id of component `name` while it runs."""
        status = self._supervised.status(name)
        return status.pid if status.running else None

    def stop(self, name: str) -> None:
        """End component `name` politely and wait until it is gone."""
        self._signal_and_wait(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """End component `name` as a crash would, with SIGKILL, and wait until it is gone."""
        self._signal_and_wait(name, signal.SIGKILL)

    def start(self, name: str) -> None:
        """Start a component that was stopped, on the same port, and wait until it is healthy."""
        self._known(name)
        self._launch(name)
        self._await_health(name, (name,))

    def run(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> int:
        """Start any other program beside the control plane; it ends before the API server does.

        `stop`, `kill`, `pid` and `log` work with its name; starting it again is another `run`.
        Its environment is `environment` alone, with the GOGC of the components. Gives its process
        id.
        """
        if name in COMPONENTS:
            raise ControlPlaneError(f"{name} is a component: use start")
        return self._start(name, command, environment or {})

    def _make_folder(self) -> Path:
        if self._asked_folder is None:
            try:
                return Path(tempfile.mkdtemp(prefix="coldstart-control-plane-"))
            except OSError as error:
                raise ControlPlaneError(
                    f"no temporary folder can be made: {error}; name another place in TMPDIR"
                ) from None
        folder = self._asked_folder.absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = any(folder.iterdir())
            folder.chmod(0o700)
        except OSError as error:
            raise ControlPlaneError(f"{folder} cannot be used: {error.strerror}") from None
        if taken:
            raise ControlPlaneError(
                f"{folder} is not empty: name another folder, or remove it when nothing runs"
                " from it"
            )
        return folder

    def _ports(self) -> Ports:
        etcd, api_server, controllers, scheduler = free_ports(4)
        return Ports(etcd, self._asked_port or api_server, controllers, scheduler)

    def _bring_up(self, *names: str) -> None:
        """Start components and wait; on other ports when somebody was faster at one of theirs."""
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                for name in names:
                    self._launch(name)
                for name in names:
                    self._await_health(name, names)
                return
            except _PortTakenError as error:
                fixed = API_SERVER in names and self._asked_port is not None
                if fixed or attempt == _PORT_ATTEMPTS:
                    raise ControlPlaneError(str(error)) from None
                for name in names:
                    self.kill(name)
                self._settings = replace(self._settings, ports=self._other_ports(names))

    def _other_ports(self, names: Sequence[str]) -> Ports:
        now, new = self._settings.ports, self._ports()
        return Ports(
            new.etcd if ETCD in names else now.etcd,
            new.api_server if API_SERVER in names else now.api_server,
            new.controllers if CONTROLLERS in names else now.controllers,
            new.scheduler if SCHEDULER in names else now.scheduler,
        )

    def _launch(self, name: str) -> None:
        command = [Path(self._binaries or "") / name, *flags(name, self._settings)]
        # Nothing of the caller's: no proxy, no KUBECONFIG, no credentials of a cloud.
        self._start(name, command, {"HOME": str(self.folder)})

    def _start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> int:
        log = self._log_path(name)
        self._log_starts[name] = log.stat().st_size if log.exists() else 0
        try:
            return self._supervised.start(
                name,
                command,
                log,
                {"GOGC": _HEAP_GROWTH_PERCENT, **environment},
                stage=_STAGES.get(name, _LAST_STAGE),
                grace_seconds=_GRACE_SECONDS.get(name, _DEFAULT_GRACE_SECONDS),
            )
        except ControlPlaneError as error:
            raise ControlPlaneError(f"{command[0]} cannot be started: {error}") from None

    def _await_health(self, name: str, together: Sequence[str]) -> None:
        """Wait for `name`; one of those started together with it that ends is an end of waiting."""
        deadline = time.monotonic() + READY_DEADLINE_SECONDS
        seen = "no answer yet"
        while time.monotonic() < deadline:
            for one in together:
                status = self._supervised.status(one)
                if not status.running:
                    raise self._died(one, status.exit_status)
            healthy, seen = self._health(name)
            if healthy:
                return
            time.sleep(POLL_SECONDS)
        raise ControlPlaneError(
            f"{name} was not ready within {READY_DEADLINE_SECONDS:g} s; last seen: {seen}."
            f" Its last lines:\n{self._last_lines(name)}"
        )

    def _health(self, name: str) -> tuple[bool, str]:
        keys = self._settings.keys
        etcd = name == ETCD
        token = keys.tokens["admin"]
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(
                    self._settings.health_url(name),
                    headers={} if etcd else {"Authorization": f"Bearer {token}"},
                    verify=str(keys.certificate("etcd-ca") if etcd else keys.ca),
                    cert=(str(keys.certificate("etcd")), str(keys.key("etcd"))) if etcd else None,
                    timeout=_HEALTH_TIMEOUT_SECONDS,
                )
        except requests.RequestException as error:
            return False, str(error)
        return answer.status_code == 200, f"{answer.status_code} {answer.text[:300]}"

    def _died(self, name: str, exit_status: int | None) -> ControlPlaneError:
        lines = self._last_lines(name)
        how = f"exit status {exit_status}"
        if exit_status is not None and exit_status < 0:
            how = f"signal {-exit_status}"
        told = f"{name} ended with {how}. Its last lines:\n{lines}"
        if _PORT_TAKEN in lines:
            return _PortTakenError(f"{told}\nEnd what listens there (ss -ltnp) and start it again")
        return ControlPlaneError(told)

    def _last_lines(self, name: str) -> str:
        """Of this run of `name`, not of an earlier one."""
        written = self._log_path(name).read_bytes()[self._log_starts[name] :]
        lines = written.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return "\n".join(f"  {line[:400]}" for line in lines) or "  (it wrote nothing)"

    def _signal_and_wait(self, name: str, number: int) -> None:
        if name not in self._log_starts:
            raise ControlPlaneError(
                f"{name} was never started; these were: {', '.join(self._log_starts)}"
            )
        self._supervised.signal(name, number)
        deadline = time.monotonic() + _STOP_DEADLINE_SECONDS
        while self._supervised.status(name).running:
            if time.monotonic() > deadline:
                raise ControlPlaneError(
                    f"{name} did not end within {_STOP_DEADLINE_SECONDS:g} s of signal {number}"
                )
            time.sleep(POLL_SECONDS)

    def _known(self, name: str) -> None:
        if name not in COMPONENTS:
            raise ControlPlaneError(f"{name} is not one of {', '.join(COMPONENTS)}")

    def _log_path(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    @property
    def _supervised(self) -> Supervisor:
        if self._supervisor is None:
            raise ControlPlaneError("the control plane is not running: use it inside `with`")
        return self._supervisor


class _PortTakenError(ControlPlaneError):
    """Somebody else took the port between its choice and its use."""
