"""Rules on nodes: disks, image snapshots, containerd, peer mirrors and SOCI."""

from __future__ import annotations

from typing import Any

import pytest
from policy_examples import (
    UNKNOWN,
    Given,
    disk_daemon_set,
    images_toml,
    judge,
    launch_template,
    node_class,
    node_config,
    node_pool,
    requirement,
    spegel,
)

DISKS = "kubernetes-daemonset-forbid-privileged-disk-setup"
SNAPSHOT = "karpenter-nodeclass-forbid-snapshot-with-raid0"
MIRROR_PATH = "karpenter-nodeclass-require-single-mirror-path"
PEER_SOCI = "karpenter-nodeclass-forbid-peer-mirror-with-soci"

KEEP = "discard_unpacked_layers = false"
SNAPSHOT_VOLUME = {"deviceName": "/dev/xvdb", "ebs": {"snapshotID": "snap-1", "encrypted": True}}
BOTTLEROCKET = [{"alias": "bottlerocket@1.61.0"}]


# --- privileged disk setup -----------------------------------------------------------------


def test_a_daemonset_that_formats_disks_is_refused_in_production():
    verdict = judge(DISKS, disk_daemon_set())
    assert len(verdict.messages) == 1
    assert "mdadm" in verdict.messages[0] and "privileged=true" in verdict.messages[0]


def test_a_daemonset_that_formats_disks_is_allowed_in_a_development_stack():
    assert judge(DISKS, disk_daemon_set(), config={"environment": "dev"}).passed


def test_a_label_alone_does_not_make_an_environment_a_development_one():
    labelled = disk_daemon_set()
    labelled.properties["metadata"]["labels"] = {"coldstart.dev/environment": "dev"}
    assert judge(DISKS, labelled).messages


def test_a_production_label_is_judged_even_when_the_pack_is_set_to_development():
    labelled = disk_daemon_set()
    labelled.properties["metadata"]["labels"] = {"coldstart.dev/environment": "prod"}
    assert judge(DISKS, labelled, config={"environment": "dev"}).messages


@pytest.mark.parametrize(
    "edit",
    [
        ("securityContext", {}),
        ("securityContext", {"privileged": False}),
    ],
)
def test_without_host_privileges_a_daemonset_cannot_format_anything(edit):
    harmless = disk_daemon_set().edited((f"spec/template/spec/containers/0/{edit[0]}", edit[1]))
    assert judge(DISKS, harmless).passed


def test_the_host_process_namespace_counts_as_power_over_the_node():
    subject = disk_daemon_set(hostPID=True).edited(
        ("spec/template/spec/containers/0/securityContext", ...)
    )
    assert "hostPID" in judge(DISKS, subject).messages[0]


def test_a_csi_node_driver_may_have_the_devices_it_attaches():
    volumes = [
        {"name": "dev", "hostPath": {"path": "/dev"}},
        {"name": "reg", "hostPath": {"path": "/var/lib/kubelet/plugins_registry/"}},
    ]
    driver = disk_daemon_set(volumes=volumes).edited(
        ("spec/template/spec/containers/0/command", ["/bin/driver"])
    )
    assert judge(DISKS, driver).passed
    assert judge(DISKS, driver.edited(("spec/template/spec/volumes", volumes[:1]))).messages


def monitor(name: str, path: str, **spec: Any) -> Given:
    """A DaemonSet that looks at the node without setting its disks up."""
    volumes = [{"name": "host", "hostPath": {"path": path}}]
    subject = disk_daemon_set(volumes=volumes, **spec).edited(("metadata/name", name))
    container = {"name": name, "image": f"example.com/{name}:1"}
    container |= {"securityContext": {"privileged": True}}
    return subject.edited(("spec/template/spec/containers", [container]))


def test_monitors_that_see_the_whole_host_are_no_disk_setup():
    assert judge(DISKS, monitor("node-exporter", "/", hostPID=True)).passed
    assert judge(DISKS, monitor("falco", "/dev")).passed


@pytest.mark.parametrize(
    ("name", "path"), [("local-raid", "/dev"), ("nvme-init", "/"), ("tool", "/dev/nvme1n1")]
)
def test_host_disks_given_to_a_storage_daemonset_are_refused(name, path):
    assert f"hostPath {path}" in judge(DISKS, monitor(name, path)).messages[0]


def test_a_reviewed_daemonset_can_be_named():
    config = {"allowedDaemonSets": ["storage/nvme-setup"]}
    assert judge(DISKS, disk_daemon_set(), config=config).passed


def test_an_unknown_pod_is_not_called_harmless():
    unknown = disk_daemon_set().edited(("spec/template/spec", UNKNOWN))
    verdict = judge(DISKS, unknown)
    assert verdict.undecided == "nvme-setup.spec.template.spec"


# --- snapshot and RAID0 --------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["al2023@v20260714", "bottlerocket@1.61.0"])
def test_a_snapshot_is_never_mounted_under_raid0(alias):
    subject = node_class(
        amiSelectorTerms=[{"alias": alias}],
        instanceStorePolicy="RAID0",
        blockDeviceMappings=[SNAPSHOT_VOLUME],
    )
    message = judge(SNAPSHOT, subject).messages[0]
    assert "spec.blockDeviceMappings[0].ebs.snapshotID='snap-1'" in message


def test_a_snapshot_or_raid0_alone_is_fine():
    assert judge(SNAPSHOT, node_class(blockDeviceMappings=[SNAPSHOT_VOLUME])).passed
    assert judge(SNAPSHOT, node_class(instanceStorePolicy="RAID0")).passed


def test_al2023_keeps_both_when_containerd_stays_on_its_volume():
    subject = node_class(
        instanceStorePolicy="RAID0",
        blockDeviceMappings=[SNAPSHOT_VOLUME],
        userData=node_config(storage="{disabledMounts: [Containerd]}"),
    )
    assert judge(SNAPSHOT, subject).passed


def test_the_operating_system_volume_of_bottlerocket_holds_no_images():
    volume = {"deviceName": "/dev/xvda", "ebs": {"snapshotID": "snap-1"}}
    subject = node_class(
        amiSelectorTerms=BOTTLEROCKET, instanceStorePolicy="RAID0", blockDeviceMappings=[volume]
    )
    assert judge(SNAPSHOT, subject).passed


def test_a_bottlerocket_bootstrap_command_can_hide_the_snapshot_too():
    bind = (
        "[settings.bootstrap-commands.disk]\n"
        'commands = [["apiclient", "ephemeral-storage", "init"],\n'
        '  ["apiclient", "ephemeral-storage", "bind"{dirs}]]\n'
    )
    subject = node_class(amiSelectorTerms=BOTTLEROCKET, blockDeviceMappings=[SNAPSHOT_VOLUME])
    everything = subject.edited(("spec/userData", bind.format(dirs="")))
    kubelet = subject.edited(("spec/userData", bind.format(dirs=', "--dirs", "/var/lib/kubelet"')))
    assert "bootstrap-commands.disk" in judge(SNAPSHOT, everything).messages[0]
    assert judge(SNAPSHOT, kubelet).passed


def test_local_storage_of_a_launch_template_is_read_from_base64():
    volume = {"deviceName": "/dev/xvda", "ebs": {"snapshotId": "snap-9", "encrypted": "true"}}
    subject = launch_template(
        node_config(storage="{strategy: RAID0}"), blockDeviceMappings=[volume]
    )
    assert "localStorage.strategy=RAID0" in judge(SNAPSHOT, subject).messages[0]


def test_a_snapshot_of_something_else_than_images_can_be_named():
    subject = node_class(instanceStorePolicy="RAID0", blockDeviceMappings=[SNAPSHOT_VOLUME])
    assert judge(SNAPSHOT, subject, config={"snapshotsWithoutImages": ["snap-1"]}).passed


def test_user_data_not_known_yet_leaves_the_snapshot_undecided():
    subject = node_class(
        instanceStorePolicy="RAID0", blockDeviceMappings=[SNAPSHOT_VOLUME], userData=UNKNOWN
    )
    verdict = judge(SNAPSHOT, subject)
    assert verdict.messages == [] and verdict.undecided == "gpu-class.spec.userData"


# --- containerd ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "containerd",
    [
        images_toml(KEEP),
        images_toml(KEEP, config_path="/etc/containerd/certs.d:/etc/docker/certs.d"),
        images_toml(KEEP, config_path=""),
        f'[plugins."io.containerd.grpc.v1.cri".containerd]\n{KEEP}',
        images_toml(KEEP, "a broken line") + "\n[[[",
    ],
)
def test_kept_layers_need_a_single_mirror_directory(containerd):
    verdict = judge(MIRROR_PATH, node_class(userData=node_config(containerd)))
    assert "discard_unpacked_layers=false" in verdict.messages[0]


@pytest.mark.parametrize(
    "containerd",
    [
        "",
        images_toml("discard_unpacked_layers = true"),
        images_toml(KEEP, config_path="/etc/containerd/certs.d"),
        images_toml(KEEP, "use_local_image_pull = true"),
        images_toml(KEEP, "max_concurrent_downloads = 10"),
        # Beside a v3 key nodeadm drops the legacy ones, so layers are discarded as before.
        images_toml("stats_collect_period = 5")
        + f'\n[plugins."io.containerd.grpc.v1.cri".containerd]\n{KEEP}',
    ],
)
def test_containerd_settings_that_keep_mirrors_working_pass(containerd):
    assert judge(MIRROR_PATH, node_class(userData=node_config(containerd))).passed


def test_bare_node_config_and_launch_templates_are_read_like_mime():
    bare = node_config(images_toml(KEEP)).split("node.eks.aws\n\n")[1].split("\n--PART")[0]
    assert judge(MIRROR_PATH, node_class(userData=bare)).messages
    assert judge(MIRROR_PATH, launch_template(node_config(images_toml(KEEP)))).messages


def test_bottlerocket_ships_a_single_mirror_directory():
    toml = "[settings.container-runtime]\nmax-concurrent-downloads = 10\n"
    assert judge(MIRROR_PATH, node_class(amiSelectorTerms=BOTTLEROCKET, userData=toml)).passed


def test_containerd_settings_not_known_yet_are_undecided():
    assert judge(MIRROR_PATH, node_class(userData=UNKNOWN)).undecided == "gpu-class.spec.userData"


def test_hostile_user_data_is_read_within_bounds():
    for text in ("MIME-Version: 1.0\nContent-Type: multipart/mixed", "x" * 10**6, "\x00\x01", "{["):
        assert judge(MIRROR_PATH, node_class(userData=text)).passed


# --- peer mirror and SOCI ------------------------------------------------------------------

SOCI = node_class(userData=node_config(gate=True))


def test_spegel_everywhere_meets_a_soci_pool():
    verdict = judge(PEER_SOCI, SOCI, node_pool("gpu"), spegel())
    assert len(verdict.messages) == 1 and verdict.urns == [SOCI.urn]
    assert "also runs on gpu" in verdict.messages[0]


def test_spegel_kept_to_another_pool_leaves_soci_alone():
    other = node_pool("mirror")
    for values in (
        {"nodeSelector": {"pool": "mirror"}},
        {"nodeSelector": {"karpenter.sh/nodepool": "mirror"}},
        {"affinity": {"nodeAffinity": _required(requirement("pool", "gpu", operator="NotIn"))}},
        {"tolerations": []},
    ):
        assert judge(PEER_SOCI, SOCI, node_pool("gpu"), other, spegel(**values)).passed, values


def _required(*expressions):
    terms = [{"matchExpressions": list(expressions)}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def test_spegel_selected_onto_the_soci_pool_is_refused():
    values = {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"operator": "Exists"}]}
    assert judge(PEER_SOCI, SOCI, node_pool("gpu"), spegel(**values)).messages


def test_soci_without_any_peer_mirror_passes():
    assert judge(PEER_SOCI, SOCI, node_pool("gpu")).passed
    assert judge(PEER_SOCI, node_class(), node_pool("gpu"), spegel()).passed


@pytest.mark.parametrize(
    "subject",
    [
        node_class(userData=node_config(images_toml(KEEP), gate=True)),
        node_class(
            amiSelectorTerms=BOTTLEROCKET,
            userData='[settings.container-runtime]\nsnapshotter = "soci"\n'
            '[[settings.container-registry.mirrors]]\nregistry = "*"\n'
            'endpoint = ["http://127.0.0.1:30020"]\n',
        ),
        launch_template(node_config(images_toml(KEEP), gate=True)),
    ],
)
def test_mirror_settings_and_soci_in_one_user_data_are_refused(subject):
    assert "on the same nodes" in judge(PEER_SOCI, subject).messages[0]


def test_a_spegel_daemonset_counts_like_the_chart():
    daemon_set = disk_daemon_set(tolerations=[{"operator": "Exists"}]).edited(
        ("spec/template/spec/containers/0/image", "ghcr.io/spegel-org/spegel:v0.7.4")
    )
    assert judge(PEER_SOCI, SOCI, node_pool("gpu"), daemon_set).messages
    untolerant = daemon_set.edited(("spec/template/spec/tolerations", []))
    assert judge(PEER_SOCI, SOCI, node_pool("gpu"), untolerant).passed


def test_mirror_values_not_known_yet_are_undecided():
    unknown = spegel().edited(("values", UNKNOWN))
    assert judge(PEER_SOCI, SOCI, node_pool("gpu"), unknown).undecided == "spegel.values"
    blind = node_class(userData=UNKNOWN)
    assert judge(PEER_SOCI, blind, spegel()).undecided == "gpu-class.spec.userData"
