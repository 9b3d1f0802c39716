"""Ways of image layers from the registry to nodes in a VPC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.values import (
    NotYetKnown,
    Resource,
    gather,
    judge_each,
    text_at,
)
from policies.rule import Finding, Option, Settings, StackRule

_VPC = "aws:ec2/vpc:Vpc"
_CLUSTER = "aws:eks/cluster:Cluster"
_SUBNET = "aws:ec2/subnet:Subnet"
_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
# ECR keeps layers in S3: what it takes to pull from it without a NAT gateway.
_SERVICES = ["s3", "ecr.api", "ecr.dkr"]


def _judge(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    vpcs = [item for item in resources if item.type == _VPC]
    types = {item.type for item in resources}
    # In a VPC made elsewhere the endpoints are made elsewhere too.
    if not vpcs or not types.issuperset((_CLUSTER, _SUBNET)):
        return
    present, undecided = gather(resources, _services)
    missing = [
        service
        for service in settings["services"]
        if not any(name.endswith(f".{service}") for name in present)
    ]
    if missing and undecided:
        raise NotYetKnown(*undecided)
    if missing:
        yield from judge_each(vpcs, lambda vpc: _finding(vpc, missing))


def _services(resource: Resource) -> Iterator[str]:
    if resource.type == _ENDPOINT:
        yield text_at(resource.properties, "serviceName").lower()


def _finding(vpc: Resource, missing: Sequence[str]) -> Iterator[Finding]:
    shown = text_at(vpc.properties, "cidrBlock", default="its block is given by IPAM")
    yield Finding(
        vpc,
        f"the VPC of an EKS cluster ({shown}) has no endpoint for {', '.join(missing)}. Image "
        "layers and weights then go through a NAT gateway, which is paid per gigabyte and shared "
        "by all nodes of a zone, or not at all where there is none. Add a gateway endpoint for "
        "s3, and interface endpoints for ecr.api and ecr.dkr where images come from ECR.",
    )


REQUIRE_IMAGE_ENDPOINTS = StackRule(
    code="CS205",
    name="aws-vpc-require-image-endpoints",
    concern="images",
    title="Images reach nodes without a NAT gateway",
    description="A VPC that a stack makes for an EKS cluster must have endpoints for S3 and ECR.",
    severity="medium",
    tags=("aws", "cold-start", "image-delivery", "cost"),
    remediation="Add a gateway endpoint for com.amazonaws.<region>.s3 to the private route tables, "
    "and interface endpoints with private DNS for ecr.api and ecr.dkr.",
    reason="ECR serves layers from S3; the gateway endpoint costs nothing and carries each node's "
    "full bandwidth, a NAT gateway neither.",
    links=(
        "https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html",
        "https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-s3.html",
    ),
    options=(
        Option(
            "services",
            {"type": "array", "items": {"type": "string"}, "default": _SERVICES},
            _SERVICES,
            "Services that need an endpoint; [s3] where no image comes from ECR.",
        ),
    ),
    level="advisory",
    development="disabled",
    judge=_judge,
)
