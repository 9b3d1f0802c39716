"""Each passing example, changed in one place, becomes a violation that is found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_examples import (
    UNKNOWN,
    Given,
    claim,
    cluster,
    disk_daemon_set,
    gpu_deployment,
    images_toml,
    judge,
    node_class,
    node_config,
    node_pool,
    requirement,
    spegel,
)

from policies.rules import RULES

VOLUME = {"deviceName": "/dev/xvda", "ebs": {"volumeSize": "200Gi", "encrypted": True}}
KEPT = images_toml("discard_unpacked_layers = false", config_path="/etc/containerd/certs.d")
SHARED = {"coldstart.dev/compile-cache": "shared"}
FAMILIES = "spec/template/spec/requirements/0/values"
ENGINE = "spec/template/spec/containers/0"
FULL_CLASS = node_class(
    blockDeviceMappings=[VOLUME], instanceStorePolicy="RAID0", userData=node_config(KEPT)
)
HARMLESS_DAEMON = disk_daemon_set().edited((f"{ENGINE}/securityContext", {}))
CLOSED = cluster(endpointPublicAccess=False, publicAccessCidrs=["198.51.100.0/24"])
SHARED_POOL = node_pool("gpu", requirement("karpenter.k8s.aws/instance-family", "g6e"))
SHARED_POOL = SHARED_POOL.edited(("metadata/annotations", SHARED))

# Rule number, the resources that pass, the index of the one changed, path and new value.
MUTATIONS = [
    (0, [HARMLESS_DAEMON], 0, f"{ENGINE}/securityContext", {"privileged": True}),
    (0, [HARMLESS_DAEMON], 0, "spec/template/spec/hostPID", True),
    (1, [FULL_CLASS], 0, "spec/blockDeviceMappings/0/ebs/snapshotID", "snap-1"),
    (
        1,
        [node_class(blockDeviceMappings=[{"ebs": {"snapshotID": "snap-1"}}])],
        0,
        "spec/instanceStorePolicy",
        "RAID0",
    ),
    (2, [FULL_CLASS], 0, "spec/userData", node_config(KEPT.replace("certs.d", "certs.d:/b"))),
    (2, [FULL_CLASS], 0, "spec/userData", node_config(KEPT.split("[plugins")[0] + KEPT[:80])),
    (3, [FULL_CLASS, node_pool(), spegel()], 0, "spec/userData", node_config(gate=True)),
    (3, [FULL_CLASS], 0, "spec/userData", node_config(KEPT, gate=True)),
    (4, [gpu_deployment()], 0, f"{ENGINE}/image", "vllm/vllm-openai:latest"),
    (4, [gpu_deployment()], 0, f"{ENGINE}/imagePullPolicy", "Always"),
    (5, [gpu_deployment()], 0, f"{ENGINE}/startupProbe", ...),
    (5, [gpu_deployment()], 0, f"{ENGINE}/startupProbe/failureThreshold", 2.0),
    (6, [gpu_deployment()], 0, f"{ENGINE}/resources/limits/memory", "16Gi"),
    (6, [gpu_deployment()], 0, "spec/template/spec/volumes/0/emptyDir/sizeLimit", ...),
    (7, [gpu_deployment(), claim()], 0, "spec/replicas", 2.0),
    (
        7,
        [gpu_deployment().edited(("spec/replicas", 2.0)), claim("ReadWriteMany")],
        1,
        "spec/accessModes",
        ["ReadWriteOnce"],
    ),
    (8, [CLOSED], 0, "vpcConfig", {"endpointPublicAccess": True}),
    (
        8,
        [CLOSED.edited(("vpcConfig/endpointPublicAccess", True))],
        0,
        "vpcConfig/publicAccessCidrs",
        ["0.0.0.0/0"],
    ),
    (9, [FULL_CLASS], 0, "spec/blockDeviceMappings/0/ebs/encrypted", False),
    (9, [FULL_CLASS], 0, "spec/blockDeviceMappings/0/ebs/encrypted", ...),
    (10, [SHARED_POOL], 0, "spec/limits", ...),
    (11, [SHARED_POOL], 0, FAMILIES, ["g6e", "p5"]),
    (11, [SHARED_POOL], 0, "spec/template/spec/requirements", []),
]


@pytest.mark.parametrize(("number", "passing", "index", "path", "value"), MUTATIONS)
def test_a_passing_example_changed_in_one_place_is_found(number, passing, index, path, value):
    rule = RULES[number].name
    assert judge(rule, *passing).passed
    changed = list(passing)
    changed[index] = passing[index].edited((path, value))
    assert judge(rule, *changed).messages


def test_every_rule_is_mutated():
    assert {number for number, *_ in MUTATIONS} == set(range(len(RULES)))


def test_the_passing_examples_pass_every_rule_together():
    stack = [FULL_CLASS, SHARED_POOL, gpu_deployment(), claim(), CLOSED, HARMLESS_DAEMON]
    for rule in RULES:
        assert judge(rule.name, *stack).passed, rule.name


def test_other_resources_are_left_alone():
    others = [
        Given("gcp:container/cluster:Cluster", {"privateClusterConfig": {}}),
        Given("azure-native:containerservice:ManagedCluster", {"apiServerAccessProfile": {}}),
        Given("kubernetes:core/v1:Secret", {"data": {"containers": "x"}}),
        Given("random:index/randomPassword:RandomPassword", {"length": 20.0}),
        Given("pulumi:pulumi:Stack", {}),
    ]
    for rule in RULES:
        assert judge(rule.name, *others).passed, rule.name


KEYS = [
    "spec",
    "template",
    "metadata",
    "annotations",
    "containers",
    "volumes",
    "limits",
    "resources",
    "emptyDir",
    "medium",
    "requirements",
    "values",
    "userData",
    "blockDeviceMappings",
    "ebs",
    "encrypted",
    "vpcConfig",
    "publicAccessCidrs",
    "persistentVolumeClaim",
    "claimName",
    "replicas",
    "startupProbe",
    "kind",
    "name",
    "0",
    "scaleTargetRef",
]
LEAVES = st.sampled_from([None, True, 0.0, -1.5, "", "Memory", "Always", UNKNOWN, "1e9", "{[", []])
TREES = st.recursive(
    LEAVES,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(KEYS), below, max_size=5)
    ),
    max_leaves=20,
)
FULL = [FULL_CLASS, SHARED_POOL, gpu_deployment(), claim(), CLOSED, HARMLESS_DAEMON, spegel()]
PATHS = [
    "spec",
    "spec/template",
    "spec/template/spec",
    "spec/template/spec/containers",
    "spec/template/spec/volumes",
    "spec/template/spec/requirements",
    "spec/template/metadata",
    "metadata",
    "values",
    "vpcConfig",
]


@settings(max_examples=150, deadline=None, database=None)
@given(st.integers(0, len(FULL) - 1), st.sampled_from(PATHS), TREES)
def test_no_shape_of_a_resource_makes_a_rule_fail(index, path, tree):
    stack = list(FULL)
    holder = stack[index].properties
    if all(isinstance(holder := holder.get(key), dict) for key in path.split("/")[:-1]):
        stack[index] = stack[index].edited((path, tree))
    for rule in RULES:
        judge(rule.name, *stack)
