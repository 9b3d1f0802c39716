"""Where the real scheduler puts the pods of the stacks, on nodes of the catalog's sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from coldstart.controlplane import ControlPlane
from tests.cluster.conftest import say
from tests.cluster.scheduling_nodes import ZONES, gpu_shape, system_shape
from tests.cluster.scheduling_scene import (
    COMPILE_CACHE,
    COMPONENT,
    GPU,
    SERVER,
    WEIGHTS,
    Scene,
    node_of,
    populate,
    verdict,
)
from tests.cluster.scheduling_stacks import fleet, moved, plain, rendered, stack, tenant
from tests.cluster.scheduling_system import (
    DAEMONS,
    controllers,
    daemon_set,
    deployment,
    node_daemons,
    releases,
)
from tests.program import aws_runs

pytestmark = pytest.mark.proof("scheduler")

PLAIN = {"containers": [{"name": "main", "image": "main"}]}


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


def test_a_pod_without_the_toleration_stays_off_gpu_nodes(scene: Scene) -> None:
    prod = stack("eks-prod")
    scene.nodes(gpu_shape(prod, "l40s"))
    namespace = scene.namespace()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": namespace}}
    scene.apply([{**pod, "spec": PLAIN}])
    scene.waiting(namespace, because="untolerated taint")
    (system,) = scene.nodes(system_shape(prod))
    (placed,) = scene.running(namespace, 1)
    assert node_of(placed) == system


def test_replicas_land_on_nodes_of_their_own_pool(scene: Scene) -> None:
    prod = stack("eks-prod")
    scene.nodes(system_shape(prod))
    expected = {}
    for pool, model in (("a100", "qwen3-32b"), ("l40s", "qwen3-8b")):
        (expected[model],) = scene.nodes(gpu_shape(prod, pool))
    for model, node in expected.items():
        namespace = scene.tenant(prod, model, "Deployment")
        (placed,) = scene.running(namespace, 1, SERVER)
        assert node_of(placed) == node


def test_gpus_outside_the_pool_are_left_alone(scene: Scene) -> None:
    """Somebody else's GPU node has none of the pool's disks, images and daemons."""
    shape = gpu_shape(stack("eks-prod"), "l40s")
    labels = {k: v for k, v in shape.labels.items() if not k.startswith("coldstart.dev/")}
    scene.nodes(replace(shape, labels=labels))
    namespace = scene.tenant(stack("eks-prod"), "qwen3-8b", "Deployment")
    scene.waiting(namespace, because="node affinity/selector")


@pytest.mark.parametrize("model", ["qwen3-32b", "qwen3-8b"])
def test_fetching_jobs_run_on_system_nodes_and_publishing_jobs_on_the_pool(
    scene: Scene, model: str
) -> None:
    prod = stack("eks-prod")
    pool = {"qwen3-32b": "a100", "qwen3-8b": "l40s"}[model]
    (system,) = scene.nodes(system_shape(prod))
    (gpu_node,) = scene.nodes(gpu_shape(prod, pool))
    namespace = scene.tenant(prod, model, "Job")
    scene.running(namespace, 2)
    placed = {pod["metadata"]["labels"][COMPONENT]: pod for pod in scene.pods(namespace)}
    assert node_of(placed[WEIGHTS]) == system
    assert node_of(placed[COMPILE_CACHE]) == gpu_node
    for pod in placed.values():
        scene.succeed(pod)
    scene.until(
        lambda: all(
            job["status"].get("succeeded") == 1
            for job in scene.client.list("batch/v1", "Job", namespace)
        ),
        "both Jobs to succeed",
    )


REPLICAS = [("eks-dev", "l4", "qwen3-1-7b"), ("eks-prod", "l40s", "qwen3-8b")]


@pytest.mark.parametrize(("name", "pool", "model"), [*REPLICAS, ("eks-prod", "a100", "qwen3-32b")])
def test_a_replica_fits_the_smallest_node_of_its_pool_beside_the_daemons(
    scene: Scene, name: str, pool: str, model: str
) -> None:
    run = stack(name)
    scene.nodes(gpu_shape(run, pool))
    daemons = scene.namespace("daemons")
    exporter = releases(run)["dcgm-exporter"]
    scene.apply(
        [
            *node_daemons(run, daemons),
            daemon_set("exporter", daemons, exporter, (exporter["resources"]["requests"],)),
        ]
    )
    scene.running(daemons, len(DAEMONS) + 1)
    namespace = scene.tenant(run, model, "Deployment")
    scene.running(namespace, 1, SERVER)


@pytest.mark.parametrize("name", ["eks-dev", "eks-prod"])
def test_the_system_nodes_hold_every_controller_and_fetching_job_at_once(
    scene: Scene, name: str
) -> None:
    run = stack(name)
    group = plain(run.one("aws:eks/nodeGroup:NodeGroup"))
    scene.nodes(system_shape(run), group["scalingConfig"]["desiredSize"])
    namespace = scene.namespace("system")
    scene.apply(node_daemons(run, namespace))
    parts = list(controllers(run))
    scene.apply(deployment(part, namespace) for part in parts)
    daemons = len(DAEMONS) * group["scalingConfig"]["desiredSize"]
    wanted = daemons + sum(part.replicas for part in parts)
    scene.running(namespace, wanted)
    for model in [job["metadata"]["namespace"] for job in rendered(run, "Job") if is_fetch(job)]:
        fetching = scene.tenant(run, model)
        scene.apply(filter(is_fetch, moved(tenant(run, model, "Job"), fetching)))
        scene.running(fetching, 1, WEIGHTS)
    # None of them had to give way to a Job.
    scene.running(namespace, wanted)


def is_fetch(job: dict[str, Any]) -> bool:
    return job["spec"]["template"]["metadata"]["labels"][COMPONENT] == WEIGHTS


def test_replicas_spread_over_zones(scene: Scene) -> None:
    """The constraints say so to Karpenter as well; the scheduler's own default would agree."""
    nodes = scene.nodes(gpu_shape(stack("eks-prod"), "l40s"), 6)
    namespace = scene.tenant(stack("eks-prod"), "qwen3-8b", "Deployment")
    for replicas in (1, 2, 3, 4, 5, 6):
        scene.scale(namespace, "qwen3-8b", replicas)
        placed = scene.running(namespace, replicas)
        zones = Counter(nodes.index(str(node_of(pod))) % len(ZONES) for pod in placed)
        assert max(zones.values()) - min(zones[z] for z in range(len(ZONES))) <= 1


def test_a_replica_in_a_full_zone_beats_no_replica(scene: Scene) -> None:
    nodes = scene.nodes(gpu_shape(stack("eks-prod"), "l40s"), 4, zones=[ZONES[0], *ZONES[1:2] * 3])
    namespace = scene.tenant(stack("eks-prod"), "qwen3-8b", "Deployment")
    scene.scale(namespace, "qwen3-8b", 4)
    assert {node_of(pod) for pod in scene.running(namespace, 4)} == set(nodes)


def test_a_node_holds_as_many_replicas_as_it_has_gpus_for(scene: Scene) -> None:
    (node,) = scene.nodes(gpu_shape(stack("eks-prod"), "a100"))
    namespace = scene.tenant(stack("eks-prod"), "qwen3-32b", "Deployment")
    scene.scale(namespace, "qwen3-32b", 2)
    assert {node_of(pod) for pod in scene.running(namespace, 2)} == {node}
    scene.scale(namespace, "qwen3-32b", 3)
    scene.waiting(namespace, because=f"Insufficient {GPU}")


def test_a_replica_that_mounts_shared_weights_waits_for_the_driver(scene: Scene) -> None:
    """The start-up taint guards the mount; a replica that mounts nothing need not wait for it."""
    nodes = scene.nodes(gpu_shape(stack("eks-prod"), "l40s", starting=True), 2)
    shared = scene.tenant(fleet(), "shared", "Deployment")
    scene.waiting(shared, because="untolerated taint")
    near = scene.tenant(fleet(), "near", "Deployment")
    (staging,) = scene.running(near, 1, SERVER)
    (waiting,) = scene.pods(shared, SERVER)
    assert verdict(waiting)
    (free,) = set(nodes) - {node_of(staging)}
    found = scene.client.get("v1", "Node", free) or {}
    lasting = [t for t in found["spec"]["taints"] if t["effect"] == "NoSchedule"]
    scene.client.patch("v1", "Node", free, {"spec": {"taints": lasting}})
    (placed,) = scene.running(shared, 1, SERVER)
    assert node_of(placed) == free


def test_a_taint_that_ends_pods_gives_a_replica_its_time_to_drain(scene: Scene) -> None:
    """The start-up taint ends pods too, so a replica that did not tolerate it could not stay."""
    (node,) = scene.nodes(gpu_shape(stack("eks-prod"), "l40s", starting=True))
    near = scene.tenant(fleet(), "near", "Deployment")
    (replica,) = scene.running(near, 1, SERVER)
    history = scene.history(near)
    found = scene.client.get("v1", "Node", node) or {}
    taints = [*found["spec"]["taints"], {"key": "example.com/other", "effect": "NoExecute"}]
    scene.client.patch("v1", "Node", node, {"spec": {"taints": taints}})
    scene.waiting(near)
    ended = [c.object for c in history.changes() if "deletionTimestamp" in c.object["metadata"]]
    reasons = {c["type"]: c.get("reason") for c in ended[-1]["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "DeletionByTaintManager"
    grace = replica["spec"]["terminationGracePeriodSeconds"]
    assert ended[0]["metadata"]["deletionGracePeriodSeconds"] == grace


def test_shared_weights_are_bound_to_the_volume_that_was_made_for_them(scene: Scene) -> None:
    """The volume is static, so the real controllers bind it without a driver."""
    scene.nodes(gpu_shape(stack("eks-prod"), "l40s"))
    shared = scene.tenant(fleet(), "shared", "Deployment")
    scene.running(shared, 1, SERVER)
    (claim,) = scene.client.list("v1", "PersistentVolumeClaim", shared)
    assert claim["status"]["phase"] == "Bound"
    volume = scene.client.get("v1", "PersistentVolume", claim["spec"]["volumeName"])
    assert volume is not None and volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
    assert volume["status"]["phase"] == "Bound"


def daemons_of(scene: Scene, namespace: str, count: int) -> dict[str, set[str | None]]:
    """The nodes of each DaemonSet, once the controller has placed `count` pods in all."""
    found: dict[str, set[str | None]] = {}
    for pod in scene.running(namespace, count):
        owner = pod["metadata"]["ownerReferences"][0]["name"]
        found.setdefault(owner, set()).add(node_of(pod))
    return found


def test_the_disk_daemon_runs_on_every_node_of_its_pool_and_nowhere_else(scene: Scene) -> None:
    dev = aws_runs.dev()
    scene.nodes(system_shape(dev))
    scene.nodes(gpu_shape(stack("eks-prod"), "l40s"))
    own = scene.nodes(gpu_shape(dev, "a100"), 3)
    namespace = scene.tenant(dev, "local-disks", "DaemonSet")
    assert daemons_of(scene, namespace, 3) == {"local-disks-a100": set(own)}
    (another,) = scene.nodes(gpu_shape(dev, "a100"))
    assert daemons_of(scene, namespace, 4) == {"local-disks-a100": {*own, another}}


@pytest.mark.parametrize(
    ("release", "pools"), [("nvidia-device-plugin", ["a100"]), ("dcgm-exporter", ["a100", "l40s"])]
)
def test_accelerator_daemons_run_on_their_pools_even_before_start_up_taints_go(
    scene: Scene, release: str, pools: list[str]
) -> None:
    """DaemonSets with the placement their charts get; the charts' own templates are not at hand.

    The device plugin is for pools whose operating system has none.
    """
    prod = stack("eks-prod")
    scene.nodes(system_shape(prod))
    scene.nodes(gpu_shape(stack("eks-dev"), "l4"))
    wanted: set[str | None] = set()
    for pool in ("a100", "l40s"):
        for starting in (False, True):
            made = scene.nodes(gpu_shape(prod, pool, starting=starting))
            wanted |= set(made) if pool in pools else set()
    namespace = scene.namespace("daemons")
    scene.apply([daemon_set("daemon", namespace, releases(prod)[release])])
    assert daemons_of(scene, namespace, len(wanted)) == {"daemon": wanted}
