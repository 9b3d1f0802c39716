"""Subnets, NAT gateways and private endpoints of a VPC, as far as a stack shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.values import Resource, known, list_at, mapping_at, text_at

SUBNET = "aws:ec2/subnet:Subnet"
VPC = "aws:ec2/vpc:Vpc"
NAT_GATEWAY = "aws:ec2/natGateway:NatGateway"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
CLUSTER = "aws:eks/cluster:Cluster"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
SECURITY_GROUP = "aws:ec2/securityGroup:SecurityGroup"
TAG = "aws:ec2/tag:Tag"
_INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_SECURITY_GROUP_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
_ANY_VALUE = ("*", "")
_PUBLIC_TAG = "kubernetes.io/role/elb"
_NODE_TAGS = ("karpenter.sh/discovery", "kubernetes.io/role/internal-elb")


def of_type(resources: Sequence[Resource], token: str) -> list[Resource]:
    """The resources of one type token."""
    return [resource for resource in resources if resource.type == token]


def is_node_subnet(subnet: Resource) -> bool:
    """Whether nodes or private load balancers are meant to stand in a subnet, by its tags."""
    tags = mapping_at(subnet.properties, "tags")
    return any(tag in tags for tag in _NODE_TAGS) and _PUBLIC_TAG not in tags


def zone_of(subnet: Resource) -> str:
    """Zone of a subnet, empty where AWS chooses it. Raises NotYetKnown for one not known yet."""
    zone = text_at(subnet.properties, "availabilityZone")
    return zone or text_at(subnet.properties, "availabilityZoneId")


def is_regional(nat_gateway: Resource) -> bool:
    """Whether a NAT gateway spans the zones by itself."""
    return text_at(nat_gateway.properties, "availabilityMode").lower() == "regional"


def is_private_nat(nat_gateway: Resource) -> bool:
    """Whether a NAT gateway leads to other networks only, not to the internet."""
    return text_at(nat_gateway.properties, "connectivityType").lower() == "private"


def serves_a_cluster(resources: Sequence[Resource]) -> bool:
    """Whether a stack holds an EKS cluster, so that its network is a cluster's."""
    return any(resource.type == CLUSTER for resource in resources)


def ingress_rules(resource: Resource) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a resource lets into a security group: the prefix of its fields, and each rule."""
    properties = resource.properties
    if resource.type == _INGRESS_RULE:
        yield "", properties
    elif resource.type == _SECURITY_GROUP_RULE:
        if text_at(properties, "type") == "ingress":
            yield "", properties
    elif resource.type == SECURITY_GROUP:
        for index, rule in enumerate(map(known, list_at(properties, "ingress"))):
            if isinstance(rule, Mapping):
                yield f"ingress[{index}].", rule


def is_value(wanted: Any, value: str) -> bool:
    """Whether a selector's value of a tag, which `*` leaves open, takes this one."""
    return str(known(wanted)) in (*_ANY_VALUE, value)


def carries(tags: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether something with these tags is selected by the wanted ones."""
    return all(
        key in tags and is_value(value, str(known(tags[key]))) for key, value in wanted.items()
    )
