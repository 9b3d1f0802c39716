"""Who can reach the control plane."""

from __future__ import annotations

from collections.abc import Iterator

from policies.reading.networks import open_to_the_world
from policies.reading.values import Resource, at, first_mapping, is_true, list_at
from policies.rule import ResourceRule, Settings

_VPC_CONFIG_FIELDS = {
    "aws:eks/cluster:Cluster": "vpcConfig",
    "aws-native:eks:Cluster": "resourcesVpcConfig",
}


def _reads(resource_type: str) -> bool:
    return resource_type in _VPC_CONFIG_FIELDS


def _judge(resource: Resource, _: Settings) -> Iterator[str]:
    block = _VPC_CONFIG_FIELDS[resource.type]
    config = first_mapping(at(resource.properties, block, default={}))
    # EKS opens the public endpoint, to everyone, when nothing is said.
    if not is_true(at(config, "endpointPublicAccess", default=True)):
        return
    blocks = list_at(config, "publicAccessCidrs")
    everyone = open_to_the_world(blocks)
    if everyone or not blocks:
        reach = f"publicAccessCidrs={everyone}" if everyone else "publicAccessCidrs is not set"
        yield (
            f"{block}.endpointPublicAccess is on and {reach}, so the whole internet can reach "
            "the cluster's API. Set endpointPublicAccess=false with endpointPrivateAccess=true, "
            "or list your own address ranges in publicAccessCidrs."
        )


FORBID_OPEN_ENDPOINT = ResourceRule(
    code="CS702",
    name="eks-cluster-forbid-open-endpoint",
    concern="security",
    title="The cluster's API is not open to the world",
    description="A public EKS endpoint must be limited to stated address ranges.",
    severity="critical",
    tags=("aws", "eks", "security", "network"),
    remediation="Set vpcConfig.endpointPublicAccess to false, or give publicAccessCidrs the "
    "ranges of your offices and runners; never 0.0.0.0/0 or ::/0.",
    reason="An open endpoint leaves credentials as the only barrier; EKS opens it by default.",
    links=("https://docs.aws.amazon.com/eks/latest/userguide/cluster-endpoint.html",),
    frameworks=("CIS EKS 1.7.0 5.4.1",),
    reads=_reads,
    judge=_judge,
)
