"""The user data of every pool, judged by those who read it: Karpenter, nodeadm, containerd.

Every pool of every stack in stacks/, and a pool for each combination of operating system, image
delivery and local disks that can be made. No API server is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml

from coldstart.render import kubelet
from coldstart.render.containerd import CONCURRENT_DOWNLOADS, CONCURRENT_UNPACKS, HOSTS_DIRECTORY
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem
from tests.cluster.node_texts_world import (
    MAX_PODS,
    NODE_CONFIG,
    SHELL_SCRIPT,
    Booted,
    Merged,
    boot,
    made_pool,
    merge,
    mime_parts,
    node_config,
    pools_of_combinations,
    pools_of_stacks,
    strict_findings,
)

KARPENTER = "Karpenter's user data merge"
AL2023, BOTTLEROCKET = "AL2023", "Bottlerocket"
AMI_MIRROR_PATH = "/etc/containerd/certs.d:/etc/docker/certs.d"
SPEGEL_PATH = "/etc/containerd/certs.d"
"""`containerdRegistryConfigPath` of its chart v0.7.4, by default: where it writes its mirrors."""
PARALLEL_PULLER = "unix:///run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock"


@pytest.fixture(scope="module")
def every_node() -> list[Merged]:
    return merge([*pools_of_stacks(), *pools_of_combinations()])


@pytest.fixture(scope="module")
def al2023(every_node: list[Merged]) -> list[Merged]:
    return [node for node in every_node if node.family == AL2023]


@pytest.fixture(scope="module")
def bottlerocket(every_node: list[Merged]) -> list[Merged]:
    return [node for node in every_node if node.family == BOTTLEROCKET]


@pytest.fixture(scope="module")
def booted(al2023: list[Merged]) -> dict[str, Booted]:
    """A booted node per AL2023 pool; the script that needs real disks is left out."""
    return {
        node.pool.name: boot(node, scripts=[each for each in node.scripts if "mdadm" not in each])
        for node in al2023
    }


def own_node_config(node: Merged) -> dict[str, Any]:
    """The `spec` of the project's own NodeConfig."""
    (text,) = [text for kind, text in mime_parts(node.pool.user_data) if kind == NODE_CONFIG]
    return yaml.safe_load(text)["spec"]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted path; lists count as values."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def test_every_pool_of_every_stack_is_judged() -> None:
    names = {pool.name for pool in pools_of_stacks()}
    assert {"eks-dev/l4", "eks-prod/a100", "eks-prod/l40s", "eks-prod-infra/a100"} <= names
    families = {pool.image_alias.partition("@")[0] for pool in pools_of_stacks()}
    assert families == {"al2023", "bottlerocket"}


@pytest.mark.proof(KARPENTER)
def test_karpenters_types_take_every_node_class_and_node_pool_strictly(
    every_node: list[Merged],
) -> None:
    assert len(every_node) == len(pools_of_stacks()) + len(pools_of_combinations())


@pytest.mark.proof(KARPENTER)
def test_the_pools_own_parts_come_first_and_unchanged_and_karpenters_last(
    al2023: list[Merged],
) -> None:
    for node in al2023:
        *own, last = node.parts
        assert own == mime_parts(node.pool.user_data), node.pool.name
        assert last[0] == NODE_CONFIG
        assert last[1].startswith("# Karpenter Generated NodeConfig")


@pytest.mark.proof(KARPENTER)
def test_every_shell_part_of_the_merged_text_is_bash_that_parses(al2023: list[Merged]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    scripts = [(node.pool.name, script) for node in al2023 for script in node.scripts]
    assert len(scripts) >= 5
    for name, script in scripts:
        assert script.startswith("#!/bin/bash\n"), name
        done = subprocess.run(
            [bash, "-n"], input=script, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), name


@pytest.mark.proof("nodeadm")
def test_nodeadms_types_know_every_field_of_every_node_config(al2023: list[Merged]) -> None:
    for node in al2023:
        documents = [text for kind, text in node.parts if kind == NODE_CONFIG]
        assert len(documents) == 2
        assert strict_findings(documents) == [], node.pool.name


@pytest.mark.proof("nodeadm")
def test_what_nodeadm_would_drop_in_silence_is_found() -> None:
    findings = strict_findings(
        [
            node_config(containerd={"configuration": ""}),
            node_config(kubelet={"config": {"serialiseImagePulls": False}}),
            node_config(instance={"localStorage": {"disabledMounts": ["containerd"]}}),
            node_config(featureGates={"FastPull": True}),
        ]
    )
    for number, hint in enumerate(("configuration", "serialiseImagePulls", "mount", "FastPull")):
        assert any(f"document {number}" in each and hint in each for each in findings), findings


@pytest.mark.proof("nodeadm")
def test_nothing_of_ours_is_lost_when_nodeadm_merges_the_node_configs(
    al2023: list[Merged], booted: dict[str, Booted]
) -> None:
    for node in al2023:
        spec = booted[node.pool.name].node_config["spec"]
        result = dict(leaves(spec))
        for path, value in leaves(own_node_config(node)):
            assert result[path] == value, f"{node.pool.name}: {path}"


@pytest.mark.proof("nodeadm")
def test_cluster_taints_labels_and_pod_limit_are_karpenters(
    al2023: list[Merged], booted: dict[str, Booted]
) -> None:
    for node in al2023:
        spec = booted[node.pool.name].node_config["spec"]
        cluster = node.pool.cluster
        assert spec["cluster"] == {
            "name": cluster.name,
            "apiServerEndpoint": cluster.endpoint,
            "certificateAuthority": cluster.certificate,
            "cidr": cluster.service_cidr,
        }
        unregistered = {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}
        assert spec["kubelet"]["config"]["registerWithTaints"] == [*node.taints, unregistered]
        assert spec["kubelet"]["config"]["maxPods"] == MAX_PODS
        assert spec["kubelet"]["config"]["clusterDNS"] == [cluster.dns_address]
        (labels,) = spec["kubelet"]["flags"]
        wanted = node.pool.node_pool["spec"]["template"]["metadata"]["labels"]
        assert all(f"{key}={value}" in labels for key, value in wanted.items()), labels


@pytest.mark.proof("nodeadm")
def test_a_later_node_config_wins_over_an_earlier_one() -> None:
    own = node_config(cluster={"name": "another"}, kubelet={"config": {"maxPods": 7}})
    (node,) = merge([pools_of_combinations()[0].with_user_data(own)])
    spec = boot(node).node_config["spec"]
    assert spec["cluster"]["name"] == node.pool.cluster.name
    assert spec["kubelet"]["config"]["maxPods"] == MAX_PODS


@pytest.mark.proof("nodeadm")
def test_disks_are_striped_where_decided_and_containerd_stays_off_them_with_pods_only(
    al2023: list[Merged], booted: dict[str, Booted]
) -> None:
    expected = {
        "raid0": {"strategy": "RAID0"},
        "pods-only": {"strategy": "RAID0", "disabledMounts": ["Containerd"]},
    }
    for node in al2023:
        storage = booted[node.pool.name].node_config["spec"]["instance"]["localStorage"]
        if "/" in node.pool.name:
            striped = node.pool.node_class["spec"].get("instanceStorePolicy") == "RAID0"
            assert storage.get("strategy") == ("RAID0" if striped else None)
            continue
        _, image, disks = node.pool.name.split("-", 2)
        wanted = expected.get(disks, {})
        if (image, disks) == ("parallel", "pods-only"):
            wanted = {"strategy": "RAID0", "disabledMounts": ["Containerd", "SOCI"]}
        assert storage == wanted, node.pool.name


@pytest.mark.proof("nodeadm")
def test_the_kubelet_pulls_images_side_by_side(booted: dict[str, Booted]) -> None:
    for name, node in booted.items():
        config = node.kubelet
        assert config["serializeImagePulls"] is False, name
        assert config["maxParallelImagePulls"] == kubelet.PARALLEL_PULLS
        assert config["registryPullQPS"] == kubelet.PULLS_PER_SECOND
        assert config["registryBurst"] == kubelet.PULL_BURST


@pytest.mark.proof("nodeadm")
def test_the_parallel_puller_starts_on_the_smallest_instance_a_pool_may_buy(
    al2023: list[Merged], booted: dict[str, Booted]
) -> None:
    chosen = [node.pool.name for node in al2023 if "FastImagePull" in node.text]
    assert len(chosen) >= 5
    for name in chosen:
        node = booted[name]
        assert node.images["snapshotter"] == "soci", name
        assert node.kubelet["imageServiceEndpoint"] == PARALLEL_PULLER, name
        puller = tomllib.loads(node.answer["files"]["/etc/soci-snapshotter-grpc/config.toml"])
        assert puller["pull_modes"]["parallel_pull_unpack"]["enable"] is True
        assert node.images["discard_unpacked_layers"] is True


@pytest.mark.proof("nodeadm")
def test_the_parallel_puller_is_ignored_on_an_instance_that_is_too_small() -> None:
    pool = next(each for each in pools_of_combinations() if each.name == "al2023-parallel-none")
    (node,) = merge([pool])
    tiny = boot(node, vcpu=2)
    assert tiny.images["snapshotter"] == "overlayfs"
    assert "imageServiceEndpoint" not in tiny.kubelet


@pytest.mark.proof("containerd")
def test_containerd_loads_the_settings_of_the_transfer_service(
    al2023: list[Merged], booted: dict[str, Booted]
) -> None:
    chosen = [node.pool.name for node in al2023 if "io.containerd.transfer" in node.text]
    assert len(chosen) == 10, "registry and peer, times five ways with local disks"
    for name in chosen:
        node = booted[name]
        assert node.images["registry"]["config_path"] == SPEGEL_PATH == HOSTS_DIRECTORY, name
        assert node.images["discard_unpacked_layers"] is False
        assert node.images["snapshotter"] == "overlayfs"
        assert node.images["use_local_image_pull"] is False
        assert node.images["max_concurrent_downloads"] == 3, "anything else forces local pull"
        assert node.transfer["max_concurrent_downloads"] == CONCURRENT_DOWNLOADS
        assert node.transfer["max_concurrent_unpacks"] == CONCURRENT_UNPACKS


@pytest.mark.proof("containerd")
def test_what_the_image_ships_stays_where_we_say_nothing(booted: dict[str, Booted]) -> None:
    for name, node in booted.items():
        assert node.images["pinned_images"] == {"sandbox": "localhost/kubernetes/pause"}, name
        runtime = node.containerd["plugins"]["io.containerd.cri.v1.runtime"]
        assert runtime["enable_cdi"] is True
        runtimes = runtime["containerd"]["runtimes"]
        assert runtimes["runc"]["options"]["SystemdCgroup"] is True
        if "io.containerd.transfer" not in node.answer["files"]["/etc/containerd/config.toml"]:
            assert node.images["registry"]["config_path"] == AMI_MIRROR_PATH
            assert node.images["discard_unpacked_layers"] is True


@pytest.mark.proof("nodeadm")
def test_without_a_version_3_key_nodeadm_takes_its_version_2_template() -> None:
    text = "[plugins.'io.containerd.transfer.v1.local']\nmax_concurrent_unpacks = 4\n"
    pool = pools_of_combinations()[0].with_user_data(node_config(containerd={"config": text}))
    (node,) = merge([pool])
    assert "Migrate containerd config to V3" in boot(node).answer["nodeadm"]


@pytest.mark.proof("nodeadm")
def test_none_of_our_settings_make_nodeadm_migrate(booted: dict[str, Booted]) -> None:
    for name, node in booted.items():
        assert "Migrate containerd config" not in node.answer["nodeadm"], name


@pytest.mark.proof(KARPENTER)
def test_every_bottlerocket_setting_of_ours_survives_the_merge(bottlerocket: list[Merged]) -> None:
    for node in bottlerocket:
        assert node.unknown == [], node.pool.name
        result = dict(leaves(node.settings))
        for path, value in leaves(tomllib.loads(node.pool.user_data)["settings"]):
            assert result[path] == value, f"{node.pool.name}: {path}"


@pytest.mark.proof(KARPENTER)
def test_a_kubernetes_setting_karpenter_does_not_know_is_found_because_it_is_dropped() -> None:
    combination = (OperatingSystem.BOTTLEROCKET, ImageDelivery.REGISTRY, LocalStorage.NONE)
    text = "[settings.kubernetes]\nregistry-query-rate = 10\nregistry-burst = 20\n"
    (node,) = merge([made_pool(*combination, text)])
    assert node.unknown == ["settings.kubernetes.registry-query-rate"]
    assert "registry-query-rate" not in node.settings["kubernetes"]
    assert node.settings["kubernetes"]["registry-burst"] == 20


@pytest.mark.proof(KARPENTER)
def test_a_bottlerocket_node_gets_cluster_taints_and_labels_from_karpenter(
    bottlerocket: list[Merged],
) -> None:
    for node in bottlerocket:
        settings = node.settings["kubernetes"]
        cluster = node.pool.cluster
        assert settings["cluster-name"] == cluster.name
        assert settings["api-server"] == cluster.endpoint
        assert settings["cluster-certificate"] == cluster.certificate
        assert settings["node-taints"]["karpenter.sh/unregistered"] == [":NoExecute"]
        for taint in node.taints:
            written = f"{taint.get('value', '')}:{taint['effect']}"
            assert settings["node-taints"][taint["key"]] == [written]
        wanted = node.pool.node_pool["spec"]["template"]["metadata"]["labels"]
        assert wanted.items() <= settings["node-labels"].items()


@pytest.mark.proof(KARPENTER)
def test_bottlerocket_disks_are_bound_once_and_pods_only_leaves_containerd_alone(
    bottlerocket: list[Merged],
) -> None:
    for node in bottlerocket:
        commands = node.settings.get("bootstrap-commands", {})
        if node.pool.node_class["spec"].get("instanceStorePolicy") == "RAID0":
            assert set(commands) == {"000-mount-instance-storage"}, node.pool.name
            bind = commands["000-mount-instance-storage"]["commands"][-1]
            assert bind == ["apiclient", "ephemeral-storage", "bind"]
        elif node.pool.name.endswith("pods-only"):
            assert set(commands) == {"coldstart-pod-storage"}
            bind = commands["coldstart-pod-storage"]["commands"][-1]
            assert bind[-3:] == ["--dirs", "/var/lib/kubelet", "/var/log/pods"]
        else:
            assert commands == {}, node.pool.name


@pytest.mark.proof(KARPENTER)
def test_a_misspelt_node_class_is_refused_by_karpenters_types() -> None:
    pool = pools_of_combinations()[0]
    spec = {**pool.node_class["spec"], "instanceStoragePolicy": "RAID0"}
    misspelt = replace(pool, node_class={**pool.node_class, "spec": spec})
    with pytest.raises(AssertionError, match="instanceStoragePolicy"):
        merge([misspelt])


def test_the_parts_are_told_apart_by_content_type(al2023: list[Merged]) -> None:
    kinds = {kind for node in al2023 for kind, _ in node.parts}
    assert kinds == {NODE_CONFIG, SHELL_SCRIPT}
