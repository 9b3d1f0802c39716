"""The network: who is tagged, who gets out, and by which way."""

from __future__ import annotations

import pytest

from coldstart.spec.model import NatGateways
from tests.program.aws_runs import full, plain, provisioned
from tests.program.plans import stack_plan
from tests.program.recording import Recorded, Resource

DISCOVERY = "karpenter.sh/discovery"


def subnets(run: Recorded, audience: str) -> list[Resource]:
    return [s for s in run.of_type("aws:ec2/subnet:Subnet") if f"-{audience}-" in s.name]


def test_exactly_the_private_subnets_carry_the_discovery_tag() -> None:
    tagged = {
        resource.name for resource in plain().resources if DISCOVERY in (resource.at("tags") or {})
    }
    assert tagged == {f"network-private-{zone}" for zone in range(3)}
    assert all(s.at("tags")[DISCOVERY] == "eks-test" for s in subnets(plain(), "private"))


def test_the_cluster_security_group_and_no_other_group_is_discovered() -> None:
    run = plain()
    tag = run.one("aws:ec2/tag:Tag")
    cluster = run.one("aws:eks/cluster:Cluster")
    assert tag.at("key") == DISCOVERY
    assert tag.at("value") == "eks-test"
    assert tag.at("resourceId") == cluster.outputs["vpcConfig"]["clusterSecurityGroupId"]


def test_load_balancers_find_public_and_private_subnets_by_their_roles() -> None:
    for subnet in subnets(plain(), "public"):
        assert subnet.at("tags")["kubernetes.io/role/elb"] == "1"
        assert "kubernetes.io/role/internal-elb" not in subnet.at("tags")
    for subnet in subnets(plain(), "private"):
        assert subnet.at("tags")["kubernetes.io/role/internal-elb"] == "1"
        assert "kubernetes.io/role/elb" not in subnet.at("tags")


def test_no_subnet_gives_its_instances_public_addresses() -> None:
    found = plain().of_type("aws:ec2/subnet:Subnet")
    assert len(found) == 6
    assert all(subnet.at("mapPublicIpOnLaunch") is False for subnet in found)


def test_zones_of_the_contract_are_those_of_the_subnets() -> None:
    zones = [subnet.at("availabilityZone") for subnet in subnets(plain(), "private")]
    assert len(set(zones)) == 3
    assert plain().outputs["contract"]["zones"] == zones


def test_a_zone_out_of_service_moves_no_subnet() -> None:
    for subnet in plain().of_type("aws:ec2/subnet:Subnet"):
        assert subnet.options.ignore_changes == ("availabilityZone",)


def test_zones_that_cannot_hold_a_control_plane_are_never_chosen() -> None:
    call = next(i for i in plain().invokes if i.token.endswith(":getAvailabilityZones"))
    assert "use1-az3" in call.arguments["excludeZoneIds"]
    assert call.arguments["filters"] == [
        {"name": "opt-in-status", "values": ["opt-in-not-required"]}
    ]


def test_more_zones_than_the_region_has_is_said_with_what_it_has() -> None:
    with pytest.raises(ValueError, match=r"network\.zones: 9 zones are wanted.*us-west-2"):
        provisioned(stack_plan(zones=9))


@pytest.mark.parametrize(("choice", "count"), [(NatGateways.PER_ZONE, 3), (NatGateways.ONE, 1)])
def test_there_are_as_many_nat_gateways_as_decided(choice: NatGateways, count: int) -> None:
    run = provisioned(stack_plan(nat_gateways=choice))
    assert len(run.of_type("aws:ec2/natGateway:NatGateway")) == count
    assert len({route.at("natGatewayId") for route in private_defaults(run)}) == count


def private_defaults(run: Recorded) -> list[Resource]:
    return [r for r in run.of_type("aws:ec2/route:Route") if "-private-" in r.name]


def test_private_subnets_reach_out_through_nat_and_public_ones_directly() -> None:
    run = plain()
    assert len(private_defaults(run)) == 3
    assert all(r.at("natGatewayId") and not r.at("gatewayId") for r in private_defaults(run))
    public = run.one("aws:ec2/route:Route", "network-public-default")
    assert public.at("gatewayId")


def test_the_bucket_is_reached_without_nat() -> None:
    endpoint = plain().one("aws:ec2/vpcEndpoint:VpcEndpoint", "network-s3")
    assert endpoint.at("vpcEndpointType") == "Gateway"
    assert endpoint.at("serviceName") == "com.amazonaws.us-west-2.s3"
    assert len(endpoint.at("routeTableIds")) == 3


def test_services_of_a_node_start_have_private_endpoints_in_every_zone() -> None:
    found = {
        e.at("serviceName").removeprefix("com.amazonaws.us-west-2."): e
        for e in plain().of_type("aws:ec2/vpcEndpoint:VpcEndpoint")
        if e.at("vpcEndpointType") == "Interface"
    }
    assert set(found) == {"ecr.api", "ecr.dkr", "sts", "ec2", "eks-auth"}
    for endpoint in found.values():
        assert endpoint.at("privateDnsEnabled") is True
        assert len(endpoint.at("subnetIds")) == 3


def test_no_security_group_rule_admits_the_world() -> None:
    rules = full().of_type("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert rules
    for rule in rules:
        assert rule.at("cidrIpv4") in (None, "10.40.0.0/16"), rule.name
    https = full().one(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "network-endpoints-https"
    )
    assert (https.at("fromPort"), https.at("toPort")) == (443, 443)


def test_the_default_security_group_admits_nothing() -> None:
    group = plain().one("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
    assert group.at("ingress") == []
    assert group.at("egress") == []


def test_every_resource_lies_in_a_component_and_uses_the_explicit_provider() -> None:
    run = full()
    assert run.one("pulumi:providers:aws").at("defaultTags") is not None
    for resource in run.resources:
        if resource.type.startswith("aws:"):
            assert run.parents(resource), resource.urn
            assert resource.provider.endswith("pulumi:providers:aws::aws"), resource.urn
        elif resource.type.startswith("kubernetes:"):
            assert run.parents(resource), resource.urn
            assert resource.provider.endswith("::cluster"), resource.urn


def test_tags_and_identity_of_the_stack_file_reach_the_explicit_provider() -> None:
    run = provisioned(
        stack_plan(),
        settings={
            "aws:profile": "platform",
            "aws:allowedAccountIds": ["123456789012"],
            "aws:defaultTags": {"tags": {"cost-center": "ml"}},
        },
    )
    provider = run.one("pulumi:providers:aws")
    assert provider.at("profile") == "platform"
    assert "123456789012" in provider.at("allowedAccountIds")
    tags = provider.at("defaultTags")
    for text in ("cost-center", "coldstart.dev/stack", "eks-test"):
        assert text in str(tags)
