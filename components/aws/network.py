"""The VPC: subnets over zones, one way out, private ways to the services a node's start needs."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, InvokeOptions, Output, ResourceOptions

from coldstart.planning import NetworkPlan, SubnetPlan
from coldstart.spec.model import NatGateways
from components.aws.account import Account

DISCOVERY_TAG = "karpenter.sh/discovery"

ZONES_WITHOUT_EKS = ("use1-az3", "usw1-az2", "cac1-az3")
"""Zone ids where EKS places no control plane (EKS user guide, VPC and subnet requirements)."""

INTERFACE_SERVICES = ("ecr.api", "ecr.dkr", "sts", "ec2", "eks-auth")
"""Services on the way from boot to the first token. Karpenter's queue, SSM and pricing calls lie
beside that way and take the NAT gateway, so an endpoint per zone for each would only cost."""


@dataclass(frozen=True)
class NetworkArgs:
    """What the network is made of.

    `cluster_name` goes into the discovery tag; `plan` holds the blocks and the NAT decision.
    """

    cluster_name: str
    plan: NetworkPlan
    account: Account


class Network(ComponentResource):
    """A VPC whose private subnets, and nothing else in it, carry Karpenter's discovery tag."""

    def __init__(self, name: str, args: NetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:aws:Network", name, opts=opts)
        self._name, self._args = name, args
        self._child = ResourceOptions(parent=self)
        self._zones = self._zone_names()
        self.vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.plan.cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": args.cluster_name},
            opts=self._child,
        )
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=self.vpc.id, ingress=[], egress=[], opts=self._child
        )
        public = {s.zone_index: self._subnet(s) for s in args.plan.subnets if s.public}
        private = {s.zone_index: self._subnet(s) for s in args.plan.subnets if not s.public}
        tables = self._routes(public, private)
        self._endpoints(private, tables)
        self.private_subnet_ids = [subnet.id for subnet in private.values()]
        self.zones = [subnet.availability_zone for subnet in private.values()]
        self.register_outputs(
            {
                "vpcId": self.vpc.id,
                "privateSubnetIds": self.private_subnet_ids,
                "zones": self.zones,
            }
        )

    def _zone_names(self) -> list[str]:
        found = aws.get_availability_zones(
            state="available",
            exclude_zone_ids=list(ZONES_WITHOUT_EKS),
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
            opts=InvokeOptions(parent=self),
        )
        names = sorted(found.names)
        needed = 1 + max(subnet.zone_index for subnet in self._args.plan.subnets)
        if len(names) < needed:
            raise ValueError(
                f"network.zones: {needed} zones are wanted, {self._args.account.region} offers "
                f"this account {len(names)} ({', '.join(names)}); use at most that many"
            )
        return names

    def _subnet(self, plan: SubnetPlan) -> aws.ec2.Subnet:
        audience = "public" if plan.public else "private"
        cluster = self._args.cluster_name
        tags = (
            {"kubernetes.io/role/elb": "1"}
            if plan.public
            else {"kubernetes.io/role/internal-elb": "1", DISCOVERY_TAG: cluster}
        )
        return aws.ec2.Subnet(
            f"{self._name}-{audience}-{plan.zone_index}",
            vpc_id=self.vpc.id,
            cidr_block=plan.cidr,
            availability_zone=self._zones[plan.zone_index],
            map_public_ip_on_launch=False,
            tags={"Name": f"{cluster}-{audience}-{plan.zone_index}", **tags},
            # A zone that is out of service for a day leaves the list of available ones and shifts
            # its indices; a subnet must not move because of that.
            opts=ResourceOptions.merge(
                self._child, ResourceOptions(ignore_changes=["availability_zone"])
            ),
        )

    def _routes(
        self, public: dict[int, aws.ec2.Subnet], private: dict[int, aws.ec2.Subnet]
    ) -> list[aws.ec2.RouteTable]:
        gateway = aws.ec2.InternetGateway(
            f"{self._name}-internet", vpc_id=self.vpc.id, opts=self._child
        )
        out = self._table("public")
        route = self._default_route("public", out, gateway_id=gateway.id)
        for index, subnet in public.items():
            self._associate(f"public-{index}", out, subnet)
        one = self._args.plan.nat_gateways.value is NatGateways.ONE
        nats = {
            index: self._nat(index, subnet, route)
            for index, subnet in sorted(public.items())[: 1 if one else None]
        }
        tables: list[aws.ec2.RouteTable] = []
        for index, subnet in private.items():
            table = self._table(f"private-{index}")
            nat = nats.get(index) or nats[min(nats)]
            self._default_route(f"private-{index}", table, nat_gateway_id=nat.id)
            self._associate(f"private-{index}", table, subnet)
            tables.append(table)
        return tables

    def _nat(
        self, index: int, subnet: aws.ec2.Subnet, way_out: aws.ec2.Route
    ) -> aws.ec2.NatGateway:
        address = aws.ec2.Eip(f"{self._name}-nat-{index}", domain="vpc", opts=self._child)
        return aws.ec2.NatGateway(
            f"{self._name}-nat-{index}",
            allocation_id=address.id,
            subnet_id=subnet.id,
            tags={"Name": f"{self._args.cluster_name}-{index}"},
            opts=ResourceOptions.merge(self._child, ResourceOptions(depends_on=[way_out])),
        )

    def _table(self, suffix: str) -> aws.ec2.RouteTable:
        return aws.ec2.RouteTable(
            f"{self._name}-{suffix}",
            vpc_id=self.vpc.id,
            tags={"Name": f"{self._args.cluster_name}-{suffix}"},
            opts=self._child,
        )

    def _default_route(
        self,
        suffix: str,
        table: aws.ec2.RouteTable,
        *,
        gateway_id: Output[str] | None = None,
        nat_gateway_id: Output[str] | None = None,
    ) -> aws.ec2.Route:
        return aws.ec2.Route(
            f"{self._name}-{suffix}-default",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway_id,
            nat_gateway_id=nat_gateway_id,
            opts=self._child,
        )

    def _associate(self, suffix: str, table: aws.ec2.RouteTable, subnet: aws.ec2.Subnet) -> None:
        aws.ec2.RouteTableAssociation(
            f"{self._name}-{suffix}",
            route_table_id=table.id,
            subnet_id=subnet.id,
            opts=self._child,
        )

    def _endpoints(
        self, private: dict[int, aws.ec2.Subnet], tables: list[aws.ec2.RouteTable]
    ) -> None:
        prefix = f"{self._args.account.service_prefix}.{self._args.account.region}"
        aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=self.vpc.id,
            service_name=f"{prefix}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            opts=self._child,
        )
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            description="Private endpoints of AWS services",
            vpc_id=self.vpc.id,
            opts=self._child,
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-endpoints-https",
            security_group_id=group.id,
            description="HTTPS from the VPC",
            cidr_ipv4=self._args.plan.cidr,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=self._child,
        )
        for service in INTERFACE_SERVICES:
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service.replace('.', '-')}",
                vpc_id=self.vpc.id,
                service_name=f"{prefix}.{service}",
                vpc_endpoint_type="Interface",
                subnet_ids=[subnet.id for subnet in private.values()],
                security_group_ids=[group.id],
                private_dns_enabled=True,
                opts=self._child,
            )
