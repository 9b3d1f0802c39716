"""Ports between nodes that peer mirrors need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.peer_mirrors import is_spegel
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    whole,
)
from policies.rule import Finding, Settings, StackRule

_GROUP = "aws:ec2/securityGroup:SecurityGroup"
_TAG = "aws:ec2/tag:Tag"
_INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
# Spegel's chart: service.registry.port and service.router.port.
_PORTS = {5000: "images", 5001: "the search for peers"}
_TERMS = ("spec", "securityGroupSelectorTerms")
_EVERY_PROTOCOL = ("-1", "all")


def _judge_ports(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    groups = [item for item in resources if item.type == _GROUP]
    # EKS's own group, which lets nodes reach each other, may carry a tag put on separately.
    if not groups or any(item.type == _TAG for item in resources):
        return
    classes = [item for item in resources if item.kind == "EC2NodeClass"]
    opened, undecided = gather(resources, _openings)

    def judge(spegel: Resource) -> Iterator[Finding]:
        if not is_spegel(spegel) or _has_other_ports(spegel):
            return
        found = {group.name for each in classes for group in _selected_by(each, groups)}
        shut = {port: use for port, use in _PORTS.items() if not any(port in o for o in opened)}
        if not found or not shut:
            return
        if undecided:
            raise NotYetKnown(*undecided)
        ports = " and ".join(f"{port} ({use})" for port, use in shut.items())
        yield Finding(
            spegel,
            f"Spegel asks other nodes for images, and no rule of this stack lets TCP {ports} into "
            f"the nodes' security group {', '.join(sorted(found))}. Every pull waits for a peer "
            "that cannot answer, then goes to the registry. Add an ingress rule from the group to "
            "itself.",
        )

    yield from judge_each(resources, judge)


def _selected_by(node_class: Resource, groups: Sequence[Resource]) -> Iterator[Resource]:
    """The stack's groups that a node class gives its nodes by tags, when it gives no others."""
    terms = [known(term) for term in list_at(node_class.properties, *_TERMS)]
    found = []
    for term in terms:
        tags = mapping_at(term, "tags")
        own = [group for group in groups if tags and _carries(group, tags)]
        if not own:
            return
        found += own
    yield from found


def _carries(group: Resource, wanted: Mapping[str, Any]) -> bool:
    tags = mapping_at(group.properties, "tags")
    return all(
        key in tags and str(known(value)) in ("*", "", str(known(tags[key])))
        for key, value in wanted.items()
    )


def _has_other_ports(spegel: Resource) -> bool:
    """Whether the chart's values name ports of their own, which rules then have to match."""
    service = at(spegel.properties, "values", "service")
    return any(at(service, part, "port") is not None for part in ("registry", "router"))


def _openings(resource: Resource) -> Iterator[range]:
    """Ports that a resource opens to anybody; whose security group it is, a preview cannot tell."""
    if resource.type == _GROUP:
        for entry in list_at(resource.properties, "ingress"):
            yield _ports(known(entry), "protocol")
    elif resource.type == _INGRESS_RULE:
        yield _ports(resource.properties, "ipProtocol")
    elif resource.type == _RULE and text_at(resource.properties, "type") == "ingress":
        yield _ports(resource.properties, "protocol")


def _ports(rule: Any, protocol: str) -> range:
    said = text_at(rule, protocol).lower()
    if said in _EVERY_PROTOCOL:
        return range(65536)
    if said not in ("tcp", "6"):
        return range(0)
    return range(whole(at(rule, "fromPort"), 0), whole(at(rule, "toPort"), -1) + 1)


REQUIRE_PEER_PORTS = StackRule(
    code="CS123",
    name="aws-securitygroup-require-peer-mirror-ports",
    concern="nodes",
    title="Nodes may ask each other for images",
    description="Where Spegel runs, the nodes' own security group must let TCP 5000 and 5001 in.",
    severity="high",
    tags=("karpenter", "cold-start", "image-delivery"),
    remediation="Add ingress rules for TCP 5000 and 5001 from the nodes' security group to itself, "
    "or let nodes use the cluster's security group, which allows it.",
    reason="Spegel's registry and its peers' router listen on the nodes. A security group made "
    "for nodes lets nothing in by itself; Spegel then finds no peer and says nothing.",
    links=(
        "https://github.com/spegel-org/spegel/blob/main/charts/spegel/values.yaml",
        "https://docs.aws.amazon.com/eks/latest/userguide/sec-group-reqs.html",
    ),
    judge=_judge_ports,
)
