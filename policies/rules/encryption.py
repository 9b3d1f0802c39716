"""Encryption of data at rest, and of file systems on their way to the node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.nodes import defines_nodes, node_definition
from policies.reading.values import (
    Resource,
    at,
    first_mapping,
    is_true,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
)
from policies.rule import Option, ResourceRule, Settings

_FLAT = frozenset(
    {
        "aws:ebs/volume:Volume",
        "aws:ebs/snapshotCopy:SnapshotCopy",
        "aws-native:ec2:Volume",
        "aws:efs/fileSystem:FileSystem",
        "aws-native:efs:FileSystem",
    }
)
_NO_ACCOUNT_DEFAULT = frozenset({"aws:efs/fileSystem:FileSystem", "aws-native:efs:FileSystem"})
_INSTANCE = "aws:ec2/instance:Instance"
_EBS_PROVISIONERS = frozenset(
    {"ebs.csi.aws.com", "ebs.csi.eks.amazonaws.com", "kubernetes.io/aws-ebs"}
)
_KUBERNETES_KINDS = frozenset({"StorageClass", "PersistentVolume"})


def _reads(resource_type: str) -> bool:
    return (
        resource_type in _FLAT
        or resource_type == _INSTANCE
        or defines_nodes(resource_type)
        or (
            resource_type.startswith("kubernetes:")
            and resource_type.rsplit(":", 1)[-1].removesuffix("Patch") in _KUBERNETES_KINDS
        )
    )


def _judge(resource: Resource, settings: Settings) -> Iterator[str]:
    account_encrypts = settings["accountEncryptsByDefault"]

    def judge(flag: tuple[str, Any, bool]) -> Iterator[str]:
        field, stated, has_account_default = flag
        value = known(stated)
        if is_true(value) or (value is None and has_account_default and account_encrypts):
            return
        shown = "not set" if value is None else str(value).lower()
        yield (
            f"{field} is {shown}: weights, caches and logs on it lie unencrypted, and it cannot "
            "be changed without replacing the volume. Set it to true."
        )

    yield from judge_each(_flags(resource), judge)
    yield from _judge_transit(resource)


def _flags(resource: Resource) -> Iterator[tuple[str, Any, bool]]:
    """Each encryption flag: field, stated value, whether an account-wide default applies."""
    properties = resource.properties
    if resource.type in _FLAT:
        yield "encrypted", properties.get("encrypted"), resource.type not in _NO_ACCOUNT_DEFAULT
    elif resource.type == _INSTANCE:
        yield from _instance_flags(properties)
    elif resource.kind == "StorageClass":
        if text_at(properties, "provisioner") in _EBS_PROVISIONERS:
            yield (
                "parameters.encrypted",
                mapping_at(properties, "parameters").get("encrypted"),
                True,
            )
    else:
        node = node_definition(resource)
        for device in node.block_devices() if node else ():
            yield f"{device.field}.encrypted", device.spec.get("encrypted"), True


def _instance_flags(properties: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    root = first_mapping(at(properties, "rootBlockDevice", default={}))
    if root:
        yield "rootBlockDevice.encrypted", root.get("encrypted"), True
    for index, device in enumerate(list_at(properties, "ebsBlockDevices")):
        flag = mapping_at(known(device)).get("encrypted")
        yield f"ebsBlockDevices[{index}].encrypted", flag, True


def _judge_transit(resource: Resource) -> Iterator[str]:
    if resource.kind != "PersistentVolume" or not resource.is_kubernetes:
        return
    csi = mapping_at(resource.properties, "spec", "csi")
    flag = at(csi, "volumeAttributes", "encryptInTransit")
    if at(csi, "driver") == "efs.csi.aws.com" and str(flag).lower() == "false":
        yield (
            "spec.csi.volumeAttributes.encryptInTransit is false: the file system's traffic "
            "crosses the network in the clear. Remove it; the driver encrypts by default."
        )


REQUIRE_ENCRYPTED_STORAGE = ResourceRule(
    code="CS706",
    name="aws-storage-require-encryption",
    concern="security",
    title="Volumes and file systems are encrypted",
    description="EBS volumes, node volumes, EBS storage classes and EFS file systems must be "
    "encrypted.",
    severity="critical",
    tags=("aws", "security", "encryption"),
    remediation="Set encrypted to true on the volume, block device, storage class or file "
    "system; add a KMS key where the key must be your own.",
    reason="A lost snapshot or volume then gives its weights, caches and logs away. S3 buckets and "
    "FSx file systems are left alone: both encrypt everything and cannot be told not to.",
    links=(
        "https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption.html",
        "https://docs.aws.amazon.com/efs/latest/ug/encryption-at-rest.html",
    ),
    options=(
        Option(
            "accountEncryptsByDefault",
            {"type": "boolean", "default": False},
            False,
            "True where EBS encryption by default is on in the account and region: a missing "
            "EBS flag then passes, a false one does not.",
        ),
    ),
    reads=_reads,
    judge=_judge,
)
