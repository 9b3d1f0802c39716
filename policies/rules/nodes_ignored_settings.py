"""Settings of nodes that are ignored, without an error, where they are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.node_pools import CPU, SIZE, TYPE, is_node_pool, requirements_in
from policies.reading.nodes import NodeDefinition, defines_nodes, node_definition
from policies.reading.scheduling import Requirement
from policies.reading.user_data import NodeSettings
from policies.reading.values import (
    Resource,
    at,
    judge_each,
    list_at,
    text_at,
    whole,
)
from policies.rule import Finding, ResourceRule, Settings, StackRule

# First releases that know SOCI's parallel pull, karpenter-blueprints soci-snapshotter.
_FIRST_IMAGES = {"bottlerocket": (1, 44), "al2023": (20250821, 0)}
# nodeadm ignores FastImagePull under 4 vCPU or 7 GiB, internal/containerd/config.go; EC2 sizes up
# to `large` have 2 vCPU or fewer.
_MINIMUM_VCPU = 4
_SMALL_SIZES = frozenset({"nano", "micro", "small", "medium", "large"})
_ALIAS = re.compile(r"(\w+)@v?(\d{1,9})(?:\.(\d{1,9}))?")
# Fields of Karpenter's EC2NodeClass that the NodeClass of Auto Mode does not have.
_NOT_IN_AUTO_MODE = (
    "amiFamily",
    "amiSelectorTerms",
    "blockDeviceMappings",
    "instanceStorePolicy",
    "kubelet",
    "userData",
)
_NOT_IN_AUTO_MODE_STORAGE = ("snapshotID", "snapshotId", "volumeInitializationRate")


def _judge_containerd_keys(resource: Resource, _: Settings) -> Iterator[str]:
    node = node_definition(resource)
    dropped = _dropped_keys(node.settings) if node else []
    if node and dropped:
        yield (
            f"{node.user_data_field} sets containerd's {', '.join(dropped)} under the version 2 "
            "plugin io.containerd.grpc.v1.cri, beside version 3 plugins. One version 3 key makes "
            "the node's agent write a version 3 file, in which containerd ignores the old keys "
            "without an error. Write them under io.containerd.cri.v1.images or "
            "io.containerd.cri.v1.runtime."
        )


def _dropped_keys(settings: NodeSettings) -> list[str]:
    """Settings under the old plugin that no new plugin repeats; empty without new plugins."""
    if not settings.has_version_3_plugins:
        return []
    repeated = {path[-1] for tree in settings.version_3_plugins for path in _leaves(tree)}
    repeated |= {"sandbox_image"} if "sandbox" in repeated else set()
    return sorted(
        ".".join(path)
        for path in _leaves(settings.legacy_plugin)
        if path[-1] not in repeated and not _stays_in_old_plugin(path[0])
    )


def _stays_in_old_plugin(key: str) -> bool:
    """The streaming server's settings keep their place in version 3 of the file."""
    return key.startswith("stream_") or key in (
        "disable_tcp_service",
        "enable_tls_streaming",
        "x509_key_pair_streaming",
    )


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from ((key, *below) for below in _leaves(value))
        else:
            yield (key,)


def _judge_soci(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    node_pools = list(filter(is_node_pool, resources))

    def judge(node: NodeDefinition) -> Iterator[Finding]:
        soci = node.settings.soci_field
        if soci is None:
            return
        reason = _image_without_soci(node)
        if reason:
            yield Finding(node.resource, _ignored(soci, reason))
        elif not node.is_bottlerocket:
            yield from judge_each(node_pools, lambda pool: judge_pool(node, soci, pool))

    def judge_pool(node: NodeDefinition, soci: str, node_pool: Resource) -> Iterator[Finding]:
        name = at(node_pool.properties, "spec", "template", "spec", "nodeClassRef", "name")
        if name != node.resource.object_name:
            return
        small = _too_small(requirements_in(node_pool))
        if small:
            where = f"NodePool {node_pool.object_name} may buy {small} for these nodes"
            yield Finding(node.resource, _ignored(soci, f"{where}, with less than 4 vCPU"))

    yield from judge_each(filter(None, map(node_definition, resources)), judge)


def _ignored(soci: str, reason: str) -> str:
    return (
        f"{soci}, but {reason}. The setting is then ignored without an error, and images are "
        "pulled one layer after the other. Use Bottlerocket 1.44 or Amazon Linux 2023 v20250821 "
        "or newer, on instances of at least 4 vCPU and 7 GiB, or drop the setting."
    )


def _image_without_soci(node: NodeDefinition) -> str | None:
    family = text_at(node.resource.properties, "spec", "amiFamily")
    for term in list_at(node.resource.properties, "spec", "amiSelectorTerms"):
        alias = text_at(term, "alias")
        match = _ALIAS.match(alias)
        first = _FIRST_IMAGES.get(match[1]) if match else None
        if alias.startswith("al2@"):
            return f"spec.amiSelectorTerms alias {alias!r} is an image without nodeadm"
        if match and first and (int(match[2]), int(match[3] or 0)) < first:
            return f"spec.amiSelectorTerms alias {alias!r} is an image from before SOCI"
    return "spec.amiFamily=AL2 is an image without nodeadm" if family == "AL2" else None


def _too_small(requirements: Sequence[Requirement]) -> str:
    """Instance types, sizes or numbers of vCPU that are asked for by name and too small."""
    cpu = [item for item in requirements if item.key == CPU]
    if not all(any(item.allows(str(count)) for count in (1, 2)) for item in cpu):
        return ""
    named = [
        value
        for item in requirements
        if item.key in (TYPE, SIZE) and item.operator == "In"
        for value in item.values
        if value.rsplit(".", 1)[-1] in _SMALL_SIZES
    ]
    counts = [
        f"{value} vCPU"
        for item in cpu
        if item.operator == "In"
        for value in item.values
        if whole(value, _MINIMUM_VCPU) < _MINIMUM_VCPU
    ]
    bounds = [
        f"{CPU} {item.operator} {item.values[0]}"
        for item in cpu
        if item.operator in ("Lt", "Lte") and item.values
    ]
    return ", ".join(named or counts or bounds)


def _reads_auto_mode(resource_type: str) -> bool:
    return (
        resource_type.startswith("kubernetes:eks.amazonaws.com/")
        and resource_type.rsplit(":", 1)[-1].removesuffix("Patch") == "NodeClass"
    )


def _judge_auto_mode(resource: Resource, _: Settings) -> Iterator[str]:
    def judge(field: tuple[str, ...]) -> Iterator[str]:
        if at(resource.properties, "spec", *field) is not None:
            yield (
                f"spec.{'.'.join(field)} is set on a NodeClass of EKS Auto Mode, which has no such "
                "field: Auto Mode chooses the image, its settings and its disks by itself, takes "
                "no user data and no snapshot. Remove it, or run these nodes with your own "
                "Karpenter and an EC2NodeClass."
            )

    fields = [
        *((field,) for field in _NOT_IN_AUTO_MODE),
        *(("ephemeralStorage", field) for field in _NOT_IN_AUTO_MODE_STORAGE),
    ]
    yield from judge_each(fields, judge)


FORBID_MIXED_CONTAINERD_KEYS = ResourceRule(
    code="CS104",
    name="karpenter-nodeclass-forbid-mixed-containerd-keys",
    concern="nodes",
    title="containerd settings are all of one version",
    description="User data must not mix containerd plugins of configuration version 2 with those "
    "of version 3.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation="Move every setting below io.containerd.grpc.v1.cri to "
    "io.containerd.cri.v1.images or io.containerd.cri.v1.runtime.",
    reason="nodeadm migrates settings that are all of version 2; beside one key of version 3 it "
    "writes a version 3 file and the old keys do nothing.",
    links=(
        "https://github.com/awslabs/amazon-eks-ami/blob/main/nodeadm/internal/containerd/config.go",
        "https://github.com/adampetrovic/home-ops/pull/2035",
    ),
    reads=defines_nodes,
    judge=_judge_containerd_keys,
)

REQUIRE_SOCI_CAPABLE_NODES = StackRule(
    code="CS106",
    name="karpenter-nodeclass-require-soci-capable-nodes",
    concern="nodes",
    title="SOCI is asked of nodes that can do it",
    description="SOCI parallel pull needs a recent image, and on Amazon Linux 2023 instances with "
    "at least 4 vCPU and 7 GiB.",
    severity="medium",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation="Pin amiSelectorTerms to bottlerocket@1.44.0 or al2023@v20250821 or newer, and "
    "let the pool buy xlarge instances or larger.",
    reason="Older images do not know the setting and smaller instances switch it off; neither "
    "says so.",
    links=(
        "https://github.com/aws-samples/karpenter-blueprints/tree/main/blueprints/soci-snapshotter",
        "https://github.com/awslabs/amazon-eks-ami/blob/main/nodeadm/internal/containerd/config.go",
    ),
    judge=_judge_soci,
)

FORBID_AUTO_MODE_SETTINGS = ResourceRule(
    code="CS107",
    name="eks-nodeclass-forbid-auto-mode-image-settings",
    concern="nodes",
    title="Auto Mode is not told how to make its nodes",
    description="A NodeClass of EKS Auto Mode must not carry the image, disk or user data settings "
    "of an EC2NodeClass.",
    severity="high",
    tags=("aws", "eks", "cold-start", "image-delivery"),
    remediation="Remove the setting, or make the pool with self-managed Karpenter: an EC2NodeClass "
    "takes snapshots, SOCI, RAID0 and containerd settings.",
    reason="Auto Mode has no such fields, so the API refuses or drops them and the cold start "
    "stays as it was.",
    links=(
        "https://docs.aws.amazon.com/eks/latest/userguide/create-node-class.html",
        "https://github.com/aws/containers-roadmap/issues/2524",
    ),
    reads=_reads_auto_mode,
    judge=_judge_auto_mode,
)
