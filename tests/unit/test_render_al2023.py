"""What an AL2023 node reads before its kubelet starts."""

from __future__ import annotations

import pytest

from coldstart.render import render_user_data
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem
from tests.unit.user_data_texts import POSSIBLE, Combination, al2023, label

PARALLEL, PEER, REGISTRY = ImageDelivery.PARALLEL, ImageDelivery.PEER, ImageDelivery.REGISTRY
V3_IMAGES = "io.containerd.cri.v1.images"
TRANSFER = "io.containerd.transfer.v1.local"
AL2023_CASES = [case for case in POSSIBLE if case[0] is OperatingSystem.AL2023]
every_al2023_case = pytest.mark.parametrize("case", AL2023_CASES, ids=label)


@every_al2023_case
def test_fast_image_pull_is_on_for_parallel_delivery_and_for_no_other(case: Combination) -> None:
    gates = al2023(case[1], case[2]).spec.get("featureGates")
    assert gates == ({"FastImagePull": True} if case[1] is PARALLEL else None)


@every_al2023_case
def test_the_kubelet_pulls_several_images_at_once(case: Combination) -> None:
    config = al2023(case[1], case[2]).spec["kubelet"]["config"]
    assert config["serializeImagePulls"] is False
    assert config["maxParallelImagePulls"] > 1


def test_a_booting_node_may_ask_for_every_image_without_a_back_off() -> None:
    config = al2023(PARALLEL, LocalStorage.RAID0).spec["kubelet"]["config"]
    assert config["registryBurst"] >= config["maxParallelImagePulls"]


def test_fast_image_pull_leaves_containerd_to_nodeadm() -> None:
    assert "containerd" not in al2023(PARALLEL, LocalStorage.RAID0).spec


@pytest.mark.parametrize("image", [PEER, REGISTRY])
def test_layers_are_kept_only_together_with_a_single_mirror_directory(image: ImageDelivery) -> None:
    images = al2023(image, LocalStorage.RAID0).containerd["plugins"][V3_IMAGES]
    assert images["discard_unpacked_layers"] is False
    assert images["registry"]["config_path"] == "/etc/containerd/certs.d"


@pytest.mark.parametrize("image", [PEER, REGISTRY])
def test_nothing_forces_containerd_back_to_local_pull(image: ImageDelivery) -> None:
    images = al2023(image, LocalStorage.RAID0).containerd["plugins"][V3_IMAGES]
    assert set(images) == {"discard_unpacked_layers", "registry"}
    assert set(images["registry"]) == {"config_path"}


@pytest.mark.parametrize("image", [PEER, REGISTRY])
def test_layers_are_unpacked_side_by_side(image: ImageDelivery) -> None:
    transfer = al2023(image, LocalStorage.RAID0).containerd["plugins"][TRANSFER]
    assert transfer["max_concurrent_unpacks"] > 1
    assert transfer["max_concurrent_downloads"] > 3


@pytest.mark.parametrize("image", [PEER, REGISTRY])
def test_containerd_settings_use_version_three_plugin_names_only(image: ImageDelivery) -> None:
    plugins = al2023(image, LocalStorage.RAID0).containerd["plugins"]
    assert V3_IMAGES in plugins, "without it nodeadm renders its version 2 template"
    assert not [name for name in plugins if name.startswith("io.containerd.grpc.v1.")]


def test_karpenter_alone_asks_for_raid0() -> None:
    assert "instance" not in al2023(PARALLEL, LocalStorage.RAID0).spec


@pytest.mark.parametrize("image", [PEER, REGISTRY])
def test_disks_for_pods_only_leave_containerd_on_its_volume(image: ImageDelivery) -> None:
    storage = al2023(image, LocalStorage.PODS_ONLY).spec["instance"]["localStorage"]
    assert storage == {"strategy": "RAID0", "disabledMounts": ["Containerd"]}


def test_disks_for_pods_only_keep_the_soci_layers_beside_containerds_records() -> None:
    storage = al2023(PARALLEL, LocalStorage.PODS_ONLY).spec["instance"]["localStorage"]
    assert storage == {"strategy": "RAID0", "disabledMounts": ["Containerd", "SOCI"]}


@pytest.mark.parametrize("storage", [LocalStorage.NONE, LocalStorage.DAEMONSET])
def test_no_boot_setting_touches_disks_that_a_pod_or_nobody_prepares(storage: LocalStorage) -> None:
    node = al2023(PARALLEL, storage)
    assert "instance" not in node.spec
    assert node.scripts == []


@every_al2023_case
def test_nothing_is_said_that_karpenter_decides(case: Combination) -> None:
    spec = al2023(case[1], case[2]).spec
    assert "cluster" not in spec
    assert "flags" not in spec["kubelet"]
    assert not {"registerWithTaints", "maxPods", "clusterDNS"} & set(spec["kubelet"]["config"])


@every_al2023_case
def test_the_parts_survive_karpenters_own_multipart_boundary(case: Combination) -> None:
    lines = render_user_data(*case).splitlines()
    assert not [line for line in lines if line.startswith("--//")]


@every_al2023_case
def test_user_data_leaves_karpenter_half_of_what_ec2_accepts(case: Combination) -> None:
    # EC2 takes 16 KiB before base64 (EC2 user guide, instance user data).
    assert len(render_user_data(*case).encode("ascii")) <= 8 * 1024


def test_the_first_pull_of_a_node_already_knows_its_peers() -> None:
    (script,) = al2023(PEER, LocalStorage.RAID0).scripts
    assert "registries=(_default)" in script
    assert "/etc/containerd/certs.d/$registry/hosts.toml" in script


def test_only_the_named_registries_are_mirrored() -> None:
    node = al2023(PEER, LocalStorage.RAID0, mirror_registries=("docker.io", "ghcr.io"))
    assert "registries=(docker.io ghcr.io)" in node.scripts[0]
    assert "_default" not in node.scripts[0]


def test_a_registry_name_cannot_run_as_a_command() -> None:
    node = al2023(PEER, LocalStorage.RAID0, mirror_registries=("x; reboot",))
    assert "registries=('x; reboot')" in node.scripts[0]


@pytest.mark.parametrize("image", [PARALLEL, REGISTRY])
def test_no_mirror_is_written_without_peers(image: ImageDelivery) -> None:
    assert al2023(image, LocalStorage.RAID0).scripts == []
