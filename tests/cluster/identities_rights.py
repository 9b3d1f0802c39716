"""What no account of the project may do, and what every account of a cluster may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldstart.controlplane import Client

OWN, OTHER = "own", "other"
"""In place of a namespace: the account's own, and another tenant's."""
EVERYWHERE = None
RBAC = "rbac.authorization.k8s.io"
KARPENTER, EC2, KEDA = "karpenter.sh", "karpenter.k8s.aws", "keda.sh"
NEVER_IN_DISCOVERY = frozenset({"impersonate", "escalate", "bind", "approve", "sign", "*"})
"""Verbs that only an authorizer knows."""


@dataclass(frozen=True)
class Right:
    """One thing an account could ask for; `where` is a namespace, OWN, OTHER or EVERYWHERE."""

    verb: str
    resource: str
    group: str = ""
    where: str | None = OWN
    subresource: str | None = None

    @property
    def words(self) -> str:
        """For the name of a test."""
        what = self.resource + (f"/{self.subresource}" if self.subresource else "")
        return f"{self.verb} {what}{'.' + self.group if self.group else ''} {self.where or 'all'}"

    def allowed(self, client: Client, namespaces: Mapping[str, str]) -> bool:
        """What the server answers this client's account (SelfSubjectAccessReview)."""
        where = namespaces.get(self.where, self.where) if self.where else None
        return client.can_i(
            self.verb, self.resource, self.group, where, subresource=self.subresource
        )


def _reading() -> list[Right]:
    own = [Right(verb, "secrets", where=OWN) for verb in ("get", "list", "watch")]
    others = [
        Right("get", resource, where=where)
        for resource in ("secrets", "configmaps", "pods")
        for where in (OTHER, "kube-system", "monitoring")
    ]
    everywhere = [
        Right("list", resource, where=EVERYWHERE)
        for resource in ("secrets", "configmaps", "pods", "nodes", "namespaces", "serviceaccounts")
    ]
    return [
        *own,
        Right("get", "configmaps"),
        *others,
        *everywhere,
        Right("get", "pods", "", OWN, "log"),
    ]


def _running() -> list[Right]:
    pods = [
        Right(verb, "pods", where=where)
        for verb in ("create", "patch", "delete")
        for where in (OWN, OTHER)
    ]
    into = [
        Right("create", "pods", "", OWN, subresource)
        for subresource in ("exec", "attach", "portforward", "eviction", "binding", "proxy")
    ]
    makers = [
        Right("create", "deployments", "apps"),
        Right("patch", "deployments", "apps"),
        Right("patch", "deployments", "apps", OWN, "scale"),
        Right("create", "daemonsets", "apps"),
        Right("create", "jobs", "batch"),
        Right("patch", "pods", "", OWN, "ephemeralcontainers"),
        Right("patch", "scaledobjects", KEDA),
        Right("create", "configmaps"),
    ]
    return [*pods, *into, *makers]


def _rising() -> list[Right]:
    tokens = [Right("create", "serviceaccounts", "", where, "token") for where in (OWN, OTHER)]
    roles = [
        Right(verb, resource, RBAC, where)
        for resource, where in (("roles", OWN), ("clusterroles", EVERYWHERE))
        for verb in ("create", "patch", "escalate", "bind")
    ]
    bindings = [
        Right("create", "rolebindings", RBAC),
        Right("create", "clusterrolebindings", RBAC, EVERYWHERE),
    ]
    persons = [
        Right("impersonate", resource, "", EVERYWHERE)
        for resource in ("users", "groups", "serviceaccounts")
    ]
    certificates = "certificates.k8s.io"
    signing = [
        Right("create", "certificatesigningrequests", certificates, EVERYWHERE),
        Right("approve", "signers", certificates, EVERYWHERE),
        Right("create", "tokenreviews", "authentication.k8s.io", EVERYWHERE),
        Right("create", "subjectaccessreviews", "authorization.k8s.io", EVERYWHERE),
    ]
    return [*tokens, *roles, *bindings, *persons, *signing]


def _changing_the_cluster() -> list[Right]:
    nodes = [
        Right("patch", "nodes", "", EVERYWHERE),
        Right("patch", "nodes", "", EVERYWHERE, "status"),
        Right("get", "nodes", "", EVERYWHERE, "proxy"),
        Right("create", "nodeclaims", KARPENTER, EVERYWHERE),
        Right("patch", "nodepools", KARPENTER, EVERYWHERE),
        Right("delete", "nodepools", KARPENTER, EVERYWHERE),
        Right("patch", "ec2nodeclasses", EC2, EVERYWHERE),
    ]
    walls = [
        # A namespace's labels are its Pod Security level.
        Right("patch", "namespaces", "", OWN),
        Right("create", "namespaces", "", EVERYWHERE),
        Right("patch", "resourcequotas"),
        Right("delete", "networkpolicies", "networking.k8s.io"),
        Right("patch", "services"),
        Right("delete", "poddisruptionbudgets", "policy"),
    ]
    extensions = [
        Right(
            "create", "mutatingwebhookconfigurations", "admissionregistration.k8s.io", EVERYWHERE
        ),
        Right("create", "customresourcedefinitions", "apiextensions.k8s.io", EVERYWHERE),
        Right("create", "apiservices", "apiregistration.k8s.io", EVERYWHERE),
        Right("create", "persistentvolumes", "", EVERYWHERE),
        Right("create", "priorityclasses", "scheduling.k8s.io", EVERYWHERE),
    ]
    return [*nodes, *walls, *extensions, Right("*", "*", "*", EVERYWHERE)]


FORBIDDEN = (*_reading(), *_running(), *_rising(), *_changing_the_cluster())


def known_rights(client: Client) -> dict[tuple[str, str], set[str]]:
    """Verbs by group and resource (`pods/exec`), as discovery has them."""
    found: dict[tuple[str, str], set[str]] = {}
    groups = client.request("GET", "/apis").body["groups"]
    versions = [item["preferredVersion"]["groupVersion"] for item in groups]
    for place in ("/api/v1", *(f"/apis/{version}" for version in versions)):
        group = place.split("/")[2] if place.startswith("/apis/") else ""
        for resource in client.request("GET", place).body["resources"]:
            found[group, resource["name"]] = set(resource["verbs"])
    return found


REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


def rules(client: Client, namespace: str) -> dict[str, Any]:
    """Everything this client's account may do in a namespace (SelfSubjectRulesReview)."""
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    return client.request("POST", REVIEWS, asked).body["status"]


EVERYBODYS = frozenset(
    {
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    }
)
"""What every account may create, to ask what it may do."""
EVERYBODYS_PATHS = (
    *("/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version"),
    # With what to check tokens: public keys, and where they are.
    *("/.well-known/openid-configuration", "/openid/v1/jwks"),
)


def beyond_everybodys(client: Client, namespace: str) -> list[Any]:
    """Rules of this account that not every account has; project accounts have none."""
    found = rules(client, namespace)
    assert not found.get("incomplete"), found
    extra = [
        rule
        for rule in found["resourceRules"]
        if not {(group, resource) for group in rule["apiGroups"] for resource in rule["resources"]}
        <= EVERYBODYS
        or rule["verbs"] != ["create"]
    ]
    paths = [
        (rule["verbs"], path)
        for rule in found["nonResourceRules"]
        for path in rule["nonResourceURLs"]
        if rule["verbs"] != ["get"] or path.rstrip("/*") not in EVERYBODYS_PATHS
    ]
    return [*extra, *paths]


def as_node(client: Client, node: str, secret: str, namespace: str) -> bool:
    """Whether the kubelet of `node` may read a secret (SubjectAccessReview)."""
    attributes = {"verb": "get", "resource": "secrets", "name": secret, "namespace": namespace}
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:node:{node}",
            "groups": ["system:nodes", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    answer = client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", asked)
    return answer.body["status"]["allowed"]
