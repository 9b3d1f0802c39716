"""The API server takes the project's objects and refuses wrong ones, for the reason it should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from coldstart.controlplane import Applied, Client, Refused, definitions
from tests.cluster import refusal_examples as examples
from tests.cluster.controllers import counted, takes_pods
from tests.cluster.refusal_core import FIXED, MISSPELT, VALUES
from tests.cluster.refusal_custom import DESCRIBED, SCALING
from tests.cluster.refusal_karpenter import NODE_CLASSES, NODE_POOLS
from tests.cluster.refusal_pods import ADMISSION, GPU, POD_SECURITY, POD_SECURITY_OF_OTHERS
from tests.cluster.refusal_rows import (
    Object,
    Row,
    changed,
    made_first,
    sent,
    unexplained,
)
from tests.cluster.rendered_objects import bare_pod, dev_nodes, fleet

RULES = (*NODE_CLASSES, *NODE_POOLS, *SCALING)
PODS = (*POD_SECURITY, *POD_SECURITY_OF_OTHERS)
SETTING = ("Namespace", "PriorityClass", "ServiceAccount", "ResourceQuota")
"""Kinds that say what a pod may be, so they are there before any is tried."""
DEADLINE_SECONDS = 60
QUOTA_DEADLINE_SECONDS = 90
"""The quota controller may wait 30 s for kinds that came and went."""


def proof(statement: str) -> pytest.MarkDecorator:
    return pytest.mark.proof("API server", statement)


def each(rows: Sequence[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.what for row in rows])


@pytest.fixture(scope="module")
def server(admin: Client) -> Client:
    """The API server with our own definitions, namespaces, accounts, quotas and priorities."""
    definitions.install(admin, published=None)
    setting = [item for item in (*fleet(), *dev_nodes()) if item["kind"] in SETTING]
    for item in setting:
        admin.apply(item)
    for item in setting:
        metadata = item["metadata"]
        what = f"{item['kind']} {metadata['name']} to be ready"
        admin.wait_for(lambda wanted=item: _ready(admin, wanted), what, DEADLINE_SECONDS)
    return admin


def _ready(client: Client, item: Object) -> bool:
    """Whether controllers have done their part: counted a quota, made a namespace's account."""
    if item["kind"] == "Namespace":
        return takes_pods(client, item["metadata"]["name"])
    return item["kind"] != "ResourceQuota" or counted(client, item)


VARIANTS = {
    "own": None,
    **({"published": definitions.PUBLISHED} if definitions.PUBLISHED.is_dir() else {}),
}
"""Our own definitions, and published ones where they are at hand: both must say the same."""


@pytest.fixture(scope="module")
def answers(server: Client) -> dict[str, dict[str, Applied | Refused]]:
    """By variant of the definitions, what the server says of each row and passing object."""
    names = [definitions.name_of(item) for item in definitions.own_definitions()]
    found = {}
    # Our own last, as the other tests have it.
    for variant, published in reversed(VARIANTS.items()):
        for name in names:
            # A changed definition takes a moment to act; a new one acts once it is served.
            server.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
        definitions.install(server, names, published=published)
        taken = {name: sent(server, examples.passing(name)) for name in examples.NAMES}
        found[variant] = taken | {row.what: answer_to(server, row) for row in DESCRIBED}
    return found


def answer_to(client: Client, row: Row) -> Applied | Refused:
    """What the server says of the row's object."""
    passing = examples.passing(row.passing)
    with made_first(client, row, passing):
        return sent(client, changed(passing, row.changes), create=row.strict_create)


def judge(row: Row, answer: Applied | Refused) -> None:
    """Refused in the row's way, for the row's reason and no other."""
    assert isinstance(answer, Refused), f"taken, although wrong: {row.what}"
    assert (answer.status, answer.reason) == row.refusal, answer.message
    assert [text for text in row.says if text not in answer.message] == [], answer.message
    assert unexplained(answer, row) == []


@proof("Takes the project's own object of every kind that is spoilt below, without a warning")
@pytest.mark.parametrize("name", examples.NAMES)
def test_the_passing_object_is_taken_without_a_warning(
    answers: dict[str, dict[str, Applied | Refused]], name: str
) -> None:
    assert answers.keys() == VARIANTS.keys()
    for said in answers.values():
        answer = said[name]
        assert isinstance(answer, Applied), answer
        assert answer.warnings == ()


@proof("Refuses wrong node classes, node pools and scaled objects by the rules of Karpenter, KEDA")
@each(RULES)
def test_a_published_rule_refuses(server: Client, row: Row) -> None:
    judge(row, answer_to(server, row))


@proof("Refuses wrong AKSNodeClasses, ComputeClasses, InferencePools, PodMonitors, PrometheusRules")
@each(DESCRIBED)
def test_our_own_definition_and_a_published_one_refuse(
    answers: dict[str, dict[str, Applied | Refused]], row: Row
) -> None:
    for said in answers.values():
        judge(row, said[row.what])


@proof("Pod Security restricted refuses a pod with any of the host's powers")
@each(PODS)
def test_pod_security_refuses(server: Client, row: Row) -> None:
    judge(row, answer_to(server, row))


@proof("Warns of a Deployment whose pods Pod Security will refuse")
@each(POD_SECURITY)
def test_pod_security_warns_of_a_deployment_with(server: Client, row: Row) -> None:
    template = {("spec", "template", *place): value for place, value in row.changes.items()}
    wrong = changed(examples.passing("Deployment"), template)
    (warning,) = server.apply(wrong, dry_run=True, force=True).warnings
    assert 'would violate PodSecurity "restricted:latest"' in warning
    assert [text for text in row.says[1:] if text not in warning] == []


@proof("Refuses pods beyond the GPU quota, or with unknown priority, account or namespace")
@each(ADMISSION)
def test_admission_refuses(server: Client, row: Row) -> None:
    judge(row, answer_to(server, row))


@proof("Refuses wrong values in Deployments, Jobs, policies, Services, budgets and volumes")
@each(VALUES)
def test_validation_refuses(server: Client, row: Row) -> None:
    judge(row, answer_to(server, row))


@proof("Refuses a change of what cannot be changed")
@each(FIXED)
def test_a_change_is_refused_of(server: Client, row: Row) -> None:
    judge(row, answer_to(server, row))


@proof("Refuses misspelt fields and versions that are gone")
@each(MISSPELT)
def test_strict_validation_refuses(server: Client, row: Row) -> None:
    judge(row, answer_to(server, row))


@pytest.fixture
def running(server: Client) -> Iterator[list[Object]]:
    """As many one-GPU pods as the project's quota of the namespace allows."""
    pod = examples.passing("Pod")
    quota = examples.passing("ResourceQuota")["spec"]["hard"][f"requests.{GPU}"]
    pods = [changed(pod, {("metadata", "name"): f"near-{number}"}) for number in range(int(quota))]
    metadata = examples.passing("ResourceQuota")["metadata"]

    def free() -> bool:
        found = server.get("v1", "ResourceQuota", metadata["name"], metadata["namespace"]) or {}
        return found["status"]["used"][f"requests.{GPU}"] == "0"

    # What other tests had is given back some time after their pods are gone.
    server.wait_for(free, "a quota of which nothing is used", QUOTA_DEADLINE_SECONDS)
    for item in pods:
        server.create(item)
    yield pods
    for item in pods:
        metadata = item["metadata"]
        server.delete("v1", "Pod", metadata["name"], metadata["namespace"], grace_seconds=0)


@proof("Counts the GPUs of running pods and refuses the first pod beyond the quota")
def test_a_full_quota_refuses_one_pod_more(server: Client, running: list[Object]) -> None:
    with pytest.raises(Refused) as refusal:
        server.create(examples.passing("Pod"))
    full = len(running)
    assert refusal.value.status == 403
    assert (
        f"exceeded quota: gpus, requested: requests.{GPU}=1, used: requests.{GPU}={full}, "
        f"limited: requests.{GPU}={full}"
    ) in refusal.value.message


@proof("A GPU quota leaves pods alone that ask for no GPU")
def test_a_full_quota_takes_a_pod_without_a_gpu(server: Client, running: list[Object]) -> None:
    assert server.create(examples.passing("Pod of a Job"), dry_run=True).warnings == ()


DEPRECATED = {
    "endpoints by hand": (
        lambda: {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "near", "namespace": "near"},
            "subsets": [],
        },
        "v1 Endpoints is deprecated in v1.33+",
    ),
    "a node label of the beta": (
        lambda: changed(
            examples.passing("Deployment"),
            {("spec", "template", "spec", "nodeSelector", "beta.kubernetes.io/os"): "linux"},
        ),
        "deprecated since v1.14",
    ),
    "a zone label of the beta": (
        lambda: changed(
            examples.passing("Deployment"),
            {
                (
                    "spec",
                    "template",
                    "spec",
                    "topologySpreadConstraints",
                    0,
                    "topologyKey",
                ): "failure-domain.beta.kubernetes.io/zone"
            },
        ),
        "deprecated since v1.17",
    ),
}


@proof("Warns of what is deprecated, so a warning tells it from what is not")
@pytest.mark.parametrize("what", DEPRECATED)
def test_the_server_warns_of(server: Client, what: str) -> None:
    deprecated, says = DEPRECATED[what]
    warnings = server.apply(deprecated(), dry_run=True, force=True).warnings
    assert [text for text in warnings if says in text], warnings


TAKEN: dict[str, tuple[str, dict[tuple[str | int, ...], Any]]] = {
    "an idle replica count above the least": ("ScaledObject", {("spec", "idleReplicaCount"): 2}),
    "a target that does not exist": (
        "ScaledObject",
        {("spec", "scaleTargetRef", "name"): "nobody"},
    ),
    "a trigger that KEDA does not have": (
        "ScaledObject",
        {("spec", "triggers", 0, "type"): "prometeus"},
    ),
    "a trigger without its query": (
        "ScaledObject",
        {("spec", "triggers", 0, "metadata"): {"serverAddress": "http://prometheus"}},
    ),
    "a quota on GPUs that counts nothing, for want of requests.": (
        "ResourceQuota",
        {("spec", "hard"): {GPU: "4"}},
    ),
    "an instance type that does not exist": (
        "NodePool",
        {("spec", "template", "spec", "requirements", 0, "values"): ["p9.huge"]},
    ),
}
"""Wrong as they are, only KEDA's webhook, a controller or nobody says so: the reason for policies
and for the planner's own checks."""


@proof("Takes some wrong objects too, which is what the policies and the planner are there for")
@pytest.mark.parametrize("what", TAKEN)
def test_the_server_does_not_see(server: Client, what: str) -> None:
    name, changes = TAKEN[what]
    server.apply(changed(examples.passing(name), changes), dry_run=True, force=True)


@proof("A quota written without requests. is taken and counts nothing")
def test_a_quota_without_requests_in_front_stops_nobody(server: Client, namespace: str) -> None:
    quota = {"name": "gpus", "namespace": namespace}
    hard = {GPU: "0"}
    made = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": quota, "spec": {"hard": hard}}
    server.apply(made)
    server.wait_for(lambda: _ready(server, made), "the quota to be counted", DEADLINE_SECONDS)
    pod = bare_pod(examples.passing("Deployment"))
    pod["metadata"]["namespace"] = namespace
    del pod["spec"]["serviceAccountName"]
    server.create(pod, dry_run=True)
