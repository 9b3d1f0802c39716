"""Storage: the bucket, who may use which part of it, the shared file system, cached images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.contract import PUBLISHER_ACCOUNT, SERVING_ACCOUNT
from tests.program.aws_runs import DOCKER_HUB_SECRET, dev, full, plain
from tests.program.recording import Recorded

POINT = "aws:efs/accessPoint:AccessPoint"
RULE = "aws:ecr/pullThroughCacheRule:PullThroughCacheRule"
TEMPLATE = "aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate"


def test_the_bucket_is_private_versioned_and_owned_by_its_account() -> None:
    run = plain()
    block = run.one("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock")
    for switch in (
        "blockPublicAcls",
        "blockPublicPolicy",
        "ignorePublicAcls",
        "restrictPublicBuckets",
    ):
        assert block.at(switch) is True
    versioning = run.one("aws:s3/bucketVersioning:BucketVersioning")
    assert versioning.at("versioningConfiguration") == {"status": "Enabled"}
    ownership = run.one("aws:s3/bucketOwnershipControls:BucketOwnershipControls")
    assert ownership.at("rule") == {"objectOwnership": "BucketOwnerEnforced"}


def test_the_bucket_is_encrypted_with_the_stacks_key_at_one_kms_call_per_hour() -> None:
    run = plain()
    (rule,) = run.one(
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    ).at("rules")
    assert rule["bucketKeyEnabled"] is True
    default = rule["applyServerSideEncryptionByDefault"]
    assert default["sseAlgorithm"] == "aws:kms"
    assert default["kmsMasterKeyId"] == run.one("aws:kms/key:Key").outputs["arn"]


def test_the_bucket_refuses_plain_http() -> None:
    policy = json.loads(plain().one("aws:s3/bucketPolicy:BucketPolicy").at("policy"))
    (deny,) = policy["Statement"]
    assert deny["Effect"] == "Deny"
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    name = plain().one("aws:s3/bucket:Bucket").at("bucket")
    assert deny["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]


def test_only_a_dev_stack_deletes_a_bucket_with_its_content() -> None:
    assert plain().one("aws:s3/bucket:Bucket").at("forceDestroy") is False
    assert dev().one("aws:s3/bucket:Bucket").at("forceDestroy") is True


def test_abandoned_uploads_and_replaced_versions_do_not_pile_up() -> None:
    rules = (
        plain().one("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration").at("rules")
    )
    assert any(r.get("abortIncompleteMultipartUpload") for r in rules)
    assert any(r.get("noncurrentVersionExpiration") for r in rules)
    assert all(r["status"] == "Enabled" for r in rules)
    assert not any(r.get("expiration") for r in rules)


def identity(run: Recorded, tenant: str, account: str) -> dict[str, Any]:
    """The statements of one identity by Sid, after checking who gets it."""
    name = f"identities-{tenant}-{account}"
    association = run.one(
        "aws:eks/podIdentityAssociation:PodIdentityAssociation", f"{name}-association"
    )
    assert (association.at("namespace"), association.at("serviceAccount")) == (tenant, account)
    role = run.one("aws:iam/role:Role", f"{name}-role")
    assert association.at("roleArn") == role.outputs["arn"]
    policy = json.loads(run.one("aws:iam/rolePolicy:RolePolicy", f"{name}-objects").at("policy"))
    return {statement["Sid"]: statement for statement in policy["Statement"]}


@pytest.mark.parametrize("tenant", ["chat", "code"])
@pytest.mark.parametrize("account", [SERVING_ACCOUNT, PUBLISHER_ACCOUNT])
def test_a_tenant_sees_its_own_objects_only(tenant: str, account: str) -> None:
    statements = identity(plain(), tenant, account)
    bucket = f"arn:aws:s3:::{plain().one('aws:s3/bucket:Bucket').at('bucket')}"
    assert statements["OwnObjects"]["Resource"] == f"{bucket}/{tenant}/*"
    assert statements["OwnListing"]["Resource"] == bucket
    assert statements["OwnListing"]["Condition"]["StringLike"]["s3:prefix"] == [
        tenant,
        f"{tenant}/*",
    ]


def test_a_server_reads_and_only_a_publisher_writes() -> None:
    server = identity(plain(), "chat", SERVING_ACCOUNT)
    assert server["OwnObjects"]["Action"] == ["s3:GetObject"]
    assert server["KeyThroughS3"]["Action"] == ["kms:Decrypt"]
    publisher = identity(plain(), "chat", PUBLISHER_ACCOUNT)
    assert {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"} <= set(
        publisher["OwnObjects"]["Action"]
    )
    assert "kms:GenerateDataKey" in publisher["KeyThroughS3"]["Action"]


def test_the_key_is_usable_for_the_bucket_only() -> None:
    statement = identity(plain(), "chat", SERVING_ACCOUNT)["KeyThroughS3"]
    assert statement["Resource"] == plain().one("aws:kms/key:Key").outputs["arn"]
    assert statement["Condition"] == {
        "StringEquals": {"kms:ViaService": "s3.us-west-2.amazonaws.com"}
    }


def test_writers_encrypt_with_the_stacks_key_and_not_with_s3s_own() -> None:
    store = plain().outputs["contract"]["objectStore"]
    assert store["scheme"] == "s3"
    assert store["rclone"]["server_side_encryption"] == "aws:kms"
    assert store["rclone"]["sse_kms_key_id"] == plain().one("aws:kms/key:Key").outputs["arn"]
    assert store["rclone"]["env_auth"] == "true"
    assert store["rclone"]["region"] == "us-west-2"


def test_there_is_no_file_system_where_none_was_decided() -> None:
    assert not [r for r in plain().resources if r.type.startswith("aws:efs")]
    assert plain().outputs["contract"]["sharedFileSystem"] is None


def test_the_file_system_is_elastic_and_encrypted() -> None:
    system = full().one("aws:efs/fileSystem:FileSystem")
    assert system.at("throughputMode") == "elastic"
    assert system.at("encrypted") is True
    assert system.at("kmsKeyId") == full().one("aws:kms/key:Key").outputs["arn"]
    assert not system.at("lifecyclePolicies")


def test_every_zone_has_a_mount_target_that_only_nodes_reach() -> None:
    run = full()
    private = [s for s in run.of_type("aws:ec2/subnet:Subnet") if "private" in s.name]
    targets = run.of_type("aws:efs/mountTarget:MountTarget")
    assert len({t.at("subnetId") for t in targets}) == len(private) == 3
    rule = run.one("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "shared-nfs-nodes")
    cluster = run.one("aws:eks/cluster:Cluster").outputs
    assert rule.at("referencedSecurityGroupId") == cluster["vpcConfig"]["clusterSecurityGroupId"]
    assert rule.at("cidrIpv4") is None
    assert (rule.at("fromPort"), rule.at("toPort")) == (2049, 2049)


def test_each_tenant_has_a_directory_of_its_own_that_belongs_to_the_engine() -> None:
    points = {p.name.removeprefix("shared-"): p for p in full().of_type(POINT)}
    assert set(points) == {"chat", "code"}
    for tenant, point in points.items():
        assert point.at("posixUser") == {"uid": 2000, "gid": 0}
        assert point.at("rootDirectory") == {
            "path": f"/tenants/{tenant}",
            "creationInfo": {"ownerUid": 2000, "ownerGid": 0, "permissions": "0750"},
        }


def test_the_file_system_takes_clients_over_tls_and_through_access_points_only() -> None:
    policy = json.loads(full().one("aws:efs/fileSystemPolicy:FileSystemPolicy").at("policy"))
    allow, deny = policy["Statement"]
    assert deny["Effect"] == "Deny"
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert set(allow["Action"]) == {
        "elasticfilesystem:ClientMount",
        "elasticfilesystem:ClientWrite",
    }
    assert allow["Condition"]["Null"] == {"elasticfilesystem:AccessPointArn": "false"}


def test_the_contract_names_a_volume_per_tenant() -> None:
    shared = full().outputs["contract"]["sharedFileSystem"]
    system = full().of_type("aws:efs/mountTarget:MountTarget")[0].at("fileSystemId")
    assert shared["driver"] == "efs.csi.aws.com"
    assert shared["mountOptions"] == ["tls"]
    assert set(shared["volumeHandles"]) == {"chat", "code"}
    for handle in shared["volumeHandles"].values():
        assert handle.startswith(f"{system}::fsap-")


def test_each_upstream_is_cached_under_its_prefix_with_its_own_host() -> None:
    rules = {r.at("ecrRepositoryPrefix"): r for r in full().of_type(RULE)}
    assert rules["docker-hub"].at("upstreamRegistryUrl") == "registry-1.docker.io"
    assert rules["docker-hub"].at("credentialArn") == DOCKER_HUB_SECRET
    assert rules["quay"].at("upstreamRegistryUrl") == "quay.io"
    assert rules["quay"].at("credentialArn") is None
    assert not plain().of_type(RULE)


def test_a_cached_repository_keeps_images_that_have_no_tag() -> None:
    for template in full().of_type(TEMPLATE):
        assert template.at("appliedFors") == ["PULL_THROUGH_CACHE"]
        assert template.at("imageTagMutability") == "MUTABLE"
        assert template.at("encryptionConfigurations") == [{"encryptionType": "AES256"}]
        for rule in json.loads(template.at("lifecyclePolicy"))["rules"]:
            assert rule["selection"]["tagStatus"] == "any"


def test_the_contract_says_what_replaces_an_upstream_registry() -> None:
    mirrors = full().outputs["contract"]["registryMirrors"]
    account = full().one("aws:iam/role:Role", "cluster-role").outputs["arn"].split(":")[4]
    host = f"{account}.dkr.ecr.us-west-2.amazonaws.com"
    assert mirrors == {"docker.io": f"{host}/docker-hub", "quay.io": f"{host}/quay"}
    assert plain().outputs["contract"]["registryMirrors"] == {}


def test_nodes_may_fill_the_cache_below_its_prefixes_and_only_where_there_is_one() -> None:
    for owner in ("karpenter-iam-node", "system-node"):
        policy = full().one("aws:iam/rolePolicy:RolePolicy", f"{owner}-pull-through-cache")
        (statement,) = json.loads(policy.at("policy"))["Statement"]
        assert set(statement["Action"]) == {"ecr:CreateRepository", "ecr:BatchImportUpstreamImage"}
        assert all(
            resource.endswith((":repository/docker-hub/*", ":repository/quay/*"))
            for resource in statement["Resource"]
        )
    assert not [r for r in plain().resources if r.name.endswith("pull-through-cache")]
