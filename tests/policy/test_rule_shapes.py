"""What one edit of an example cannot say, judged through the engine's front end."""

from __future__ import annotations

from typing import Any

import pytest
from policy_examples import (
    UNKNOWN,
    Given,
    claim,
    cluster,
    disk_daemon_set,
    gpu_deployment,
    images_toml,
    judge,
    launch_template,
    node_class,
    node_config,
    node_pool,
    requirement,
    spegel,
)

DISKS = "kubernetes-daemonset-forbid-privileged-disk-setup"
MIRROR_PATH = "karpenter-nodeclass-require-single-mirror-path"
PEER_SOCI = "karpenter-nodeclass-forbid-peer-mirror-with-soci"
IMAGE_RULE = "kubernetes-pod-require-pinned-gpu-image"
SHM = "kubernetes-pod-limit-shared-memory"
REPLICAS = "kubernetes-volume-forbid-rwo-replicas"
ENDPOINT = "eks-cluster-forbid-open-endpoint"
ENCRYPTION = "aws-storage-require-encryption"
MIXED = "karpenter-nodepool-forbid-mixed-cache-gpus"

SPEC = "spec/template/spec"
ENGINE = f"{SPEC}/containers/0"
FAMILY = "karpenter.k8s.aws/instance-family"
KEEP = "discard_unpacked_layers = false"
SOCI = node_class(userData=node_config(gate=True))


def test_a_production_label_is_judged_even_when_the_pack_is_set_to_development():
    labelled = disk_daemon_set()
    labelled.properties["metadata"]["labels"] = {"coldstart.dev/environment": "prod"}
    assert judge(DISKS, labelled, config={"environment": "dev"}).messages


@pytest.mark.parametrize(("name", "path"), [("local-raid", "/dev"), ("nvme-init", "/")])
def test_all_devices_given_to_a_storage_daemonset_are_refused_and_to_a_monitor_not(name, path):
    def privileged(called: str) -> Given:
        container = {"name": called, "image": f"example.com/{called}:1"}
        container |= {"securityContext": {"privileged": True}}
        volumes = [{"name": "host", "hostPath": {"path": path}}]
        return disk_daemon_set(volumes=volumes).edited(
            ("metadata/name", called), (f"{SPEC}/containers", [container])
        )

    assert f"hostPath {path}" in judge(DISKS, privileged(name)).messages[0]
    assert judge(DISKS, privileged("falco")).passed


@pytest.mark.parametrize(
    "containerd",
    [images_toml(KEEP, config_path=""), images_toml(KEEP, "a broken line") + "\n[[["],
)
def test_containerd_settings_are_read_as_far_as_they_can_be(containerd):
    verdict = judge(MIRROR_PATH, node_class(userData=node_config(containerd)))
    assert "discard_unpacked_layers=false" in verdict.messages[0]


def test_beside_a_v3_key_legacy_keys_are_dropped_so_layers_are_discarded_as_before():
    mixed = images_toml("stats_collect_period = 5")
    mixed += f'\n[plugins."io.containerd.grpc.v1.cri".containerd]\n{KEEP}'
    assert judge(MIRROR_PATH, node_class(userData=node_config(mixed))).passed


def test_a_launch_templates_user_data_is_read_like_a_node_class():
    assert judge(MIRROR_PATH, launch_template(node_config(images_toml(KEEP)))).messages


def test_hostile_user_data_is_read_within_bounds():
    for text in ("MIME-Version: 1.0\nContent-Type: multipart/mixed", "x" * 10**6, "\x00\x01", "{["):
        assert judge(MIRROR_PATH, node_class(userData=text)).passed


def _required(*expressions):
    terms = [{"matchExpressions": list(expressions)}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


@pytest.mark.parametrize(
    "values",
    [
        {"nodeSelector": {"pool": "mirror"}},
        {"nodeSelector": {"karpenter.sh/nodepool": "mirror"}},
        {"affinity": {"nodeAffinity": _required(requirement("pool", "gpu", operator="NotIn"))}},
        {"tolerations": []},
    ],
)
def test_spegel_kept_to_another_pool_leaves_soci_alone(values):
    pools = node_pool("gpu"), node_pool("mirror")
    assert judge(PEER_SOCI, SOCI, *pools, spegel(**values)).passed
    assert judge(PEER_SOCI, SOCI, *pools, spegel()).messages


def test_charts_and_user_data_not_known_yet_are_undecided():
    unknown = spegel().edited(("values", UNKNOWN))
    assert judge(PEER_SOCI, SOCI, node_pool("gpu"), unknown).undecided == "spegel.values"
    blind = node_class(userData=UNKNOWN)
    assert judge(PEER_SOCI, blind, spegel()).undecided == "gpu-class.spec.userData"


@pytest.mark.parametrize(
    "resource", ["nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"]
)
def test_every_way_of_asking_for_a_gpu_counts(resource):
    subject = gpu_deployment().edited(
        (f"{ENGINE}/resources", {"requests": {resource: 1.0}}), (f"{ENGINE}/image", "vllm:latest")
    )
    assert judge(IMAGE_RULE, subject).messages


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


@pytest.mark.parametrize("size", ["48Gi", "52G", 60e9, "50331648Ki", "60000000000000m"])
def test_every_way_of_writing_a_quantity_is_compared(size):
    subject = gpu_deployment().edited((f"{SPEC}/volumes/0/emptyDir/sizeLimit", size))
    assert "resources.limits.memory='48Gi'" in judge(SHM, subject).messages[0]


def _scaled_object(maximum: Any) -> Given:
    spec = {"scaleTargetRef": {"name": "model"}, "maxReplicaCount": maximum}
    metadata = {"name": "scale", "namespace": "serving"}
    return Given(
        "kubernetes:keda.sh/v1alpha1:ScaledObject", {"metadata": metadata, "spec": spec}, "scale"
    )


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
        ([gpu_deployment(), claim(), _scaled_object(UNKNOWN)], "scale.spec.maxReplicaCount"),
    ],
)
def test_the_field_that_left_a_rule_undecided_is_named(given, field):
    assert judge(REPLICAS, *given).undecided == field


def test_an_open_range_beside_an_unknown_one_is_open():
    open_anyway = cluster(publicAccessCidrs=[UNKNOWN, "0.0.0.0/0"])
    assert "whole internet" in judge(ENDPOINT, open_anyway).messages[0]
    unknown = judge(ENDPOINT, cluster(publicAccessCidrs=[UNKNOWN]))
    assert unknown.messages == [] and unknown.undecided == "cluster.vpcConfig.publicAccessCidrs.0"


def test_an_unknown_flag_hides_no_other_volume():
    devices = [
        {"deviceName": name, "ebs": {"volumeSize": "200Gi", "encrypted": encrypted}}
        for name, encrypted in (("/dev/xvda", UNKNOWN), ("/dev/xvdb", False))
    ]
    verdict = judge(ENCRYPTION, node_class(blockDeviceMappings=devices))
    assert "blockDeviceMappings[1]" in verdict.messages[0] and verdict.undecided


@pytest.mark.parametrize(
    ("requirements", "mixed"),
    [
        ([requirement("karpenter.k8s.aws/instance-category", "g", "p")], True),
        ([requirement("node.kubernetes.io/instance-type", "g6.xlarge", "g5.xlarge")], True),
        ([requirement("karpenter.k8s.aws/instance-gpu-count", "0", operator="Gt")], True),
        ([requirement("karpenter.k8s.aws/instance-gpu-name", "l4", "l40s")], False),
        ([requirement(FAMILY, "g9x")], False),
    ],
)
def test_every_way_of_limiting_a_pool_to_gpus_is_read(requirements, mixed):
    annotations = {"coldstart.dev/compile-cache": "shared"}
    verdict = judge(MIXED, node_pool("gpu", *requirements, annotations=annotations))
    assert bool(verdict.messages) is mixed
