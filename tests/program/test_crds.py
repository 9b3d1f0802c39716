"""The checker refuses what a cluster would refuse, and lets through what it would take.

The wrong objects are those that tests/cluster sends to a real API server: what `make test` says
without a cluster is what the cluster says.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.cluster.refusal_core import FIXED, MISSPELT, VALUES
from tests.cluster.refusal_custom import DESCRIBED, SCALING
from tests.cluster.refusal_examples import passing
from tests.cluster.refusal_karpenter import NODE_CLASSES, NODE_POOLS
from tests.cluster.refusal_pods import ADMISSION, POD_SECURITY, POD_SECURITY_OF_OTHERS
from tests.cluster.refusal_rows import INVALID, REMOVED, UNTYPED, Place, Row, changed
from tests.program import crds

KINDS = (
    "AKSNodeClass",
    "ComputeClass",
    "EC2NodeClass",
    "EC2NodeClass of a snapshot",
    "EC2NodeClass of reservations",
    "HTTPScaledObject",
    "InferencePool",
    "InterceptorRoute",
    "NodePool",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "TriggerAuthentication",
)


def _row(what: str, kind: str, place: Place, value: Any, says: str) -> Row:
    return Row(what, kind, {place: value}, INVALID, (says,))


OTHERS = (
    _row(
        "an unknown field at any depth",
        "NodePool",
        ("spec", "disruption", "consolidateafter"),
        "300s",
        "spec.disruption.consolidateafter: unknown field",
    ),
    _row(
        "an unknown field of the metadata",
        "EC2NodeClass",
        ("metadata", "labls"),
        {"a": "b"},
        "unknown field",
    ),
    _row(
        "a namespaced object without its namespace",
        "ScaledObject",
        ("metadata", "namespace"),
        REMOVED,
        "metadata.namespace: Required value",
    ),
    _row(
        "a version that nobody serves",
        "EC2NodeClass",
        ("apiVersion",),
        "karpenter.k8s.aws/v1beta1",
        'no definition serves apiVersion "karpenter.k8s.aws/v1beta1"',
    ),
)
"""What an API server says before, or in other words than, the definition's."""
ROWS = {
    row.what: row
    for row in (*NODE_CLASSES, *NODE_POOLS, *SCALING, *DESCRIBED, *OTHERS)
    # Nothing is there yet that the checker could compare with.
    if not row.update
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, list[str]]:
    """All messages by what is wrong, from one run of the checker."""
    objects = []
    for index, row in enumerate(ROWS.values()):
        objects.append(changed(passing(row.passing), row.changes))
        objects[-1]["metadata"]["name"] = f"case-{index}"
    lines = crds.check(objects)
    return {
        what: [line for line in lines if f" case-{index}: " in line]
        for index, what in enumerate(ROWS)
    }


def test_good_objects_of_every_kind_pass() -> None:
    assert crds.check([passing(name) for name in KINDS]) == []
    assert {row.passing for row in ROWS.values()} <= set(KINDS)


@pytest.mark.parametrize("what", ROWS)
def test_the_checker_refuses(what: str, verdicts: dict[str, list[str]]) -> None:
    row = ROWS[what]
    assert verdicts[what]
    if row.refusal != UNTYPED:
        text = "\n".join(verdicts[what])
        assert [says for says in row.says if says not in text] == []


def test_each_wrong_object_is_refused_for_what_is_wrong_alone(
    verdicts: dict[str, list[str]],
) -> None:
    unexplained = {
        what: line
        for what, lines in verdicts.items()
        for line in lines
        if len(lines) > 1 and not any(says in line for says in ROWS[what].says)
    }
    assert unexplained == {}


def test_whole_numbers_are_sent_as_the_provider_sends_them() -> None:
    scaled = copy.deepcopy(passing("ScaledObject"))
    scaled["spec"]["maxReplicaCount"] = 4.0
    assert crds.check([scaled]) == []


def test_nothing_to_check_needs_no_checker() -> None:
    assert crds.check([]) == []


def test_the_tables_of_wrong_objects_hold_many_and_none_twice() -> None:
    pods = (*POD_SECURITY, *POD_SECURITY_OF_OTHERS, *ADMISSION)
    custom = (*NODE_CLASSES, *NODE_POOLS, *SCALING, *DESCRIBED)
    rows = (*custom, *pods, *VALUES, *FIXED, *MISSPELT)
    assert len({row.what for row in rows}) == len(rows) >= 120
