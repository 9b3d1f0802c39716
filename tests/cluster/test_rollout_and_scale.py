"""Replicas come, go and are replaced: rollouts on full pools, and the way from zero and back."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from coldstart.controlplane import ControlPlane
from tests.cluster.conftest import say
from tests.cluster.controllers import observed
from tests.cluster.scheduling_nodes import ZONES, gpu_shape
from tests.cluster.scheduling_scene import (
    COMPILE_CACHE,
    COMPONENT,
    GPU,
    SERVER,
    WARM,
    Change,
    Object,
    Scene,
    gpus,
    is_ready,
    node_of,
    populate,
)
from tests.cluster.scheduling_stacks import moved, rendered, stack, tenant

pytestmark = pytest.mark.proof("controller-manager")

SCARCE = ("eks-dev", "l4", "qwen3-1-7b")
"""A pool that is full at full scale, so that rollouts take away before they add."""
ROOMY = ("eks-prod", "l40s", "qwen3-8b")
"""A pool with a GPU more than full scale needs."""
ENDED = ("Failed", "Succeeded")


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


def limits(name: str, pool: str, model: str) -> tuple[int, int]:
    """Nodes that the NodePool may have, and replicas at full scale."""
    run = stack(name)
    (found,) = (p for p in rendered(run, "NodePool") if p["metadata"]["name"] == pool)
    (scaled,) = tenant(run, model, "ScaledObject")
    return int(found["spec"]["limits"]["nodes"]), scaled["spec"]["maxReplicaCount"]


def full_scale(scene: Scene, where: tuple[str, str, str]) -> tuple[str, list[Object]]:
    """A model at full scale on all the nodes its pool may have."""
    name, pool, model = where
    nodes, replicas = limits(*where)
    scene.nodes(gpu_shape(stack(name), pool), nodes)
    namespace = scene.tenant(stack(name), model, "Deployment", "Service")
    scene.scale(namespace, model, replicas)
    return namespace, scene.running(namespace, replicas, SERVER)


def deployment(where: tuple[str, str, str], namespace: str) -> Object:
    name, _, model = where
    (found,) = moved(tenant(stack(name), model, "Deployment"), namespace)
    return found


def next_version(where: tuple[str, str, str], namespace: str) -> Object:
    """The same Deployment with an engine argument more."""
    found = copy.deepcopy(deployment(where, namespace))
    found["spec"]["template"]["spec"]["containers"][0]["args"].append(
        "--enable-prompt-tokens-details"
    )
    return found


def rolled_out(scene: Scene, namespace: str, model: str) -> None:
    """Wait until every replica is of the newest version and ready."""

    def probe() -> bool:
        found = scene.client.get("apps/v1", "Deployment", model, namespace) or {}
        status, wanted = found["status"], found["spec"]["replicas"]
        return (
            observed(found)
            and status.get("updatedReplicas") == status.get("availableReplicas") == wanted
            and status.get("replicas") == wanted
        )

    scene.until(probe, f"the rollout of {model}")


def states(first: list[Object], changes: list[Change]) -> Iterator[list[Object]]:
    """All objects after each write, beginning with `first`."""
    objects = {item["metadata"]["uid"]: item for item in first}
    yield list(objects.values())
    for change in changes:
        objects[change.object["metadata"]["uid"]] = change.object
        if change.kind == "DELETED":
            del objects[change.object["metadata"]["uid"]]
        yield list(objects.values())


def bound_gpus(pods: list[Object]) -> int:
    """GPUs of pods that hold a node's, the draining ones too."""
    return sum(gpus(p) for p in pods if node_of(p) and p["status"]["phase"] not in ENDED)


def serving(pods: list[Object]) -> int:
    """Replicas that get requests."""
    return sum(is_ready(p) and "deletionTimestamp" not in p["metadata"] for p in pods)


def test_a_rollout_on_a_full_pool_never_needs_a_gpu_more(scene: Scene) -> None:
    """It finishes although old replicas drain as long as they like, and one always serves."""
    namespace, old = full_scale(scene, SCARCE)
    nodes, replicas = limits(*SCARCE)
    assert replicas == nodes == 2
    for pod in old:
        scene.hold(pod)
    history = scene.history(namespace)
    held = scene.client.list("v1", "Pod", namespace)
    sizes = scene.history(namespace, "ReplicaSet", "apps/v1")
    versions = scene.client.list("apps/v1", "ReplicaSet", namespace)
    scene.apply([next_version(SCARCE, namespace)])
    for _ in old:
        draining = scene.until(lambda: leaving(scene, namespace), "an old replica to drain")
        scene.waiting(namespace, because=f"Insufficient {GPU}")
        scene.release(draining)
        scene.until(lambda gone=draining: is_gone(scene, gone), "the drained replica to be gone")
    rolled_out(scene, namespace, SCARCE[2])
    for sets in states(versions, sizes.changes()):
        assert sum(each["spec"]["replicas"] for each in sets) <= replicas
    for pods in states(held, history.changes()):
        assert bound_gpus(pods) <= nodes
        assert serving(pods) >= replicas - 1


def leaving(scene: Scene, namespace: str) -> Object | None:
    """A replica that drains. A publisher that gives way ends too, at once and held by nobody."""
    found = scene.client.list("v1", "Pod", namespace, {COMPONENT: SERVER})
    return next((pod for pod in found if "deletionTimestamp" in pod["metadata"]), None)


def is_gone(scene: Scene, pod: Object) -> bool:
    found = scene.client.get("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    return found is None or found["metadata"]["uid"] != pod["metadata"]["uid"]


def test_a_rollout_that_adds_first_hangs_on_a_full_pool(scene: Scene) -> None:
    """The way not taken: why the plan of a full pool says maxSurge 0."""
    namespace, old = full_scale(scene, SCARCE)
    surging = next_version(SCARCE, namespace)
    surging["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 1, "maxUnavailable": 0}
    surging["spec"]["progressDeadlineSeconds"] = 2
    scene.apply([surging])
    scene.waiting(namespace, because=f"Insufficient {GPU}")

    def stuck() -> bool:
        found = scene.client.get("apps/v1", "Deployment", SCARCE[2], namespace) or {}
        conditions = {c["type"]: c for c in found["status"]["conditions"]}
        return conditions["Progressing"].get("reason") == "ProgressDeadlineExceeded"

    scene.until(stuck, "the rollout to be given up")
    names = {pod["metadata"]["name"] for pod in scene.pods(namespace) if node_of(pod)}
    assert names == {pod["metadata"]["name"] for pod in old}


def test_a_rollout_with_room_never_serves_with_a_replica_less(scene: Scene) -> None:
    """On all the nodes the pool may have; the warm one is there again after it."""
    name, _, model = ROOMY
    namespace, old = full_scale(scene, ROOMY)
    nodes, replicas = limits(*ROOMY)
    warm = scene.tenant(stack(name), WARM, "Deployment")
    (held,) = scene.running(warm, 1)
    history = scene.history(namespace)
    scene.apply([next_version(ROOMY, namespace)])
    rolled_out(scene, namespace, model)
    for pods in states(old, history.changes()):
        assert serving(pods) >= replicas
        assert bound_gpus(pods) <= nodes
    # A new replica that is scheduled while an old one has its GPU takes that of the warm pod.
    (still,) = scene.running(warm, 1)
    scene.check_only_gave_way(held, still)


def test_a_rollout_beside_its_publisher_ends_although_pool_and_quota_are_used_up(
    scene: Scene,
) -> None:
    """A new version has a new cache key, so its publisher runs during its rollout. With every node
    taken and a replica that drains, the next one is refused until the drain is over."""
    name, _, model = ROOMY
    namespace, old = full_scale(scene, ROOMY)
    for pod in old:
        scene.hold(pod)
    jobs = moved(tenant(stack(name), model, "Job"), namespace)
    scene.apply(job for job in jobs if job["metadata"]["name"].startswith(COMPILE_CACHE))
    (publisher,) = scene.running(namespace, 1, COMPILE_CACHE)
    scene.apply([next_version(ROOMY, namespace)])
    for _ in old:
        draining = scene.until(lambda: leaving(scene, namespace), "an old replica to drain")
        scene.release(draining)
        scene.until(lambda gone=draining: is_gone(scene, gone), "the drained replica to be gone")
    rolled_out(scene, namespace, model)
    # The quota is recounted from a cache: where that lags, a replica comes before a drain is over,
    # and the publisher gives way to it. Nothing else moves it.
    (still,) = scene.running(namespace, 1, COMPILE_CACHE)
    scene.check_only_gave_way(publisher, still)
    (job,) = scene.client.list("batch/v1", "Job", namespace)
    assert not job["status"].get("failed")


def test_a_new_version_spreads_over_zones_without_regard_to_the_old_one(scene: Scene) -> None:
    name, pool, model = ROOMY
    names = scene.nodes(gpu_shape(stack(name), pool), 6)
    namespace = scene.tenant(stack(name), model, "Deployment")
    scene.scale(namespace, model, 3)
    scene.running(namespace, 3, SERVER)
    scene.apply([next_version(ROOMY, namespace)])
    rolled_out(scene, namespace, model)
    placed = scene.running(namespace, 3, SERVER)
    assert {names.index(str(node_of(pod))) % len(ZONES) for pod in placed} == {0, 1, 2}


def ready_addresses(scene: Scene, namespace: str, model: str) -> list[str]:
    """Addresses that a client of the Service is sent to."""
    return [
        endpoint["addresses"][0]
        for endpoint in endpoints(scene, namespace, model)
        if endpoint["conditions"].get("ready")
    ]


def endpoints(scene: Scene, namespace: str, model: str) -> list[Object]:
    slices = scene.client.list(
        "discovery.k8s.io/v1", "EndpointSlice", namespace, {"kubernetes.io/service-name": model}
    )
    return [endpoint for found in slices for endpoint in found.get("endpoints") or []]


def test_a_model_scales_from_zero_to_many_and_back(scene: Scene) -> None:
    name, pool, model = SCARCE
    nodes, _ = limits(*SCARCE)
    scene.nodes(gpu_shape(stack(name), pool), nodes)
    namespace = scene.tenant(stack(name), model, "Deployment", "Service", "PodDisruptionBudget")
    for replicas in (0, 1, nodes, 0, 1):
        scene.scale(namespace, model, replicas)
        pods = scene.running(namespace, replicas, SERVER)
        addresses = sorted(pod["status"]["podIP"] for pod in pods)
        scene.until(
            lambda wanted=addresses: sorted(ready_addresses(scene, namespace, model)) == wanted,
            f"the Service to lead to {replicas} replicas",
        )
        found = scene.client.get("apps/v1", "Deployment", model, namespace) or {}
        assert found["spec"]["replicas"] == replicas


def test_an_update_leaves_the_number_of_replicas_to_the_autoscaler(scene: Scene) -> None:
    name, pool, model = SCARCE
    scene.nodes(gpu_shape(stack(name), pool), 2)
    namespace = scene.tenant(stack(name), model, "Deployment")
    for replicas in (2, 0):
        scene.scale(namespace, model, replicas)
        scene.apply([next_version(SCARCE, namespace)])
        scene.apply([deployment(SCARCE, namespace)])
        scene.running(namespace, replicas, SERVER)


def test_a_replica_that_is_scaled_away_drains_as_planned_and_gets_no_new_requests(
    scene: Scene,
) -> None:
    namespace, (one, other) = full_scale(scene, SCARCE)
    for pod in (one, other):
        scene.hold(pod)
    scene.scale(namespace, SCARCE[2], 1)
    draining = scene.until(lambda: leaving(scene, namespace), "a replica to drain")
    spec, metadata = draining["spec"], draining["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == spec["terminationGracePeriodSeconds"] == 90
    address = draining["status"]["podIP"]

    def passed_over() -> Object | None:
        found = [e for e in endpoints(scene, namespace, SCARCE[2]) if address in e["addresses"]]
        return next((e for e in found if e["conditions"].get("terminating")), None)

    endpoint = scene.until(passed_over, "the draining replica's endpoint to be marked")
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}
    (stays,) = scene.pods(namespace, SERVER)
    assert ready_addresses(scene, namespace, SCARCE[2]) == [stays["status"]["podIP"]]


def test_a_replica_without_a_gpu_waits_and_costs_the_others_nothing(scene: Scene) -> None:
    namespace, old = full_scale(scene, SCARCE)
    scene.scale(namespace, SCARCE[2], len(old) + 1)
    scene.waiting(namespace, because=f"Insufficient {GPU}")
    ready = {pod["metadata"]["uid"] for pod in scene.pods(namespace) if is_ready(pod)}
    assert ready == {pod["metadata"]["uid"] for pod in old}
