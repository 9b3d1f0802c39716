"""The control plane, its add-ons, its system nodes, and who may reach it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.aws.naming import ROLE_NAME_LIMIT, bounded, bucket_name
from tests.program.aws_runs import DEPLOYER, dev, full, plain, provisioned
from tests.program.plans import ADDONS, stack_plan
from tests.program.recording import UNKNOWN, Recorded, Resource

CLUSTER = "aws:eks/cluster:Cluster"
ENTRY = "aws:eks/accessEntry:AccessEntry"
ADDON = "aws:eks/addon:Addon"


def order(run: Recorded, urn: str) -> set[str]:
    """Everything that has to exist before the resource of `urn`, as the engine sees it."""
    seen: set[str] = set()
    todo = [urn]
    while todo:
        resource = run.by_urn(todo.pop())
        stack_level = {resource.parent, resource.provider} - {""}
        for other in {*resource.dependencies, *stack_level} - seen:
            if any(item.urn == other for item in run.resources):
                seen.add(other)
                todo.append(other)
    return seen


def depends(run: Recorded, later: Resource, earlier: Resource) -> bool:
    """Whether `later` is made after `earlier`, and so deleted before it."""
    return earlier.urn in order(run, later.urn)


def test_nobody_is_admitted_by_having_made_the_cluster() -> None:
    access = plain().one(CLUSTER).at("accessConfig")
    assert access == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": False,
    }
    assert plain().one(CLUSTER).at("bootstrapSelfManagedAddons") is False


def test_the_public_endpoint_opens_to_the_named_networks_only() -> None:
    config = plain().one(CLUSTER).at("vpcConfig")
    assert config["endpointPrivateAccess"] is True
    assert config["endpointPublicAccess"] is True
    assert config["publicAccessCidrs"] == ["203.0.113.0/24"]


def test_without_named_networks_there_is_no_public_endpoint() -> None:
    run = provisioned(stack_plan(cluster={"admin_cidrs": ()}))
    config = run.one(CLUSTER).at("vpcConfig")
    assert config["endpointPublicAccess"] is False
    assert config.get("publicAccessCidrs") is None


def test_secrets_and_logs_are_encrypted_with_the_stacks_own_rotating_key() -> None:
    run = plain()
    key = run.one("aws:kms/key:Key")
    assert key.at("enableKeyRotation") is True
    encryption = run.one(CLUSTER).at("encryptionConfig")
    assert encryption["resources"] == ["secrets"]
    assert encryption["provider"]["keyArn"] == key.outputs["arn"]
    assert run.one("aws:cloudwatch/logGroup:LogGroup").at("kmsKeyId") == key.outputs["arn"]


def test_the_key_lets_cloudwatch_encrypt_one_log_group_only() -> None:
    policy = json.loads(plain().one("aws:kms/key:Key").at("policy"))
    logs = next(s for s in policy["Statement"] if s["Sid"] == "ControlPlaneLogs")
    assert logs["Principal"] == {"Service": "logs.us-west-2.amazonaws.com"}
    arn = logs["Condition"]["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]
    assert arn.endswith(":log-group:/aws/eks/eks-test/cluster")


def test_all_control_plane_logs_go_to_a_group_that_exists_first() -> None:
    run = plain()
    cluster, group = run.one(CLUSTER), run.one("aws:cloudwatch/logGroup:LogGroup")
    assert set(cluster.at("enabledClusterLogTypes")) == {
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    }
    assert group.at("name") == "/aws/eks/eks-test/cluster"
    assert group.at("retentionInDays") > 0
    assert depends(run, cluster, group)


def test_protection_against_deletion_and_the_version_follow_the_plan() -> None:
    cluster = plain().one(CLUSTER)
    assert cluster.at("deletionProtection") is True
    assert cluster.at("version") == "1.35"
    assert cluster.at("upgradePolicy") == {"supportType": "STANDARD"}
    unprotected = provisioned(stack_plan(cluster={"deletion_protection": False}))
    assert unprotected.one(CLUSTER).at("deletionProtection") is False


def standard_entries(run: Recorded) -> list[str]:
    return [e.at("principalArn") for e in run.of_type(ENTRY) if e.at("type") == "STANDARD"]


def test_the_deploying_role_itself_is_admitted_not_its_session() -> None:
    assert standard_entries(plain()) == [DEPLOYER]
    association = plain().one("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
    assert association.at("policyArn").endswith("AmazonEKSClusterAdminPolicy")
    assert association.at("accessScope") == {"type": "cluster"}


def test_a_deploying_role_that_the_file_names_is_admitted_once() -> None:
    other = "arn:aws:iam::123456789012:role/oncall"
    run = provisioned(stack_plan(cluster={"admin_principals": (DEPLOYER, other)}))
    assert standard_entries(run) == [DEPLOYER, other]


def test_everything_in_the_cluster_is_deleted_before_the_access_to_it() -> None:
    run = full()
    association = run.one("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
    inside = [r for r in run.resources if r.type.startswith("kubernetes:")]
    assert inside
    for resource in inside:
        assert depends(run, resource, association), resource.name


def test_addons_have_the_planned_versions() -> None:
    found = {a.at("addonName"): a.at("addonVersion") for a in plain().of_type(ADDON)}
    assert found == ADDONS


@pytest.mark.parametrize("addon", ["vpc-cni", "kube-proxy", "eks-pod-identity-agent"])
def test_what_a_node_needs_is_installed_before_nodes(addon: str) -> None:
    run = plain()
    nodes = run.one("aws:eks/nodeGroup:NodeGroup")
    assert depends(run, nodes, run.one(ADDON, f"node-addons-{addon}"))


@pytest.mark.parametrize("addon", ["coredns", "aws-ebs-csi-driver", "eks-node-monitoring-agent"])
def test_what_needs_nodes_is_installed_after_them(addon: str) -> None:
    run = plain()
    nodes = run.one("aws:eks/nodeGroup:NodeGroup")
    assert depends(run, run.one(ADDON, f"cluster-addons-{addon}"), nodes)


def configuration(run: Recorded, name: str) -> dict[str, Any]:
    return json.loads(run.one(ADDON, name).at("configurationValues"))


def test_the_cni_hands_out_prefixes_and_enforces_network_policies() -> None:
    values = configuration(plain(), "node-addons-vpc-cni")
    assert values["env"]["ENABLE_PREFIX_DELEGATION"] == "true"
    assert values["enableNetworkPolicy"] == "true"


def test_the_efs_driver_runs_on_gpu_nodes_only_where_their_pods_mount_efs() -> None:
    name = "cluster-addons-aws-efs-csi-driver"
    assert configuration(full(), name)["node"]["tolerations"] == [{"operator": "Exists"}]
    assert configuration(plain(), name)["node"]["tolerations"] == []


def test_storage_drivers_get_their_rights_through_pod_identity() -> None:
    for addon, account in (
        ("aws-ebs-csi-driver", "ebs-csi-controller-sa"),
        ("aws-efs-csi-driver", "efs-csi-controller-sa"),
    ):
        association = plain().one(ADDON, f"cluster-addons-{addon}").at("podIdentityAssociations.0")
        assert association["serviceAccount"] == account
        assert association["roleArn"].endswith(f"-{addon}")


def test_pods_reach_no_instance_metadata_on_system_nodes() -> None:
    template = plain().one("aws:ec2/launchTemplate:LaunchTemplate")
    assert template.at("metadataOptions.httpTokens") == "required"
    assert template.at("metadataOptions.httpPutResponseHopLimit") == 1


def test_system_nodes_have_encrypted_gp3_volumes_and_take_no_gpu_work() -> None:
    run = plain()
    ebs = run.one("aws:ec2/launchTemplate:LaunchTemplate").at("blockDeviceMappings.0.ebs")
    assert ebs["volumeType"] == "gp3"
    assert ebs["encrypted"] == "true"
    group = run.one("aws:eks/nodeGroup:NodeGroup")
    assert group.at("instanceTypes") == ["m7i.large"]
    assert group.at("amiType") == "AL2023_x86_64_STANDARD"
    assert not group.at("taints")
    assert "nvidia.com/gpu.present" not in group.at("labels")


def test_system_nodes_are_as_many_as_planned_over_all_zones() -> None:
    group = plain().one("aws:eks/nodeGroup:NodeGroup")
    assert group.at("scalingConfig") == {"minSize": 3, "desiredSize": 3, "maxSize": 3}
    assert len(group.at("subnetIds")) == 3
    assert group.at("updateConfig.maxUnavailable") == 1


def test_instances_and_volumes_of_system_nodes_carry_the_stacks_tags() -> None:
    specs = plain().one("aws:ec2/launchTemplate:LaunchTemplate").at("tagSpecifications")
    assert {spec["resourceType"] for spec in specs} == {"instance", "volume"}
    assert all(spec["tags"]["coldstart.dev/stack"] == "eks-test" for spec in specs)


def test_the_kubeconfig_holds_no_credential_and_asks_aws_for_one() -> None:
    config = json.loads(plain().outputs["contract"]["kubeconfig"])
    user = config["users"][0]["user"]
    assert set(user) == {"exec"}
    assert user["exec"]["command"] == "aws"
    assert user["exec"]["args"][:2] == ["eks", "get-token"]
    assert user["exec"]["args"][2:] == ["--cluster-name", "eks-test", "--region", "us-west-2"]
    assert user["exec"]["env"] is None
    cluster = plain().one(CLUSTER).outputs
    assert config["clusters"][0]["cluster"]["server"] == cluster["endpoint"]


def test_a_profile_of_the_stack_file_also_authenticates_at_the_cluster() -> None:
    run = provisioned(stack_plan(), settings={"aws:profile": "platform"})
    config = json.loads(run.outputs["contract"]["kubeconfig"])
    assert config["users"][0]["user"]["exec"]["env"] == [
        {"name": "AWS_PROFILE", "value": "platform"}
    ]


def test_the_clusters_provider_is_replaced_with_the_cluster_only() -> None:
    provider = plain().one("pulumi:providers:kubernetes")
    assert provider.at("clusterIdentifier") == "eks-test"
    assert str(provider.at("enableServerSideApply")).lower() == "true"


def test_the_first_preview_needs_nothing_that_does_not_exist_yet() -> None:
    run = provisioned(stack_plan(shared_file_system=True), preview=True)
    assert run.outputs["contract"]["kubeconfig"] is UNKNOWN
    assert run.types() == provisioned(stack_plan(shared_file_system=True)).types()


def test_claims_without_a_class_get_encrypted_volumes_in_the_zone_of_their_pod() -> None:
    storage = plain().one("kubernetes:storage.k8s.io/v1:StorageClass")
    assert storage.at("parameters") == {"type": "gp3", "encrypted": "true"}
    assert storage.at("volumeBindingMode") == "WaitForFirstConsumer"
    annotations = storage.at("metadata.annotations")
    assert annotations["storageclass.kubernetes.io/is-default-class"] == "true"


def test_long_names_stay_within_their_limit_and_apart() -> None:
    long = "a-stack-with-a-name-that-nobody-would-choose-but-somebody-has"
    one, two = (bounded(f"{long}-us-west-2-{part}", ROLE_NAME_LIMIT) for part in ("x", "y"))
    assert len(one) <= ROLE_NAME_LIMIT
    assert one != two
    assert bounded("short", ROLE_NAME_LIMIT) == "short"
    assert bucket_name("My_Stack.Dev", "weights") == "my-stack-dev-weights"
    assert len(bucket_name(long, "weights", "123456789012", "ap-southeast-1")) <= 63


def test_every_role_name_fits_whatever_the_stack_is_called() -> None:
    long = "platform-team-europe-west-inference-production-blue"
    run = provisioned(stack_plan(spec={"stack": long}, cluster={"name": long}))
    for role in run.of_type("aws:iam/role:Role"):
        assert len(role.at("name")) <= ROLE_NAME_LIMIT, role.name
    names = [role.at("name") for role in run.of_type("aws:iam/role:Role")]
    assert len(set(names)) == len(names)


def test_dev_and_prod_say_so_on_their_namespaces() -> None:
    for run, environment in ((plain(), "prod"), (dev(), "dev")):
        for namespace in run.of_type("kubernetes:core/v1:Namespace"):
            assert namespace.at("metadata.labels")["coldstart.dev/environment"] == environment
