"""Operating system, local disks and image delivery: every combination decides or explains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import pytest
from stack_examples import A100, BIG, L40S, SMALL, C, planned, refused, spec_of

from coldstart.catalog import InstanceType, load
from coldstart.planning import PlanError
from coldstart.planning.context import Context, ImageFacts
from coldstart.planning.delivery import NVSWITCH_FAMILIES, Delivery, delivery
from coldstart.planning.plan import ENGINE
from coldstart.render import render_user_data
from coldstart.spec import (
    AUTO,
    Environment,
    ImageDelivery,
    LocalStorage,
    NodePoolSpec,
    OperatingSystem,
)

CATALOG = load()
GPU_TYPES = tuple(t for t in CATALOG.instance_types.values() if t.accelerator)
KNOWN, UNKNOWN = "docker.io", "registry.example.com"
SNAPSHOT_ID = "snap-0123456789abcdef0"
WISHES = tuple(product((AUTO, *OperatingSystem), (AUTO, *LocalStorage), (AUTO, *ImageDelivery)))
Wish = tuple[str, str, str]
SPECS = {
    environment: spec_of({(f"{C}environment",): environment.value}) for environment in Environment
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything beside the wishes that an answer may depend on."""

    environment: Environment = Environment.PROD
    max_nodes: int = 4
    snapshot: str | None = SNAPSHOT_ID
    registry: str = KNOWN

    def context(self) -> Context:
        image = ImageFacts(self.registry, "sha256:" + "0" * 64, 9_000_000_000, 22_000_000_000)
        spec = SPECS[self.environment]
        return Context(spec, CATALOG, CATALOG.engine(ENGINE), image, shared_file_system=False)

    def pool(self, instance: InstanceType, wish: Wish) -> NodePoolSpec:
        given = {"os": wish[0], "localStorage": wish[1], "image": wish[2]}
        fixed: dict[str, Any] = {"accelerator": instance.accelerator, "maxNodes": self.max_nodes}
        return NodePoolSpec.model_validate({**fixed, **given, "imageSnapshot": self.snapshot})

    def decide(self, instance: InstanceType, wish: Wish) -> Delivery | PlanError:
        """What is decided or refused, kept: a cure is often one of the other wishes."""
        key = (self, instance.name, wish)
        if key not in DECIDED:
            try:
                DECIDED[key] = delivery(
                    "nodePools.p", self.pool(instance, wish), (instance,), self.context()
                )
            except PlanError as error:
                DECIDED[key] = error
        return DECIDED[key]


DECIDED: dict[tuple[Setting, str, Wish], Delivery | PlanError] = {}
SETTINGS = tuple(
    Setting(environment, max_nodes, snapshot, registry)
    for environment, max_nodes, snapshot, registry in product(
        Environment, (1, 4), (SNAPSHOT_ID, None), (KNOWN, UNKNOWN)
    )
)


def one_of_each_kind() -> Iterator[InstanceType]:
    """A type per combination of the facts that the choice reads: disks, NVSwitch, size."""
    seen = set()
    for instance in GPU_TYPES:
        small = instance.vcpu < 4 or instance.memory_mib < 7 * 1024
        kind = (bool(instance.nvme_gb), instance.family in NVSWITCH_FAMILIES, small)
        if kind not in seen:
            seen.add(kind)
            yield instance


def smallest() -> InstanceType:
    """A type below what a parallel pull needs; EC2 has none with a GPU today."""
    return replace_type(GPU_TYPES[0], name="tiny", vcpu=2, memory_mib=4096)


def replace_type(instance: InstanceType, **changes: Any) -> InstanceType:
    return instance.model_copy(update=changes)


user_data = cache(render_user_data)


def values(found: Delivery) -> tuple[OperatingSystem, LocalStorage, ImageDelivery]:
    return found.operating_system.value, found.local_storage.value, found.image.value


def assert_nothing_cancels(found: Delivery, setting: Setting, instance: InstanceType) -> None:
    os, storage, image = values(found)
    bottlerocket = os is OperatingSystem.BOTTLEROCKET
    if image is ImageDelivery.SNAPSHOT:
        assert storage is not LocalStorage.RAID0, "RAID0 hides the images of the snapshot"
        assert bottlerocket, "AL2023 has no data volume to make from a snapshot"
        assert setting.snapshot, "there is no snapshot to boot from"
    if image is ImageDelivery.PEER:
        assert not bottlerocket, "Bottlerocket cannot be told about a peer mirror"
        assert setting.max_nodes > 1, "one node has no peer"
    if image is ImageDelivery.PARALLEL:
        assert setting.registry == KNOWN, "ranged requests are not known to work there"
        assert instance.vcpu >= 4, "the node ignores the setting silently"
    if storage is LocalStorage.DAEMONSET:
        assert setting.environment is Environment.DEV, "a privileged DaemonSet outside dev"
    if storage in (LocalStorage.DAEMONSET, LocalStorage.USER_DATA):
        assert not bottlerocket, "Bottlerocket runs neither scripts nor disk-formatting pods"
    if storage is not LocalStorage.NONE:
        assert instance.nvme_gb, "there is no NVMe to prepare"
    if instance.family in NVSWITCH_FAMILIES:
        assert not bottlerocket, "no fabric manager on Bottlerocket"
    assert user_data(os, image, storage)


def assert_refusal_helps(
    error: PlanError, setting: Setting, instance: InstanceType, wish: Wish
) -> None:
    axis = ("os", "localStorage", "image").index(error.path.rpartition(".")[2])
    assert wish[axis] != AUTO, "nobody wished what the message blames"
    assert error.message.startswith(f'"{wish[axis]}" cannot be used: ')
    cure = error.message.partition("\nUse ")[2].removesuffix(".")
    assert cure, f"no cure in {error.message!r}"
    for way in cure.replace(" (chosen by auto here)", "").split(", or "):
        given = dict(re.findall(r"(\w+): ([\w-]+)", way))
        changed = (
            given.get("os", wish[0]),
            given.get("localStorage", wish[1]),
            given.get("image", wish[2]),
        )
        assert changed != wish
        assert isinstance(setting.decide(instance, changed), Delivery), f"{cure} does not work"


def check(instance: InstanceType, settings: Sequence[Setting]) -> int:
    decided = 0
    for setting, wish in product(settings, WISHES):
        found = setting.decide(instance, wish)
        if isinstance(found, PlanError):
            assert_refusal_helps(found, setting, instance, wish)
            continue
        decided += 1
        wished = zip(wish, values(found), strict=True)
        assert all(asked in (AUTO, got.value) for asked, got in wished), "a wish was not kept"
        assert_nothing_cancels(found, setting, instance)
    return decided


@pytest.mark.parametrize("instance", [*one_of_each_kind(), smallest()], ids=lambda t: t.name)
def test_every_wish_in_every_setting_gives_a_decision_or_a_way_out(instance: InstanceType) -> None:
    decided = check(instance, SETTINGS)
    assert decided >= len(SETTINGS), "leaving all three to auto works everywhere"


@pytest.mark.parametrize("instance", GPU_TYPES, ids=lambda t: t.name)
def test_every_type_of_the_catalog_takes_every_wish_or_says_why_not(instance: InstanceType) -> None:
    assert check(instance, (Setting(),))


def test_a_decision_turns_down_every_other_value_with_a_reason() -> None:
    for instance, setting in product(one_of_each_kind(), SETTINGS):
        found = setting.decide(instance, (AUTO, AUTO, AUTO))
        assert isinstance(found, Delivery)
        for decision, all_values in (
            (found.operating_system, OperatingSystem),
            (found.local_storage, LocalStorage),
            (found.image, ImageDelivery),
        ):
            named = {decision.value, *(r.value for r in decision.rejected)}
            assert named == set(all_values)
            assert all(r.reason for r in decision.rejected)


def reason_against(decision: Any, value: str) -> str:
    return next(r.reason for r in decision.rejected if r.value == value)


def test_p4d_pulls_in_parallel_on_al2023_and_says_what_raid0_would_do_to_a_snapshot() -> None:
    pool = planned().pools["a100"]
    assert pool.instance_types == ("p4d.24xlarge",)
    assert pool.operating_system.value == "al2023"
    assert pool.image_delivery.value == "parallel"
    against = reason_against(pool.image_delivery, "snapshot")
    assert "RAID0 on p4d.24xlarge moves containerd's root off the snapshot volume" in against
    assert "every start would pull 9.0 GB again" in against


def test_bottlerocket_is_turned_down_where_gpus_are_joined_by_nvswitch() -> None:
    pools = planned().pools
    assert "NVSwitch" in reason_against(pools["a100"].operating_system, "bottlerocket")
    assert pools["l40s"].operating_system.value == "bottlerocket"


def test_a_wished_snapshot_under_raid0_is_refused_with_both_ways_out() -> None:
    said = refused(
        {
            (*L40S, "image"): "snapshot",
            (*L40S, "localStorage"): "raid0",
            (*L40S, "imageSnapshot"): SNAPSHOT_ID,
        }
    )
    head, _, cure = said.partition("\n")
    assert head.startswith(
        'stacks/Pulumi.eks-prod.yaml: nodePools.l40s.image: "snapshot" cannot be used: '
        "local-disk RAID0 on g6e.xlarge"
    )
    assert "image: parallel (chosen by auto here)" in cure
    assert "localStorage: pods-only" in cure
    assert cure.startswith("  Use ")


def test_a_wished_snapshot_on_p4d_leaves_only_another_image_mechanism() -> None:
    said = refused({(*A100, "image"): "snapshot", (*A100, "localStorage"): "raid0"})
    assert "RAID0 on p4d.24xlarge" in said
    assert "Use image: parallel (chosen by auto here)." in said
    assert "localStorage:" not in said


def test_a_snapshot_wished_without_one_says_how_to_make_one() -> None:
    said = refused({(*L40S, "image"): "snapshot"})
    assert "no imageSnapshot is named; tools/image-snapshot/build.sh makes one" in said


def test_a_named_snapshot_is_taken_with_disks_for_pods_only() -> None:
    pool = planned({(*L40S, "imageSnapshot"): SNAPSHOT_ID}).pools["l40s"]
    assert pool.image_delivery.value == "snapshot"
    assert pool.local_storage.value == "pods-only"
    data = next(v for v in pool.volumes if v.device_name == "/dev/xvdb")
    assert data.snapshot_id == SNAPSHOT_ID
    assert data.initialization_rate_mib_per_second == 300


@pytest.mark.parametrize("os", ["bottlerocket", "al2023"])
def test_the_root_volume_is_the_one_karpenter_counts_scratch_space_on(os: str) -> None:
    """It is the kubelet's: with Bottlerocket's 10 GiB of OS marked no engine pod would ever fit."""
    wish = {(*L40S, "os"): os, (*L40S, "localStorage"): "none"}
    stack = planned({**wish, (*SMALL, "coldStartBudget"): "10m"})
    pool, served = stack.pools["l40s"], stack.models["qwen3-8b"]
    (root,) = (volume for volume in pool.volumes if volume.root)
    assert root.device_name == ("/dev/xvdb" if os == "bottlerocket" else "/dev/xvda")
    assert served.host.ephemeral_storage_mib < root.size_gib * 1024


def test_two_wishes_that_need_a_change_together_are_told_together() -> None:
    said = refused({(*A100, "os"): "bottlerocket", (*A100, "localStorage"): "daemonset"})
    assert "Use os: al2023 and localStorage: raid0" in said


def test_the_privileged_daemonset_is_for_dev_only() -> None:
    said = refused({(*A100, "localStorage"): "daemonset"})
    assert "environment: dev only" in said
    wish = {(*A100, "localStorage"): "daemonset", (f"{C}environment",): "dev"}
    assert planned(wish).pools["a100"].scratch_host_path is not None


def test_a_registry_without_ranged_requests_pulls_layer_by_layer() -> None:
    image = {"image": f"{UNKNOWN}/vllm@sha256:{'0' * 64}", "imageSize": "9GB"}
    slow = {(f"{C}engine",): image, (*BIG, "coldStartBudget"): "10m"}
    pool = planned(slow | {(*SMALL, "coldStartBudget"): "10m"}).pools["a100"]
    assert pool.image_delivery.value in ("registry", "peer")
    assert UNKNOWN in reason_against(pool.image_delivery, "parallel")


def test_peers_of_a_pull_through_cache_mirror_every_registry() -> None:
    wish = {(*A100, "image"): "peer", (*BIG, "coldStartBudget"): "10m"}
    assert "registries=(_default)" in planned(wish).pools["a100"].user_data
    direct = {**wish, (f"{C}registry",): {"pullThroughCache": False}}
    assert "registries=(docker.io)" in planned(direct).pools["a100"].user_data


def test_the_slower_type_of_a_pool_decides() -> None:
    slow = replace_type(GPU_TYPES[0], network_mbps=100)
    setting = Setting()
    pool = setting.pool(GPU_TYPES[0], (AUTO, AUTO, "registry"))
    alone = delivery("nodePools.p", pool, (GPU_TYPES[0],), setting.context()).image.reason
    mixed = delivery("nodePools.p", pool, (GPU_TYPES[0], slow), setting.context()).image.reason
    assert alone != mixed


def test_an_infinitely_small_image_makes_no_choice_fail() -> None:
    setting = Setting()
    context = replace(setting.context(), image=ImageFacts(KNOWN, "sha256:0", 1, 1))
    for instance in one_of_each_kind():
        assert delivery(
            "nodePools.p", setting.pool(instance, (AUTO, AUTO, AUTO)), (instance,), context
        )
