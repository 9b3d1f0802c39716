"""What may be taken from a running model, and how much it may take itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coldstart.controlplane import Answer, ControlPlane
from tests.cluster.conftest import say
from tests.cluster.controllers import observed
from tests.cluster.scheduling_nodes import gpu_shape
from tests.cluster.scheduling_scene import (
    COMPILE_CACHE,
    GPU,
    SERVER,
    Object,
    Scene,
    is_ready,
    populate,
)
from tests.cluster.scheduling_stacks import moved, stack, tenant

pytestmark = pytest.mark.proof("controller-manager")

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


def serving(scene: Scene, replicas: int, nodes: int) -> tuple[str, list[Object]]:
    """A model with its disruption budget at `replicas` replicas, all ready."""
    scene.nodes(gpu_shape(stack("eks-prod"), POOL), nodes)
    namespace = scene.tenant(stack("eks-prod"), MODEL, "Deployment", "PodDisruptionBudget")
    scene.scale(namespace, MODEL, replicas)
    pods = scene.running(namespace, replicas, SERVER)
    budget(scene, namespace, replicas)
    return namespace, pods


def budget(scene: Scene, namespace: str, healthy: int) -> Object:
    """The disruption budget, once its controller has counted `healthy` replicas."""

    def probe() -> Object | None:
        (found,) = scene.client.list("policy/v1", "PodDisruptionBudget", namespace)
        return found if observed(found) and found["status"]["currentHealthy"] == healthy else None

    return scene.until(probe, f"a disruption budget that counts {healthy}")


def evict(scene: Scene, pod: Object) -> Answer:
    """What `kubectl drain` and Karpenter ask for."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    path = scene.client.path("v1", "Pod", name, namespace, "eviction")
    return scene.client.request("POST", path, body)


def test_one_replica_may_be_drained_and_the_next_only_when_it_is_back(scene: Scene) -> None:
    namespace, (first, second, _) = serving(scene, 3, 3)
    scene.hold(first)
    assert evict(scene, first).status == 201
    budget(scene, namespace, 2)
    refusal = evict(scene, second)
    assert refusal.status == 429
    assert "would violate the pod's disruption budget" in refusal.body["message"]
    scene.release(first)
    scene.running(namespace, 3, SERVER)
    budget(scene, namespace, 3)
    assert evict(scene, second).status == 201


def test_the_only_replica_can_be_drained(scene: Scene) -> None:
    """With minAvailable 1 its node could never be replaced."""
    _, (only,) = serving(scene, 1, 1)
    assert evict(scene, only).status == 201


def test_a_loading_replica_protects_the_ready_one(scene: Scene) -> None:
    namespace, (first, second) = serving(scene, 2, 2)
    conditions = [
        {**c, "status": "False"} if c["type"] in ("Ready", "ContainersReady") else c
        for c in second["status"]["conditions"]
    ]
    second["status"]["conditions"] = conditions
    scene.client.update_status(second)
    budget(scene, namespace, 1)
    assert evict(scene, first).status == 429
    assert evict(scene, second).status == 201


def test_an_evicted_replica_gets_the_time_its_plan_gives_it(scene: Scene) -> None:
    namespace, (only,) = serving(scene, 1, 1)
    scene.hold(only)
    history = scene.history(namespace)
    evict(scene, only)
    draining = next(
        c.object for c in history.changes() if "deletionTimestamp" in c.object["metadata"]
    )
    metadata, spec = draining["metadata"], draining["spec"]
    (engine,) = spec["containers"]
    grace = spec["terminationGracePeriodSeconds"]
    waits = engine["lifecycle"]["preStop"]["sleep"]["seconds"]
    finishes = next(a for a in engine["args"] if a.startswith("--shutdown-timeout="))
    assert metadata["deletionGracePeriodSeconds"] == grace
    assert waits + int(finishes.partition("=")[2]) < grace
    assert is_ready(draining)


def test_the_quota_admits_full_scale_a_rollout_step_and_the_publisher_and_no_more(
    scene: Scene,
) -> None:
    prod = stack("eks-prod")
    (scaled,) = tenant(prod, MODEL, "ScaledObject")
    full = scaled["spec"]["maxReplicaCount"]
    namespace = scene.tenant(prod, MODEL, "Deployment", "Job")
    (quota,) = scene.client.list("v1", "ResourceQuota", namespace)
    hard = int(quota["spec"]["hard"][f"requests.{GPU}"])
    assert hard >= full + 2
    scene.until(lambda: len(scene.pods(namespace, COMPILE_CACHE)) == 1, "the publisher's pod")
    scene.scale(namespace, MODEL, hard)
    message = scene.until(lambda: refused(scene, namespace), "the quota to refuse a replica")
    assert (
        f"exceeded quota: gpus, requested: requests.{GPU}=1, used: requests.{GPU}={hard}" in message
    )
    assert len(scene.pods(namespace, SERVER)) == hard - 1


def refused(scene: Scene, namespace: str) -> str | None:
    """Why a replica set could not make a pod."""
    for found in scene.client.list("apps/v1", "ReplicaSet", namespace):
        for condition in found["status"].get("conditions", []):
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return condition["message"]
    return None


def test_a_pod_without_gpus_is_no_matter_for_the_quota(scene: Scene) -> None:
    namespace = scene.tenant(stack("eks-prod"), MODEL)
    fetching = [
        job for job in moved(tenant(stack("eks-prod"), MODEL, "Job"), namespace)
        if not job["metadata"]["name"].startswith(COMPILE_CACHE)
    ]  # fmt: skip
    scene.apply(fetching)
    scene.until(lambda: scene.pods(namespace), "the fetching pod")
    (quota,) = scene.client.list("v1", "ResourceQuota", namespace)
    assert quota["status"]["used"] == {f"requests.{GPU}": "0"}
