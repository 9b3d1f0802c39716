"""What the network of a development stack costs while nobody uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.aws_network import (
    ENDPOINT,
    NAT_GATEWAY,
    VPC,
    is_private_nat,
    is_regional,
    of_type,
    serves_a_cluster,
)
from policies.reading.values import NotYetKnown, Resource, gather, judge_each, list_at, text_at
from policies.rule import Finding, Option, Settings, StackRule

# List prices of us-east-1, https://aws.amazon.com/vpc/pricing/ and .../privatelink/pricing/.
_NAT_GATEWAY_USD_PER_HOUR = 0.045
_ENDPOINT_USD_PER_ZONE_HOUR = 0.01
_HOURS_PER_MONTH = 730
_MAXIMUM_NAT_GATEWAYS = 1
# EKS itself wants subnets in two zones.
_MAXIMUM_ENDPOINT_ZONES = 2


def _judge(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    if not serves_a_cluster(resources):
        return
    endpoints = of_type(resources, ENDPOINT)
    most_zones = int(settings["maximumEndpointZones"])

    def judge_endpoint(endpoint: Resource) -> Iterator[Finding]:
        if text_at(endpoint.properties, "vpcEndpointType", default="Gateway") != "Interface":
            return
        zones = len(list_at(endpoint.properties, "subnetIds"))
        if zones > most_zones:
            usd = (zones - most_zones) * _ENDPOINT_USD_PER_ZONE_HOUR * _HOURS_PER_MONTH
            yield Finding(
                endpoint,
                f"Interface endpoint {endpoint.name} stands in {zones} zones (subnetIds), more "
                f"than the {most_zones} a development stack needs: about {usd:.0f} USD per month "
                "for nothing, for this endpoint alone. Give it subnets in fewer zones.",
            )

    yield from _judge_gateways(resources, int(settings["maximumNatGateways"]))
    yield from judge_each(endpoints, judge_endpoint)


def _judge_gateways(resources: Sequence[Resource], most: int) -> Iterator[Finding]:
    gateways, undecided = gather(of_type(resources, NAT_GATEWAY), _public_gateways)
    allowed = most * max(1, len(of_type(resources, VPC)))
    if len(gateways) > allowed:
        usd = (len(gateways) - allowed) * _NAT_GATEWAY_USD_PER_HOUR * _HOURS_PER_MONTH
        yield Finding(
            gateways[-1],
            f"This development stack holds {len(gateways)} NAT gateway"
            f"{'s' if len(gateways) > 1 else ''} ({', '.join(item.name for item in gateways)}) and "
            f"needs {allowed}: the rest costs about {usd:.0f} USD per month whether a model runs "
            "or not. Route all private subnets through one of them.",
        )
    elif undecided:
        raise NotYetKnown(*undecided)


def _public_gateways(gateway: Resource) -> Iterator[Resource]:
    # A regional gateway follows the nodes and costs per zone in use.
    if not is_private_nat(gateway) and not is_regional(gateway):
        yield gateway


LIMIT_DEVELOPMENT_ZONES = StackRule(
    code="CS806",
    name="aws-network-limit-development-zones",
    concern="cost",
    title="A development network is not paid for per zone",
    description="A development stack must not hold a NAT gateway or an interface endpoint in "
    "every zone.",
    severity="low",
    tags=("aws", "cost", "development"),
    remediation="Keep one NAT gateway, and give interface endpoints subnets in one or two zones; "
    "production keeps one per zone.",
    reason="NAT gateways and interface endpoints cost by the hour and zone, also where no model "
    "runs for days.",
    links=(
        "https://aws.amazon.com/vpc/pricing/",
        "https://aws.amazon.com/privatelink/pricing/",
    ),
    level="disabled",
    production="disabled",
    development="advisory",
    options=(
        Option(
            "maximumNatGateways",
            {"type": "integer", "minimum": 0, "default": _MAXIMUM_NAT_GATEWAYS},
            _MAXIMUM_NAT_GATEWAYS,
            "NAT gateways a development stack may hold per VPC.",
        ),
        Option(
            "maximumEndpointZones",
            {"type": "integer", "minimum": 1, "default": _MAXIMUM_ENDPOINT_ZONES},
            _MAXIMUM_ENDPOINT_ZONES,
            "Zones an interface endpoint of a development stack may stand in.",
        ),
    ),
    judge=_judge,
)
