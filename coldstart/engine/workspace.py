"""The folder a rehearsal runs in: a copy of the project's settings and everything the engine keeps.

    <folder>/home       PULUMI_HOME, with the stand-in providers as plugins
    <folder>/project    Pulumi.yaml whose `main` is the repository, and copies of the stack files
    <folder>/state      the file backend
    <folder>/world.sqlite

The engine writes a salt into a stack file; it writes it into the copy, so the user's files stay as
they are.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coldstart.engine import forkserver
from coldstart.engine.toolchain import Toolchain
from coldstart.errors import UserError

STAND_INS = ("aws", "kubernetes", "random")
"""Packages with a stand-in provider; one whose SDK is not installed is left out."""

# It lives for seconds: Go's default of 100 costs a tenth more CPU, this 70 MiB more memory.
_HEAP_GROWTH_PERCENT = "400"
_PASSPHRASE = "rehearsal"  # noqa: S105 - protects nothing but invented values
_WORLD_LOCK_SECONDS = 30.0
_PLACEHOLDER = "rehearsal-placeholder"
_SECRET_SETTINGS = ("encryptionsalt:", "encryptedkey:", "secretsprovider:")

# Settings of the caller that could reach a real account, a real cluster or another engine.
_DROPPED_PREFIXES = (
    "ARM_",
    "AWS_",
    "AZURE_",
    "CLOUDSDK_",
    "COLDSTART_CLUSTER",
    "COLDSTART_FAIL",
    "DIGITALOCEAN_",
    "GOOGLE_",
    "HELM_",
    "KUBE",
    "PULUMI_",
    "PYTHON",
)


class RehearsalError(UserError):
    """The project cannot be rehearsed as it stands; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of one rehearsal."""

    folder: Path
    project_directory: Path
    """The repository: holds Pulumi.yaml and the program."""

    @property
    def home(self) -> Path:
        """PULUMI_HOME."""
        return self.folder / "home"

    @property
    def project(self) -> Path:
        """Where the CLI runs."""
        return self.folder / "project"

    @property
    def state(self) -> Path:
        """The file backend."""
        return self.folder / "state"

    @property
    def world(self) -> Path:
        """What the stand-in providers have made."""
        return self.folder / "world.sqlite"

    @property
    def python(self) -> Path:
        """What the language host starts as Python."""
        return self.folder / "python"

    @property
    def stacks(self) -> Path:
        """Copies of the stack files."""
        return self.project / "stacks"


def prepare(
    folder: Path,
    project_directory: Path,
    providers_directory: Path,
    python: Path = Path(sys.executable),
) -> Workspace:
    """Lay out `folder` for rehearsing the project; what is already there is kept.

    `providers_directory` holds the package `offline`. Raises RehearsalError when the project has
    no usable Pulumi.yaml.
    """
    workspace = Workspace(folder.resolve(), project_directory.resolve())
    for path in (workspace.home, workspace.project, workspace.state, workspace.stacks):
        path.mkdir(parents=True, exist_ok=True)
    # Where the engine's own log would be: nobody finds it here, and it costs a third of the CPU.
    logs = workspace.home / "logs"
    if not logs.exists():
        logs.write_text("A file, so that the engine keeps no log.\n")
    _write_project(workspace)
    _install_stand_ins(workspace, providers_directory.resolve(), python)
    _install_python(workspace, python)
    _create_world(workspace.world, providers_directory / "offline" / "world.sql")
    return workspace


def environment(
    workspace: Workspace, toolchain: Toolchain, caller: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The only environment an engine of a rehearsal may have: no account, no network service."""
    inherited = {
        key: value
        for key, value in (os.environ if caller is None else caller).items()
        if not key.startswith(_DROPPED_PREFIXES)
    }
    python_folder = str(Path(sys.executable).parent)
    search = [str(toolchain.language_host_folder), python_folder, inherited.get("PATH", "")]
    return {
        "GOGC": _HEAP_GROWTH_PERCENT,
        **inherited,
        "PATH": os.pathsep.join(part for part in search if part),
        "COLDSTART_WORLD": str(workspace.world),
        forkserver.ADDRESS_VARIABLE: str(forkserver.ensure()),
        "PULUMI_HOME": str(workspace.home),
        "PULUMI_BACKEND_URL": workspace.state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": _PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
        # A provider of the same name on PATH would be a real one.
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        # `--event-log` is among the debugging flags; the Automation API uses it the same way.
        "PULUMI_DEBUG_COMMANDS": "true",
        "PULUMI_PYTHON_CMD": str(workspace.python),
        # A real SDK call that slips through finds no credentials and no metadata service.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "KUBECONFIG": os.devnull,
        "NO_COLOR": "1",
    }


def copy_stack_file(workspace: Workspace, stack: str, secrets: Mapping[str, str]) -> Path:
    """Copy the stack file of `stack` for the engine to use and to write its salt into.

    Values encrypted for the real backend cannot be read here; each becomes the value `secrets` has
    for its key, or a placeholder. Raises RehearsalError when there is no such stack file.
    """
    source = stack_file(workspace.project_directory, stack)
    target = workspace.stacks / f"Pulumi.{stack}.yaml"
    text = source.read_text(encoding="utf-8")
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise RehearsalError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise RehearsalError(f"{source}: a stack file is a mapping with the key `config`")
    if "secure:" in text:
        settings["config"] = _without_ciphertext(settings.get("config") or {}, secrets)
        text = yaml.safe_dump(settings, sort_keys=False)
    # As text, because a YAML library of another language reads `12:30` or `1e3` in its own way.
    lines = [line for line in text.splitlines() if not line.startswith(_SECRET_SETTINGS)]
    salt = _salt(target)
    if salt is not None:
        lines.append(f"encryptionsalt: {salt}")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def stack_file(project_directory: Path, stack: str) -> Path:
    """The user's file of `stack`. Raises RehearsalError, naming the stacks there are."""
    project = _read_project(project_directory)
    folder = project_directory / str(project.get("stackConfigDir", "."))
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        there = sorted(
            found.name.removeprefix("Pulumi.").removesuffix(".yaml")
            for found in folder.glob("Pulumi.*.yaml")
        )
        raise RehearsalError(
            f"{path}: there is no such stack file; stacks: {', '.join(there) or 'none'}"
        )
    return path


def project_name(project_directory: Path) -> str:
    """The `name` of Pulumi.yaml."""
    return str(_read_project(project_directory)["name"])


def policy_pack_argument(workspace: Workspace, toolchain: Toolchain, pack: Path) -> Path:
    """What to give `--policy-pack` for the pack in folder `pack`.

    The pinned language host is older than policy packs in Python are, so for it the engine gets a
    program that starts the pack. Raises RehearsalError when the folder is no policy pack.
    """
    pack = pack.resolve()
    description = pack / "PulumiPolicy.yaml"
    if not description.is_file():
        raise RehearsalError(f"{pack} is no policy pack: it has no PulumiPolicy.yaml")
    if toolchain.runs_policy_folders:
        return pack
    launcher_folder = workspace.folder / "policy" / pack.name
    launcher_folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(description, launcher_folder / description.name)
    launcher = launcher_folder / "start"
    _write_script(
        launcher,
        f"cd {_quoted(pack)}\n"
        f'exec {_forked(Path(sys.executable))} -u -m pulumi.policy "$1" {_quoted(pack)}\n',
    )
    return launcher


def _write_project(workspace: Workspace) -> None:
    project = dict(_read_project(workspace.project_directory))
    main = workspace.project_directory / str(project.get("main", "."))
    if not (main / "__main__.py").is_file() and not main.is_file():
        raise RehearsalError(f"{main} holds no program: it has no __main__.py")
    project["main"] = str(main.resolve())
    project["stackConfigDir"] = "stacks"
    # The interpreter comes from the environment; without `toolchain: pip` a newer host would look
    # for other package managers' files.
    project["runtime"] = {"name": "python", "options": {"toolchain": "pip"}}
    for key in ("backend", "plugins"):
        project.pop(key, None)
    target = workspace.project / "Pulumi.yaml"
    target.write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")


def _read_project(project_directory: Path) -> dict[str, Any]:
    path = project_directory / "Pulumi.yaml"
    if not path.is_file():
        raise RehearsalError(f"{path} is missing: this folder is no Pulumi project")
    try:
        project = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RehearsalError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(project, dict) or not project.get("name"):
        raise RehearsalError(f"{path}: a project needs a `name`")
    return project


def _install_stand_ins(workspace: Workspace, providers_directory: Path, python: Path) -> None:
    for package in STAND_INS:
        try:
            version = importlib.metadata.version(f"pulumi-{package}")
        except importlib.metadata.PackageNotFoundError:
            continue
        folder = workspace.home / "plugins" / f"resource-{package}-v{version}"
        folder.mkdir(parents=True, exist_ok=True)
        # -P: the engine starts a provider in the program's folder, whose modules are not ours.
        _write_script(
            folder / f"pulumi-resource-{package}",
            f"export PYTHONPATH={_quoted(providers_directory)}\n"
            f'exec {_forked(python)} -P -m offline.provider {package} "$@"\n',
        )


def _install_python(workspace: Workspace, python: Path) -> None:
    """What the language host starts as Python, with two of its habits mended.

    Before each run it asks pip for all packages, to learn which plugins are needed: here all are
    installed, pip takes half a second and may be missing. The program starts warm.
    """
    _write_script(
        workspace.python,
        'case "$*" in\n'
        '"-m pip list"*) echo "[]"; exit ;;\n'
        "esac\n"
        'case "$1" in\n'
        f'*/pulumi-language-python-exec) exec {_forked(python)} "$@" ;;\n'
        f'*) exec {_quoted(python)} "$@" ;;\n'
        "esac\n",
    )


def _create_world(path: Path, schema: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        # Readers must not block the writers of the other provider processes.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(schema.read_text(encoding="utf-8"))
    finally:
        connection.close()


def _write_script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
    path.chmod(0o755)


def _forked(python: Path) -> str:
    """What stands in a script for `python`, when the process may be a fork."""
    return f"{_quoted(python)} -I -S {_quoted(forkserver.CLIENT)}"


def _quoted(path: Path) -> str:
    text = str(path).replace("'", "'\"'\"'")
    return f"'{text}'"


def _without_ciphertext(config: Any, secrets: Mapping[str, str]) -> Any:
    if not isinstance(config, dict):
        return config
    return {key: _readable(value, secrets.get(key, _PLACEHOLDER)) for key, value in config.items()}


def _readable(value: Any, replacement: str) -> Any:
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return replacement
        return {key: _readable(item, replacement) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item, replacement) for item in value]
    return value


def _salt(path: Path) -> str | None:
    if not path.is_file():
        return None
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return settings.get("encryptionsalt")


def reset_create_count(world: Path) -> None:
    """Begin to count creates from one again, for a fault at a given number."""
    connection = sqlite3.connect(world, timeout=_WORLD_LOCK_SECONDS)
    try:
        with connection:
            connection.execute("DELETE FROM counters WHERE name = 'creates'")
    finally:
        connection.close()
