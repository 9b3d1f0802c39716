"""Volumes of nodes that are made from snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.nodes import BlockDevice, NodeDefinition, node_definition
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    text_at,
    whole,
)
from policies.rule import Finding, Option, Settings, StackRule

_FAST_RESTORE = "aws:ebs/fastSnapshotRestore:FastSnapshotRestore"


def _judge_initialization_rate(
    resources: Sequence[Resource], settings: Settings
) -> Iterator[Finding]:
    found, undecided = gather(resources, _fast_restored)
    fast = {*found, *settings["fastRestoreSnapshots"]}

    def judge(node: NodeDefinition) -> Iterator[Finding]:
        yield from judge_each(node.block_devices(), lambda device: judge_device(node, device))

    def judge_device(node: NodeDefinition, device: BlockDevice) -> Iterator[Finding]:
        if not device.snapshot or device.snapshot in fast:
            return
        if whole(at(device.spec, "volumeInitializationRate"), 0) > 0:
            return
        if undecided:
            raise NotYetKnown(*undecided)
        yield Finding(
            node.resource,
            f"{device.field}.snapshotID={device.snapshot!r} has no volumeInitializationRate. EBS "
            "fetches each block of it from S3 when it is first read, so images that are already "
            "on the volume still take minutes to start. Set volumeInitializationRate (100 to 300 "
            "MiB/s), or turn on fast snapshot restore.",
        )

    yield from judge_each(filter(None, map(node_definition, resources)), judge)


def _fast_restored(resource: Resource) -> Iterator[str]:
    if resource.type == _FAST_RESTORE:
        yield text_at(resource.properties, "snapshotId")


REQUIRE_INITIALIZATION_RATE = StackRule(
    code="CS102",
    name="karpenter-nodeclass-require-snapshot-initialization-rate",
    concern="nodes",
    title="A volume from a snapshot is filled at a known rate",
    description="A node's volume made from a snapshot needs volumeInitializationRate, or a "
    "snapshot with fast snapshot restore.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation="Set ebs.volumeInitializationRate to 300 MiB/s beside snapshotID, or turn on fast "
    "snapshot restore for the snapshot in every zone of the pool.",
    reason="Without it blocks come from S3 when they are first read: a cached image of 15 GB has "
    "been seen to take over ten minutes to start.",
    links=(
        "https://github.com/aws-samples/bottlerocket-images-cache/issues/13",
        "https://docs.aws.amazon.com/ebs/latest/userguide/initalize-volume.html",
    ),
    options=(
        Option(
            "fastRestoreSnapshots",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Snapshots with fast snapshot restore turned on outside of this stack.",
        ),
    ),
    level="advisory",
    development="advisory",
    judge=_judge_initialization_rate,
)
