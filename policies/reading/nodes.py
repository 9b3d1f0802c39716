"""Definitions of nodes: EC2NodeClasses of Karpenter and EC2 launch templates, read alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from policies.reading.user_data import NodeSettings, node_settings
from policies.reading.values import Resource, at, known, list_at, mapping_at

_LAUNCH_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"


@dataclass(frozen=True)
class BlockDevice:
    """One volume a node is given, with the path of its field for messages."""

    field: str
    device: str
    spec: Mapping[str, Any]

    @property
    def snapshot(self) -> str:
        """Snapshot identifier; Karpenter and EC2 spell the field differently."""
        return str(at(self.spec, "snapshotID", default=at(self.spec, "snapshotId", default="")))


@dataclass(frozen=True)
class NodeDefinition:
    """How nodes are made, whichever resource says it."""

    resource: Resource

    @property
    def _is_template(self) -> bool:
        return self.resource.type == _LAUNCH_TEMPLATE

    @property
    def user_data_field(self) -> str:
        return "userData" if self._is_template else "spec.userData"

    @cached_property
    def settings(self) -> NodeSettings:
        """What the user data sets. Raises NotYetKnown when the text is not known yet."""
        text = at(self.resource.properties, *self.user_data_field.split("."), default="")
        return node_settings(str(text), encoded=self._is_template)

    @property
    def instance_store_policy(self) -> str:
        if self._is_template:
            return ""
        return str(at(self.resource.properties, "spec", "instanceStorePolicy", default=""))

    @property
    def is_bottlerocket(self) -> bool:
        """From the family or alias; from the user data where neither is stated."""
        family = at(self.resource.properties, "spec", "amiFamily")
        if isinstance(family, str) and family != "Custom":
            return family == "Bottlerocket"
        for term in list_at(self.resource.properties, "spec", "amiSelectorTerms"):
            alias = at(term, "alias")
            if isinstance(alias, str):
                return alias.startswith("bottlerocket@")
        return self.settings.is_bottlerocket

    def block_devices(self) -> Iterator[BlockDevice]:
        """Volumes on EBS. Raises NotYetKnown when the list is not known yet."""
        base = () if self._is_template else ("spec",)
        for index, item in enumerate(
            list_at(self.resource.properties, *base, "blockDeviceMappings")
        ):
            if not isinstance(known(item), Mapping) or at(item, "ebs") is None:
                continue
            field = ".".join((*base, f"blockDeviceMappings[{index}]", "ebs"))
            yield BlockDevice(
                field, str(at(item, "deviceName", default="")), mapping_at(item, "ebs")
            )


def defines_nodes(resource_type: str) -> bool:
    """Whether a type token is a node definition."""
    return resource_type == _LAUNCH_TEMPLATE or (
        resource_type.startswith("kubernetes:karpenter.k8s.aws/")
        and resource_type.rsplit(":", 1)[-1].removesuffix("Patch") == "EC2NodeClass"
    )


def node_definition(resource: Resource) -> NodeDefinition | None:
    """The node definition a resource is, or None."""
    return NodeDefinition(resource) if defines_nodes(resource.type) else None
