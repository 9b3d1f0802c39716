"""Subnets, NAT gateways and private endpoints of a VPC, as far as a stack shows them."""

from __future__ import annotations

from collections.abc import Sequence

from policies.reading.values import Resource, mapping_at, text_at

SUBNET = "aws:ec2/subnet:Subnet"
VPC = "aws:ec2/vpc:Vpc"
NAT_GATEWAY = "aws:ec2/natGateway:NatGateway"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
CLUSTER = "aws:eks/cluster:Cluster"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
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
