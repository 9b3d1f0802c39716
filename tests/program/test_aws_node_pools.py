"""GPU node pools: what an instance is made of, how it is bought, when it goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coldstart.planning import Decision, KarpenterPool, PoolPlan, Taint, VolumePlan
from coldstart.spec.model import CapacityType, LocalStorage, OperatingSystem
from components.aws.gpu_node_pool import (
    GpuNodePoolArgs,
    node_class_spec,
    node_pool_annotations,
    node_pool_spec,
)
from tests.program import crds
from tests.program.aws_runs import plain, provisioned
from tests.program.plans import A100, stack_plan

RESERVED, SPOT, ON_DEMAND = CapacityType.RESERVED, CapacityType.SPOT, CapacityType.ON_DEMAND
NODE_POOL = "kubernetes:karpenter.sh/v1:NodePool"
NODE_CLASS = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
SNAPSHOT = "snap-0123456789abcdef0"


def made(**changes: Any) -> dict[str, Any]:
    """The node class of the A100 pool with `changes`."""
    tags = {"coldstart.dev/stack": "eks-test"}
    return node_class_spec(GpuNodePoolArgs("eks-test", "node-role", replace(A100, **changes), tags))


def bought(pool: PoolPlan = A100) -> list[dict[str, Any]]:
    return [node_pool_spec(pool, each) for each in pool.capacity.value]


def with_capacity(*pools: KarpenterPool, **changes: Any) -> PoolPlan:
    return replace(A100, capacity=Decision(pools, "by hand"), **changes)


def with_snapshot() -> PoolPlan:
    """A Bottlerocket pool whose data volume holds the image."""
    return replace(
        A100,
        operating_system=Decision(OperatingSystem.BOTTLEROCKET, "by hand"),
        ami_alias="bottlerocket@v1.64.0",
        local_storage=Decision(LocalStorage.PODS_ONLY, "by hand"),
        volumes=(
            VolumePlan("/dev/xvda", 10, 3000, 125),
            VolumePlan(
                "/dev/xvdb",
                114,
                16000,
                1000,
                root=True,
                snapshot_id=SNAPSHOT,
                initialization_rate_mib_per_second=300,
            ),
        ),
        user_data="[settings.kubernetes]\n",
    )


def requirement(spec: dict[str, Any], key: str) -> list[str]:
    found = [r for r in spec["template"]["spec"]["requirements"] if r["key"] == key]
    assert len(found) == 1
    assert found[0]["operator"] == "In"
    return found[0]["values"]


@pytest.mark.parametrize("storage", list(LocalStorage))
def test_only_a_pool_decided_for_it_is_striped_by_karpenter(storage: LocalStorage) -> None:
    spec = made(local_storage=Decision(storage, "by hand"))
    expected = "RAID0" if storage is LocalStorage.RAID0 else None
    assert spec.get("instanceStorePolicy") == expected


def test_pods_cannot_reach_instance_metadata() -> None:
    assert made()["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpProtocolIPv6": "disabled",
        "httpPutResponseHopLimit": 1,
        "httpTokens": "required",
    }


def test_the_node_image_is_the_pinned_one() -> None:
    assert made()["amiSelectorTerms"] == [{"alias": "al2023@v20260714"}]


def test_subnets_and_security_groups_are_found_by_the_clusters_tag() -> None:
    term = [{"tags": {"karpenter.sh/discovery": "eks-test"}}]
    assert made()["subnetSelectorTerms"] == term
    assert made()["securityGroupSelectorTerms"] == term


def test_every_volume_is_encrypted_gp3_with_explicit_speed() -> None:
    for device in made(volumes=with_snapshot().volumes)["blockDeviceMappings"]:
        assert device["ebs"]["encrypted"] is True
        assert device["ebs"]["volumeType"] == "gp3"
        assert device["ebs"]["deleteOnTermination"] is True
        assert device["ebs"]["iops"] >= 3000
        assert device["ebs"]["throughput"] >= 125


def test_a_snapshot_is_hydrated_at_its_rate_and_nothing_else_has_a_rate() -> None:
    os_volume, data = made(volumes=with_snapshot().volumes)["blockDeviceMappings"]
    assert data["ebs"]["snapshotID"] == SNAPSHOT
    assert data["ebs"]["volumeInitializationRate"] == 300
    assert "volumeInitializationRate" not in os_volume["ebs"]
    assert "snapshotID" not in os_volume["ebs"]


def test_a_rate_without_a_snapshot_is_not_sent() -> None:
    volume = VolumePlan("/dev/xvda", 60, 3000, 125, initialization_rate_mib_per_second=300)
    (device,) = made(volumes=(volume,))["blockDeviceMappings"]
    assert "volumeInitializationRate" not in device["ebs"]


def test_the_root_volume_is_marked_once() -> None:
    devices = made(volumes=with_snapshot().volumes)["blockDeviceMappings"]
    assert [device.get("rootVolume") for device in devices] == [None, True]


def test_user_data_arrives_unchanged_and_empty_text_not_at_all() -> None:
    assert made()["userData"] == A100.user_data
    assert "userData" not in made(user_data="")


def test_instances_carry_the_stacks_tags() -> None:
    assert made()["tags"]["coldstart.dev/stack"] == "eks-test"
    assert made()["tags"]["Name"] == "eks-test-a100"


def test_reservations_are_selected_by_tags_or_by_ids_and_only_when_bought() -> None:
    reserved = Decision((KarpenterPool("a100", (RESERVED, ON_DEMAND)),), "by hand")
    by_tags = made(capacity=reserved, reservation_tags={"pool": "a100"})
    assert by_tags["capacityReservationSelectorTerms"] == [{"tags": {"pool": "a100"}}]
    by_id = made(capacity=reserved, reservation_ids=("cr-1", "cr-2"))
    assert by_id["capacityReservationSelectorTerms"] == [{"id": "cr-1"}, {"id": "cr-2"}]
    assert "capacityReservationSelectorTerms" not in made(reservation_ids=("cr-1",))


def test_a_pool_buys_its_instance_types_of_its_architecture_only() -> None:
    (spec,) = bought()
    assert requirement(spec, "node.kubernetes.io/instance-type") == ["p4d.24xlarge"]
    assert requirement(spec, "kubernetes.io/arch") == ["amd64"]
    assert requirement(spec, "kubernetes.io/os") == ["linux"]
    assert requirement(spec, "karpenter.sh/capacity-type") == ["spot", "on-demand"]
    (arm,) = bought(replace(A100, cpu_architecture="arm64"))
    assert requirement(arm, "kubernetes.io/arch") == ["arm64"]


def test_an_order_that_is_not_karpenters_own_becomes_weights() -> None:
    pool = with_capacity(
        KarpenterPool("a100-on-demand", (ON_DEMAND,), weight=100),
        KarpenterPool("a100-spot", (SPOT,), weight=90),
    )
    assert [spec["weight"] for spec in bought(pool)] == [100, 90]
    assert [requirement(spec, "karpenter.sh/capacity-type") for spec in bought(pool)] == [
        ["on-demand"],
        ["spot"],
    ]
    assert all(spec["template"]["spec"]["nodeClassRef"]["name"] == "a100" for spec in bought(pool))


def test_one_pool_for_all_capacity_has_no_weight() -> None:
    assert "weight" not in bought()[0]


def test_a_pool_is_limited() -> None:
    assert bought()[0]["limits"] == {"nodes": "4", "nvidia.com/gpu": "32"}


def test_only_empty_nodes_are_consolidated_and_drift_takes_one_at_a_time() -> None:
    disruption = bought()[0]["disruption"]
    assert disruption["consolidationPolicy"] == "WhenEmpty"
    assert disruption["consolidateAfter"] == "600s"
    budgets = {reason: b["nodes"] for b in disruption["budgets"] for reason in b["reasons"]}
    assert budgets == {"Empty": "100%", "Drifted": "1"}


def test_an_expired_node_goes_even_when_a_pod_refuses() -> None:
    spec = bought()[0]["template"]["spec"]
    assert spec["expireAfter"] == "2592000s"
    assert spec["terminationGracePeriod"] == "3900s"
    (never,) = bought(replace(A100, expire_after_seconds=None))
    assert never["template"]["spec"]["expireAfter"] == "Never"


def test_labels_and_taints_are_those_of_the_plan() -> None:
    startup = Taint("efs.csi.aws.com/agent-not-ready", "NoExecute")
    (spec,) = bought(replace(A100, startup_taints=(startup,)))
    template = spec["template"]
    assert template["metadata"]["labels"] == A100.labels
    assert template["spec"]["taints"] == [
        {"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}
    ]
    assert template["spec"]["startupTaints"] == [
        {"key": "efs.csi.aws.com/agent-not-ready", "effect": "NoExecute"}
    ]
    assert "startupTaints" not in bought()[0]["template"]["spec"]


def test_a_node_pool_says_whether_its_pods_share_a_compile_cache() -> None:
    assert node_pool_annotations(A100) == {"coldstart.dev/compile-cache": "shared"}
    assert node_pool_annotations(replace(A100, shares_compile_cache=False)) == {}


def test_an_api_server_takes_every_kind_of_pool() -> None:
    pools = (
        A100,
        replace(with_snapshot(), name="cached", expire_after_seconds=None),
        replace(
            with_capacity(
                KarpenterPool("split-on-demand", (ON_DEMAND,), weight=100),
                KarpenterPool("split-reserved", (RESERVED,), weight=90),
            ),
            name="split",
            reservation_ids=("cr-0123456789abcdef0",),
            startup_taints=(Taint("efs.csi.aws.com/agent-not-ready", "NoExecute"),),
        ),
    )
    run = provisioned(stack_plan(pools=pools))
    assert len(run.of_type(NODE_POOL)) == 4
    assert len(run.of_type(NODE_CLASS)) == 3
    assert crds.check(run.custom_objects()) == []


def test_objects_are_named_as_the_plan_names_them() -> None:
    pool = plain().one(NODE_POOL)
    assert pool.at("metadata.name") == "a100"
    assert pool.at("metadata.annotations") == {"coldstart.dev/compile-cache": "shared"}
    assert pool.at("spec") == bought()[0]
    role = plain().one("aws:iam/role:Role", "karpenter-iam-node-role")
    assert plain().one(NODE_CLASS).at("spec.role") == role.at("name")


def test_deleting_a_pool_waits_as_long_as_its_pods_may_take() -> None:
    for token in (NODE_POOL, NODE_CLASS):
        patience = plain().one(token).options.timeouts["delete"]
        assert int(patience.removesuffix("s")) > A100.termination_grace_seconds


def test_a_changed_pool_changes_its_own_objects_only() -> None:
    other = replace(A100, name="other", capacity=Decision((KarpenterPool("other", (SPOT,)),), "-"))
    before = provisioned(stack_plan(pools=(A100, other)))
    changed = replace(other, limits={"nodes": "9"})
    after = provisioned(stack_plan(pools=(A100, changed)))
    known = {resource.urn: resource.inputs for resource in before.resources}
    differing = [r.name for r in after.resources if r.inputs != known[r.urn]]
    assert differing == ["pool-other-other"]
