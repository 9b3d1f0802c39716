"""A rehearsal: the real engine, the whole program, an imaginary world."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from coldstart.engine import process, workspace
from coldstart.engine.cluster import CONNECTION_VARIABLE, ClusterAccess, write_connection
from coldstart.engine.result import Result, read_events, result_from_events
from coldstart.engine.toolchain import Toolchain
from coldstart.engine.workspace import RehearsalError

# 500 resources take well under a minute here; beyond this something hangs.
DEFAULT_DEADLINE_SECONDS = 600.0
_SHORT_DEADLINE_SECONDS = 60.0
_PROGRESS_EVERY_SECONDS = 2.0

STATE_AT_THE_END = {"PULUMI_SKIP_CHECKPOINTS": "true"}
"""Makes the engine write a stack's state once per operation, not after every step."""

_REPOSITORY = Path(__file__).resolve().parents[2]

PolicyConfig = Mapping[str, Any]


class Rehearsal:
    """Runs the engine against stand-in providers; one folder holds state, world and plugins.

    Several stacks of one rehearsal share the backend and the world, so a stack reference
    `organization/<project>/<stack>` works. As a context manager it removes a folder that it made
    itself, and writes the state once per operation; a folder given by the caller is kept, can be
    opened again, and has its state written after every step.
    """

    def __init__(
        self,
        project_directory: Path,
        toolchain: Toolchain,
        *,
        folder: Path | None = None,
        secrets: Mapping[str, str] | None = None,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
        progress: Callable[[str], None] | None = None,
        extra_environment: Mapping[str, str] | None = None,
        cluster: ClusterAccess | None = None,
    ) -> None:
        """Lay out the folder.

        `secrets` gives plain values for config keys that are encrypted in the stack files. With
        `cluster` everything inside Kubernetes is real; the cloud around it stays imaginary.
        Raises RehearsalError when `project_directory` is no Pulumi project, ClusterAccessError
        when the cluster's kubeconfig is of no use.
        """
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="coldstart-rehearsal-"))
        self._toolchain = toolchain
        self._secrets = dict(secrets or {})
        self._deadline_seconds = deadline_seconds
        self._progress = progress
        self._extra_environment = dict(extra_environment or {})
        try:
            self.workspace = workspace.prepare(self._folder, project_directory, _REPOSITORY)
            if cluster is not None:
                connection = write_connection(self.workspace.folder, cluster)
                self._extra_environment[CONNECTION_VARIABLE] = str(connection)
        except BaseException:
            self.close()
            raise

    @property
    def world_path(self) -> Path:
        """The sqlite file of the imaginary world; `offline.world.World` reads it."""
        return self.workspace.world

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder when this rehearsal made it."""
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def preview(
        self,
        stack: str,
        policy_pack: Path | None = None,
        policy_config: PolicyConfig | None = None,
    ) -> Result:
        """What an up would do, with the verdicts of the policy pack."""
        return self._operate("preview", stack, self._policies(policy_pack, policy_config))

    def up(
        self,
        stack: str,
        policy_pack: Path | None = None,
        policy_config: PolicyConfig | None = None,
        *,
        fail_create: int | None = None,
        fail_mode: str = "before",
    ) -> Result:
        """Make it so in the imaginary world.

        With `fail_create` the create of that number (1 is the first of this run) fails: `before`
        anything is made, or `partial`, when the object exists but is reported as not ready.
        """
        faults: dict[str, str] = {}
        if fail_create is not None:
            workspace.reset_create_count(self.world_path)
            faults = {
                "COLDSTART_FAIL_CREATE": str(fail_create),
                "COLDSTART_FAIL_CREATE_MODE": fail_mode,
            }
        options = ["--yes", "--skip-preview", *self._policies(policy_pack, policy_config)]
        return self._operate("up", stack, options, faults)

    def refresh(self, stack: str) -> Result:
        """Read the imaginary world into the state; steps other than `same` are drift."""
        return self._operate("refresh", stack, ["--yes", "--skip-preview"])

    def destroy(self, stack: str) -> Result:
        """Remove everything the stack made."""
        return self._operate("destroy", stack, ["--yes", "--skip-preview"])

    def forget_locks(self) -> None:
        """Remove the engine's locks, which a run that was killed leaves behind.

        Only for a caller who knows that no other run is at work in this folder.
        """
        shutil.rmtree(self.workspace.state / ".pulumi" / "locks", ignore_errors=True)

    def outputs(self, stack: str) -> dict[str, Any]:
        """The outputs of the last up, secrets in plain text."""
        return json.loads(self._ask(stack, ["stack", "output", "--json", "--show-secrets"]))

    def export(self, stack: str) -> dict[str, Any]:
        """The state as it is stored, secrets encrypted."""
        return json.loads(self._ask(stack, ["stack", "export"]))

    def _operate(
        self,
        operation: str,
        stack: str,
        options: Sequence[str],
        faults: Mapping[str, str] | None = None,
    ) -> Result:
        self._select(stack)
        # Another process may be at work in the same folder.
        log = self.workspace.folder / f"events-{uuid.uuid4().hex}-{operation}-{stack}.jsonl"
        command = [operation, "--stack", stack, "--non-interactive", "--event-log", str(log)]
        watch = _counting(log, f"{operation} {stack}", self._progress)
        try:
            done = self._pulumi([*command, *options], self._deadline_seconds, faults, watch)
            return result_from_events(
                read_events(log),
                exit_code=done.exit_code,
                duration_seconds=done.duration_seconds,
                stdout=done.stdout,
                stderr=done.stderr,
            )
        finally:
            # A folder that is kept would collect them.
            log.unlink(missing_ok=True)

    def _policies(self, pack: Path | None, config: PolicyConfig | None) -> list[str]:
        if pack is None:
            return []
        argument = workspace.policy_pack_argument(self.workspace, self._toolchain, pack)
        options = ["--policy-pack", str(argument)]
        if config is not None:
            path = self.workspace.folder / "policy-config.json"
            path.write_text(json.dumps(config), encoding="utf-8")
            options += ["--policy-pack-config", str(path)]
        return options

    def _select(self, stack: str) -> None:
        """Bring the stack file up to date and create the stack in the backend once."""
        workspace.copy_stack_file(self.workspace, stack, self._secrets)
        name = workspace.project_name(self.workspace.project_directory)
        states = self.workspace.state / ".pulumi" / "stacks" / name
        if any(states.glob(f"{stack}.json*")):
            return
        command = ["stack", "init", stack, "--secrets-provider", "passphrase", "--non-interactive"]
        done = self._pulumi(command, _SHORT_DEADLINE_SECONDS)
        if done.exit_code != 0:
            raise RehearsalError(f"the stack {stack} cannot be created: {done.stderr.strip()}")

    def _ask(self, stack: str, command: Sequence[str]) -> str:
        done = self._pulumi(
            [*command, "--stack", stack, "--non-interactive"], _SHORT_DEADLINE_SECONDS
        )
        if done.exit_code != 0:
            raise RehearsalError(f"pulumi {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _pulumi(
        self,
        command: Sequence[str],
        deadline_seconds: float,
        extra: Mapping[str, str] | None = None,
        watch: Callable[[float], None] | None = None,
    ) -> process.Completed:
        env = workspace.environment(self.workspace, self._toolchain)
        if self._temporary:
            # After every step is for whoever goes on after a kill; this folder will be gone.
            env.update(STATE_AT_THE_END)
        env.update(self._extra_environment)
        env.update(extra or {})
        return process.run(
            [self._toolchain.pulumi, *command],
            cwd=self.workspace.project,
            env=env,
            deadline_seconds=deadline_seconds,
            watch=watch,
        )


def _counting(
    log: Path, what: str, progress: Callable[[str], None] | None
) -> Callable[[float], None] | None:
    """Tells every two seconds how many resources the engine has reached."""
    if progress is None:
        return None
    next_at = _PROGRESS_EVERY_SECONDS

    def watch(elapsed_seconds: float) -> None:
        nonlocal next_at
        if elapsed_seconds < next_at:
            return
        next_at = elapsed_seconds + _PROGRESS_EVERY_SECONDS
        seen = sum("resourcePreEvent" in event for event in read_events(log))
        progress(f"{what}: {seen} resources, {elapsed_seconds:.0f} s")

    return watch
