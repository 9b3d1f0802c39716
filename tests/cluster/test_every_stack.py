"""Every stack of the repository on a real API server, from a dry run to nothing left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from coldstart.cli.rehearsal import policy_config
from coldstart.controlplane import Client, ControlPlane, DeadlineError, Refused
from coldstart.controlplane import definitions as crds
from coldstart.engine import Rehearsal, Result, Toolchain, ensure
from coldstart.engine.result import SECRET, UNKNOWN
from coldstart.spec import load_stack
from tests.cluster.conftest import say
from tests.cluster.stack_cluster import (
    ROOT,
    Key,
    access_to,
    everything,
    key_of,
    made_by,
    pod_templates,
    settled_as,
    stays,
    untouched,
)

STACKS = sorted(
    path.name.removeprefix("Pulumi.").removesuffix(".yaml")
    for path in (ROOT / "stacks").glob("Pulumi.*.yaml")
)
UNDER = {stack: load_stack(ROOT, stack).infra_stack or stack for stack in STACKS}
"""The stack with whose life each is led: its infra stack, or itself."""
PODS_DEADLINE_SECONDS = 60
SOMEBODY = "somebody-else"

pytestmark = pytest.mark.proof("API server")


@dataclass
class Life:
    """What happened to one stack, in order."""

    up: Result
    there: dict[Key, dict[str, Any]]
    tried_pods: dict[Key, str] = field(default_factory=dict)
    """What was said of each pod template as a bare pod; empty when nothing was."""
    short_of_pods: list[str] = field(default_factory=list)
    second: Result | None = None
    changed: set[Key] = field(default_factory=set)
    drifted: Result | None = None
    mended: Result | None = None
    live_after: dict[Key, dict[str, Any]] = field(default_factory=dict)
    destroyed: Result | None = None
    left: set[Key] = field(default_factory=set)
    dry_run: Result | None = None
    """A preview on a cluster that has nothing of the stack but its namespaces and definitions."""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure(say)


@pytest.fixture(scope="module")
def lives(plane: ControlPlane, toolchain: Toolchain) -> Callable[[str], dict[str, Life]]:
    """Gives the lives of a stack and of those above it, which are led while it is up."""

    @cache
    def lead(root: str) -> dict[str, Life]:
        untouched(plane.admin)
        above = [stack for stack, under in UNDER.items() if under == root != stack]
        with Rehearsal(ROOT, toolchain, cluster=access_to(plane)) as rehearsal:
            return _lead(rehearsal, plane.admin, [root, *above])

    return lambda stack: lead(UNDER[stack])


@pytest.fixture(scope="module", params=STACKS)
def life(request: pytest.FixtureRequest, lives: Callable[[str], dict[str, Life]]) -> Life:
    """The whole life of one stack; a workload stack has its infra stack under it."""
    return lives(request.param)[request.param]


def _lead(rehearsal: Rehearsal, admin: Client, stacks: Sequence[str]) -> dict[str, Life]:
    stack, *above = stacks
    before = everything(admin)
    up = rehearsal.up(stack, ROOT / "policies", policy_config(load_stack(ROOT, stack)))
    there = everything(admin)
    found = Life(up, there)
    new = {key: item for key, item in there.items() if key not in before}
    found.tried_pods = {key: _tried(admin, pod) for key, pod in pod_templates(new).items()}
    found.short_of_pods = _short_of_pods(admin)
    found.second = rehearsal.up(stack)
    found.changed = _relabelled(admin, up)
    found.drifted = rehearsal.refresh(stack)
    found.mended = rehearsal.up(stack)
    found.live_after = {key: _get(admin, key) for key in found.changed}
    lives = {stack: found}
    for one in above:
        lives |= _lead(rehearsal, admin, [one])
    found.destroyed = rehearsal.destroy(stack)
    found.left = settled_as(admin, before)
    with _prepared(admin, up, before):
        found.dry_run = rehearsal.preview(stack)
    return lives


@contextmanager
def _prepared(admin: Client, up: Result, before: dict[Key, dict[str, Any]]) -> Iterator[None]:
    """The namespaces and definitions that would come with the stack, for one preview."""
    namespaces = [step.inputs for step in made_by(up) if step.inputs["kind"] == "Namespace"]
    missing = [
        _as_of_karpenters_chart(d)
        for d in crds.all_definitions()
        if _definition_key(d) not in before
    ]
    for namespace in namespaces:
        admin.apply(namespace)
    crds.apply(admin, missing)
    try:
        yield
    finally:
        for wait in (False, True):
            for made in (*namespaces, *missing):
                admin.delete(made["apiVersion"], made["kind"], made["metadata"]["name"], wait=wait)


def _as_of_karpenters_chart(definition: dict[str, Any]) -> dict[str, Any]:
    """So marked, Helm takes a definition for the release's own, as on a second install."""
    if definition["spec"]["group"] not in crds.CHARTS["karpenter-crd"]:
        return definition
    metadata = definition["metadata"]
    marks = {
        "meta.helm.sh/release-name": "karpenter-crd",
        "meta.helm.sh/release-namespace": "kube-system",
    }
    return {
        **definition,
        "metadata": {
            **metadata,
            "labels": {**metadata.get("labels", {}), "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {**metadata.get("annotations", {}), **marks},
        },
    }


def _definition_key(definition: dict[str, Any]) -> Key:
    return definition["apiVersion"], definition["kind"], "", definition["metadata"]["name"]


def _tried(admin: Client, pod: dict[str, Any]) -> str:
    """What the server says of a bare pod: its refusal or its warnings."""
    try:
        return "; ".join(admin.create(pod, dry_run=True).warnings)
    except Refused as refused:
        return str(refused)


def _short_of_pods(admin: Client) -> list[str]:
    """Workloads for which the controllers could not make every pod by the deadline."""
    short: list[str] = []

    def all_made() -> bool:
        short.clear()
        for kind in ("ReplicaSet", "StatefulSet"):
            for item in admin.list("apps/v1", kind):
                wanted, made = item["spec"]["replicas"], item["status"].get("replicas", 0)
                if made < wanted:
                    conditions = item["status"].get("conditions")
                    short.append(f"{kind} {item['metadata']['name']}: {made}/{wanted} {conditions}")
        for job in admin.list("batch/v1", "Job"):
            if not job["spec"].get("suspend") and not job["status"].get("active"):
                short.append(f"Job {job['metadata']['name']}: no pod")
        return not short

    try:
        admin.wait_for(all_made, "every pod to be made", PODS_DEADLINE_SECONDS)
    except DeadlineError:
        return short
    return []


def _relabelled(admin: Client, up: Result) -> set[Key]:
    """Another owner puts its own value on the first label of every object that has one.

    Left out are what a golden cache is published by, which the program makes once and never
    changes (`ignore_changes`), and namespaces, whose labels open doors.
    """
    changed = set()
    for step in made_by(up):
        labels = step.inputs["metadata"].get("labels")
        version, kind, namespace, name = key = key_of(step)
        if labels and kind != "Namespace" and not name.startswith("compile-cache-"):
            patch = {"metadata": {"labels": {sorted(labels)[0]: SOMEBODY}}}
            admin.patch(version, kind, name, patch, namespace or None, owner=SOMEBODY)
            changed.add(key)
    return changed


def _get(admin: Client, key: Key) -> dict[str, Any]:
    found = admin.get(key[0], key[1], key[3], key[2] or None)
    assert found is not None, key
    return found


def test_a_dry_run_of_every_object_is_clean_before_anything_is_made(life: Life) -> None:
    assert life.dry_run is not None
    assert life.dry_run.ok, life.dry_run.errors
    untried = [step for step in made_by(life.dry_run) if not _was_tried(step.outputs)]
    # Only what a preview cannot know keeps an object from its dry run.
    assert [step.name for step in untried if not _has_unknown(step.inputs)] == []
    assert len(untried) < len(made_by(life.dry_run)) / 4


def test_every_object_of_the_stack_is_admitted(life: Life) -> None:
    assert life.up.ok, life.up.errors
    made = made_by(life.up)
    assert made
    assert [step.name for step in made if key_of(step) not in life.there] == []


def test_no_field_is_unknown_or_deprecated_and_admission_warns_of_nothing(life: Life) -> None:
    """An unknown field would be refused: every apply is validated strictly."""
    for result in (life.dry_run, life.up, life.second, life.mended):
        assert result is not None
        assert result.warnings == ()


def test_every_pod_template_is_admitted_as_a_bare_pod(life: Life) -> None:
    assert life.tried_pods, "no pod template was found"
    assert {key: said for key, said in life.tried_pods.items() if said} == {}


@pytest.mark.proof("controller-manager")
def test_the_controllers_make_every_pod(life: Life) -> None:
    assert life.short_of_pods == []


def test_a_second_up_changes_nothing(life: Life) -> None:
    assert life.second is not None
    assert life.second.ok, life.second.errors
    assert [step.urn for step in life.second.changed] == []


def test_a_field_that_another_owner_changed_is_found_by_refresh(life: Life) -> None:
    assert life.drifted is not None
    assert life.drifted.ok, life.drifted.errors
    assert {key_of(step) for step in life.drifted.changed} == life.changed


def test_what_another_owner_changed_is_repaired_by_the_next_up(life: Life) -> None:
    assert life.mended is not None
    assert life.mended.ok, life.mended.errors
    assert {key_of(step) for step in life.mended.changed} == life.changed
    still = [
        k for k, item in life.live_after.items() if SOMEBODY in item["metadata"]["labels"].values()
    ]
    assert still == []


def test_a_destroy_leaves_no_object_behind_but_what_helm_leaves(life: Life) -> None:
    assert life.destroyed is not None
    assert life.destroyed.ok, life.destroyed.errors
    assert {key for key in life.left if not stays(key)} == set()


def _was_tried(outputs: Any) -> bool:
    """A dry run gives an object an id, which a preview calls unknown."""
    return outputs.get("metadata", {}).get("uid") == UNKNOWN


def _has_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_unknown(item) for item in value)
    # A generated API key is shown as a secret, whether it is known or not.
    return value in (UNKNOWN, SECRET)
