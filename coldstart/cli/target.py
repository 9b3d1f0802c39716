"""What a rehearsal runs against: stand-ins alone, or a real control plane for all of Kubernetes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from coldstart.cli.cluster import DEFAULT_FOLDER
from coldstart.cli.shared import ROOT, Target
from coldstart.controlplane import ControlPlane
from coldstart.controlplane.charts import lay_out
from coldstart.controlplane.detached import status
from coldstart.engine import ClusterAccess, Rehearsal, RehearsalError, ensure
from coldstart.engine.build import ensure_built
from coldstart.engine.lock import locked

__all__ = ["Progress", "Stage", "Target", "helm_binary", "stage"]

CONTROL_PLANE_FOLDER = DEFAULT_FOLDER
"""Where `coldstart cluster up` keeps its control plane by default."""
HELM_VARIABLE = "COLDSTART_HELM"
"""Names a helm binary; without it the pinned one is built."""

# Another command may take a whole stack up and down again.
_LOCK_DEADLINE_SECONDS = 900.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """A rehearsal that is ready to run."""

    rehearsal: Rehearsal
    kubeconfig: Path | None
    """Of the control plane that stays after the rehearsal; None when nothing stays."""


@contextmanager
def stage(target: Target, root: Path, progress: Progress) -> Iterator[Stage]:
    """A rehearsal of the project in `root` against `target`; everything started for it is ended.

    On a control plane that `coldstart cluster up` has started, the stacks stay with it: their
    state lies in its folder, so that a second run finds them and `coldstart cluster down` forgets
    both. Raises ControlPlaneError, BuildError or ToolchainError with what to do.
    """
    toolchain = ensure(progress)
    if target is Target.STAND_INS:
        with Rehearsal(root, toolchain, progress=progress) as rehearsal:
            yield Stage(rehearsal, None)
        return
    running = status(CONTROL_PLANE_FOLDER)
    with ExitStack() as stack:
        if running.up:
            progress(f"using the control plane that is up: {running.url}")
            folder, kubeconfig = running.folder / "stacks", running.kubeconfig
            stack.enter_context(_alone(folder, progress))
        else:
            folder, kubeconfig = None, stack.enter_context(ControlPlane(progress)).kubeconfig
        home = kubeconfig.parent
        access = ClusterAccess(
            kubeconfig, lay_out(home / "charts", os.environ), helm_binary(progress)
        )
        rehearsal = stack.enter_context(
            Rehearsal(root, toolchain, folder=folder, progress=progress, cluster=access)
        )
        if folder is not None:
            # Nobody else is at work here, so a lock is what a run that was killed has left.
            rehearsal.forget_locks()
        yield Stage(rehearsal, kubeconfig if running.up else None)


def helm_binary(progress: Progress) -> Path:
    """The binary named by COLDSTART_HELM, or the pinned one. Raises as `stage`."""
    named = os.environ.get(HELM_VARIABLE)
    if not named:
        return ensure_built("helm", ROOT, os.environ, progress) / "helm"
    if not os.access(named, os.X_OK):
        raise RehearsalError(f"{HELM_VARIABLE}={named}: this is not an executable file")
    return Path(named)


@contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[None]:
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with locked(
            folder / "lock",
            _LOCK_DEADLINE_SECONDS,
            lambda: progress("another command is at work on this control plane; waiting for it"),
        ):
            yield
    except TimeoutError as error:
        raise RehearsalError(f"{error}; end that command first") from None
