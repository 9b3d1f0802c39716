"""What EC2 gives back for networks and launch templates; see `offline.shape` for the form."""

from __future__ import annotations

from collections.abc import Mapping

from offline.shape import Shape

_EC2 = "arn:{partition}:ec2:{region}:{account}:"

NETWORK_SHAPES: Mapping[str, Shape] = {
    "aws:ec2/vpc:Vpc": Shape(
        id="vpc-{hex:17}",
        outputs={
            "arn": _EC2 + "vpc/{id}",
            "ownerId": "{account}",
            "mainRouteTableId": "rtb-{hex:17}",
            "defaultRouteTableId": "rtb-{hex:17}",
            "defaultSecurityGroupId": "sg-{hex:17}",
            "defaultNetworkAclId": "acl-{hex:17}",
            "dhcpOptionsId": "dopt-{hex:17}",
        },
        replaces=("cidrBlock", "ipv4IpamPoolId"),
    ),
    "aws:ec2/subnet:Subnet": Shape(
        id="subnet-{hex:17}",
        outputs={"arn": _EC2 + "subnet/{id}", "ownerId": "{account}"},
        identity="{vpcId}/{cidrBlock}",
        replaces=("vpcId", "cidrBlock", "availabilityZone", "availabilityZoneId"),
    ),
    "aws:ec2/internetGateway:InternetGateway": Shape(
        id="igw-{hex:17}",
        outputs={"arn": _EC2 + "internet-gateway/{id}", "ownerId": "{account}"},
    ),
    "aws:ec2/eip:Eip": Shape(
        id="eipalloc-{hex:17}",
        outputs={
            "arn": _EC2 + "elastic-ip/{id}",
            "allocationId": "{id}",
            "publicIp": "198.51.100.{octet}",
            "publicDns": "ec2-198-51-100-{octet}.{region}.compute.amazonaws.com",
        },
        replaces=("domain", "publicIpv4Pool"),
    ),
    "aws:ec2/natGateway:NatGateway": Shape(
        id="nat-{hex:17}",
        outputs={
            "associationId": "eipassoc-{hex:17}",
            "networkInterfaceId": "eni-{hex:17}",
            "publicIp": "198.51.100.{octet}",
        },
        replaces=("subnetId", "connectivityType", "allocationId", "privateIp"),
    ),
    "aws:ec2/routeTable:RouteTable": Shape(
        id="rtb-{hex:17}",
        outputs={"arn": _EC2 + "route-table/{id}", "ownerId": "{account}"},
        replaces=("vpcId",),
    ),
    "aws:ec2/route:Route": Shape(
        id="r-{routeTableId}{digits:10}",
        outputs={"origin": "CreateRoute", "state": "active"},
        identity="{routeTableId}/{destinationCidrBlock}{destinationIpv6CidrBlock}"
        "{destinationPrefixListId}",
        replaces=(
            "routeTableId",
            "destinationCidrBlock",
            "destinationIpv6CidrBlock",
            "destinationPrefixListId",
        ),
    ),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": Shape(
        id="rtbassoc-{hex:17}",
        identity="{subnetId}{gatewayId}",
        replaces=("subnetId", "gatewayId"),
    ),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Shape(
        id="vpce-{hex:17}",
        outputs={
            "arn": _EC2 + "vpc-endpoint/{id}",
            "ownerId": "{account}",
            "prefixListId": "pl-{hex:8}",
            "state": "available",
        },
        replaces=("vpcId", "serviceName", "vpcEndpointType"),
    ),
    "aws:ec2/securityGroup:SecurityGroup": Shape(
        id="sg-{hex:17}",
        outputs={"arn": _EC2 + "security-group/{id}", "ownerId": "{account}"},
        identity="{vpcId}/{name}",
        replaces=("name", "namePrefix", "description", "vpcId"),
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": Shape(
        id="sg-{hex:17}", outputs={"ownerId": "{account}"}, replaces=("vpcId",)
    ),
    "aws:ec2/securityGroupRule:SecurityGroupRule": Shape(
        id="sgrule-{digits:10}",
        outputs={"securityGroupRuleId": "sgr-{hex:17}"},
        identity="{securityGroupId}/{type}/{protocol}/{fromPort}-{toPort}/{cidrBlocks}"
        "{sourceSecurityGroupId}{self}{prefixListIds}{ipv6CidrBlocks}",
        replaces=(
            "securityGroupId",
            "type",
            "protocol",
            "fromPort",
            "toPort",
            "cidrBlocks",
            "ipv6CidrBlocks",
            "sourceSecurityGroupId",
            "self",
            "prefixListIds",
        ),
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": Shape(
        id="sgr-{hex:17}",
        outputs={
            "arn": _EC2 + "security-group-rule/{id}",
            "securityGroupRuleId": "{id}",
        },
        identity="{securityGroupId}/{ipProtocol}/{fromPort}-{toPort}/{cidrIpv4}{cidrIpv6}"
        "{referencedSecurityGroupId}{prefixListId}",
        replaces=("securityGroupId",),
    ),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": Shape(
        id="sgr-{hex:17}",
        outputs={
            "arn": _EC2 + "security-group-rule/{id}",
            "securityGroupRuleId": "{id}",
        },
        identity="{securityGroupId}/{ipProtocol}/{fromPort}-{toPort}/{cidrIpv4}{cidrIpv6}"
        "{referencedSecurityGroupId}{prefixListId}",
        replaces=("securityGroupId",),
    ),
    "aws:ec2/tag:Tag": Shape(
        id="{resourceId},{key}", identity="{resourceId}/{key}", replaces=("resourceId", "key")
    ),
    "aws:ec2/flowLog:FlowLog": Shape(
        id="fl-{hex:17}",
        outputs={"arn": _EC2 + "vpc-flow-log/{id}"},
        replaces=(
            "vpcId",
            "subnetId",
            "trafficType",
            "logDestination",
            "logDestinationType",
            "iamRoleArn",
            "maxAggregationInterval",
        ),
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": Shape(
        id="lt-{hex:17}",
        outputs={
            "arn": _EC2 + "launch-template/{id}",
            "latestVersion": 1,
            "defaultVersion": 1,
        },
        identity="{name}",
        replaces=("name", "namePrefix"),
        counts_updates=("latestVersion",),
    ),
}
