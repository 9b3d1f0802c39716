"""What AWS gives back for each resource type; see `offline.shape` for the form."""

from __future__ import annotations

from collections.abc import Mapping

from offline.aws_network_shapes import NETWORK_SHAPES
from offline.shape import Shape

ACCOUNT_ID = "111122223333"
PARTITION = "aws"
ZONE_LETTERS = "abcd"

_EKS = "arn:{partition}:eks:{region}:{account}:"
_IAM = "arn:{partition}:iam::{account}:"

# 1.31 and newer; what the service reports for a cluster that was just made.
_EKS_PLATFORM_VERSION = "eks.1"
# base64 of "offline certificate", so that a kubeconfig built from it stays readable.
_CERTIFICATE_AUTHORITY = "b2ZmbGluZSBjZXJ0aWZpY2F0ZQ=="

SHAPES: Mapping[str, Shape] = {
    **NETWORK_SHAPES,
    "aws:eks/cluster:Cluster": Shape(
        id="{name}",
        outputs={
            "arn": _EKS + "cluster/{name}",
            "endpoint": "https://{HEX:32}.gr7.{region}.eks.amazonaws.com",
            "certificateAuthority": {"data": _CERTIFICATE_AUTHORITY},
            "certificateAuthorities": [{"data": _CERTIFICATE_AUTHORITY}],
            "identities": [
                {"oidcs": [{"issuer": "https://oidc.eks.{region}.amazonaws.com/id/{HEX:32}"}]}
            ],
            "platformVersion": _EKS_PLATFORM_VERSION,
            "status": "ACTIVE",
            "createdAt": "2026-01-01T00:00:00Z",
            "vpcConfig": {"clusterSecurityGroupId": "sg-{hex:17}", "vpcId": "vpc-{hex:17}"},
            "kubernetesNetworkConfig": {
                "ipFamily": "ipv4",
                "serviceIpv4Cidr": "172.20.0.0/16",
            },
        },
        identity="{name}",
        replaces=(
            "name",
            "roleArn",
            "accessConfig.bootstrapClusterCreatorAdminPermissions",
            "bootstrapSelfManagedAddons",
            "encryptionConfig",
            "kubernetesNetworkConfig.ipFamily",
            "kubernetesNetworkConfig.serviceIpv4Cidr",
            "outpostConfig",
        ),
    ),
    "aws:eks/accessEntry:AccessEntry": Shape(
        id="{clusterName}:{principalArn}",
        outputs={"accessEntryArn": _EKS + "access-entry/{clusterName}/{hex:32}"},
        identity="{clusterName}/{principalArn}",
        replaces=("clusterName", "principalArn", "type"),
    ),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": Shape(
        id="{clusterName}#{principalArn}#{policyArn}",
        outputs={"associatedAt": "2026-01-01T00:00:00Z"},
        identity="{clusterName}/{principalArn}/{policyArn}",
        replaces=("clusterName", "principalArn", "policyArn", "accessScope"),
    ),
    "aws:eks/addon:Addon": Shape(
        id="{clusterName}:{addonName}",
        outputs={"arn": _EKS + "addon/{clusterName}/{addonName}/{hex:32}"},
        identity="{clusterName}/{addonName}",
        replaces=("clusterName", "addonName"),
    ),
    "aws:eks/nodeGroup:NodeGroup": Shape(
        id="{clusterName}:{nodeGroupName}",
        outputs={
            "arn": _EKS + "nodegroup/{clusterName}/{nodeGroupName}/{hex:32}",
            "status": "ACTIVE",
            "resources": [{"autoscalingGroups": [{"name": "eks-{nodeGroupName}-{hex:32}"}]}],
        },
        identity="{clusterName}/{nodeGroupName}",
        replaces=(
            "clusterName",
            "nodeGroupName",
            "nodeRoleArn",
            "subnetIds",
            "amiType",
            "capacityType",
            "diskSize",
            "instanceTypes",
            "launchTemplate.id",
            "launchTemplate.name",
            "remoteAccess",
        ),
    ),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": Shape(
        id="a-{hex:17}",
        outputs={
            "associationArn": _EKS + "podidentityassociation/{clusterName}/{id}",
            "associationId": "{id}",
        },
        identity="{clusterName}/{namespace}/{serviceAccount}",
        replaces=("clusterName", "namespace", "serviceAccount"),
    ),
    "aws:iam/role:Role": Shape(
        id="{name}",
        outputs={
            "arn": _IAM + "role{path}{name}",
            "uniqueId": "AROA{HEX:17}",
            "createDate": "2026-01-01T00:00:00Z",
            "path": "/",
        },
        identity="{name}",
        replaces=("name", "namePrefix", "path"),
    ),
    "aws:iam/policy:Policy": Shape(
        id=_IAM + "policy{path}{name}",
        outputs={
            "arn": _IAM + "policy{path}{name}",
            "policyId": "ANPA{HEX:17}",
            "path": "/",
        },
        identity="{name}",
        replaces=("name", "namePrefix", "path", "description"),
    ),
    "aws:iam/rolePolicy:RolePolicy": Shape(
        id="{role}:{name}", identity="{role}/{name}", replaces=("role", "name", "namePrefix")
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": Shape(
        id="{role}/{policyArn}",
        identity="{role}/{policyArn}",
        replaces=("role", "policyArn"),
    ),
    "aws:iam/instanceProfile:InstanceProfile": Shape(
        id="{name}",
        outputs={
            "arn": _IAM + "instance-profile/{name}",
            "uniqueId": "AIPA{HEX:17}",
            "createDate": "2026-01-01T00:00:00Z",
        },
        identity="{name}",
        replaces=("name", "namePrefix", "path"),
    ),
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": Shape(
        id=_IAM + "oidc-provider/{url}",
        outputs={"arn": _IAM + "oidc-provider/{url}"},
        identity="{url}",
        replaces=("url",),
    ),
    "aws:kms/key:Key": Shape(
        id="{uuid}",
        outputs={"arn": "arn:{partition}:kms:{region}:{account}:key/{uuid}", "keyId": "{uuid}"},
        replaces=("keyUsage", "customerMasterKeySpec", "multiRegion", "customKeyStoreId"),
    ),
    "aws:kms/alias:Alias": Shape(
        id="{name}",
        outputs={
            "arn": "arn:{partition}:kms:{region}:{account}:{name}",
            "targetKeyArn": "arn:{partition}:kms:{region}:{account}:key/{targetKeyId}",
        },
        identity="{name}",
        replaces=("name", "namePrefix"),
    ),
    "aws:cloudwatch/logGroup:LogGroup": Shape(
        id="{name}",
        outputs={"arn": "arn:{partition}:logs:{region}:{account}:log-group:{name}"},
        identity="{name}",
        replaces=("name", "namePrefix", "logGroupClass"),
    ),
    "aws:cloudwatch/eventRule:EventRule": Shape(
        id="{name}",
        outputs={"arn": "arn:{partition}:events:{region}:{account}:rule/{name}"},
        identity="{name}",
        replaces=("name", "namePrefix", "eventBusName"),
    ),
    "aws:cloudwatch/eventTarget:EventTarget": Shape(
        id="{rule}-{targetId}",
        outputs={"targetId": "terraform-{digits:26}"},
        identity="{rule}/{targetId}{arn}",
        replaces=("rule", "targetId", "eventBusName"),
    ),
    "aws:sqs/queue:Queue": Shape(
        id="https://sqs.{region}.amazonaws.com/{account}/{name}",
        outputs={
            "arn": "arn:{partition}:sqs:{region}:{account}:{name}",
            "url": "https://sqs.{region}.amazonaws.com/{account}/{name}",
        },
        identity="{name}",
        replaces=("name", "namePrefix", "fifoQueue"),
    ),
    "aws:sqs/queuePolicy:QueuePolicy": Shape(
        id="{queueUrl}", identity="{queueUrl}", replaces=("queueUrl",)
    ),
    "aws:s3/bucket:Bucket": Shape(
        id="{bucket}",
        outputs={
            "arn": "arn:{partition}:s3:::{bucket}",
            "bucketDomainName": "{bucket}.s3.amazonaws.com",
            "bucketRegionalDomainName": "{bucket}.s3.{region}.amazonaws.com",
            "bucketRegion": "{region}",
            "hostedZoneId": "Z{HEX:13}",
        },
        identity="{bucket}",
        replaces=("bucket", "bucketPrefix", "objectLockEnabled"),
    ),
    "aws:efs/fileSystem:FileSystem": Shape(
        id="fs-{hex:17}",
        outputs={
            "arn": "arn:{partition}:elasticfilesystem:{region}:{account}:file-system/{id}",
            "dnsName": "{id}.efs.{region}.amazonaws.com",
            "ownerId": "{account}",
            "creationToken": "offline-{hex:26}",
        },
        identity="{creationToken}{id}",
        replaces=(
            "encrypted",
            "kmsKeyId",
            "performanceMode",
            "availabilityZoneName",
            "creationToken",
        ),
    ),
    "aws:efs/mountTarget:MountTarget": Shape(
        id="fsmt-{hex:17}",
        outputs={
            "dnsName": "{fileSystemId}.efs.{region}.amazonaws.com",
            "fileSystemArn": "arn:{partition}:elasticfilesystem:{region}:{account}"
            ":file-system/{fileSystemId}",
            "networkInterfaceId": "eni-{hex:17}",
            "ipAddress": "10.40.{octet}.{octet}",
            "ownerId": "{account}",
        },
        identity="{fileSystemId}/{subnetId}",
        replaces=("fileSystemId", "subnetId", "ipAddress"),
    ),
    "aws:efs/accessPoint:AccessPoint": Shape(
        id="fsap-{hex:17}",
        outputs={
            "arn": "arn:{partition}:elasticfilesystem:{region}:{account}:access-point/{id}",
            "fileSystemArn": "arn:{partition}:elasticfilesystem:{region}:{account}"
            ":file-system/{fileSystemId}",
            "ownerId": "{account}",
        },
        replaces=("fileSystemId", "posixUser", "rootDirectory"),
    ),
    "aws:efs/backupPolicy:BackupPolicy": Shape(
        id="{fileSystemId}", identity="{fileSystemId}", replaces=("fileSystemId",)
    ),
    "aws:efs/fileSystemPolicy:FileSystemPolicy": Shape(
        id="{fileSystemId}", identity="{fileSystemId}", replaces=("fileSystemId",)
    ),
    "aws:ecr/repository:Repository": Shape(
        id="{name}",
        outputs={
            "arn": "arn:{partition}:ecr:{region}:{account}:repository/{name}",
            "registryId": "{account}",
            "repositoryUrl": "{account}.dkr.ecr.{region}.amazonaws.com/{name}",
        },
        identity="{name}",
        replaces=("name", "encryptionConfigurations"),
    ),
    "aws:ecr/pullThroughCacheRule:PullThroughCacheRule": Shape(
        id="{ecrRepositoryPrefix}",
        outputs={"registryId": "{account}"},
        identity="{ecrRepositoryPrefix}",
        replaces=("ecrRepositoryPrefix", "upstreamRegistryUrl", "upstreamRepositoryPrefix"),
    ),
    "aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate": Shape(
        id="{prefix}",
        outputs={"registryId": "{account}"},
        identity="{prefix}",
        replaces=("prefix",),
    ),
    "aws:secretsmanager/secret:Secret": Shape(
        id="arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-{hex:6}",
        outputs={"arn": "arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-{hex:6}"},
        identity="{name}",
        replaces=("name", "namePrefix"),
    ),
    "aws:secretsmanager/secretVersion:SecretVersion": Shape(
        id="{secretId}|{uuid}",
        outputs={"arn": "{secretId}", "versionId": "{uuid}"},
        replaces=("secretId", "secretString", "secretBinary"),
    ),
    "aws:ssm/parameter:Parameter": Shape(
        id="{name}",
        outputs={"arn": "arn:{partition}:ssm:{region}:{account}:parameter{name}", "version": 1},
        identity="{name}",
        replaces=("name",),
        counts_updates=("version",),
    ),
}

# The settings of a bucket are resources of their own, one of each kind per bucket.
_BUCKET_SETTING = Shape(id="{bucket}", identity="{bucket}", replaces=("bucket",))

# A type without a row: an id and an ARN in the service's general form, unique by itself.
_UNLISTED = Shape(
    id="{type_name}-{hex:17}",
    outputs={"arn": "arn:{partition}:{service}:{region}:{account}:{type_name}/{id}"},
)

# Where a missing name is not called `name`.
NAME_PROPERTIES: Mapping[str, str] = {
    "aws:s3/bucket:Bucket": "bucket",
    "aws:eks/nodeGroup:NodeGroup": "nodeGroupName",
}

# What the service wants in front of an invented name.
NAME_PREFIXES: Mapping[str, str] = {"aws:kms/alias:Alias": "alias/"}


def shape_of(type_token: str) -> Shape:
    """The row for `type_token`, or a general one when the table has none."""
    if type_token.startswith("aws:s3/bucket") and type_token not in SHAPES:
        return _BUCKET_SETTING
    return SHAPES.get(type_token, _UNLISTED)
