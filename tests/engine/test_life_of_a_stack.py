"""The real engine takes the toy from nothing to nothing; one run serves many sentences."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coldstart.engine import Rehearsal, Result, Toolchain
from coldstart.engine.result import SECRET, UNKNOWN
from offline.world import Event, World, WorldObject

FIXTURES = Path(__file__).with_name("fixtures")
STACK = "whole"
REAL_RESOURCES = 10
"""Network, two subnets, role, cluster, namespace, release, pool, password, secret."""


@dataclass(frozen=True)
class Life:
    """Every result of one life, in order, and what the world held meanwhile."""

    before: dict[str, str]
    after: dict[str, str]
    preview: Result
    up: Result
    second_up: Result
    quiet_refresh: Result
    drifted_refresh: Result
    mended: Result
    changed: Result
    destroy: Result
    state: str
    outputs: dict[str, Any]
    objects: list[WorldObject]
    objects_at_the_end: list[WorldObject]
    history: list[Event]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> Life:
    """Preview, up, up, refresh, drift, up, a change, destroy."""
    project = tmp_path_factory.mktemp("life") / "toy"
    shutil.copytree(FIXTURES / "toy", project)
    before = _files(project)
    with Rehearsal(project, toolchain) as rehearsal:
        preview, up = rehearsal.preview(STACK), rehearsal.up(STACK)
        world = World(rehearsal.world_path)
        objects = world.objects()
        state = json.dumps(rehearsal.export(STACK))
        outputs = rehearsal.outputs(STACK)
        second_up, quiet_refresh = rehearsal.up(STACK), rehearsal.refresh(STACK)
        _cause_drift(world)
        drifted_refresh, mended = rehearsal.refresh(STACK), rehearsal.up(STACK)
        after = _files(project)
        (project / "stacks" / f"Pulumi.{STACK}.yaml").write_text(
            "config: {aws:region: us-west-2, toy:gpus: 16}\n", encoding="utf-8"
        )
        changed, destroy = rehearsal.up(STACK), rehearsal.destroy(STACK)
        return Life(
            before=before,
            after=after,
            preview=preview,
            up=up,
            second_up=second_up,
            quiet_refresh=quiet_refresh,
            drifted_refresh=drifted_refresh,
            mended=mended,
            changed=changed,
            destroy=destroy,
            state=state,
            outputs=outputs,
            objects=objects,
            objects_at_the_end=world.objects(),
            history=world.history(),
        )


def _cause_drift(world: World) -> None:
    """Somebody edits a role's trust by hand and deletes the pool."""
    (role,) = world.objects("aws:iam/role:Role")
    world.edit(role.type, role.id, {**role.properties, "assumeRolePolicy": "{}"})
    (pool,) = world.objects("kubernetes:karpenter.sh/v1:NodePool")
    world.remove(pool.type, pool.id)


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_preview_makes_nothing_and_counts_everything(life: Life) -> None:
    assert life.preview.ok, life.preview.errors
    # The stack and the explicit provider are resources of the engine's own.
    assert life.preview.summary == {"create": REAL_RESOURCES + 2}
    assert life.history[0].action == "create"
    assert sum(event.action == "create" for event in life.history) == REAL_RESOURCES + 1


def test_a_preview_says_what_only_an_up_can_know(life: Life) -> None:
    assert life.preview.outputs["issuer"] == UNKNOWN
    assert life.preview.outputs["securityGroup"] == UNKNOWN
    assert life.preview.outputs["clusterName"].startswith("cluster-")


def test_an_up_makes_each_resource_once_with_ids_of_the_clouds_own_shape(life: Life) -> None:
    assert life.up.ok, life.up.errors
    assert {thing.created_count for thing in life.objects} == {1}
    ids = {thing.type: thing.id for thing in life.objects}
    assert ids["aws:ec2/vpc:Vpc"].startswith("vpc-")
    assert ids["kubernetes:core/v1:Secret"] == "serving/api-key"
    assert life.outputs["issuer"].startswith("https://oidc.eks.us-west-2.amazonaws.com/id/")


def test_every_step_names_its_parent_and_its_inputs(life: Life) -> None:
    network = next(step for step in life.up.resources if step.name == "network")
    assert (network.op, network.type) == ("create", "aws:ec2/vpc:Vpc")
    assert network.parent.endswith("toy-whole")
    assert network.inputs["cidrBlock"] == "10.40.0.0/16"


def test_a_secret_is_not_in_plain_text_in_state_nor_in_results(life: Life) -> None:
    key = life.outputs["apiKey"]
    assert len(key) == 32
    assert key not in life.state
    assert life.up.outputs["apiKey"] == SECRET
    assert key not in life.up.stdout
    assert not any(key in str(step) for step in life.up.resources)


def test_a_second_up_changes_nothing(life: Life) -> None:
    assert life.second_up.changed == ()
    assert set(life.second_up.summary) == {"same"}


def test_a_refresh_of_an_untouched_world_finds_nothing(life: Life) -> None:
    assert life.quiet_refresh.ok
    assert life.quiet_refresh.changed == ()


def test_a_refresh_finds_what_was_edited_and_what_was_deleted(life: Life) -> None:
    found = {(step.op, step.name) for step in life.drifted_refresh.changed}
    assert found == {("update", "cluster"), ("delete", "gpu")}


def test_an_up_after_drift_mends_only_what_drifted(life: Life) -> None:
    mended = {(step.op, step.name) for step in life.mended.changed}
    assert mended == {("update", "cluster"), ("create", "gpu")}


def test_a_change_of_one_value_changes_only_its_resource(life: Life) -> None:
    (step,) = life.changed.changed
    assert (step.op, step.name) == ("update", "gpu")
    assert step.changed == ('spec.limits["nvidia.com/gpu"]',)


def test_a_destroy_leaves_the_world_empty(life: Life) -> None:
    assert life.destroy.ok, life.destroy.errors
    assert life.objects_at_the_end == []


def test_the_users_files_stay_as_they_are(life: Life) -> None:
    assert life.after == life.before
