"""Pulls through the CRI of a real containerd, as a node's user data has set it up.

Each node goes the whole way: the pool's user data, Karpenter's merge, nodeadm, the boot script that
names the mirror, containerd, and a pull by the service the kubelet asks. The registry and the
mirror write down what they were asked for. Nodes that differ from a pool of ours differ in their
containerd settings only.
"""

from __future__ import annotations

import tomllib

import pytest

from coldstart.render import render_user_data
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem
from tests.cluster.node_texts_world import (
    Booted,
    Pull,
    boot,
    made_pool,
    merge,
    node_config,
)

pytestmark = pytest.mark.proof("containerd")

PEER_COMBINATION = (OperatingSystem.AL2023, ImageDelivery.PEER, LocalStorage.NONE)
EVERYTHING = ["blobs", "manifests"]
AMI_MIRROR_PATH = "/etc/containerd/certs.d:/etc/docker/certs.d"
KEEP_LAYERS = "[plugins.'io.containerd.cri.v1.images']\ndiscard_unpacked_layers = false\n"
ONE_DIRECTORY = (
    "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n"
)
TRANSFER_SERVICE, LOCAL_PULL = "using transfer service", "using client.Pull()"


def node(settings: str | None = None, pull: Pull | None = None) -> Booted:
    """A node of the pool with a peer mirror that has pulled.

    `settings` replace the pool's own containerd settings; an empty text leaves those of the image.
    """
    pool = made_pool(*PEER_COMBINATION, render_user_data(*PEER_COMBINATION))
    (ours,) = merge([pool])
    scripts = ours.scripts
    assert len(scripts) == 1, "the script that names the mirror"
    if settings is None:
        return boot(ours, scripts=scripts, pull=pull or Pull())
    spec = {"containerd": {"config": settings}} if settings else {"kubelet": {}}
    (other,) = merge([pool.with_user_data(node_config(**spec))])
    return boot(other, scripts=scripts, pull=pull or Pull())


@pytest.fixture(scope="module")
def ours() -> Booted:
    return node()


@pytest.fixture(scope="module")
def as_shipped() -> Booted:
    """The settings of the AL2023 image alone."""
    return node("")


@pytest.fixture(scope="module")
def only_keeping_layers() -> Booted:
    """Layers kept for peers, and the image's two directories left as they are."""
    return node(KEEP_LAYERS)


def kept_layers(booted: Booted) -> set[str]:
    """The layers that lie in the content store once garbage has been collected."""
    blobs, image = booted.pulled["blobs"], booted.pulled["image"]
    assert {*image["manifest"], *image["config"]} <= set(blobs["collected"])
    return set(blobs["collected"]) & set(image["layers"])


def test_the_boot_script_names_this_nodes_two_mirror_ports(ours: Booted) -> None:
    hosts = tomllib.loads(ours.answer["hosts"]["_default"])["host"]
    assert list(hosts) == ["http://10.41.0.7:30020", "http://10.41.0.7:30021"]
    assert all(host["capabilities"] == ["pull"] for host in hosts.values())


def test_a_peer_pool_pulls_the_whole_image_from_its_mirror(ours: Booted) -> None:
    assert ours.asked("mirror") == EVERYTHING
    assert ours.asked("registry") == []


def test_a_peer_pool_keeps_the_layers_it_would_share(ours: Booted) -> None:
    assert kept_layers(ours) == set(ours.pulled["image"]["layers"])


def test_a_peer_pool_pulls_by_the_transfer_service(ours: Booted) -> None:
    assert TRANSFER_SERVICE in ours.pulled["log"]
    assert LOCAL_PULL not in ours.pulled["log"]


def test_a_peer_pool_unpacks_layers_side_by_side(ours: Booted) -> None:
    log = ours.pulled["log"]
    reason = "containerd's overlayfs unpacks in parallel outside user namespaces only: run as root"
    assert "parallel=true" in log, reason
    assert "parallel=false" not in log


@pytest.mark.parametrize("mirror", ["empty", "down"])
def test_without_a_peer_that_has_the_image_the_registry_serves_it(mirror: str) -> None:
    booted = node(pull=Pull(mirror=mirror))  # type: ignore[arg-type]
    assert booted.asked("registry") == EVERYTHING
    assert kept_layers(booted) == set(booted.pulled["image"]["layers"])


def test_a_registry_that_is_not_mirrored_is_asked_itself() -> None:
    text = render_user_data(*PEER_COMBINATION, mirror_registries=("docker.io",))
    (other,) = merge([made_pool(*PEER_COMBINATION, text)])
    booted = boot(other, scripts=other.scripts, pull=Pull())
    assert list(booted.answer["hosts"]) == ["docker.io"]
    assert booted.asked("mirror") == []
    assert booted.asked("registry") == EVERYTHING


def test_a_tag_is_resolved_by_the_registry_and_its_layers_come_from_the_mirror() -> None:
    booted = node(pull=Pull(by="tag"))
    assert booted.asked("registry") == ["manifests"]
    assert booted.asked("mirror") == EVERYTHING
    asked_by_tag = [name for name, _, path in booted.pulled["requests"] if path.endswith("/1")]
    assert set(asked_by_tag) == {"registry"}


def test_the_image_as_shipped_asks_the_mirror_but_keeps_no_layer(as_shipped: Booted) -> None:
    assert as_shipped.images["registry"]["config_path"] == AMI_MIRROR_PATH
    assert as_shipped.asked("mirror") == EVERYTHING
    assert as_shipped.asked("registry") == []
    assert kept_layers(as_shipped) == set()


def test_the_image_as_shipped_falls_back_to_local_pull_and_unpacks_one_layer_after_another(
    as_shipped: Booted,
) -> None:
    log = as_shipped.pulled["log"]
    assert "Found 'DiscardUnpackedLayers' in CRI config" in log
    assert LOCAL_PULL in log
    assert "parallel=true" not in log


def test_keeping_layers_with_a_path_of_two_directories_switches_the_mirror_off(
    only_keeping_layers: Booted,
) -> None:
    assert only_keeping_layers.images["registry"]["config_path"] == AMI_MIRROR_PATH
    assert TRANSFER_SERVICE in only_keeping_layers.pulled["log"]
    assert only_keeping_layers.asked("mirror") == []
    assert only_keeping_layers.asked("registry") == EVERYTHING


def test_nothing_in_containerds_log_says_that_the_mirror_is_off(
    only_keeping_layers: Booted,
) -> None:
    assert kept_layers(only_keeping_layers) == set(only_keeping_layers.pulled["image"]["layers"])
    complaints = [
        line
        for line in only_keeping_layers.pulled["log"].splitlines()
        if ("level=warn" in line or "level=error" in line)
        and any(word in line for word in ("certs.d", "mirror", "host", "registry"))
    ]
    assert complaints == []


def test_one_directory_brings_the_mirror_back() -> None:
    booted = node(KEEP_LAYERS + ONE_DIRECTORY)
    assert TRANSFER_SERVICE in booted.pulled["log"]
    assert booted.asked("mirror") == EVERYTHING
    assert booted.asked("registry") == []


def test_two_directories_work_with_local_pull_at_the_price_of_parallel_unpacking() -> None:
    booted = node(KEEP_LAYERS + "use_local_image_pull = true\n")
    assert booted.images["registry"]["config_path"] == AMI_MIRROR_PATH
    assert booted.asked("mirror") == EVERYTHING
    assert kept_layers(booted) == set(booted.pulled["image"]["layers"])
    assert "parallel=true" not in booted.pulled["log"]


def test_a_download_limit_of_the_cri_would_force_local_pull() -> None:
    booted = node(KEEP_LAYERS + "max_concurrent_downloads = 10\n" + ONE_DIRECTORY)
    assert "Found 'MaxConcurrentDownloads' in CRI config" in booted.pulled["log"]
    assert LOCAL_PULL in booted.pulled["log"]
