"""`coldstart up --target local-control-plane`: what it starts, what it keeps, what it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldstart.cli import target
from coldstart.cli.rehearsal import Act, rehearse_stack, up_stack
from coldstart.cli.target import Target
from coldstart.controlplane import detached
from coldstart.spec import load_stack
from tests.cluster.conftest import say
from tests.cluster.stack_cluster import ROOT, everything

STACK = "eks-dev"

pytestmark = pytest.mark.proof("Pulumi engine")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a control plane that is up would be; the user's own is left alone."""
    place = tmp_path / "control-plane"
    monkeypatch.setattr(target, "CONTROL_PLANE_FOLDER", place)
    yield place
    detached.down(place, say)


def test_an_up_on_a_control_plane_that_is_up_stays_and_a_second_one_changes_nothing(
    folder: Path,
) -> None:
    spec = load_stack(ROOT, STACK)
    running, _ = detached.up(folder, say)
    first = up_stack(ROOT, spec, say, Target.LOCAL)
    assert first.result.ok, first.result.errors
    assert first.kubeconfig == running.kubeconfig
    assert any(kind == "Deployment" for _, kind, _, _ in everything(running.client()))
    _leave_a_lock(folder)
    second = up_stack(ROOT, spec, say, Target.LOCAL)
    assert second.result.ok, second.result.errors
    assert second.result.changed == ()


def test_without_one_a_control_plane_is_started_and_ended(folder: Path) -> None:
    told: list[str] = []
    acts: list[Act] = rehearse_stack(ROOT, load_stack(ROOT, STACK), told.append, Target.LOCAL)
    assert [(act.name, act.ok) for act in acts] == [
        (name, True) for name in ("preview", "up", "up again", "refresh", "destroy")
    ]
    assert any("the control plane is ready" in line for line in told)
    assert not folder.exists()
    assert not detached.status(folder).up


def _leave_a_lock(folder: Path) -> None:
    """As an engine does that was killed."""
    locks = folder / "stacks" / "state" / ".pulumi" / "locks" / "organization" / "coldstart" / STACK
    locks.mkdir(parents=True, exist_ok=True)
    lock = {"pid": 1, "username": "u", "hostname": "h", "timestamp": "2026-01-01T00:00:00Z"}
    (locks / "left.json").write_text(json.dumps(lock))
