"""On AWS: who reaches a node's credentials, and who reaches a shared file system."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.aws_network import VPC, ingress_rules
from policies.reading.networks import Network, network
from policies.reading.nodes import defines_nodes
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    first_mapping,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    whole,
)
from policies.rule import Finding, Option, ResourceRule, Settings, StackRule

_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
_NODE_GROUPS = frozenset({"aws:eks/nodeGroup:NodeGroup", "aws-native:eks:Nodegroup"})
_MACHINES = frozenset(
    {
        _TEMPLATE,
        "aws:ec2/instance:Instance",
        "aws:ec2/spotInstanceRequest:SpotInstanceRequest",
        "aws:ec2/launchConfiguration:LaunchConfiguration",
    }
)
_NFS_PORT = 2049
# The largest block a VPC can have, for IPv4, and the one AWS assigns, for IPv6 (VPC user guide).
_WHOLE_VPC_PREFIX = {4: 16, 6: 56}
_EFS_DRIVER = "efs.csi.aws.com"
_ACCESS_POINTS = frozenset({"aws:efs/accessPoint:AccessPoint", "aws-native:efs:AccessPoint"})
_OCTAL = re.compile(r"[0-7]{3,4}")


def _metadata_options(resource: Resource) -> tuple[str, Mapping[str, Any]]:
    """Field and block of the settings of a machine's metadata service."""
    path = ("spec", "metadataOptions") if resource.is_kubernetes else ("metadataOptions",)
    return ".".join(path), first_mapping(at(resource.properties, *path, default={}))


def _judge_hops(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    maximum = whole(settings["maximumHops"], 1)
    makes_nodes = any(resource.type in _NODE_GROUPS for resource in resources)

    def judge(resource: Resource) -> Iterator[Finding]:
        # A template outside a cluster may serve containers of another kind.
        if not defines_nodes(resource.type) or (resource.type == _TEMPLATE and not makes_nodes):
            return
        field, options = _metadata_options(resource)
        hops = whole(at(options, "httpPutResponseHopLimit"), 1)
        if hops > maximum and text_at(options, "httpEndpoint") != "disabled":
            yield Finding(
                resource,
                f"{field}.httpPutResponseHopLimit is {hops}: the node's metadata service answers "
                f"pods on this node, and gives each of them the credentials of the node's role. "
                f"Set it to {maximum}, and give pods their own by EKS Pod Identity.",
            )

    yield from judge_each(resources, judge)


def _reads_machines(resource_type: str) -> bool:
    return resource_type in _MACHINES or defines_nodes(resource_type)


def _judge_tokens(resource: Resource, settings: Settings) -> Iterator[str]:
    field, options = _metadata_options(resource)
    tokens = text_at(options, "httpTokens")
    # Karpenter asks for tokens by default; templates and instances leave it to image and account.
    has_default = resource.is_kubernetes or settings["accountRequiresTokens"]
    if tokens == "required" or (not tokens and has_default):
        return
    if text_at(options, "httpEndpoint") != "disabled":
        shown = f"is {tokens!r}" if tokens else "is not set, which leaves it to image and account"
        yield (
            f"{field}.httpTokens {shown}: where version 1 of the metadata service answers, any "
            "program that can be made to fetch a URL hands out the role's credentials. Set it to "
            "'required'."
        )


def _judge_file_systems(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    vpcs, undecided = gather(resources, _vpc_blocks)

    def judge(resource: Resource) -> Iterator[Finding]:
        for message in _world_writable(resource):
            yield Finding(resource, message)
        yield from judge_each(_nfs_sources(resource), lambda source: judge_source(resource, source))

    def judge_source(resource: Resource, source: tuple[str, Any]) -> Iterator[Finding]:
        field, block = source
        opened = network(known(block)) if isinstance(known(block), str) else None
        if opened is None:
            return
        if _is_whole_vpc(opened, vpcs):
            yield Finding(
                resource,
                f"{field} opens NFS (port {_NFS_PORT}) to {opened}, a whole VPC or more. Every "
                "machine and pod there mounts the file system, and what it writes into a compile "
                "cache runs in other pods. Name the nodes' security group as the source instead.",
            )
        elif undecided:
            # Whether this is all of a VPC depends on a block that is not known yet.
            raise NotYetKnown(*undecided)

    yield from judge_each(resources, judge)


def _vpc_blocks(resource: Resource) -> Iterator[Network]:
    if resource.type == VPC:
        block = network(text_at(resource.properties, "cidrBlock"))
        if block is not None:
            yield block


def _is_whole_vpc(opened: Network, vpcs: Sequence[Network]) -> bool:
    return opened.prefixlen <= _WHOLE_VPC_PREFIX[opened.version] or any(
        # The versions are compared first: a subnet of the other version is an error.
        opened.version == vpc.version and vpc.subnet_of(opened)  # type: ignore[arg-type]
        for vpc in vpcs
    )


def _nfs_sources(resource: Resource) -> Iterator[tuple[str, Any]]:
    """Field and address range of each that a rule lets in on the port of NFS alone."""
    for prefix, rule in ingress_rules(resource):
        if _is_nfs(rule):
            yield from _blocks(prefix, rule)


def _is_nfs(rule: Mapping[str, Any]) -> bool:
    # A wider rule has other purposes, and does not show that a file system is behind it.
    return whole(at(rule, "fromPort"), 0) == _NFS_PORT == whole(at(rule, "toPort"), 0)


def _blocks(prefix: str, rule: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for field in ("cidrIpv4", "cidrIpv6"):
        if field in rule:
            yield f"{prefix}{field}", rule[field]
    for field in ("cidrBlocks", "ipv6CidrBlocks"):
        for index, block in enumerate(list_at(rule, field)):
            yield f"{prefix}{field}[{index}]", block


def _world_writable(resource: Resource) -> Iterator[str]:
    if resource.type in _ACCESS_POINTS:
        field = "rootDirectory.creationInfo.permissions"
        root = first_mapping(at(resource.properties, "rootDirectory", default={}))
        mode = at(first_mapping(at(root, "creationInfo", default={})), "permissions")
    elif resource.kind == "StorageClass" and (
        text_at(resource.properties, "provisioner") == _EFS_DRIVER
    ):
        field = "parameters.directoryPerms"
        mode = mapping_at(resource.properties, "parameters").get("directoryPerms")
    else:
        return
    known(mode)
    shown = f"{mode:g}" if isinstance(mode, int | float) else str(mode)
    if _OCTAL.fullmatch(shown) and int(shown[-1]) & 0o2:
        yield (
            f"{field} is {shown}: every user of every pod that mounts the file system may write "
            "there, and a compile cache is code that other pods run. Set 0750 with the uid and "
            "gid of the one workload that writes."
        )


LIMIT_METADATA_HOPS = StackRule(
    code="CS715",
    name="karpenter-nodeclass-limit-metadata-hops",
    concern="security",
    title="Pods do not get the node's credentials",
    description="The metadata service of nodes must not answer over more than one network hop.",
    severity="high",
    tags=("aws", "karpenter", "eks", "security", "iam"),
    remediation="Set metadataOptions.httpPutResponseHopLimit to 1 on the EC2NodeClass or launch "
    "template, and give each service account its own role by EKS Pod Identity.",
    reason="The node's role may pull every image and, with Karpenter's policies, more; a pod needs "
    "none of it.",
    links=(
        "https://docs.aws.amazon.com/eks/latest/best-practices/identity-and-access-management.html",
        "https://karpenter.sh/docs/concepts/nodeclasses/",
    ),
    options=(
        Option(
            "maximumHops",
            {"type": "integer", "minimum": 1, "maximum": 64, "default": 1},
            1,
            "Largest hop limit that passes; 2 where pods truly must reach the service.",
        ),
    ),
    judge=_judge_hops,
)

REQUIRE_TOKENS = ResourceRule(
    code="CS716",
    name="aws-instance-require-imdsv2",
    concern="security",
    title="Machines answer version 2 of the metadata service only",
    description="Instances, launch templates and EC2NodeClasses must require tokens (IMDSv2).",
    severity="high",
    tags=("aws", "karpenter", "security", "iam"),
    remediation="Set metadataOptions.httpTokens to 'required'; every SDK and agent of the last "
    "years speaks version 2.",
    reason="Version 1 answers any request that reaches it, so one request forged through a server "
    "takes the credentials of the role.",
    links=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/"
        "configuring-instance-metadata-service.html",
    ),
    options=(
        Option(
            "accountRequiresTokens",
            {"type": "boolean", "default": False},
            False,
            "True where the account's or the image's own default requires tokens: a missing "
            "setting then passes, 'optional' does not.",
        ),
    ),
    level="advisory",
    development="advisory",
    reads=_reads_machines,
    judge=_judge_tokens,
)

FORBID_OPEN_FILE_SYSTEM = StackRule(
    code="CS723",
    name="aws-efs-forbid-open-access",
    concern="security",
    title="A shared file system is open to its nodes and writers only",
    description="NFS must not be opened to a whole VPC, and directories of EFS must not be "
    "writable for everyone.",
    severity="high",
    tags=("aws", "efs", "security", "network"),
    remediation="Let port 2049 in from the nodes' security group only, and give access points and "
    "storage classes the permissions 0750 with one owner per workload.",
    reason="Weights and compile caches on a shared file system are read, and caches executed, by "
    "every replica: who can write there runs code in all of them.",
    links=(
        "https://docs.aws.amazon.com/efs/latest/ug/network-access.html",
        "https://docs.aws.amazon.com/efs/latest/ug/efs-access-points.html",
    ),
    level="advisory",
    development="advisory",
    judge=_judge_file_systems,
)
