"""Ways to bring container images to a node that cancel each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.nodes import BlockDevice, NodeDefinition, defines_nodes, node_definition
from policies.reading.peer_mirrors import (
    is_spegel,
    placement_of_spegel,
    pools_in,
    pools_of,
)
from policies.reading.user_data import NodeSettings
from policies.reading.values import (
    NotYetKnown,
    Resource,
    gather,
    is_true,
    judge_each,
    mapping_at,
    whole,
)
from policies.rule import Finding, Option, ResourceRule, Settings, StackRule

# nodeadm's containerd template for Amazon Linux 2023, config2.template.toml.
_NODEADM_CONFIG_PATH = "/etc/containerd/certs.d:/etc/docker/certs.d"
# containerd's own default; any other value makes it pull by the local path by itself
# (internal/cri/config CheckLocalImagePullConfigs, 2.1 to 2.3).
_DEFAULT_MAX_CONCURRENT_DOWNLOADS = 3
_BOTTLEROCKET_OS_DEVICE = "/dev/xvda"


def _judge_snapshot(resource: Resource, settings: Settings) -> Iterator[str]:
    node = node_definition(resource)
    if node is None:
        return

    def judge(device: BlockDevice) -> Iterator[str]:
        if not device.snapshot or device.snapshot in settings["snapshotsWithoutImages"]:
            return
        if node.is_bottlerocket and device.device == _BOTTLEROCKET_OS_DEVICE:
            return
        move = _moves_containerd_off_the_volume(node)
        if move:
            yield (
                f"{device.field}.snapshotID={device.snapshot!r} on {device.device or 'a volume'} "
                f"brings images, but {move} moves /var/lib/containerd to instance storage: the "
                "snapshot's images are hidden or copied at boot, and every image is pulled "
                "again. Drop RAID0 for these nodes, or drop the snapshot; on Amazon Linux 2023 "
                "localStorage.disabledMounts: [Containerd] keeps both."
            )

    yield from judge_each(node.block_devices(), judge)


def _moves_containerd_off_the_volume(node: NodeDefinition) -> str | None:
    raid0_by_policy = node.instance_store_policy == "RAID0"
    if node.is_bottlerocket:
        if raid0_by_policy:
            return "spec.instanceStorePolicy=RAID0"
        return node.settings.ephemeral_bind
    storage = node.settings.local_storage
    disabled = storage.get("disabledMounts")
    if isinstance(disabled, list) and "Containerd" in disabled:
        return None
    if raid0_by_policy:
        return "spec.instanceStorePolicy=RAID0"
    strategy = storage.get("strategy")
    if strategy in ("RAID0", "RAID10"):
        return f"NodeConfig spec.instance.localStorage.strategy={strategy}"
    return None


def _judge_mirror_path(resource: Resource, _: Settings) -> Iterator[str]:
    node = node_definition(resource)
    if node is None:
        return
    user_data = node.settings
    if user_data.is_bottlerocket or not user_data.keeps_layers or _pulls_locally(user_data):
        return
    registry = mapping_at(user_data.images_plugin, "registry")
    path = registry.get("config_path")
    if path and ":" not in str(path):
        return
    found = (
        f"config_path={path!r}"
        if path
        else f"no config_path (the node's default is {_NODEADM_CONFIG_PATH!r})"
    )
    yield (
        f"{node.user_data_field} sets discard_unpacked_layers=false with {found}. containerd 2.1 "
        "and newer then pulls through its transfer service, which reads config_path as one "
        "directory, so every registry mirror is ignored without an error. Set "
        'config_path = "/etc/containerd/certs.d", or use_local_image_pull = true.'
    )


def _pulls_locally(user_data: NodeSettings) -> bool:
    """Whether containerd splits config_path: by choice, or because it falls back by itself."""
    images = user_data.images_plugin
    registry = mapping_at(images, "registry")
    downloads = whole(images.get("max_concurrent_downloads"), _DEFAULT_MAX_CONCURRENT_DOWNLOADS)
    return (
        is_true(images.get("use_local_image_pull"))
        or downloads != _DEFAULT_MAX_CONCURRENT_DOWNLOADS
        or images.get("disable_snapshot_annotations") is False
        or is_true(images.get("image_pull_with_sync_fs"))
        or any(registry.get(key) for key in ("mirrors", "configs", "auths"))
        or user_data.soci_field is not None
    )


def _judge_peer_mirror(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    nodes = [node for node in map(node_definition, resources) if node]
    pools, undecided = gather(resources, pools_in)

    def judge(node: NodeDefinition) -> Iterator[Finding]:
        soci = node.settings.soci_field
        if soci is None:
            return
        mirror = node.settings.peer_mirror_field
        if mirror:
            yield Finding(node.resource, _conflict(soci, f"{mirror} on the same nodes"))
            return
        own_pools = pools_of(node, pools, undecided)

        def judge_candidate(candidate: Resource) -> Iterator[Finding]:
            if not is_spegel(candidate):
                return
            placement = placement_of_spegel(candidate)
            reached = ", ".join(pool.name for pool in own_pools if placement.can_run_on(pool))
            if reached:
                there = f"Spegel ({candidate.name}) also runs on {reached}"
                yield Finding(node.resource, _conflict(soci, there))
            elif undecided:
                raise NotYetKnown(*undecided)

        yield from judge_each(resources, judge_candidate)

    yield from judge_each(nodes, judge)


def _conflict(soci: str, mirror: str) -> str:
    return (
        f"{soci}, and {mirror}. The SOCI snapshotter downloads with a resolver of its own and "
        "discards the layers: it neither reads a peer mirror nor leaves anything for peers to "
        "read. Choose one for these nodes: turn SOCI off, or keep Spegel and its containerd "
        "settings away from them with nodeSelector or affinity."
    )


FORBID_SNAPSHOT_WITH_RAID0 = ResourceRule(
    code="CS101",
    name="karpenter-nodeclass-forbid-snapshot-with-raid0",
    concern="nodes",
    title="An image snapshot is never mounted under RAID0",
    description="A volume made from a snapshot must not be combined with instance storage that "
    "takes over /var/lib/containerd.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation="Remove instanceStorePolicy: RAID0 (or the localStorage strategy, or the "
    "ephemeral-storage bind), or remove snapshotID. On Amazon Linux 2023 "
    "localStorage.disabledMounts: [Containerd] lets the two live together.",
    reason="RAID0 binds containerd's directory away from the volume that holds the images.",
    links=(
        "https://karpenter.sh/docs/concepts/nodeclasses/#specinstancestorepolicy",
        "https://github.com/literalice/ai-on-eks-startup-optimizing-workshop",
    ),
    options=(
        Option(
            "snapshotsWithoutImages",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Snapshot identifiers that hold something other than images, such as weights.",
        ),
    ),
    reads=defines_nodes,
    judge=_judge_snapshot,
)

REQUIRE_SINGLE_MIRROR_PATH = ResourceRule(
    code="CS103",
    name="karpenter-nodeclass-require-single-mirror-path",
    concern="nodes",
    title="Keeping image layers needs a single mirror directory",
    description="containerd with discard_unpacked_layers=false needs a config_path that is one "
    "directory, or use_local_image_pull=true.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation='Set config_path = "/etc/containerd/certs.d" under '
    "plugins.'io.containerd.cri.v1.images'.registry, or use_local_image_pull = true beside "
    "discard_unpacked_layers.",
    reason="containerd's transfer service does not split config_path at colons "
    "(containerd issue 12415), so mirrors are silently ignored.",
    links=(
        "https://github.com/containerd/containerd/issues/12415",
        "https://github.com/spegel-org/spegel/issues/1272",
    ),
    reads=defines_nodes,
    judge=_judge_mirror_path,
)

FORBID_PEER_MIRROR_WITH_SOCI = StackRule(
    code="CS105",
    name="karpenter-nodeclass-forbid-peer-mirror-with-soci",
    concern="nodes",
    title="A peer mirror and SOCI never share nodes",
    description="Nodes with SOCI parallel pull must not be nodes of a peer-to-peer image mirror.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation='Turn off featureGates.FastImagePull (or snapshotter = "soci"), or restrict '
    "Spegel by nodeSelector or affinity to pools without it and drop the mirror settings from "
    "the user data.",
    reason="SOCI has its own resolver and discards layers: it bypasses the mirror and feeds it "
    "nothing.",
    links=(
        "https://github.com/awslabs/amazon-eks-ami/tree/main/nodeadm/internal/containerd",
        "https://github.com/awslabs/soci-snapshotter/blob/main/docs/parallel-mode.md",
    ),
    judge=_judge_peer_mirror,
)
