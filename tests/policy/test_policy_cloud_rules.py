"""Rules on cloud resources: who reaches the API, and what lies encrypted."""

from __future__ import annotations

import pytest
from policy_examples import UNKNOWN, Given, cluster, judge, launch_template, node_class

ENDPOINT = "eks-cluster-forbid-open-endpoint"
ENCRYPTION = "aws-storage-require-encryption"


@pytest.mark.parametrize(
    "vpc_config",
    [
        {},
        {"endpointPublicAccess": True},
        {"endpointPublicAccess": True, "publicAccessCidrs": []},
        {"publicAccessCidrs": ["0.0.0.0/0"]},
        {"publicAccessCidrs": ["198.51.100.0/24", "::/0"]},
        {"publicAccessCidrs": ["0.0.0.0/1", "128.0.0.0/1"]},
        {"publicAccessCidrs": [UNKNOWN, "0.0.0.0/0"]},
    ],
)
def test_an_endpoint_open_to_the_world_is_refused(vpc_config):
    assert "whole internet" in judge(ENDPOINT, cluster(**vpc_config)).messages[0]


def test_a_cluster_without_network_settings_is_open_by_default():
    assert judge(ENDPOINT, Given("aws:eks/cluster:Cluster", {})).messages


@pytest.mark.parametrize(
    "vpc_config",
    [
        {"endpointPublicAccess": False},
        {"endpointPublicAccess": True, "publicAccessCidrs": ["198.51.100.0/24"]},
    ],
)
def test_a_closed_or_narrow_endpoint_passes(vpc_config):
    assert judge(ENDPOINT, cluster(**vpc_config)).passed


@pytest.mark.parametrize(
    ("vpc_config", "field"),
    [
        ({"endpointPublicAccess": UNKNOWN}, "cluster.vpcConfig.endpointPublicAccess"),
        ({"publicAccessCidrs": [UNKNOWN]}, "cluster.vpcConfig.publicAccessCidrs.0"),
    ],
)
def test_an_endpoint_not_known_yet_is_undecided(vpc_config, field):
    verdict = judge(ENDPOINT, cluster(**vpc_config))
    assert verdict.messages == [] and verdict.undecided == field


def volume_of(encrypted: object) -> list[dict[str, object]]:
    ebs = {"volumeSize": "200Gi"} if encrypted is ... else {"encrypted": encrypted}
    return [{"deviceName": "/dev/xvda", "ebs": ebs}]


def storage_class(encrypted: object) -> Given:
    parameters = {"type": "gp3"} if encrypted is ... else {"encrypted": encrypted}
    return Given(
        "kubernetes:storage.k8s.io/v1:StorageClass",
        {"provisioner": "ebs.csi.aws.com", "parameters": parameters},
    )


def flat(token: str, encrypted: object) -> Given:
    return Given(token, {} if encrypted is ... else {"encrypted": encrypted})


def storage(encrypted: object) -> list[Given]:
    """One resource of every kind that carries the flag."""
    return [
        node_class(blockDeviceMappings=volume_of(encrypted)),
        launch_template("", blockDeviceMappings=volume_of(encrypted)),
        storage_class(encrypted),
        flat("aws:ebs/volume:Volume", encrypted),
        flat("aws:efs/fileSystem:FileSystem", encrypted),
        Given(
            "aws:ec2/instance:Instance",
            {
                "rootBlockDevice": {"volumeSize": 8}
                if encrypted is ...
                else {"encrypted": encrypted}
            },
        ),
    ]


@pytest.mark.parametrize("encrypted", [True, "true"])
def test_encrypted_storage_passes(encrypted):
    assert judge(ENCRYPTION, *storage(encrypted)).passed


@pytest.mark.parametrize("encrypted", [False, "false", ...])
@pytest.mark.parametrize("index", range(6))
def test_unencrypted_storage_is_refused(encrypted, index):
    verdict = judge(ENCRYPTION, storage(encrypted)[index])
    assert len(verdict.messages) == 1 and "encrypted is" in verdict.messages[0]


def test_encryption_by_default_covers_missing_ebs_flags_only():
    config = {"accountEncryptsByDefault": True}
    assert judge(ENCRYPTION, flat("aws:ebs/volume:Volume", ...), config=config).passed
    assert judge(ENCRYPTION, flat("aws:ebs/volume:Volume", False), config=config).messages
    assert judge(ENCRYPTION, flat("aws:efs/fileSystem:FileSystem", ...), config=config).messages


def test_storage_that_is_always_encrypted_is_left_alone():
    for token in ("aws:s3/bucket:Bucket", "aws:fsx/lustreFileSystem:LustreFileSystem"):
        assert judge(ENCRYPTION, Given(token, {})).passed


def test_other_storage_classes_are_left_alone():
    other = storage_class(...).edited(("provisioner", "efs.csi.aws.com"))
    assert judge(ENCRYPTION, other).passed


def test_file_system_traffic_in_the_clear_is_refused():
    csi = {"driver": "efs.csi.aws.com", "volumeAttributes": {"encryptInTransit": "false"}}
    volume = Given("kubernetes:core/v1:PersistentVolume", {"spec": {"csi": csi}})
    assert "encryptInTransit" in judge(ENCRYPTION, volume).messages[0]
    assert judge(ENCRYPTION, volume.edited(("spec/csi/volumeAttributes", {}))).passed


@pytest.mark.parametrize("index", range(6))
def test_encryption_not_known_yet_is_undecided(index):
    verdict = judge(ENCRYPTION, storage(UNKNOWN)[index])
    assert verdict.messages == [] and verdict.undecided is not None
    assert verdict.undecided.endswith("encrypted")


def test_an_unknown_flag_hides_no_other_volume():
    subject = node_class(blockDeviceMappings=[*volume_of(UNKNOWN), *volume_of(False)])
    verdict = judge(ENCRYPTION, subject)
    assert "blockDeviceMappings[1]" in verdict.messages[0] and verdict.undecided
