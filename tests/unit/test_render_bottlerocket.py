"""What a Bottlerocket node is configured with, and which combinations are refused."""

from __future__ import annotations

import pytest

from coldstart.render import render_user_data
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem
from tests.unit.user_data_texts import IMPOSSIBLE, POSSIBLE, Combination, bottlerocket, label

PARALLEL, SNAPSHOT = ImageDelivery.PARALLEL, ImageDelivery.SNAPSHOT
CASES = [case for case in POSSIBLE if case[0] is OperatingSystem.BOTTLEROCKET]
every_case = pytest.mark.parametrize("case", CASES, ids=label)


@every_case
def test_soci_is_the_snapshotter_of_parallel_delivery_and_of_no_other(case: Combination) -> None:
    settings = bottlerocket(case[1], case[2])
    chosen = settings["container-runtime"].get("snapshotter")
    assert chosen == ("soci" if case[1] is PARALLEL else None)
    assert ("container-runtime-plugins" in settings) == (case[1] is PARALLEL)


def test_parallel_delivery_downloads_and_unpacks_side_by_side() -> None:
    soci = bottlerocket(PARALLEL, LocalStorage.RAID0)["container-runtime-plugins"][
        "soci-snapshotter"
    ]
    assert soci["pull-mode"] == "parallel-pull-unpack"
    values = soci["parallel-pull-unpack"]
    assert values["max-concurrent-downloads-per-image"] > 3, "three is the default"
    assert values["max-concurrent-unpacks-per-image"] > 1, "one is the default"


def test_a_snapshot_keeps_the_snapshotter_it_was_built_with() -> None:
    settings = bottlerocket(SNAPSHOT, LocalStorage.NONE)
    assert "snapshotter" not in settings["container-runtime"], "a change wipes the volume at boot"


def test_disks_for_pods_only_never_hide_the_volume_of_containerd() -> None:
    command = bottlerocket(SNAPSHOT, LocalStorage.PODS_ONLY)["bootstrap-commands"][
        "coldstart-pod-storage"
    ]
    init, bind = command["commands"]
    assert init == ["apiclient", "ephemeral-storage", "init"]
    assert bind[:4] == ["apiclient", "ephemeral-storage", "bind", "--dirs"]
    assert bind[4:] == ["/var/lib/kubelet", "/var/log/pods"]
    assert command["essential"] is True
    assert command["mode"] == "always"


@every_case
def test_karpenter_alone_binds_the_array_for_raid0(case: Combination) -> None:
    commands = bottlerocket(case[1], case[2]).get("bootstrap-commands", {})
    assert bool(commands) == (case[2] is LocalStorage.PODS_ONLY)


@every_case
def test_only_keys_that_karpenter_keeps_are_set_for_kubernetes(case: Combination) -> None:
    # Karpenter drops keys it does not know: bootstrap/bottlerocketsettings.go at v1.14.1.
    kept = {"registry-qps", "registry-burst"}
    assert set(bottlerocket(case[1], case[2])["kubernetes"]) == kept


@every_case
def test_hardening_of_the_image_is_left_alone(case: Combination) -> None:
    settings = bottlerocket(case[1], case[2])
    assert not {"kernel", "metadata", "host-containers", "aws"} & set(settings)


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=label)
def test_a_combination_that_cancels_itself_is_refused_with_a_way_out(case: Combination) -> None:
    with pytest.raises(ValueError, match="do not go together") as refusal:
        render_user_data(*case)
    for word in (*case, "; use "):
        assert word in str(refusal.value)


def test_a_snapshot_is_never_hidden_by_raid0() -> None:
    with pytest.raises(ValueError, match="hides the images of the snapshot"):
        render_user_data(OperatingSystem.BOTTLEROCKET, SNAPSHOT, LocalStorage.RAID0)


def test_every_combination_without_a_conflict_renders() -> None:
    # AL2023: three deliveries with five ways of storage; Bottlerocket: two deliveries with three
    # ways, and the snapshot with two.
    assert len(POSSIBLE) == 3 * 5 + 2 * 3 + 2
