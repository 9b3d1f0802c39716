"""Rules on node pools: their ceiling, and the GPUs a shared compile cache meets."""

from __future__ import annotations

import pytest
from policy_examples import UNKNOWN, Given, claim, gpu_deployment, judge, node_pool, requirement

LIMITS = "karpenter-nodepool-require-limits"
MIXED = "karpenter-nodepool-forbid-mixed-cache-gpus"
FAMILY = "karpenter.k8s.aws/instance-family"


# --- limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"cpu": "1000"}, {"nodes": "4"}, {"nvidia.com/gpu": 8.0}])
def test_a_node_pool_with_a_ceiling_passes(limits):
    assert judge(LIMITS, node_pool().edited(("spec/limits", limits))).passed


@pytest.mark.parametrize("limits", [..., {}, {"ephemeral-storage": "1Ti"}])
def test_a_node_pool_without_a_ceiling_is_refused(limits):
    assert "spec.limits" in judge(LIMITS, node_pool().edited(("spec/limits", limits))).messages[0]


def test_a_static_pool_takes_its_ceiling_in_nodes():
    static = node_pool().edited(("spec/replicas", 2.0), ("spec/limits", {"nodes": "3"}))
    assert judge(LIMITS, static).passed


def test_limits_not_known_yet_are_undecided():
    verdict = judge(LIMITS, node_pool().edited(("spec/limits", UNKNOWN)))
    assert verdict.undecided == "pool-gpu.spec.limits"


def test_node_pools_of_other_systems_are_left_alone():
    other = Given("kubernetes:hypershift.openshift.io/v1beta1:NodePool", {"spec": {}})
    assert judge(LIMITS, other).passed


# --- one GPU architecture per cache --------------------------------------------------------

SHARED = {"coldstart.dev/compile-cache": "shared"}


@pytest.mark.parametrize(
    "requirements",
    [
        [requirement(FAMILY, "g6e", "p4d")],
        [requirement("karpenter.k8s.aws/instance-category", "g", "p")],
        [requirement("node.kubernetes.io/instance-type", "g6.xlarge", "g5.xlarge")],
        [requirement("karpenter.k8s.aws/instance-gpu-name", "a100", "h100")],
        [requirement(FAMILY, "g6e", "g9x")],
        [requirement("karpenter.k8s.aws/instance-gpu-count", "0", operator="Gt")],
    ],
)
def test_a_shared_cache_never_meets_two_architectures(requirements):
    verdict = judge(MIXED, node_pool("gpu", *requirements, annotations=SHARED))
    assert "GPU architectures" in verdict.messages[0]


@pytest.mark.parametrize(
    "requirements",
    [
        [requirement(FAMILY, "g6", "gr6", "g6e")],
        [requirement("karpenter.k8s.aws/instance-gpu-name", "l4", "l40s")],
        [
            requirement("karpenter.k8s.aws/instance-category", "g"),
            requirement("karpenter.k8s.aws/instance-generation", "6"),
        ],
        [requirement(FAMILY, "g9x")],
        [requirement(FAMILY, "m7i", "c7i")],
    ],
)
def test_one_architecture_may_share_a_cache(requirements):
    assert judge(MIXED, node_pool("gpu", *requirements, annotations=SHARED)).passed


def test_a_mixed_pool_without_a_shared_cache_passes():
    mixed = node_pool("gpu", requirement(FAMILY, "g6e", "p4d"))
    assert judge(MIXED, mixed, gpu_deployment()).passed


def test_a_cache_on_a_shared_volume_makes_the_pool_a_sharing_one():
    mixed = node_pool("gpu", requirement(FAMILY, "g6e", "p4d"))
    workload = gpu_deployment().edited(
        ("spec/template/spec/containers/0/env/0/value", "/models/cache")
    )
    verdict = judge(MIXED, mixed, workload, claim("ReadWriteMany"))
    assert "VLLM_CACHE_ROOT=/models/cache" in verdict.messages[0]
    assert verdict.urns == [mixed.urn]
    assert judge(MIXED, mixed, workload, claim("ReadWriteOnce")).passed
    elsewhere = workload.edited(("spec/template/spec/nodeSelector/pool", "other"))
    assert judge(MIXED, mixed, elsewhere, claim("ReadWriteMany")).passed


def test_pods_that_narrow_a_mixed_pool_themselves_pass():
    mixed = node_pool("gpu", requirement(FAMILY, "g6e", "p4d"))
    workload = gpu_deployment().edited(("spec/template/metadata/annotations", SHARED))
    narrowed = workload.edited(("spec/template/spec/nodeSelector", {FAMILY: "p4d"}))
    assert judge(MIXED, mixed, workload).messages
    assert judge(MIXED, mixed, narrowed).passed


def test_pool_requirements_not_known_yet_are_undecided():
    unknown = node_pool("gpu", annotations=SHARED).edited(
        ("spec/template/spec/requirements/0/values", UNKNOWN)
    )
    verdict = judge(MIXED, unknown)
    assert verdict.undecided == "pool-gpu.spec.template.spec.requirements.0.values"
