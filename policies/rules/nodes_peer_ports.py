"""Ports between nodes that peer mirrors need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.aws_network import SECURITY_GROUP, TAG, carries, ingress_rules
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

# Spegel's chart: service.registry.port and service.router.port.
_PORTS = {5000: "images", 5001: "the search for peers"}
_TERMS = ("spec", "securityGroupSelectorTerms")
_EVERY_PROTOCOL, _TCP = ("-1", "all"), ("tcp", "6")


def _judge_ports(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    groups = [item for item in resources if item.type == SECURITY_GROUP]
    # EKS's own group, which lets nodes reach each other, may carry a tag put on separately.
    if not groups or any(item.type == TAG for item in resources):
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
        own = [g for g in groups if tags and carries(mapping_at(g.properties, "tags"), tags)]
        if not own:
            return
        found += own
    yield from found


def _has_other_ports(spegel: Resource) -> bool:
    """Whether the chart's values name ports of their own, which rules then have to match."""
    service = at(spegel.properties, "values", "service")
    return any(at(service, part, "port") is not None for part in ("registry", "router"))


def _openings(resource: Resource) -> Iterator[range]:
    """Ports that a resource opens to anybody; whose security group it is, a preview cannot tell."""
    for _, rule in ingress_rules(resource):
        said = (text_at(rule, "ipProtocol") or text_at(rule, "protocol")).lower()
        if said in _EVERY_PROTOCOL:
            yield range(65536)
        elif said in _TCP:
            yield range(whole(at(rule, "fromPort"), 0), whole(at(rule, "toPort"), -1) + 1)


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
