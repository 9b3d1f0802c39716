"""What examples cannot say of rules on nodes: values not known yet, and pools that hold GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from policies.examples import Edit, examples_of
from policies.reading.node_pools import is_gpu_pool, is_node_pool, is_node_pool_type
from policies.reading.values import Resource, Unknown
from policies.rule import Outcome, verdict
from policies.rules.nodes_peer_mirrors import FORBID_MIRROR_ON_BOTTLEROCKET
from policies.rules.nodes_snapshots import REQUIRE_INITIALIZATION_RATE

RATE = "0/spec/blockDeviceMappings/1/ebs/volumeInitializationRate"
LABELS = "karpenter.k8s.aws/instance"


def test_a_snapshot_may_yet_be_the_one_that_is_restored_fast():
    examples = examples_of(REQUIRE_INITIALIZATION_RATE.name)
    unknown = Edit(values={"1/snapshotId": Unknown(("weights", "snapshotId"))}, removed=(RATE,))
    outcome = verdict(REQUIRE_INITIALIZATION_RATE, examples.after(unknown))
    assert outcome.findings == () and outcome.undecided == (("weights", "snapshotId"),)


@pytest.mark.parametrize("field", ["nodeClassRef/name", "taints/0"])
def test_spegel_may_yet_reach_bottlerocket_through_a_pool_that_is_not_known(field: str):
    examples = examples_of(FORBID_MIRROR_ON_BOTTLEROCKET.name)
    unknown = Edit(
        values={
            f"1/spec/template/spec/{field}": Unknown(("gpu", field)),
            "2/values": {"tolerations": []},
        }
    )
    outcome = verdict(FORBID_MIRROR_ON_BOTTLEROCKET, examples.after(unknown))
    assert outcome.findings == () and outcome.undecided == (("gpu", field),)


@pytest.mark.parametrize(("values", "found"), [({"tolerations": []}, 0), ({}, 1)])
def test_a_pool_that_is_not_known_hides_nothing_about_one_that_is(values: Any, found: int):
    examples = examples_of(FORBID_MIRROR_ON_BOTTLEROCKET.name)
    known = examples.after(Edit(values={"2/values": values}))
    name = ("other", "name")
    other = examples.after(Edit(values={"1/spec/template/spec/nodeClassRef/name": Unknown(name)}))[
        1
    ]
    outcome = verdict(FORBID_MIRROR_ON_BOTTLEROCKET, [*known, other])
    assert len(outcome.findings) == found and bool(outcome.undecided) is not bool(found)


def test_a_chart_that_is_not_known_is_no_question_where_no_node_is_defined():
    chart = Resource("kubernetes:helm.sh/v3:Release", "chart", {"chart": Unknown(("chart",))})
    assert verdict(FORBID_MIRROR_ON_BOTTLEROCKET, [chart]) == Outcome((), ())


def node_pool(*requirements: tuple[str, str, list[str]], taint: str = "") -> Resource:
    items = [
        {"key": key, "operator": operator, "values": values}
        for key, operator, values in requirements
    ]
    spec: dict[str, Any] = {"requirements": items, "taints": [{"key": taint}] if taint else []}
    return Resource(
        "kubernetes:karpenter.sh/v1:NodePool", "pool", {"spec": {"template": {"spec": spec}}}
    )


@pytest.mark.parametrize(
    "pool",
    [
        node_pool(taint="nvidia.com/gpu"),
        node_pool(taint="amd.com/gpu"),
        node_pool((f"{LABELS}-category", "In", ["g", "p"])),
        node_pool((f"{LABELS}-family", "In", ["p6-b200", "gr6"])),
        node_pool(("node.kubernetes.io/instance-type", "In", ["g9x.xlarge"])),
        node_pool((f"{LABELS}-gpu-name", "In", ["l4"])),
        node_pool((f"{LABELS}-gpu-count", "Gt", ["0"])),
        node_pool((f"{LABELS}-gpu-manufacturer", "Exists", [])),
    ],
)
def test_a_pool_that_can_only_buy_gpus_is_a_gpu_pool(pool: Resource):
    assert is_gpu_pool(pool)


@pytest.mark.parametrize(
    "pool",
    [
        node_pool(),
        node_pool(taint="dedicated"),
        node_pool((f"{LABELS}-category", "In", ["g", "m"])),
        node_pool((f"{LABELS}-category", "NotIn", ["g"])),
        node_pool((f"{LABELS}-category", "In", [])),
        node_pool((f"{LABELS}-family", "In", ["m7g", "c7gn"])),
        node_pool((f"{LABELS}-family", "In", ["g6", "m7i"])),
        node_pool(("node.kubernetes.io/instance-type", "In", ["m7i.large"])),
        node_pool((f"{LABELS}-gpu-count", "In", ["0"])),
        node_pool((f"{LABELS}-gpu-count", "DoesNotExist", [])),
        node_pool(("kubernetes.io/arch", "In", ["arm64"])),
    ],
)
def test_a_pool_that_may_buy_something_else_is_no_gpu_pool(pool: Resource):
    assert not is_gpu_pool(pool)


def test_node_pools_of_other_groups_are_other_things():
    own = node_pool()
    other = Resource("kubernetes:hypershift.openshift.io/v1beta1:NodePool", "pool", {})
    claim = Resource("kubernetes:karpenter.sh/v1:NodeClaim", "claim", {})
    assert [is_node_pool(item) for item in (own, other, claim)] == [True, False, False]
    assert [is_node_pool_type(item.type) for item in (own, other, claim)] == [True, False, False]
    assert is_node_pool_type("kubernetes:karpenter.sh/v1:NodePoolPatch")
