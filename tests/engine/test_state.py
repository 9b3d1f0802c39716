"""What the engine of a rehearsal writes, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coldstart.engine import Rehearsal, Toolchain

STACK = "below"
LOOKS_FOR_ITSELF = """
import os, pathlib, urllib.parse
import pulumi, pulumi_aws as aws

folder = urllib.parse.urlsplit(os.environ["PULUMI_BACKEND_URL"]).path
(state,) = pathlib.Path(folder).glob(f".pulumi/stacks/*/{pulumi.get_stack()}.json")
network = aws.ec2.Vpc("network", cidr_block="10.0.0.0/16")
pulumi.export("written", network.id.apply(lambda made: made in state.read_text()))
"""


def test_the_state_is_written_after_every_step_where_the_folder_is_kept(
    program: Callable[[str], Path], rehearse: Callable[[Path], Rehearsal]
) -> None:
    """A run that is killed then loses nothing."""
    assert _was_written(rehearse(_looking(program)))


def test_the_state_is_written_once_where_the_folder_is_thrown_away(
    program: Callable[[str], Path], toolchain: Toolchain
) -> None:
    with Rehearsal(_looking(program), toolchain) as rehearsal:
        assert not _was_written(rehearsal)


def test_the_engine_writes_no_log_and_does_not_complain(
    program: Callable[[str], Path], toolchain: Toolchain
) -> None:
    with Rehearsal(_looking(program), toolchain) as rehearsal:
        up = rehearsal.up(STACK)
        files = [path.name for path in rehearsal.workspace.home.rglob("*.log*")]
    assert (up.ok, files, up.stderr) == (True, [], "")


def _looking(program: Callable[[str], Path]) -> Path:
    project = program("joined")
    (project / "__main__.py").write_text(LOOKS_FOR_ITSELF)
    return project


def _was_written(rehearsal: Rehearsal) -> bool:
    """Whether a resource was in the state while the program that made it still ran."""
    up = rehearsal.up(STACK)
    assert up.ok, up.errors
    return rehearsal.outputs(STACK)["written"]
