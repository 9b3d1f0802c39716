"""A fresh control plane per test file, a fresh namespace per test."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldstart.controlplane import Client, ControlPlane

# What takes longest begins first, or one worker would be at it when all others are done.
LONGEST_FIRST = (
    "whole-stack-faults",
    "life-of-eks-prod-infra",
    "life-of-eks-dev",
    "life-of-eks-prod",
    "test_cluster_faults",
    "test_keda",
    "test_life_on_a_cluster",
    "test_up_command",
    "test_karpenter_buying",
    "test_karpenter_removal",
    "test_keda_http",
    "test_control_plane_life",
    "test_definitions",
)

# A namespace is emptied by the controller-manager, which on a busy machine takes its time.
NAMESPACE_DEADLINE_SECONDS = 90


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "proof(part, statement): which real part proves what; without a statement the name of the"
        " test is the statement",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of one group, by default a file, go to one worker: they share a control plane."""
    if not hasattr(config, "workerinput"):
        return
    rank = {group: number for number, group in enumerate(LONGEST_FIRST)}
    for item in items:
        ours = item.path.parent == Path(__file__).parent
        if ours and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: rank.get(_group(item), len(rank)))


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker else ""


def say(message: str) -> None:
    """Progress of a build, past pytest's capture of standard output."""
    print(message, file=sys.__stderr__, flush=True)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(say) as running:
        yield running


@pytest.fixture(scope="module")
def admin(plane: ControlPlane) -> Client:
    return plane.admin


@pytest.fixture(scope="module")
def with_definitions(admin: Client) -> Client:
    """The admin client, once every custom resource definition of the project is installed."""
    from coldstart.controlplane import definitions

    definitions.install(admin)
    return admin


@pytest.fixture
def namespace(admin: Client) -> Iterator[str]:
    """A namespace whose default service account is there already; deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    admin.wait_for(
        lambda: admin.get("v1", "ServiceAccount", "default", name),
        f"the default service account of {name}",
        NAMESPACE_DEADLINE_SECONDS,
    )
    yield name
    # The namespace controller waits 5 s before it empties a namespace. From the deletion on nothing
    # can be created in it, so its pods, which hold room on nodes, are removed here at once.
    admin.delete("v1", "Namespace", name, wait=False)
    pods = admin.path("v1", "Pod", None, name)
    admin.request("DELETE", pods, {"gracePeriodSeconds": 0})
    admin.wait_for(
        lambda: not admin.list("v1", "Pod", name),
        f"the pods of {name} to be gone",
        NAMESPACE_DEADLINE_SECONDS,
    )
