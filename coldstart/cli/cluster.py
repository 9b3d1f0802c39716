"""`coldstart cluster`: a real control plane on this machine that stays until it is taken down."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli.shared import ROOT, JsonOption, progress, told

if TYPE_CHECKING:
    from coldstart.controlplane.detached import State

DEFAULT_FOLDER = ROOT / ".cache" / "control-plane"

cluster_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A real Kubernetes control plane (no nodes) on the loopback address.",
)
_LEFT = "nothing was left running that was not up before"
FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder", help="Where its state is kept.", show_default=".cache/control-plane here"
    ),
]


@cluster_app.command(name="up")
def cluster_up(
    folder: FolderOption = DEFAULT_FOLDER,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The API server's port; a free one without it."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Start etcd, API server, controller-manager and scheduler; returns when they are ready.

    Example: coldstart cluster up
    """
    with told(_LEFT):
        from coldstart.controlplane.detached import up

        found, started = up(folder, progress, port)
        if json_output:
            _print_state(found)
        else:
            _print(f"The control plane {'is up' if started else 'was already up'}: {found.url}")
            _print(f"  export KUBECONFIG={shlex.quote(str(found.kubeconfig))}")
            _print(f"  logs: {found.folder / 'logs'}")
            _print(f"It stays until: coldstart cluster down{_folder_flag(folder)}")


@cluster_app.command(name="down")
def cluster_down(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """End the recorded processes, and nobody else's, and remove the state.

    Example: coldstart cluster down
    """
    with told(_LEFT):
        from coldstart.controlplane.detached import down

        ended = down(folder, progress)
        _print(f"ended: {', '.join(ended)}" if ended else "nothing was up")


@cluster_app.command(name="status")
def cluster_status(folder: FolderOption = DEFAULT_FOLDER, json_output: JsonOption = False) -> None:
    """Tell what runs; exit status 1 when it is not up.

    Example: coldstart cluster status
    """
    with told(_LEFT):
        from coldstart.controlplane.detached import status

        found = status(folder.absolute())
        if json_output:
            _print_state(found)
        else:
            _print_status(found)
        raise typer.Exit(0 if found.up else 1)


def _print_status(found: State) -> None:
    if not found.processes:
        _print("nothing is up")
        return
    for process in found.processes:
        _print(f"{process.name:<24} {f'process {process.pid}' if process.alive else 'gone'}")
    if found.up:
        _print(f"{found.url}\n  export KUBECONFIG={shlex.quote(str(found.kubeconfig))}")
    else:
        _print(f"not usable: run `coldstart cluster down{_folder_flag(found.folder)}`, then `up`")


def _print_state(found: State) -> None:
    data: dict[str, Any] = {
        "up": found.up,
        "url": found.url,
        "kubeconfig": str(found.kubeconfig) if found.up else "",
        "processes": {p.name: {"pid": p.pid, "alive": p.alive} for p in found.processes},
    }
    _print(json.dumps(data, indent=2))


def _folder_flag(folder: Path) -> str:
    same = folder.absolute() == DEFAULT_FOLDER
    return "" if same else f" --folder {shlex.quote(str(folder))}"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
