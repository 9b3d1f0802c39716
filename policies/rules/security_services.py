"""Who reaches services through a load balancer, and whether others can listen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.exposure import annotations_of, is_public, is_service_type, ports_of
from policies.reading.networks import open_to_the_world
from policies.reading.values import Resource, at, known, list_at, text_at, whole
from policies.rule import Option, ResourceRule, Settings

_PREFIX = "service.beta.kubernetes.io/"
# Annotations that say who may connect, beside the field of the Service.
_RANGES = (
    f"{_PREFIX}load-balancer-source-ranges",
    f"{_PREFIX}azure-allowed-ip-ranges",
    f"{_PREFIX}do-loadbalancer-allow-rules",
)
# Annotations that hand the question to a list or a group kept elsewhere.
_KEPT_ELSEWHERE = (
    f"{_PREFIX}azure-allowed-service-tags",
    f"{_PREFIX}aws-load-balancer-security-groups",
    f"{_PREFIX}aws-load-balancer-security-group-prefix-lists",
    "networking.gke.io/firewall-policy",
    "oci.oraclecloud.com/oci-network-security-groups",
)
# Annotations that end TLS on the load balancer, or pass it through.
_TLS = (
    f"{_PREFIX}aws-load-balancer-ssl-cert",
    f"{_PREFIX}do-loadbalancer-certificate-id",
    f"{_PREFIX}do-loadbalancer-certificate-name",
    f"{_PREFIX}do-loadbalancer-tls-passthrough",
    f"{_PREFIX}do-loadbalancer-tls-ports",
    f"{_PREFIX}oci-load-balancer-ssl-ports",
)
# Ports of model servers and of plain HTTP by custom; vLLM listens on 8000, SGLang on 30000.
_HTTP_PORTS = frozenset({80, 8000, 8080, 30000})
_TLS_PORTS = frozenset({443, 8443})
_HTTP = re.compile(r"(?:http|http2|h2c|grpc|kubernetes\.io/h2c|kubernetes\.io/ws|http-.*)")
_SECURE = re.compile(r"(?:https|tls|wss|grpcs|kubernetes\.io/wss)(?:-.*)?|https?-tls")
_ALLOWED = {"type": "array", "items": {"type": "string"}, "default": []}


def _is_allowed(service: Resource, settings: Settings) -> bool:
    return f"{service.namespace}/{service.object_name}" in settings["publicServices"]


def _judge_ranges(service: Resource, settings: Settings) -> Iterator[str]:
    if not is_public(service) or _is_allowed(service, settings):
        return
    annotations = annotations_of(service)
    if any(at(annotations, key) for key in _KEPT_ELSEWHERE):
        return
    fields = {
        "spec.loadBalancerSourceRanges": list_at(
            service.properties, "spec", "loadBalancerSourceRanges"
        ),
        **{key: _listed(text_at(annotations, key)) for key in _RANGES},
    }
    stated = {field: blocks for field, blocks in fields.items() if blocks}
    everyone = _first_open(stated)
    if everyone or not stated:
        yield (
            f"spec.type is LoadBalancer and {everyone or 'no source ranges are set'}, so the cloud "
            "makes a public address that the whole internet reaches. List the clients in "
            "spec.loadBalancerSourceRanges, or ask for an internal load balancer by your cloud's "
            "annotation; name a gateway that is meant for everybody in publicServices."
        )


def _first_open(stated: Mapping[str, Sequence[Any]]) -> str:
    for field, blocks in stated.items():
        everyone = open_to_the_world(blocks)
        if everyone:
            return f"{field}={everyone}"
    return ""


def _listed(text: str) -> list[str]:
    # DigitalOcean writes ip:192.0.2.7,cidr:198.51.100.0/24.
    parts = re.split(r"[,\s]+", text)
    return [part.removeprefix("cidr:").removeprefix("ip:") for part in parts if part]


def _judge_tls(service: Resource, _: Settings) -> Iterator[str]:
    if not is_public(service):
        return
    annotations = annotations_of(service)
    ports = ports_of(service)
    if any(at(annotations, key) for key in _TLS) or any(map(_is_secure, ports)):
        return
    plain = [f"{whole(known(port['port']), 0)}" for port in ports if _is_http(port)]
    if plain:
        yield (
            f"spec.ports {', '.join(plain)} of a public load balancer carry HTTP, and no port "
            "carries TLS: requests, answers and API keys cross the internet in the clear. End TLS "
            "on the load balancer by your cloud's certificate annotation, or put a Gateway with "
            "an HTTPS listener before a ClusterIP Service."
        )


def _is_secure(port: Mapping[str, Any]) -> bool:
    names = (text_at(port, "name"), text_at(port, "appProtocol"))
    return whole(at(port, "port"), 0) in _TLS_PORTS or any(map(_SECURE.fullmatch, names))


def _is_http(port: Mapping[str, Any]) -> bool:
    if text_at(port, "protocol", default="TCP") != "TCP":
        return False
    names = [text for text in (text_at(port, "appProtocol"), text_at(port, "name")) if text]
    if any(map(_HTTP.fullmatch, names)):
        return True
    # A name that says another protocol decides against the number.
    return whole(at(port, "port"), 0) in _HTTP_PORTS and not text_at(port, "appProtocol")


REQUIRE_SOURCE_RANGES = ResourceRule(
    code="CS717",
    name="kubernetes-service-require-source-ranges",
    concern="security",
    title="A public load balancer says who may connect",
    description="A Service of type LoadBalancer with a public address must state source ranges.",
    severity="high",
    tags=("kubernetes", "security", "network"),
    remediation="Set spec.loadBalancerSourceRanges to the ranges of your clients, or make the load "
    "balancer internal; a public gateway for everybody is named in publicServices.",
    reason="A model server behind an open address is found by scanners within hours, and every "
    "request costs GPU time.",
    links=(
        "https://kubernetes.io/docs/concepts/services-networking/service/",
        "https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/service/nlb/",
        "https://kubernetes-sigs.github.io/cloud-provider-azure/topics/loadbalancer",
        "https://cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters",
        "https://github.com/digitalocean/digitalocean-cloud-controller-manager/blob/master/docs/"
        "controllers/services/annotations.md",
    ),
    options=(
        Option(
            "publicServices",
            _ALLOWED,
            [],
            "Gateways that are meant for the whole internet, each as 'namespace/name'.",
        ),
    ),
    level="advisory",
    development="advisory",
    reads=is_service_type,
    judge=_judge_ranges,
)

REQUIRE_TLS = ResourceRule(
    code="CS724",
    name="kubernetes-service-require-tls",
    concern="security",
    title="A public load balancer carries no plain HTTP alone",
    description="A Service of type LoadBalancer with a public address that carries HTTP must have "
    "TLS on the load balancer or a port that carries it.",
    severity="high",
    tags=("kubernetes", "security", "network", "encryption"),
    remediation="Name a certificate in the cloud's annotation, or end TLS in a Gateway or Ingress "
    "and make this Service ClusterIP.",
    reason="Prompts often hold what must not be read, and an API key that was read once is used "
    "by others from then on.",
    links=(
        "https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/service/annotations/",
        "https://github.com/digitalocean/digitalocean-cloud-controller-manager/blob/master/docs/"
        "controllers/services/annotations.md",
        "https://gateway-api.sigs.k8s.io/guides/tls/",
    ),
    frameworks=("CIS EKS 1.7.0 5.4.5", "CIS AKS 1.7.0 5.4.5"),
    level="advisory",
    development="advisory",
    reads=is_service_type,
    judge=_judge_tls,
)
