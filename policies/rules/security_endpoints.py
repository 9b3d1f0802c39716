"""Who can reach the control plane of clusters on GKE, AKS and DigitalOcean."""

from __future__ import annotations

import re
from collections.abc import Iterator

from policies.reading.networks import open_to_the_world
from policies.reading.values import (
    Resource,
    at,
    first_mapping,
    is_true,
    known,
    list_at,
    mapping_at,
)
from policies.rule import ResourceRule, Settings

_GKE = frozenset({"gcp:container/cluster:Cluster", "google-native:container/v1:Cluster"})
_AKS = re.compile(r"azure-native:containerservice(?:/v\w+)?:ManagedCluster")
_AKS_CLASSIC = "azure:containerservice/kubernetesCluster:KubernetesCluster"
_DOKS = "digitalocean:index/kubernetesCluster:KubernetesCluster"
_EVERYONE = "so the whole internet can reach the cluster's API"
_REASON = "An open endpoint leaves credentials as the only barrier; {} opens it by default."


def _judge_gke(resource: Resource, _: Settings) -> Iterator[str]:
    properties = resource.properties
    private = first_mapping(at(properties, "privateClusterConfig", default={}))
    if is_true(at(private, "enablePrivateEndpoint")):
        return
    endpoints = first_mapping(at(properties, "controlPlaneEndpointsConfig", default={}))
    by_address = first_mapping(at(endpoints, "ipEndpointsConfig", default={}))
    if str(at(by_address, "enabled", default=True)).lower() == "false":
        return
    field = "masterAuthorizedNetworksConfig"
    stated = at(properties, field)
    networks = first_mapping(stated)
    if stated is None or str(at(networks, "enabled", default=True)).lower() == "false":
        reach = f"{field} is not set"
    else:
        # Authorized networks without a range let nobody in from outside.
        blocks = [
            mapping_at(known(item)).get("cidrBlock") for item in list_at(networks, "cidrBlocks")
        ]
        everyone = open_to_the_world(blocks)
        reach = f"{field}.cidrBlocks={everyone}" if everyone else ""
    if reach:
        yield (
            f"The control plane has a public address and {reach}, {_EVERYONE}. Switch its "
            "addresses off with controlPlaneEndpointsConfig.ipEndpointsConfig.enabled=false and "
            "use the DNS endpoint, or list your own ranges in "
            "masterAuthorizedNetworksConfig.cidrBlocks."
        )


def _reads_aks(resource_type: str) -> bool:
    return resource_type == _AKS_CLASSIC or _AKS.fullmatch(resource_type) is not None


def _judge_aks(resource: Resource, _: Settings) -> Iterator[str]:
    properties = resource.properties
    profile = first_mapping(at(properties, "apiServerAccessProfile", default={}))
    private = at(profile, "enablePrivateCluster", default=at(properties, "privateClusterEnabled"))
    if is_true(private):
        return
    field = "apiServerAccessProfile.authorizedIPRanges"
    blocks = (
        list_at(profile, "authorizedIPRanges")
        or list_at(profile, "authorizedIpRanges")
        or list_at(properties, "apiServerAuthorizedIpRanges")
    )
    everyone = open_to_the_world(blocks)
    if everyone or not blocks:
        reach = f"{field}={everyone}" if everyone else f"{field} is not set"
        yield (
            f"The API server has a public address and {reach}, {_EVERYONE}. Set "
            "apiServerAccessProfile.enablePrivateCluster=true, or list your own address ranges "
            "in authorizedIPRanges."
        )


def _judge_doks(resource: Resource, _: Settings) -> Iterator[str]:
    firewall = first_mapping(at(resource.properties, "controlPlaneFirewall", default={}))
    if not is_true(at(firewall, "enabled")):
        reach = "controlPlaneFirewall.enabled is not true"
    else:
        everyone = open_to_the_world(list_at(firewall, "allowedAddresses"))
        reach = f"controlPlaneFirewall.allowedAddresses={everyone}" if everyone else ""
    if reach:
        yield (
            f"{reach}, {_EVERYONE}. Set controlPlaneFirewall.enabled=true and list the addresses "
            "of your offices and runners in allowedAddresses."
        )


FORBID_OPEN_GKE = ResourceRule(
    code="CS703",
    name="gke-cluster-forbid-open-endpoint",
    concern="security",
    title="The API of a GKE cluster is not open to the world",
    description="A GKE control plane with a public address must be limited to authorized networks.",
    severity="critical",
    tags=("gcp", "gke", "security", "network"),
    remediation="Set controlPlaneEndpointsConfig.ipEndpointsConfig.enabled to false and use the "
    "DNS endpoint, or give masterAuthorizedNetworksConfig.cidrBlocks the ranges of your offices "
    "and runners.",
    reason=_REASON.format("GKE"),
    links=("https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation",),
    frameworks=("CIS GKE 1.8.0 5.6.3",),
    reads=lambda resource_type: resource_type in _GKE,
    judge=_judge_gke,
)

FORBID_OPEN_AKS = ResourceRule(
    code="CS704",
    name="aks-cluster-forbid-open-endpoint",
    concern="security",
    title="The API of an AKS cluster is not open to the world",
    description="An AKS API server with a public address must be limited to stated ranges.",
    severity="critical",
    tags=("azure", "aks", "security", "network"),
    remediation="Set apiServerAccessProfile.enablePrivateCluster to true, or give "
    "authorizedIPRanges the ranges of your offices and runners; never 0.0.0.0/0.",
    reason=_REASON.format("AKS"),
    links=("https://learn.microsoft.com/en-us/azure/aks/api-server-authorized-ip-ranges",),
    frameworks=("CIS AKS 1.7.0 5.4.1",),
    reads=_reads_aks,
    judge=_judge_aks,
)

FORBID_OPEN_DOKS = ResourceRule(
    code="CS705",
    name="doks-cluster-forbid-open-endpoint",
    concern="security",
    title="The API of a DigitalOcean cluster is not open to the world",
    description="A DigitalOcean Kubernetes control plane must have its firewall on.",
    severity="critical",
    tags=("digitalocean", "doks", "security", "network"),
    remediation="Set controlPlaneFirewall.enabled to true and give allowedAddresses the addresses "
    "of your offices and runners; never 0.0.0.0/0.",
    reason=_REASON.format("DigitalOcean"),
    links=(
        "https://docs.digitalocean.com/reference/terraform/reference/resources/kubernetes_cluster/",
    ),
    reads=lambda resource_type: resource_type == _DOKS,
    judge=_judge_doks,
)
