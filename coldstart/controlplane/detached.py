"""A control plane that outlives the command that started it: up, down, status.

Everything is in one folder; its state.json names the processes. Only processes recorded there are
ended, and only while they are the ones that were recorded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coldstart.controlplane.client import Client
from coldstart.controlplane.errors import ControlPlaneError
from coldstart.controlplane.plane import ControlPlane
from coldstart.controlplane.processes import Recorded, end_recorded, read_record
from coldstart.engine.lock import locked

# Another `up` may be building the binaries, which takes minutes.
_LOCK_DEADLINE_SECONDS = 2400.0
_SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True)
class State:
    """What is in a folder."""

    folder: Path
    processes: tuple[Recorded, ...] = ()
    """The recorded ones, whether they live or not; none when there is no control plane."""

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def url(self) -> str:
        """Where the API server listens; empty before it does."""
        try:
            return json.loads(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        except (OSError, ValueError, LookupError):
            return ""

    @property
    def gone(self) -> tuple[str, ...]:
        """Recorded processes that ended by themselves."""
        return tuple(process.name for process in self.processes if not process.alive)

    @property
    def supervised(self) -> bool:
        return any(p.name == _SUPERVISOR and p.alive for p in self.processes)

    @property
    def up(self) -> bool:
        return bool(self.processes) and not self.gone and bool(self.url)

    def client(self) -> Client:
        """The cluster-admin's client, from what the folder holds."""
        token = json.loads(self.kubeconfig.read_text())["users"][0]["user"]["token"]
        return Client(self.url, self.folder / "keys" / "ca.crt", token)


def status(folder: Path) -> State:
    """What runs from `folder`. Raises ControlPlaneError when its record cannot be read."""
    return State(folder, tuple(read_record(folder)))


def up(
    folder: Path, progress: Callable[[str], None], port: int | None = None
) -> tuple[State, bool]:
    """Start a control plane that stays, and give its state and whether it was started just now.

    Raises ControlPlaneError with what to do.
    """
    folder = folder.absolute()
    with _alone(folder, progress):
        now = status(folder)
        if now.up:
            return now, False
        if now.supervised:
            raise ControlPlaneError(
                f"the control plane in {folder} is damaged, these ended by themselves:"
                f" {', '.join(now.gone) or 'none, but it was never ready'}. Their logs are in"
                f" {folder / 'logs'}. Run `cluster down` and `cluster up` again"
            )
        if now.processes:
            progress(f"removing what a control plane that is gone left in {folder}")
            _remove(folder)
        with ControlPlane(progress, folder, port=port) as plane:
            plane.detach()
        return status(folder), True


def down(folder: Path, progress: Callable[[str], None]) -> tuple[str, ...]:
    """End exactly the recorded processes and remove the state; gives what was running.

    Raises ControlPlaneError when the record cannot be read, or a folder is not a control plane's.
    """
    folder = folder.absolute()
    with _alone(folder, progress):
        now = status(folder)
        if not now.processes:
            if folder.is_dir() and any(folder.iterdir()):
                raise ControlPlaneError(
                    f"{folder} is no control plane's: there is no state.json in it. Remove it"
                    " yourself when nothing runs from it"
                )
            return ()
        running = tuple(process.name for process in now.processes if process.alive)
        _remove(folder)
        return tuple(name for name in running if name != _SUPERVISOR)


def _remove(folder: Path) -> None:
    end_recorded(folder)
    left = [process.name for process in read_record(folder) if process.alive]
    if left:
        raise ControlPlaneError(f"these did not end, not even by SIGKILL: {', '.join(left)}")
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path, progress: Callable[[str], None]) -> Iterator[None]:
    lock = folder.with_name(f"{folder.name}.lock")

    def waiting() -> None:
        progress(f"another command is at work on {folder}; waiting for it")

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, _LOCK_DEADLINE_SECONDS, waiting):
            yield
    except TimeoutError as error:
        raise ControlPlaneError(f"{error}: end that command first") from None
    except PermissionError as error:
        raise ControlPlaneError(f"{lock} cannot be used: {error.strerror}") from None
