"""Whether the loss of one zone leaves something running."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.aws_network import (
    NAT_GATEWAY,
    NODE_GROUP,
    SUBNET,
    is_node_subnet,
    is_private_nat,
    is_regional,
    of_type,
    serves_a_cluster,
    zone_of,
)
from policies.reading.cloud_pools import gpu_pools_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    gather,
    judge_each,
    list_at,
    text_at,
)
from policies.rule import Finding, Settings, StackRule


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    if not serves_a_cluster(resources):
        return
    subnets = of_type(resources, SUBNET)
    standing, unknown_roles = gather(
        subnets, lambda subnet: [subnet] if is_node_subnet(subnet) else []
    )
    zones, unknown_zones = gather(standing, lambda subnet: [zone_of(subnet)])
    gateways, unknown_gateways = gather(of_type(resources, NAT_GATEWAY), _zonal_gateways)
    undecided = [*unknown_roles, *unknown_zones, *unknown_gateways]
    # Where AWS chooses the zone of a subnet nobody can tell.
    if standing and not undecided and "" not in zones and len(set(zones)) == 1:
        yield Finding(
            standing[0],
            f"Every subnet for nodes of this stack lies in zone {zones[0]} "
            f"(availabilityZone of {', '.join(item.name for item in standing)}). When the zone "
            "fails, no replica is left and none can start, and a GPU that is sold out there is "
            "sold out for the whole cluster. Put private subnets in two zones or more.",
        )
    spread = len(set(zones) - {""})
    if len(gateways) == 1 and spread > 1 and not unknown_gateways:
        yield Finding(gateways[0], _one_way_out(gateways[0], spread))
    yield from judge_each(of_type(resources, NODE_GROUP), _judge_group)
    if undecided:
        raise NotYetKnown(*undecided)


def _one_way_out(gateway: Resource, zones: int) -> str:
    return (
        f"NAT gateway {gateway.name} is the only way out for nodes in {zones} zones. When its zone "
        "fails, nodes of the others reach neither registries nor services without a private "
        "endpoint, so nothing new starts. Add one NAT gateway per zone, or set "
        "availabilityMode: regional."
    )


def _zonal_gateways(gateway: Resource) -> Iterator[Resource]:
    if not is_private_nat(gateway):
        # A regional one spans the zones: two entries say that it is not alone.
        yield from [gateway] * (2 if is_regional(gateway) else 1)


def _judge_group(group: Resource) -> Iterator[Finding]:
    # GPU capacity is often found, or reserved, in one zone only.
    if list(gpu_pools_of(group)) or text_at(group.properties, "capacityType") == "CAPACITY_BLOCK":
        return
    if len(list_at(group.properties, "subnetIds")) != 1:
        return
    yield Finding(
        group,
        f"EKS node group {text_at(group.properties, 'nodeGroupName', default=group.name)} stands "
        "in one subnet (subnetIds), so in one zone. When it fails, DNS, Karpenter and whatever "
        "else runs there go, and no model can start anywhere. Give it the private subnets of two "
        "zones or more.",
    )


REQUIRE_ZONES = StackRule(
    code="CS903",
    name="aws-network-require-zones",
    concern="reliability",
    title="A cluster's network spans zones",
    description="The subnets for nodes, the way out of them and the node groups without GPUs must "
    "span at least two zones.",
    severity="high",
    tags=("aws", "reliability"),
    remediation="Create private subnets and a NAT gateway in at least two zones, and give node "
    "groups all of the private subnets.",
    reason="A zone is the largest part of a region that fails as one, and GPUs sell out by zone.",
    links=(
        "https://docs.aws.amazon.com/eks/latest/best-practices/subnets.html",
        "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html",
    ),
    level="advisory",
    development="disabled",
    judge=_judge,
)
