"""What Karpenter's own core buys from the project's NodePools for the project's pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coldstart.controlplane import ControlPlane
from coldstart.planning import plan_stack
from coldstart.spec import load_stack
from tests.cluster.conftest import say
from tests.cluster.karpenter_instance_types import RESERVATION_LABEL, Reservation, named_types
from tests.cluster.karpenter_stacks import limited_to, named, objects, stack
from tests.cluster.karpenter_world import (
    CAPACITY_LABEL,
    POOL_LABEL,
    SOLD_OUT,
    TYPE_LABEL,
    ZONE_LABEL,
    World,
    label,
    world,
)
from tests.cluster.scheduling_nodes import ZONES
from tests.program.harness import ROOT

pytestmark = pytest.mark.proof("Karpenter")

PROD, DEV = "eks-prod", "eks-dev"
RESERVATION = Reservation("cr-0123456789abcdef0", "p4d.24xlarge", "us-west-2b", 1)
QWEN_8B = {
    "source": "hf://Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218",
    "nodePool": "l40s",
    "scaling": {"min": 1, "max": 6},
}
ON_SHARED_WEIGHTS = {"coldstart:models": {"qwen3-8b": {**QWEN_8B, "weights": "shared"}}}
ON_DEMAND_FIRST = {
    "coldstart:models": {"qwen3-8b": QWEN_8B},
    "coldstart:nodePools": {
        "l40s": {
            "accelerator": "nvidia-l40s-48gb",
            "capacity": ["on-demand", "spot"],
            "maxNodes": 8,
        }
    },
}


@pytest.fixture(scope="module")
def shop(plane: ControlPlane) -> World:
    return world(plane, [stack(PROD), stack(DEV)], say, [RESERVATION])


@pytest.fixture(autouse=True)
def swept(shop: World) -> Iterator[None]:
    yield
    shop.sweep()


def pool(name: str, of: str = PROD) -> dict[str, Any]:
    return named(stack(of), "NodePool", name)


def model(name: str, of: str = PROD) -> dict[str, Any]:
    (found,) = (d for d in objects(stack(of), "Deployment") if d["metadata"]["namespace"] == name)
    return found


def bought(shop: World, key: str) -> list[str]:
    return sorted(str(label(claim, key)) for claim in shop.claims())


def refusals(shop: World, namespace: str) -> str:
    """What Karpenter says of the pods it buys nothing for."""
    return " ".join(
        event["message"]
        for event in shop.events("FailedScheduling", "Pod")
        if event["involvedObject"]["namespace"] == namespace
        and event["source"].get("component") == "karpenter"
    )


def without_reserved(rendered: dict[str, Any]) -> dict[str, Any]:
    """The pool as a stack without reservations renders it."""
    for requirement in rendered["spec"]["template"]["spec"]["requirements"]:
        if requirement["key"] == CAPACITY_LABEL:
            requirement["values"].remove("reserved")
    return rendered


def refused(shop: World, namespace: str, reason: str) -> None:
    """Wait until Karpenter gives `reason`, and until it has looked at the pods twice more."""
    shop.wait(lambda: reason in refusals(shop, namespace), f'Karpenter to say "{reason}"')
    shop.considered_again(namespace, 2)


def test_a_pending_model_pod_buys_the_instance_type_the_planner_expects(shop: World) -> None:
    shop.offer(*objects(stack(PROD), "NodePool"))
    shop.serve(model("qwen3-8b"), 1)
    (pod,) = shop.running("qwen3-8b", 1)
    (claim,) = shop.registered(1)
    expected = plan_stack(load_stack(ROOT, PROD)).models["qwen3-8b"].expected_instance_type
    assert label(claim, TYPE_LABEL) == expected
    assert label(claim, POOL_LABEL) == "l40s"
    assert pod["spec"]["nodeName"] == claim["status"]["nodeName"]
    bound = shop.event("Scheduled", pod)
    assert bound["reportingComponent"] == "default-scheduler"


def test_a_node_carries_the_pools_labels_taints_and_ways_to_end(shop: World) -> None:
    rendered = pool("l40s")["spec"]["template"]
    shop.offer(pool("l40s"))
    shop.serve(model("qwen3-8b"), 1)
    shop.running("qwen3-8b", 1)
    (claim,), (node,) = shop.registered(1), shop.nodes()
    assert claim["spec"]["expireAfter"] == rendered["spec"]["expireAfter"] == "2592000s"
    assert rendered["spec"]["terminationGracePeriod"] == "3900s"
    assert claim["spec"]["terminationGracePeriod"] == "1h5m0s"
    assert rendered["metadata"]["labels"].items() <= node["metadata"]["labels"].items()
    carried = {(t["key"], t["effect"]) for t in node["spec"]["taints"]}
    wanted = [*rendered["spec"]["taints"], *rendered["spec"]["startupTaints"]]
    assert {(t["key"], t["effect"]) for t in wanted} <= carried


def test_two_replicas_share_a_node_with_gpus_for_both(shop: World) -> None:
    shop.offer(pool("a100"))
    shop.serve(model("qwen3-32b"), 2)
    pods = shop.running("qwen3-32b", 2)
    (claim,) = shop.registered(1)
    assert {pod["spec"]["nodeName"] for pod in pods} == {claim["status"]["nodeName"]}
    assert label(claim, TYPE_LABEL) == "p4d.24xlarge"


def test_replicas_that_fill_a_node_each_are_spread_over_the_zones(shop: World) -> None:
    shop.offer(pool("l40s"))
    shop.serve(model("qwen3-8b"), 3)
    shop.running("qwen3-8b", 3)
    assert bought(shop, ZONE_LABEL) == list(ZONES)


def test_reserved_is_bought_before_spot_and_spot_before_on_demand(shop: World) -> None:
    shop.offer(pool("a100"))
    served = model("qwen3-32b")
    shop.serve(served, 2)
    shop.running("qwen3-32b", 2)
    (claim,) = shop.claims()
    assert label(claim, CAPACITY_LABEL) == "reserved"
    assert label(claim, RESERVATION_LABEL) == RESERVATION.id
    shop.serve(served, 4)
    shop.running("qwen3-32b", 4)
    assert bought(shop, CAPACITY_LABEL) == ["reserved", "spot"]
    shop.karpenter.sells_out({"capacityType": "spot"})
    shop.serve(served, 6)
    shop.running("qwen3-32b", 6)
    assert bought(shop, CAPACITY_LABEL) == ["on-demand", "reserved", "spot"]


def test_spot_that_is_sold_out_at_launch_gives_way_to_on_demand(shop: World) -> None:
    shop.karpenter.sells_out({"capacityType": "spot"})
    shop.offer(without_reserved(pool("a100")))
    shop.serve(model("qwen3-32b"), 1)
    (pod,) = shop.running("qwen3-32b", 1)
    (claim,) = shop.registered(1)
    assert label(claim, CAPACITY_LABEL) == "on-demand"
    assert pod["spec"]["nodeName"] == claim["status"]["nodeName"]
    event = shop.event(SOLD_OUT)
    assert f"spot of {len(ZONES)} offerings" in event["message"]
    assert event["involvedObject"]["name"] != claim["metadata"]["name"]


def test_a_wish_to_spread_over_zones_makes_each_launch_try_one_zone_only(shop: World) -> None:
    """Karpenter takes the soft spread for a must: sold-out spot is found out zone by zone, and
    between two launches lie up to ten seconds."""
    shop.karpenter.sells_out({"capacityType": "spot"})
    shop.offer(pool("l40s"))
    shop.serve(model("qwen3-8b"), 1)
    shop.running("qwen3-8b", 1)
    types = len(named_types(pool("l40s")))
    failed = [event["message"] for event in shop.events(SOLD_OUT)]
    assert 1 <= len(failed) <= len(ZONES)
    assert all(f"spot of {types} offerings" in message for message in failed)
    assert bought(shop, CAPACITY_LABEL) == ["on-demand"]


def test_the_next_spot_type_is_tried_before_on_demand(shop: World) -> None:
    cheapest = named_types(pool("l40s"))[0]
    shop.karpenter.sells_out({"capacityType": "spot", "instanceType": cheapest})
    shop.offer(pool("l40s"))
    shop.serve(model("qwen3-8b"), 1)
    shop.running("qwen3-8b", 1)
    (claim,) = shop.claims()
    assert label(claim, CAPACITY_LABEL) == "spot"
    assert label(claim, TYPE_LABEL) in named_types(pool("l40s"))[1:]


def test_weights_give_an_order_that_is_not_karpenters_own(shop: World) -> None:
    weighted = stack(PROD, ON_DEMAND_FIRST)
    shop.offer(*objects(weighted, "NodePool"))
    served = named(weighted, "Deployment", "qwen3-8b")
    shop.serve(served, 1)
    shop.running("qwen3-8b", 1)
    assert bought(shop, POOL_LABEL) == ["l40s-on-demand"]
    assert bought(shop, CAPACITY_LABEL) == ["on-demand"]
    shop.karpenter.sells_out({"capacityType": "on-demand"})
    shop.serve(served, 2)
    shop.running("qwen3-8b", 2)
    assert bought(shop, CAPACITY_LABEL) == ["on-demand", "spot"]
    assert bought(shop, POOL_LABEL) == ["l40s-on-demand", "l40s-spot"]


@pytest.mark.parametrize("limits", [("nodes", "nvidia.com/gpu"), ("nvidia.com/gpu",)])
def test_a_batch_of_pods_stays_within_the_limit_of_gpus(
    shop: World, limits: tuple[str, ...]
) -> None:
    limited = limited_to(pool("l4", DEV), *limits)
    most = int(limited["spec"]["limits"]["nvidia.com/gpu"])
    shop.offer(limited)
    shop.serve(model("qwen3-1-7b", DEV), most + 1)
    shop.running("qwen3-1-7b", most)
    refused(shop, "qwen3-1-7b", "exceed limits for nodepool")
    assert len(shop.claims()) == most


def test_the_limit_of_nodes_holds_from_one_batch_to_the_next(shop: World) -> None:
    limited = limited_to(pool("l4", DEV), "nodes")
    most = int(limited["spec"]["limits"]["nodes"])
    shop.offer(limited)
    shop.serve(model("qwen3-1-7b", DEV), most)
    shop.running("qwen3-1-7b", most)
    shop.serve(model("qwen3-1-7b", DEV), most + 1)
    refused(shop, "qwen3-1-7b", "node limits have been exhausted")
    assert len(shop.claims()) == most


def test_the_limit_of_nodes_alone_is_overrun_by_one_batch(shop: World) -> None:
    """Why every pool limits GPUs too: kubernetes-sigs/karpenter#2915, open at v1.14.1."""
    limited = limited_to(pool("l4", DEV), "nodes")
    most = int(limited["spec"]["limits"]["nodes"])
    shop.offer(limited)
    shop.serve(model("qwen3-1-7b", DEV), most + 1)
    shop.running("qwen3-1-7b", most + 1)
    assert len(shop.claims()) == most + 1


def test_a_pod_that_fits_no_type_of_its_pool_buys_nothing(shop: World) -> None:
    """Four GPUs are offered in the region (g6e.12xlarge), and the pool does not name them."""
    served = model("qwen3-8b")
    resources = served["spec"]["template"]["spec"]["containers"][0]["resources"]
    resources["requests"]["nvidia.com/gpu"] = resources["limits"]["nvidia.com/gpu"] = "2"
    shop.offer(pool("l40s"))
    shop.serve(served, 1)
    shop.wait(lambda: refusals(shop, "qwen3-8b"), "Karpenter to refuse the pod")
    assert "no instance type" in refusals(shop, "qwen3-8b")
    assert shop.claims() == []


def why_not_initialized(shop: World) -> list[str]:
    conditions = [c for claim in shop.claims() for c in claim["status"]["conditions"]]
    return [c["reason"] for c in conditions if c["type"] == "Initialized"]


def test_a_pod_that_waits_for_a_startup_taint_buys_no_second_node(shop: World) -> None:
    shared = stack(PROD, ON_SHARED_WEIGHTS)
    shop.settle(shared, "PersistentVolume", "PersistentVolumeClaim")
    shop.offer(pool("l40s"))
    shop.serve(named(shared, "Deployment", "qwen3-8b"), 1)
    shop.registered(1)
    shop.considered_again("qwen3-8b", 3)
    shop.wait(lambda: why_not_initialized(shop) == ["StartupTaintsExist"], "the taints to be seen")
    (claim,), (pod,) = shop.claims(), shop.pods("qwen3-8b")
    assert "nodeName" not in pod["spec"]
    shop.take_off_startup_taints(pool("l40s"))
    (pod,) = shop.running("qwen3-8b", 1)
    assert pod["spec"]["nodeName"] == claim["status"]["nodeName"]
    assert len(shop.claims()) == 1


def test_a_replica_takes_the_warm_node_and_only_the_reserve_buys_a_new_one(shop: World) -> None:
    shop.offer(pool("l40s"))
    shop.serve(model("warm-capacity"), 1)
    (reserve,) = shop.running("warm-capacity", 1)
    (warm,) = shop.initialized(pool("l40s"), 1)
    assert reserve["spec"]["nodeName"] == warm["status"]["nodeName"]
    shop.serve(model("qwen3-8b"), 1)
    (pod,) = shop.running("qwen3-8b", 1)
    assert pod["spec"]["nodeName"] == warm["status"]["nodeName"]
    (again,) = shop.running("warm-capacity", 1)
    assert again["spec"]["nodeName"] != warm["status"]["nodeName"]
    assert len(shop.claims()) == 2
