"""Who gives way to whom on a full pool: replicas, publishing Jobs, warm capacity."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from coldstart.controlplane import ControlPlane
from tests.cluster.conftest import say
from tests.cluster.scheduling_nodes import gpu_shape
from tests.cluster.scheduling_scene import (
    COMPILE_CACHE,
    GPU,
    SERVER,
    WARM,
    Change,
    Scene,
    node_of,
    populate,
    verdict,
)
from tests.cluster.scheduling_stacks import moved, pod_of, stack, tenant

pytestmark = pytest.mark.proof("scheduler")

MODEL, POOL = "qwen3-8b", "l40s"


@pytest.fixture(scope="module")
def populated(plane: ControlPlane) -> ControlPlane:
    populate(plane, say)
    return plane


@pytest.fixture
def scene(populated: ControlPlane) -> Iterator[Scene]:
    built = Scene(populated)
    try:
        yield built
    finally:
        built.close()


def warm_node(scene: Scene, count: int = 1) -> tuple[list[str], str]:
    """Nodes of the smallest type the pool allows, the first of them held by a pause pod."""
    names = scene.nodes(gpu_shape(stack("eks-prod"), POOL), count)
    namespace = scene.tenant(stack("eks-prod"), WARM, "Deployment")
    scene.running(namespace, 1)
    return names, namespace


def publishing_job(namespace: str) -> list[dict[str, Any]]:
    """The rendered Job that makes the golden compile cache."""
    jobs = moved(tenant(stack("eks-prod"), MODEL, "Job"), namespace)
    return [job for job in jobs if job["metadata"]["name"].startswith(COMPILE_CACHE)]


def server(namespace: str) -> list[dict[str, Any]]:
    return moved(tenant(stack("eks-prod"), MODEL, "Deployment"), namespace)


def scheduling(changes: list[Change]) -> list[tuple[str | None, str | None, bool]]:
    """Each state a pod went through as scheduling sees it: nominated node, node, turned down."""
    states = [
        (
            change.object["status"].get("nominatedNodeName"),
            node_of(change.object),
            verdict(change.object) is not None,
        )
        for change in changes
    ]
    return states[:1] + [later for earlier, later in pairwise(states) if later != earlier]


def reports(scene: Scene, namespace: str, reason: str) -> list[dict[str, Any]]:
    """The scheduler's events of one reason, each with how often it happened."""
    found = scene.client.list("events.k8s.io/v1", "Event", namespace)
    return [event for event in found if event["reason"] == reason]


def test_a_replica_takes_a_warm_node_within_one_scheduling_cycle(scene: Scene) -> None:
    """The first attempt finds no room, names the pause pod's node and ends the pause pod; the
    second one binds. Nothing comes between: no other verdict, and no second failed attempt."""
    (node,), warm = warm_node(scene)
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    (held,) = scene.pods(warm)
    replicas, reserve = scene.history(namespace), scene.history(warm)
    scene.apply(server(namespace))
    scene.running(namespace, 1, SERVER)
    states = scheduling(replicas.changes())
    assert states == [(None, None, False), (node, None, True), (None, node, False)]
    failed = scene.until(
        lambda: reports(scene, namespace, "FailedScheduling"), "the scheduler to tell of it"
    )
    assert len(failed) == 1 and "series" not in failed[0]
    ended = [
        change.object for change in reserve.changes()
        if change.object["metadata"]["uid"] == held["metadata"]["uid"]
    ]  # fmt: skip
    reasons = {c["type"]: c.get("reason") for c in ended[-1]["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "PreemptionByScheduler"
    assert ended[-1]["metadata"]["deletionGracePeriodSeconds"] == 0


def test_a_pause_pod_that_gave_way_waits_and_turns_nobody_out(scene: Scene) -> None:
    _, warm = warm_node(scene)
    namespace = scene.tenant(stack("eks-prod"), MODEL, "Deployment")
    scene.running(namespace, 1, SERVER)
    waiting = scene.waiting(warm)
    assert "not eligible due to preemptionPolicy=Never" in (verdict(waiting) or "")
    assert "nominatedNodeName" not in waiting["status"]
    (again,) = scene.nodes(gpu_shape(stack("eks-prod"), POOL))
    (held,) = scene.running(warm, 1)
    assert node_of(held) == again


def test_a_pause_pod_leaves_even_lower_priorities_alone(scene: Scene) -> None:
    """Warm capacity must never cost anybody a pod, however little that pod matters."""
    scene.nodes(gpu_shape(stack("eks-prod"), POOL))
    lowest = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "lowest-of-all"},
        "value": -1000,
    }
    scene.client.apply(lowest)
    namespace = scene.namespace()
    (deployment,) = server(namespace)
    bare = pod_of(deployment["spec"]["template"], "cheap", namespace)
    bare["spec"] = {
        "priorityClassName": "lowest-of-all",
        "nodeSelector": bare["spec"]["nodeSelector"],
        "tolerations": bare["spec"]["tolerations"],
        "containers": [{"name": "c", "image": "c", "resources": {"limits": {GPU: "1"}}}],
    }
    scene.apply([bare])
    scene.running(namespace, 1)
    warm = scene.tenant(stack("eks-prod"), WARM, "Deployment")
    assert "nominatedNodeName" not in scene.waiting(warm)["status"]
    scene.running(namespace, 1)


def test_a_publishing_job_may_take_a_warm_node(scene: Scene) -> None:
    (node,), warm = warm_node(scene)
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    scene.apply(publishing_job(namespace))
    (publisher,) = scene.running(namespace, 1, COMPILE_CACHE)
    assert node_of(publisher) == node
    scene.waiting(warm)


def test_a_replica_takes_a_warm_node_before_a_publishers(scene: Scene) -> None:
    """Both would do; the one that matters less goes."""
    nodes, warm = warm_node(scene, 2)
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    (held,) = scene.pods(warm)
    scene.apply(publishing_job(namespace))
    (publisher,) = scene.running(namespace, 1, COMPILE_CACHE)
    assert {node_of(held), node_of(publisher)} == set(nodes)
    scene.apply(server(namespace))
    (replica,) = scene.running(namespace, 1, SERVER)
    assert node_of(replica) == node_of(held)
    (spared,) = scene.running(namespace, 1, COMPILE_CACHE)
    assert spared["metadata"]["uid"] == publisher["metadata"]["uid"]


def test_a_replica_turns_out_a_publishing_job(scene: Scene) -> None:
    (node,) = scene.nodes(gpu_shape(stack("eks-prod"), POOL))
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    scene.apply(publishing_job(namespace))
    scene.running(namespace, 1, COMPILE_CACHE)
    scene.apply(server(namespace))
    (replica,) = scene.running(namespace, 1, SERVER)
    assert node_of(replica) == node
    scene.waiting(namespace, COMPILE_CACHE)


def test_a_publishing_job_does_not_fail_for_having_given_way(scene: Scene) -> None:
    """It yields to every replica, so giving way must not use up its retries: nobody makes it anew,
    and every later start would compile from scratch."""
    scene.nodes(gpu_shape(stack("eks-prod"), POOL))
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    scene.apply(publishing_job(namespace))
    (publisher,) = scene.running(namespace, 1, COMPILE_CACHE)
    scene.apply(server(namespace))
    scene.running(namespace, 1, SERVER)
    scene.waiting(namespace, COMPILE_CACHE)
    scene.until(lambda: scene.gave_way(publisher), "the scheduler to tell who gave way")
    (job,) = scene.client.list("batch/v1", "Job", namespace)
    assert job["status"].get("failed", 0) == 0


def test_a_publishing_job_is_not_given_up_while_it_waits_for_a_gpu(scene: Scene) -> None:
    """Its deadline is for the work, which begins when a node is found; a Job with a deadline of its
    own stands beside it as the clock."""
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    (publisher,) = publishing_job(namespace)
    for spec in (publisher["spec"], publisher["spec"]["template"]["spec"]):
        if "activeDeadlineSeconds" in spec:
            spec["activeDeadlineSeconds"] = 1
    clock = copy.deepcopy(publisher)
    clock["metadata"]["name"] = "clock"
    clock["spec"]["activeDeadlineSeconds"] = 2
    scene.apply([publisher, clock])
    scene.until(lambda: reasons_to_fail(scene, namespace, "clock"), "the clock to run out")
    assert not reasons_to_fail(scene, namespace, publisher["metadata"]["name"])


def reasons_to_fail(scene: Scene, namespace: str, job: str) -> list[str]:
    found = scene.client.get("batch/v1", "Job", job, namespace) or {}
    conditions = found["status"].get("conditions", [])
    return [c["reason"] for c in conditions if c["type"] == "Failed" and c["status"] == "True"]


def test_a_replica_never_turns_out_another(scene: Scene) -> None:
    """Models of one pool have one priority: none grows at the cost of another."""
    scene.nodes(gpu_shape(stack("eks-prod"), POOL))
    namespace = scene.tenant(stack("eks-prod"), MODEL, "Deployment")
    (first,) = scene.running(namespace, 1, SERVER)
    scene.scale(namespace, MODEL, 2)
    scene.waiting(namespace, because="No preemption victims found")
    names = {pod["metadata"]["name"] for pod in scene.pods(namespace) if node_of(pod)}
    assert names == {first["metadata"]["name"]}
