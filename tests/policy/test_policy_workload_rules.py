"""Rules on pods, their volumes and their replicas."""

from __future__ import annotations

from typing import Any

import pytest
from policy_examples import DIGEST, UNKNOWN, Given, claim, gpu_deployment, judge

IMAGE_RULE = "kubernetes-pod-require-pinned-gpu-image"
PROBE = "kubernetes-workload-require-startup-budget"
SHM = "kubernetes-pod-limit-shared-memory"
REPLICAS = "kubernetes-volume-forbid-rwo-replicas"

SPEC = "spec/template/spec"
ENGINE = f"{SPEC}/containers/0"


def in_kind(kind: str, group: str = "batch/v1") -> Given:
    """The example's pod in another kind of controller."""
    properties = gpu_deployment().properties | {"kind": kind, "apiVersion": group}
    return Given(f"kubernetes:{group}:{kind}", properties, "subject")


# --- images --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{ENGINE}/image", "vllm/vllm-openai:v0.33.0"),
        (f"{ENGINE}/image", "vllm/vllm-openai@sha256:abc"),
        (f"{ENGINE}/image", ...),
        (f"{ENGINE}/imagePullPolicy", "Always"),
        (f"{SPEC}/initContainers/0/image", "busybox"),
        (f"{SPEC}/initContainers/0/imagePullPolicy", "Always"),
        (f"{SPEC}/volumes/0", {"name": "w", "image": {"reference": "example.com/w:1"}}),
    ],
)
def test_every_image_of_a_gpu_pod_is_pinned_and_present(path, value):
    assert len(judge(IMAGE_RULE, gpu_deployment().edited((path, value))).messages) == 1


@pytest.mark.parametrize(
    "resource", ["nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"]
)
def test_every_way_of_asking_for_a_gpu_counts(resource):
    subject = gpu_deployment().edited(
        (f"{ENGINE}/resources", {"requests": {resource: 1.0}}), (f"{ENGINE}/image", "vllm:latest")
    )
    assert judge(IMAGE_RULE, subject).messages


def test_pinned_images_pass_with_a_tag_beside_the_digest():
    pinned = gpu_deployment().edited((f"{ENGINE}/image", f"localhost:5000/vllm:v1@{DIGEST}"))
    assert judge(IMAGE_RULE, gpu_deployment(), pinned).passed


def test_pods_without_a_gpu_may_use_tags():
    subject = gpu_deployment().edited(
        (f"{ENGINE}/resources", {"limits": {"nvidia.com/gpu": "0"}}), (f"{ENGINE}/image", "web:1")
    )
    assert judge(IMAGE_RULE, subject).passed


def test_pods_are_found_in_custom_resources_too():
    template = gpu_deployment().edited((f"{ENGINE}/image", "ray:2")).properties["spec"]["template"]
    ray = Given(
        "kubernetes:ray.io/v1:RayService",
        {"spec": {"rayClusterConfig": {"workerGroupSpecs": [{"template": template}]}}},
    )
    assert (
        "workerGroupSpecs.0.template.spec.containers[0].image" in judge(IMAGE_RULE, ray).messages[0]
    )


def test_an_unknown_image_is_undecided_and_hides_no_other_image():
    subject = gpu_deployment().edited(
        (f"{SPEC}/initContainers/0/image", UNKNOWN), (f"{ENGINE}/image", "vllm:latest")
    )
    verdict = judge(IMAGE_RULE, subject)
    assert len(verdict.messages) == 1 and "'engine'" in verdict.messages[0]
    assert verdict.undecided == "deployment-model.spec.template.spec.initContainers.0.image"


# --- startup probe -------------------------------------------------------------------------


def test_a_probe_that_covers_the_predicted_cold_start_passes():
    assert judge(PROBE, gpu_deployment()).passed


def test_a_gpu_server_without_a_startup_probe_is_refused():
    verdict = judge(PROBE, gpu_deployment().edited((f"{ENGINE}/startupProbe", ...)))
    assert "has no spec.template.spec.containers[0].startupProbe" in verdict.messages[0]


@pytest.mark.parametrize(
    ("probe", "budget"),
    [
        ({"periodSeconds": 5.0, "failureThreshold": 18.0}, "90 s"),
        ({"failureThreshold": 9.0}, "90 s"),
        ({"initialDelaySeconds": 30.0}, "60 s"),
    ],
)
def test_a_budget_under_the_predicted_cold_start_is_refused(probe, budget):
    verdict = judge(PROBE, gpu_deployment().edited((f"{ENGINE}/startupProbe", probe)))
    assert budget in verdict.messages[0] and "93 s" in verdict.messages[0]


def test_an_initial_delay_counts_towards_the_budget():
    probe = {"initialDelaySeconds": 65.0, "failureThreshold": 3.0}
    assert judge(PROBE, gpu_deployment().edited((f"{ENGINE}/startupProbe", probe))).passed


def test_without_a_prediction_only_a_missing_probe_is_refused():
    unpredicted = gpu_deployment().edited(
        ("spec/template/metadata", {}), (f"{ENGINE}/startupProbe", {"failureThreshold": 1.0})
    )
    assert judge(PROBE, unpredicted).passed
    assert "600 s" in judge(PROBE, unpredicted, config={"minimumStartupSeconds": 600.0}).messages[0]


def test_a_prediction_that_is_no_number_is_reported():
    annotations = {"coldstart.dev/predicted-cold-start-seconds": "soon"}
    subject = gpu_deployment().edited(("spec/template/metadata/annotations", annotations))
    assert "'soon'" in judge(PROBE, subject).messages[0]


def test_jobs_and_placeholders_need_no_startup_probe():
    job = in_kind("Job").edited((f"{ENGINE}/startupProbe", ...))
    pause = gpu_deployment().edited(
        (f"{ENGINE}/startupProbe", ...), (f"{ENGINE}/image", f"registry.k8s.io/pause:3.10@{DIGEST}")
    )
    assert judge(PROBE, job, pause).passed


def test_only_the_leader_of_a_worker_group_is_probed():
    template = (
        gpu_deployment().edited((f"{ENGINE}/startupProbe", ...)).properties["spec"]["template"]
    )
    probed = gpu_deployment().properties["spec"]["template"]
    token = "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet"

    def group(**templates):
        return Given(token, {"spec": {"leaderWorkerTemplate": templates}})

    assert judge(PROBE, group(leaderTemplate=probed, workerTemplate=template)).passed
    assert judge(PROBE, group(leaderTemplate=template, workerTemplate=probed)).messages
    assert judge(PROBE, group(workerTemplate=template)).messages


def test_a_prediction_not_known_yet_is_undecided():
    subject = gpu_deployment().edited(("spec/template/metadata/annotations", UNKNOWN))
    verdict = judge(PROBE, subject)
    assert verdict.undecided == "deployment-model.spec.template.metadata.annotations"


# --- shared memory -------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["48Gi", "64Gi", "52G", 60e9, "50331648Ki", "60000000000000m"])
def test_shared_memory_reaches_the_memory_limit_and_is_refused(size):
    subject = gpu_deployment().edited((f"{SPEC}/volumes/0/emptyDir/sizeLimit", size))
    assert "resources.limits.memory='48Gi'" in judge(SHM, subject).messages[0]


def test_shared_memory_below_the_limit_passes():
    for size in ("16Gi", "47Gi", "51G", "49000M", 1024.0):
        subject = gpu_deployment().edited((f"{SPEC}/volumes/0/emptyDir/sizeLimit", size))
        assert judge(SHM, subject).passed, size


def test_memory_volumes_are_added_up_per_container():
    subject = gpu_deployment().edited(
        (f"{SPEC}/volumes/1", {"name": "b", "emptyDir": {"medium": "Memory", "sizeLimit": "32Gi"}}),
        (f"{ENGINE}/volumeMounts/1/name", "b"),
    )
    assert "48 GiB of memory volumes (shm, b)" in judge(SHM, subject).messages[0]
    assert judge(SHM, subject.edited((f"{ENGINE}/volumeMounts/1/name", "c"))).passed


@pytest.mark.parametrize("size", [..., "lots"])
def test_shared_memory_without_a_readable_size_is_refused(size):
    subject = gpu_deployment().edited((f"{SPEC}/volumes/0/emptyDir/sizeLimit", size))
    assert "sizeLimit" in judge(SHM, subject).messages[0]


def test_a_sidecar_may_keep_small_files_in_memory():
    sidecar = {
        "name": "proxy",
        "image": f"example.com/proxy@{DIGEST}",
        "resources": {"limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/proxy"}],
    }
    subject = gpu_deployment().edited(
        (f"{SPEC}/volumes/1", {"name": "conf", "emptyDir": {"medium": "Memory"}}),
        (f"{SPEC}/initContainers/0", sidecar),
    )
    assert judge(SHM, subject).passed


def test_without_a_memory_limit_there_is_nothing_to_compare():
    subject = gpu_deployment().edited((f"{ENGINE}/resources/limits/memory", ...))
    assert judge(SHM, subject).passed


def test_a_limit_not_known_yet_is_undecided():
    verdict = judge(SHM, gpu_deployment().edited((f"{ENGINE}/resources/limits/memory", UNKNOWN)))
    assert verdict.undecided == (
        "deployment-model.spec.template.spec.containers.0.resources.limits.memory"
    )


# --- volumes that fit one node -------------------------------------------------------------


def scaled_object(maximum: Any = 3.0, name: str = "model") -> Given:
    spec: dict[str, Any] = {"scaleTargetRef": {"name": name}}
    if maximum is not None:
        spec["maxReplicaCount"] = maximum
    return Given(
        "kubernetes:keda.sh/v1alpha1:ScaledObject",
        {"metadata": {"name": "scale", "namespace": "serving"}, "spec": spec},
        "scale",
    )


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
def test_replicas_never_share_a_single_node_volume(mode):
    two = gpu_deployment().edited(("spec/replicas", 2.0))
    verdict = judge(REPLICAS, two, claim(mode))
    assert verdict.urns == [two.urn] and "spec.replicas=2" in verdict.messages[0]


@pytest.mark.parametrize("maximum", [3.0, None])
def test_an_autoscaler_counts_as_replicas_to_come(maximum):
    verdict = judge(REPLICAS, gpu_deployment(), claim(), scaled_object(maximum))
    assert "ScaledObject scale" in verdict.messages[0]


def test_a_horizontal_autoscaler_counts_too():
    scaler = Given(
        "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
        {
            "metadata": {"name": "hpa", "namespace": "serving"},
            "spec": {"maxReplicas": 2.0, "scaleTargetRef": {"kind": "Deployment", "name": "model"}},
        },
    )
    assert judge(REPLICAS, gpu_deployment(), claim(), scaler).messages


def test_one_replica_or_a_shared_volume_passes():
    two = gpu_deployment().edited(("spec/replicas", 2.0))
    assert judge(REPLICAS, gpu_deployment(), claim()).passed
    assert judge(REPLICAS, gpu_deployment(), claim(), scaled_object(1.0)).passed
    assert judge(REPLICAS, gpu_deployment(), claim(), scaled_object(name="another")).passed
    assert judge(REPLICAS, two, claim("ReadWriteMany")).passed
    assert judge(REPLICAS, two, claim(name="another")).passed
    assert judge(REPLICAS, two).passed


def test_a_missing_replica_count_is_one():
    assert judge(REPLICAS, gpu_deployment().edited(("spec/replicas", ...)), claim()).passed


def test_a_claim_of_another_namespace_is_another_claim():
    two = gpu_deployment().edited(("spec/replicas", 2.0))
    assert judge(REPLICAS, two, claim().edited(("metadata/namespace", "other"))).passed


def test_parallel_jobs_share_volumes_like_replicas():
    job = in_kind("Job").edited(("spec/parallelism", 2.0))
    assert "parallelism" in judge(REPLICAS, job, claim()).messages[0]


def test_volumes_per_replica_are_fine():
    stateful = in_kind("StatefulSet", "apps/v1").edited(
        ("spec/replicas", 4.0),
        (f"{SPEC}/volumes/1", ...),
        ("spec/volumeClaimTemplates", [{"spec": {"accessModes": ["ReadWriteOnce"]}}]),
    )
    assert judge(REPLICAS, stateful, claim()).passed


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (
            [gpu_deployment().edited(("spec/replicas", UNKNOWN)), claim()],
            "deployment-model.spec.replicas",
        ),
        (
            [gpu_deployment(), claim().edited(("metadata/name", UNKNOWN))],
            "claim-weights.metadata.name",
        ),
        ([gpu_deployment(), claim(), scaled_object(UNKNOWN)], "scale.spec.maxReplicaCount"),
    ],
)
def test_replicas_or_claims_not_known_yet_are_undecided(given, field):
    assert judge(REPLICAS, *given).undecided == field
