"""When Karpenter's own core takes nodes of the project's NodePools away, and when it does not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime

import pytest

from coldstart.controlplane import ControlPlane
from tests.cluster.conftest import say
from tests.cluster.karpenter_stacks import hurried, named, stack
from tests.cluster.karpenter_world import Object, World, condition, world

pytestmark = pytest.mark.proof("Karpenter")

PROD = "eks-prod"
CONSOLIDATE_AFTER_SECONDS = 3
"""Instead of ten minutes."""
REMOVAL_DEADLINE_SECONDS = 150
"""Karpenter looks for empty nodes every 10 s and looks again after 15 s; a drain takes 5 s more."""
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
DISRUPTING = "disrupting node(s)"
"""What Karpenter logs of each command to remove nodes (pkg/controllers/disruption/queue.go)."""
ALLOWED = "karpenter_nodepools_allowed_disruptions"
"""The metric with the nodes that the pool's budgets let go now."""
TENANT = "qwen3-8b"


@pytest.fixture(scope="module")
def shop(plane: ControlPlane) -> World:
    return world(plane, [stack(PROD)], say)


@pytest.fixture(autouse=True)
def swept(shop: World) -> Iterator[None]:
    yield
    shop.sweep()


def pool(**periods: str) -> Object:
    return hurried(named(stack(PROD), "NodePool", "l40s"), **periods)


def model(*, protected_for: str | None = None, grace_seconds: int | None = None) -> Object:
    """The rendered Deployment; the periods it sets can be changed by name."""
    found = copy.deepcopy(named(stack(PROD), "Deployment", TENANT))
    template = found["spec"]["template"]
    if protected_for is not None:
        assert DO_NOT_DISRUPT in template["metadata"]["annotations"]
        template["metadata"]["annotations"][DO_NOT_DISRUPT] = protected_for
    if grace_seconds is not None:
        assert "terminationGracePeriodSeconds" in template["spec"]
        template["spec"]["terminationGracePeriodSeconds"] = grace_seconds
    return found


def reserve() -> Object:
    return named(stack(PROD), "Deployment", "l40s")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def names(claims: list[Object]) -> set[str]:
    return {claim["metadata"]["name"] for claim in claims}


def claim_of(shop: World, pod: Object) -> str:
    (found,) = (
        c["metadata"]["name"]
        for c in shop.claims()
        if c.get("status", {}).get("nodeName") == pod["spec"]["nodeName"]
    )
    return found


def told(shop: World, reason: str, kind: str, name: str) -> list[str]:
    return [
        event["message"]
        for event in shop.events(reason, kind)
        if event["involvedObject"]["name"] == name
    ]


def test_all_empty_nodes_may_go_at_once_and_loading_and_warm_ones_stay(shop: World) -> None:
    bought = pool(consolidate_after=f"{CONSOLIDATE_AFTER_SECONDS}s")
    shop.offer(bought)
    shop.serve(model(), 3)
    shop.running(TENANT, 3)
    # Later than the replicas, or it would give its node to one of them.
    shop.serve(reserve(), 1)
    (warm,) = shop.running("warm-capacity", 1)
    before = names(shop.initialized(bought, 4))
    said = len(shop.karpenter.lines(DISRUPTING))
    shop.serve(model(), 1)
    (loading,) = shop.running(TENANT, 1)
    kept = {claim_of(shop, warm), claim_of(shop, loading)}
    most_allowed = 0.0

    def gone() -> bool:
        nonlocal most_allowed
        allowed = shop.karpenter.metric(ALLOWED, nodepool="l40s", reason="Empty")
        most_allowed = max(most_allowed, allowed or 0)
        return len(shop.claims()) == 2

    shop.wait(gone, "two NodeClaims to go", REMOVAL_DEADLINE_SECONDS)
    assert names(shop.claims()) == kept
    assert most_allowed >= len(before) == 4
    commands = shop.karpenter.lines(DISRUPTING)[said:]
    assert {command["decision"] for command in commands} == {"delete"}
    removed = [each["NodeClaim"]["name"] for c in commands for each in c["disrupted-nodes"]]
    assert set(removed) == before - kept
    name = loading["metadata"]["name"]
    shop.wait(
        lambda: told(shop, "DoNotDisruptUntil", "Pod", name),
        "Karpenter to say until when it spares the loading pod",
    )
    assert names(shop.claims()) == kept


def test_a_node_may_go_only_when_no_pod_came_or_went_for_a_while(shop: World) -> None:
    bought = pool(consolidate_after=f"{CONSOLIDATE_AFTER_SECONDS}s")
    shop.offer(bought)
    shop.serve(model(), 1)
    shop.running(TENANT, 1)
    shop.initialized(bought, 1)
    shop.serve(model(), 0)
    (claim,) = shop.wait(
        lambda: [c for c in shop.claims() if condition(c, "Consolidatable") == "True"],
        "the empty node to become consolidatable",
    )
    (allowed,) = (c for c in claim["status"]["conditions"] if c["type"] == "Consolidatable")
    last_pod = moment(claim["status"]["lastPodEventTime"])
    waited = moment(allowed["lastTransitionTime"]) - last_pod
    assert waited.total_seconds() >= CONSOLIDATE_AFTER_SECONDS


def test_a_drifted_pool_is_renewed_node_by_node(shop: World) -> None:
    bought = pool()
    served = model(protected_for="1s")
    shop.offer(bought)
    shop.serve(served, 2)
    shop.running(TENANT, 2)
    old = names(shop.initialized(bought, 2))
    bought["spec"]["template"]["metadata"]["labels"]["simulated.coldstart.dev/drift"] = "now"
    shop.offer(bought)
    most = 0

    def renewed() -> bool:
        nonlocal most
        shop.take_off_startup_taints(bought)
        claims = shop.claims()
        going = [
            claim
            for claim in claims
            if disrupted(claim)
            and claim["metadata"]["name"] in old
            # What the cloud has begun to end no longer counts against the budget.
            and condition(claim, "InstanceTerminating") != "True"
        ]
        most = max(most, len(going))
        return not names(claims) & old and len(claims) == 2

    shop.wait(renewed, "both nodes to be renewed", 2 * REMOVAL_DEADLINE_SECONDS)
    assert most == 1
    shop.running(TENANT, 2)


def disrupted(claim: Object) -> bool:
    return condition(claim, "DisruptionReason") == "True" or (
        "deletionTimestamp" in claim["metadata"]
    )


def test_a_loading_pod_keeps_its_drifted_node_until_its_time_is_up(shop: World) -> None:
    bought = pool()
    shop.offer(bought)
    shop.serve(model(), 1)
    (claim,) = shop.initialized(bought, 1)
    bought["spec"]["template"]["metadata"]["labels"]["simulated.coldstart.dev/drift"] = "now"
    shop.offer(bought)
    # Not earlier: the taint eviction controller evicts a pod that it sees before it sees that the
    # node has lost `karpenter.sh/unregistered:NoExecute`. Not later: nothing drains before the new
    # node has lost its startup taints, below.
    (loading,) = shop.running(TENANT, 1)

    def draining() -> list[str]:
        shop.take_off_startup_taints(bought)
        return told(shop, "FailedDraining", "Node", claim["status"]["nodeName"])

    shop.wait(draining, "Karpenter to wait for the pod", REMOVAL_DEADLINE_SECONDS)
    (still,) = shop.running(TENANT, 1)
    assert still["metadata"]["uid"] == loading["metadata"]["uid"], shop.picture()
    over = {"metadata": {"annotations": {DO_NOT_DISRUPT: "1s"}}}
    shop.admin.patch("v1", "Pod", loading["metadata"]["name"], over, TENANT)

    def moved() -> bool:
        shop.take_off_startup_taints(bought)
        return claim["metadata"]["name"] not in names(shop.claims())

    shop.wait(moved, "the drifted node to go", REMOVAL_DEADLINE_SECONDS)
    (other,) = shop.running(TENANT, 1)
    assert other["metadata"]["uid"] != loading["metadata"]["uid"]


def test_an_expired_node_goes_even_when_its_pod_refuses(shop: World) -> None:
    # The pod must run before its node's life is over.
    life_seconds, drain_seconds, pod_seconds = 30, 26, 20
    bought = pool(expire_after=f"{life_seconds}s", termination_grace=f"{drain_seconds}s")
    shop.offer(bought)
    shop.serve(model(protected_for="1h", grace_seconds=pod_seconds), 1)
    (claim,) = shop.registered(1)
    shop.running(TENANT, 1)
    # Of each: one that was evicted before its node was seen as registered has another in its place.
    on_node: set[str] = set()

    def gone() -> bool:
        shop.take_off_startup_taints(bought)
        on_node.update(
            pod["metadata"]["name"]
            for pod in shop.pods(TENANT)
            if pod["spec"].get("nodeName") == claim["status"]["nodeName"]
        )
        return claim["metadata"]["name"] not in names(shop.claims())

    shop.wait(gone, "the expired node to go", REMOVAL_DEADLINE_SECONDS)
    (ended,) = (
        event
        for event in shop.events("Disrupted", "Pod")
        if event["involvedObject"]["name"] in on_node
    )
    lived = moment(ended["firstTimestamp"]) - moment(claim["metadata"]["creationTimestamp"])
    assert lived.total_seconds() >= life_seconds + drain_seconds - pod_seconds
    assert "bypasses the PDB of the pod and the do-not-disrupt annotation" in ended["message"]
    shop.running(TENANT, 1)
