"""What runs on GPU nodes beside the engines."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from coldstart.planning import Decision, KarpenterPool, Taint
from coldstart.spec.model import CapacityType, OperatingSystem
from components.aws.gpu_nodes import on_nodes_of, tolerations_of
from components.aws.local_disk_daemon import script
from tests.program.aws_runs import dev, full, plain, provisioned, scratch_pool
from tests.program.plans import A100, stack_plan
from tests.program.recording import Recorded

RELEASE = "kubernetes:helm.sh/v3:Release"
RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
PLUGIN, EXPORTER = "accelerators-nvidia-device-plugin", "accelerators-dcgm-exporter"
BOTTLEROCKET = replace(
    A100,
    name="rocket",
    operating_system=Decision(OperatingSystem.BOTTLEROCKET, "by hand"),
    capacity=Decision((KarpenterPool("rocket", (CapacityType.SPOT,)),), "by hand"),
)


def values(run: Recorded, name: str) -> dict[str, Any]:
    return run.one(RELEASE, name).at("values")


def node_pools(affinity: dict[str, Any]) -> list[str]:
    (term,) = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    (expression,) = term["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("karpenter.sh/nodepool", "In")
    return expression["values"]


@pytest.mark.parametrize("name", [PLUGIN, EXPORTER])
def test_gpu_daemons_stand_on_gpu_nodes_only_and_tolerate_their_taint(name: str) -> None:
    found = values(plain(), name)
    assert found["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert node_pools(found["affinity"]) == ["a100"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in found["tolerations"]
    assert found["resources"]["limits"]["memory"]


def test_the_plugin_waits_for_no_feature_discovery() -> None:
    found = values(plain(), PLUGIN)
    assert found["nfd"] == {"enabled": False}
    assert found["gfd"] == {"enabled": False}


def test_the_exporter_needs_no_custom_resource_that_may_not_exist_yet() -> None:
    assert values(plain(), EXPORTER)["serviceMonitor"] == {"enabled": False}


def test_bottlerocket_keeps_its_own_device_plugin() -> None:
    run = provisioned(stack_plan(pools=(A100, BOTTLEROCKET)))
    assert node_pools(values(run, PLUGIN)["affinity"]) == ["a100"]
    assert node_pools(values(run, EXPORTER)["affinity"]) == ["a100", "rocket"]
    alone = provisioned(stack_plan(pools=(BOTTLEROCKET,)))
    assert [r.name for r in alone.of_type(RELEASE) if r.name == PLUGIN] == []


def test_a_daemon_that_makes_a_node_usable_tolerates_its_startup_taints() -> None:
    startup = Taint("efs.csi.aws.com/agent-not-ready", "NoExecute")
    found = tolerations_of([replace(A100, startup_taints=(startup,)), A100])
    assert found == [
        {"key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "efs.csi.aws.com/agent-not-ready", "operator": "Exists"},
    ]


def test_every_node_pool_of_a_split_pool_is_selected() -> None:
    split = replace(
        A100,
        capacity=Decision(
            (
                KarpenterPool("a100-on-demand", (CapacityType.ON_DEMAND,), 100),
                KarpenterPool("a100-spot", (CapacityType.SPOT,), 90),
            ),
            "by hand",
        ),
    )
    assert node_pools(on_nodes_of([split])) == ["a100-on-demand", "a100-spot"]


@pytest.mark.parametrize("name", [PLUGIN, EXPORTER])
def test_an_update_of_a_gpu_daemon_does_not_wait_for_every_gpu_node(name: str) -> None:
    release = plain().one(RELEASE, name)
    assert release.at("skipAwait") is True
    assert release.at("repositoryOpts.repo").startswith("https://")
    assert release.at("version") == "1.2.3"


def test_namespaces_of_node_daemons_admit_them_and_others_are_not_made() -> None:
    namespaces = {
        n.at("metadata.name"): n.at("metadata.labels")
        for n in plain().of_type("kubernetes:core/v1:Namespace")
    }
    assert set(namespaces) == {"device-plugin", "dcgm"}
    for labels in namespaces.values():
        assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_there_is_no_peer_mirror_where_no_pool_was_decided_for_one() -> None:
    for run in (plain(), full()):
        assert not [r for r in run.resources if "peer-mirror" in r.name]


def test_the_peer_mirror_keeps_tolerating_everything_on_its_own_pools() -> None:
    found = values(dev(), "peer-mirror-spegel")
    assert "tolerations" not in found
    assert node_pools(found["affinity"]) == ["a100"]


def test_the_peer_mirror_shares_pinned_images_of_the_registries_in_use() -> None:
    found = values(dev(), "peer-mirror-spegel")["spegel"]
    account = dev().one("aws:iam/role:Role", "cluster-role").outputs["arn"].split(":")[4]
    assert found["mirroredRegistries"] == [
        f"https://{account}.dkr.ecr.us-west-2.amazonaws.com",
        "https://registry.k8s.io",
    ]
    assert found["resolveTags"] is False
    assert found["mirrorResolveTimeout"] == "1s"
    assert found["mirrorResolveRetries"] == 3


def test_nodes_reach_one_anothers_mirrors_and_nobody_else_does() -> None:
    group = dev().one("aws:eks/cluster:Cluster").outputs["vpcConfig"]["clusterSecurityGroupId"]
    rules = [r for r in dev().of_type(RULE) if r.name.startswith("peer-mirror-")]
    assert {(r.at("fromPort"), r.at("toPort")) for r in rules} == {(5000, 5001), (30020, 30021)}
    for rule in rules:
        assert rule.at("securityGroupId") == rule.at("referencedSecurityGroupId") == group
        assert rule.at("cidrIpv4") is None


def test_no_privileged_container_exists_where_none_was_decided() -> None:
    assert not [r for r in full().resources if "local-disks" in r.name]


def daemon() -> dict[str, Any]:
    return dev().one("kubernetes:apps/v1:DaemonSet").at("spec.template.spec")


def test_disks_are_prepared_in_the_nodes_own_mount_namespace_by_an_init_container_alone() -> None:
    (prepare,) = daemon()["initContainers"]
    (pause,) = daemon()["containers"]
    assert daemon()["hostPID"] is True
    assert prepare["securityContext"] == {"privileged": True}
    assert prepare["command"][:4] == ["nsenter", "-t", "1", "-m"]
    assert pause["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in pause["securityContext"]
    assert daemon()["automountServiceAccountToken"] is False


def test_the_disk_daemon_has_pinned_images_and_a_namespace_of_its_own() -> None:
    for container in (*daemon()["initContainers"], *daemon()["containers"]):
        assert "@sha256:" in container["image"]
    assert dev().one("kubernetes:apps/v1:DaemonSet").at("metadata.namespace") == "local-disks"
    assert node_pools(daemon()["affinity"]) == ["a100"]


def test_the_disk_script_is_valid_shell_and_names_the_planned_directories() -> None:
    text = script(scratch_pool(), 2000, 0)
    assert "target=/mnt/k8s-disks/0\n" in text
    assert "scratch=/mnt/k8s-disks/0/scratch\n" in text
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_plan_without_a_scratch_directory_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"nodePools\.a100"):
        script(A100, 2000, 0)


def test_a_tenant_waits_for_its_own_pool_and_identities_alone() -> None:
    pools, tenants = full().outputs["pools"], full().outputs["tenants"]
    assert {k: [full().by_urn(u).name for u in urns] for k, urns in pools.items()} == {
        "a100": ["pool-a100"]
    }
    for tenant, urns in tenants.items():
        assert [full().by_urn(u).name for u in urns] == [
            f"identities-{tenant}-server",
            f"identities-{tenant}-publisher",
        ]


def test_the_workload_layer_waits_for_karpenter_daemons_and_storage() -> None:
    awaited = {
        full().by_urn(urn).type.removeprefix("coldstart:aws:") for urn in full().outputs["ready"]
    }
    assert awaited == {
        "Karpenter",
        "DefaultStorageClass",
        "AcceleratorDaemons",
        "WeightsBucket",
        "SharedFileSystem",
    }
    on_dev_nodes = {dev().by_urn(urn).name for urn in dev().outputs["ready"]}
    assert {"peer-mirror", "local-disks"} <= on_dev_nodes


def test_the_contract_carries_the_facts_of_every_pool() -> None:
    facts = full().outputs["contract"]["pools"]
    assert set(facts) == {"a100"}
    assert facts["a100"]["resourceName"] == "nvidia.com/gpu"
    assert facts["a100"]["nodePools"] == ["a100"]
