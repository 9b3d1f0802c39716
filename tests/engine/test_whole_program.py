"""The real engine runs the whole program on the repository's own stacks."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from coldstart.cli.rehearsal import policy_config
from coldstart.engine import Rehearsal, Result, Toolchain
from coldstart.spec import load_stack
from offline.world import World, WorldObject
from policies.presets import levels

ROOT = Path(__file__).resolve().parents[2]
STACK = "eks-prod"
POOL = "l40s"
API_KEY = "an-api-key-of-the-test"
BEFORE = {path: path.read_bytes() for path in (ROOT / "stacks").iterdir()}
SKIPPED = shutil.ignore_patterns(".git", ".venv", ".cache", "__pycache__", "tests", "tools")


def edited(project: Path, stack: str, edit: Callable[[dict], None]) -> None:
    """Change the stack file of a copied project."""
    path = project / f"stacks/Pulumi.{stack}.yaml"
    document = yaml.safe_load(path.read_text())
    edit(document["config"])
    path.write_text(yaml.safe_dump(document))


@dataclass(frozen=True)
class Life:
    """Every result of one life of eks-prod, and what the imaginary world held."""

    preview: Result
    up: Result
    second: Result
    quiet: Result
    changed: Result
    destroy: Result
    made: list[WorldObject]
    left: list[WorldObject]
    state: str


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> Life:
    """Preview, up, up, refresh, one pool changed, destroy."""
    project = tmp_path_factory.mktemp("life") / "project"
    shutil.copytree(ROOT, project, ignore=SKIPPED)
    edited(project, STACK, lambda config: config.update({"coldstart:apiKey": {"secure": "v1:x:y"}}))
    config = policy_config(load_stack(ROOT, STACK))
    secrets = {"coldstart:apiKey": API_KEY}
    with Rehearsal(project, toolchain, secrets=secrets) as rehearsal:
        preview = rehearsal.preview(STACK, ROOT / "policies", config)
        up = rehearsal.up(STACK, ROOT / "policies", config)
        world = World(rehearsal.world_path)
        made, state = world.objects(), json.dumps(rehearsal.export(STACK))
        second, quiet = rehearsal.up(STACK), rehearsal.refresh(STACK)
        edited(project, STACK, lambda c: c["coldstart:nodePools"][POOL].update({"maxNodes": 9}))
        changed = rehearsal.up(STACK)
        destroy = rehearsal.destroy(STACK)
        return Life(preview, up, second, quiet, changed, destroy, made, world.objects(), state)


def test_a_preview_creates_everything_and_breaks_no_policy(life: Life) -> None:
    assert life.preview.ok, life.preview.errors
    assert set(life.preview.summary) == {"create"}
    assert life.preview.violations == ()


def test_every_policy_rule_judged_the_preview(life: Life) -> None:
    judged = {policy.policy for policy in life.preview.policy_results}
    in_force = {name for name, level in levels("production").items() if level != "disabled"}
    assert judged == in_force
    still_open = {item.policy for item in life.preview.undecided}
    failed = {policy.policy for policy in life.preview.policy_results if policy.failed}
    assert failed <= still_open


def test_an_up_makes_what_the_preview_promised_and_breaks_no_policy(life: Life) -> None:
    assert life.up.ok, life.up.errors
    assert life.up.summary == life.preview.summary
    assert life.up.violations == ()


def test_a_second_up_changes_nothing(life: Life) -> None:
    assert [step.urn for step in life.second.changed] == []
    assert life.second.summary["same"] == life.up.summary["create"]


def test_a_refresh_finds_no_drift(life: Life) -> None:
    assert life.quiet.ok, life.quiet.errors
    assert [step.urn for step in life.quiet.changed] == []


def test_changing_one_pool_touches_only_its_resources(life: Life) -> None:
    assert life.changed.ok, life.changed.errors
    touched = [step for step in life.changed.changed if step.type != "pulumi:pulumi:Stack"]
    assert [(step.op, step.type, step.name) for step in touched] == [
        ("update", "kubernetes:karpenter.sh/v1:NodePool", f"pool-{POOL}-{POOL}")
    ]


def test_a_destroy_leaves_nothing(life: Life) -> None:
    assert life.destroy.ok, life.destroy.errors
    assert life.left == []


def test_nothing_was_made_twice(life: Life) -> None:
    assert max(Counter(thing.urn for thing in life.made).values()) == 1


def test_the_api_key_is_nowhere_in_the_stored_state(life: Life) -> None:
    assert API_KEY not in life.state


@pytest.fixture(scope="module")
def split(toolchain: Toolchain) -> tuple[Result, Result, Result, list[WorldObject]]:
    """The infra stack, the workload stack on it, and a second up of the latter."""
    with Rehearsal(ROOT, toolchain) as rehearsal:
        infra = rehearsal.up("eks-prod-infra")
        workload = rehearsal.up("eks-prod-workload")
        again = rehearsal.up("eks-prod-workload")
        return infra, workload, again, World(rehearsal.world_path).objects()


def test_two_stacks_joined_by_a_reference_make_what_one_makes(
    split: tuple[Result, Result, Result, list[WorldObject]], life: Life
) -> None:
    infra, workload, _, objects = split
    assert infra.ok, infra.errors
    assert workload.ok, workload.errors
    # The one-stack life is given an API key; the split stacks generate theirs.
    generated = [o for o in objects if o.type.startswith("random:")]
    assert len(generated) == 1
    cloud = Counter(o.type for o in objects if o not in generated)
    assert cloud == Counter(o.type for o in life.made)


def test_the_workload_stack_settles_too(
    split: tuple[Result, Result, Result, list[WorldObject]],
) -> None:
    assert [step.urn for step in split[2].changed] == []


def test_a_wrong_stack_file_ends_in_one_message_and_makes_nothing(
    tmp_path: Path, toolchain: Toolchain
) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=SKIPPED)
    edited(project, "eks-dev", lambda c: c["coldstart:models"]["qwen3-1-7b"].update({"wieghts": 1}))
    with Rehearsal(project, toolchain) as rehearsal:
        refused = rehearsal.up("eks-dev")
        assert World(rehearsal.world_path).objects() == []
    assert not refused.ok
    text = "\n".join(refused.errors)
    assert (
        'models.qwen3-1-7b.wieghts: is not a key the stack file knows; did you mean "weights"?'
        in text
    )
    assert "Traceback" not in text


def test_rehearsing_leaves_the_stack_files_as_they_were(life: Life) -> None:
    assert life.up.ok
    assert {path: path.read_bytes() for path in (ROOT / "stacks").iterdir()} == BEFORE
