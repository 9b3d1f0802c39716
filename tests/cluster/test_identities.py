"""Every service account of the project, tried with its own token."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from coldstart.controlplane import Client, ControlPlane, definitions
from coldstart.controlplane.http import Answer
from tests.cluster import identities_rights as rights
from tests.cluster.identities_rights import FORBIDDEN, Right
from tests.cluster.refusal_examples import passing
from tests.cluster.rendered_objects import Object, bare_pod, dev_nodes, fleet, stack

DEADLINE_SECONDS = 60
NEEDS: dict[str, tuple[Right, ...]] = {
    # Its configuration, key and scripts are mounted by the kubelet, its weights and caches come
    # from the object store with credentials of the node's identity agent: nothing of the API.
    "server": (),
    "publisher": (),
    # What runs without an account of its own (warm capacity, local disks) needs no API.
    "default": (),
}
"""By the name of an account, what its workload asks of the API server."""
ACCOUNT_KINDS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount")
SETTING = ("Namespace", *ACCOUNT_KINDS, "PriorityClass", "Secret", "ConfigMap")
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
POD_IDENTITY_AUDIENCE = "pods.eks.amazonaws.com"
TENANT, OTHER_TENANT = "near", "streamed"
WITH_ACCOUNTS = (TENANT, OTHER_TENANT, "shared", "qwen3-1-7b", "qwen3-32b", "qwen3-8b")
"""Namespaces of models."""
WITHOUT_ACCOUNTS = (
    *("dcgm", "dcgm-exporter", "device-plugin", "keda", "local-disks", "monitoring"),
    *("nvidia-device-plugin", "spegel", "warm-capacity"),
)
ACCOUNTS = (
    *((namespace, name) for namespace in WITH_ACCOUNTS for name in NEEDS),
    *((namespace, "default") for namespace in WITHOUT_ACCOUNTS),
)


def proof(statement: str) -> pytest.MarkDecorator:
    return pytest.mark.proof("API server", statement)


@cache
def _rendered() -> tuple[Object, ...]:
    return (*fleet(), *dev_nodes(), *stack("eks-prod"), *stack("eks-dev"))


def of_kind(*kinds: str) -> list[Object]:
    """All objects of these kinds, of the fleet, of dev nodes and of every stack."""
    return [item for item in _rendered() if item["kind"] in kinds]


def accounts() -> list[tuple[str, str]]:
    """Namespace and name of every account the program makes, and `default` of each namespace."""
    own = [(a["metadata"]["namespace"], a["metadata"]["name"]) for a in of_kind("ServiceAccount")]
    default = [(namespace["metadata"]["name"], "default") for namespace in of_kind("Namespace")]
    return sorted({*own, *default})


def pods() -> list[tuple[str, Object]]:
    """Every pod the project has a template for."""
    owners = of_kind("Deployment", "DaemonSet", "Job")
    found = [bare_pod(owner) for owner in owners]
    named = {f"{p['metadata']['namespace']}/{p['metadata']['name']}": p for p in found}
    return sorted(named.items())


@pytest.fixture(scope="module")
def server(admin: Client) -> Client:
    """The API server with the project's namespaces, accounts and rights, and nothing else."""
    definitions.install(admin, published=None)
    for item in of_kind(*SETTING):
        # Stacks share cluster-wide names; the last one's labels stay.
        admin.apply(item, force=True)
    for namespace, name in ACCOUNTS:
        admin.wait_for(
            lambda asked=(name, namespace): admin.get("v1", "ServiceAccount", *asked),
            f"the account {name} of {namespace}",
            DEADLINE_SECONDS,
        )
    return admin


@pytest.fixture(scope="module")
def clients(plane: ControlPlane, server: Client) -> dict[tuple[str, str], Client]:
    """Every account with its own token."""
    return {
        (namespace, name): plane.client(server.token(namespace, name))
        for namespace, name in ACCOUNTS
    }


@pytest.fixture
def anonymous(plane: ControlPlane) -> Iterator[Client]:
    """Nobody: a client without any credentials."""
    client = Client(plane.url, plane.ca_file, None)
    yield client
    client.close()


def elsewhere(namespace: str) -> dict[str, str]:
    other = OTHER_TENANT if namespace != OTHER_TENANT else TENANT
    return {rights.OWN: namespace, rights.OTHER: other}


by_account = pytest.mark.parametrize("account", ACCOUNTS, ids="/".join)


@proof("Tries every account that the program makes")
def test_no_account_is_left_out() -> None:
    assert sorted(ACCOUNTS) == accounts()


@proof("Knows every resource on the list of forbidden things, so a refusal says something")
def test_every_forbidden_thing_exists(server: Client) -> None:
    """A misspelt resource would be refused to everybody and prove nothing."""
    known = rights.known_rights(server)
    special = {"*", "users", "groups", "signers"}
    missing = [
        right.words
        for right in FORBIDDEN
        if right.resource not in special
        and right.verb
        not in known.get((right.group, _with_subresource(right)), set()) | rights.NEVER_IN_DISCOVERY
    ]
    assert missing == []
    assert len(FORBIDDEN) >= 70


def _with_subresource(right: Right) -> str:
    return f"{right.resource}/{right.subresource}" if right.subresource else right.resource


@proof("Knows each account of the project by its own token")
@by_account
def test_the_token_is_the_accounts_own(
    clients: dict[tuple[str, str], Client], account: tuple[str, str]
) -> None:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = clients[account].request("POST", path, asked)
    assert (
        answer.body["status"]["userInfo"]["username"]
        == f"system:serviceaccount:{':'.join(account)}"
    )


@proof("Allows each account what its workload needs")
@by_account
def test_an_account_may_do_what_it_needs(
    clients: dict[tuple[str, str], Client], account: tuple[str, str]
) -> None:
    namespace, name = account
    wanted = NEEDS[name]
    client = clients[account]
    assert [r.words for r in wanted if not r.allowed(client, elsewhere(namespace))] == []


@proof("Refuses each account, `default` ones included, a list of what it must not do")
@by_account
def test_an_account_may_not_do_what_is_forbidden(
    clients: dict[tuple[str, str], Client], account: tuple[str, str]
) -> None:
    namespace, name = account
    wanted = [right for right in FORBIDDEN if right not in NEEDS[name]]
    allowed = [r.words for r in wanted if r.allowed(clients[account], elsewhere(namespace))]
    assert allowed == []


@proof("Gives each account no right beyond what any account of any cluster has")
@by_account
def test_an_account_has_no_rule_of_its_own(
    clients: dict[tuple[str, str], Client], account: tuple[str, str]
) -> None:
    for namespace in (account[0], elsewhere(account[0])[rights.OTHER], "kube-system"):
        assert rights.beyond_everybodys(clients[account], namespace) == []


@pytest.fixture
def ruler(plane: ControlPlane, server: Client, namespace: str) -> Iterator[Client]:
    """An account that may do everything, to see that the checks can tell."""
    kind = "ClusterRoleBinding"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": namespace},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    server.apply(binding)
    client = plane.client(server.token(namespace, "default"))
    server.wait_for(
        lambda: client.can_i("list", "nodes"), "the binding to be heeded", DEADLINE_SECONDS
    )
    yield client
    server.delete(binding["apiVersion"], kind, namespace)


@proof("Allows all of that to an account with every right: the checks can tell")
def test_the_checks_see_an_account_that_may_do_everything(ruler: Client, namespace: str) -> None:
    refused = [r.words for r in FORBIDDEN if not r.allowed(ruler, elsewhere(namespace))]
    assert refused == []
    assert rights.beyond_everybodys(ruler, namespace)


def _attempts(namespace: str, other: str) -> dict[str, tuple[str, str, Any]]:
    """Requests that would do harm: method, path, body or what makes it."""
    own = f"/api/v1/namespaces/{namespace}"
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    return {
        "read its own secrets": ("GET", f"{own}/secrets", None),
        "read another tenant's secrets": ("GET", f"/api/v1/namespaces/{other}/secrets", None),
        "read its own configuration": ("GET", f"{own}/configmaps/object-store", None),
        "list all pods": ("GET", "/api/v1/pods", None),
        "list nodes": ("GET", "/api/v1/nodes", None),
        "run a pod": ("POST", f"{own}/pods", lambda: passing("Pod")),
        "open a shell": ("POST", f"{own}/pods/{namespace}/exec", None),
        "scale itself": ("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments", None),
        "make a role": (
            "POST",
            f"{rbac}/roles",
            {**role, "metadata": {"name": "all", "namespace": namespace}, "rules": everything},
        ),
        "ask for another account's token": (
            "POST",
            f"/api/v1/namespaces/{other}/serviceaccounts/server/token",
            request,
        ),
        "ask for a token of its own": ("POST", f"{own}/serviceaccounts/server/token", request),
        "delete its network policies": (
            "DELETE",
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
            None,
        ),
        "delete its namespace": ("DELETE", f"/api/v1/namespaces/{namespace}", None),
        "buy nodes": ("DELETE", "/apis/karpenter.sh/v1/nodepools", None),
        "read the server's metrics": ("GET", "/metrics", None),
        "read the server's profile": ("GET", "/debug/pprof/heap", None),
    }


ATTEMPTS = tuple(_attempts(TENANT, OTHER_TENANT))


def _try(client: Client, what: str) -> Answer:
    method, path, body = _attempts(TENANT, OTHER_TENANT)[what]
    return client.request(method, path, body() if callable(body) else body)


@proof("Really refuses a model server's token: secrets, pods, roles, tokens, nodes, metrics")
@pytest.mark.parametrize("what", ATTEMPTS)
@pytest.mark.parametrize("name", NEEDS)
def test_an_account_really_cannot(
    clients: dict[tuple[str, str], Client], name: str, what: str
) -> None:
    answer = _try(clients[TENANT, name], what)
    assert answer.status == 403, answer
    said = answer.body["message"] if isinstance(answer.body, dict) else answer.body
    assert f'User "system:serviceaccount:{TENANT}:{name}" cannot ' in said


@proof("Really refuses whoever brings no credentials")
@pytest.mark.parametrize("what", ATTEMPTS)
def test_nobody_really_cannot(server: Client, anonymous: Client, what: str) -> None:
    answer = _try(anonymous, what)
    assert answer.status in (401, 403), answer


@proof("Refuses whoever brings no credentials even the question of what it may do")
def test_nobody_may_not_even_ask(anonymous: Client) -> None:
    asked = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    answer = anonymous.request("POST", rights.REVIEWS, {**asked, "spec": {"namespace": TENANT}})
    assert answer.status in (401, 403)


@proof("Mounts no token into any pod of the project")
def test_no_pod_gets_a_token(server: Client) -> None:
    made = {name: server.create(pod, dry_run=True).object for name, pod in pods()}
    assert len(made) > len(WITH_ACCOUNTS)
    assert {name: tokens_in(pod) for name, pod in made.items() if tokens_in(pod)} == {}


@proof("Mounts a token into a pod that does not say no: the check can tell")
def test_a_pod_that_does_not_say_so_would_get_a_token(server: Client, namespace: str) -> None:
    pod = passing("Pod of the warm capacity")
    del pod["spec"]["automountServiceAccountToken"]
    pod["metadata"]["namespace"] = namespace
    assert len(tokens_in(server.create(pod, dry_run=True).object)) > 1


def tokens_in(pod: Object) -> list[Any]:
    """Volumes and mounts of tokens in a pod as the server would store it."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    mounts = [
        mount
        for container in containers
        for mount in container.get("volumeMounts", [])
        if mount["mountPath"] == TOKEN_FOLDER
    ]
    volumes = [
        source
        for volume in pod["spec"].get("volumes", [])
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    ]
    return [*mounts, *volumes]


@proof("Does not take the token that a pod shows its cloud")
def test_a_token_for_the_cloud_opens_nothing_here(plane: ControlPlane, server: Client) -> None:
    path = server.path("v1", "ServiceAccount", "server", TENANT, "token")
    spec = {"audiences": [POD_IDENTITY_AUDIENCE], "expirationSeconds": 3600}
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    token = server.request("POST", path, asked).body["status"]["token"]
    assert plane.client(token).request("GET", "/api/v1/pods").status == 401


@pytest.fixture
def bound(server: Client) -> Iterator[tuple[str, str]]:
    """A pod of the model on a node; gives the node and the secret with the model's key."""
    pod = passing("Pod")
    (key,) = {
        item["valueFrom"]["secretKeyRef"]["name"]
        for container in pod["spec"]["containers"]
        for item in container["env"]
        if "secretKeyRef" in item.get("valueFrom", {})
    }
    pod["spec"]["nodeName"] = node = "gpu-1"
    server.create(pod)
    yield node, key
    server.delete("v1", "Pod", pod["metadata"]["name"], TENANT, grace_seconds=0)


@proof("Gives the key of a model to the kubelet that runs it and to no other")
def test_only_the_node_of_the_pod_reads_the_key(server: Client, bound: tuple[str, str]) -> None:
    node, key = bound
    server.wait_for(
        lambda: rights.as_node(server, node, key, TENANT),
        "the node of the pod to be let at its secret",
        DEADLINE_SECONDS,
    )
    assert not rights.as_node(server, "gpu-2", key, TENANT)
    assert not rights.as_node(server, node, "another-secret", TENANT)
