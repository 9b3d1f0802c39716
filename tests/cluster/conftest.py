"""A fresh control plane per test file, a fresh namespace per test."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from coldstart.controlplane import Client, ControlPlane
from tests.cluster.controllers import takes_pods

# What takes longest begins first, or one worker would be at it when all others are done.
LONGEST_FIRST = (
    "faults of a whole stack",
    "test_cluster_faults.py",
    "life of eks-prod-infra",
    "life of eks-dev",
    "life of eks-prod",
    "test_keda.py",
    "test_life_on_a_cluster.py",
    "test_up_command.py",
    "test_karpenter_buying.py",
    "test_karpenter_removal.py",
    "test_keda_http.py",
    "test_control_plane_life.py",
    "test_definitions.py",
)
WHOLE_STACK_FAULTS = ("test_an_up_of_a_stack_outlives", "test_an_up_succeeds_while_every_tenth")

# A namespace is emptied by the controller-manager, which on a busy machine takes its time.
NAMESPACE_DEADLINE_SECONDS = 90


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "proof(part, statement): which real part proves what; without a statement the name of the"
        " test is the statement",
    )


def group_of(nodeid: str) -> str:
    """Tests of one group go to one worker, where they share a control plane: mostly a file."""
    path, _, test = nodeid.partition("::")
    file = path.rpartition("/")[2]
    if test.startswith(WHOLE_STACK_FAULTS):
        return "faults of a whole stack"
    if file == "test_every_stack.py":
        # A workload stack is led through its life while its infra stack is up.
        return "life of " + test.partition("[")[2].rstrip("]").replace("-workload", "-infra")
    return file


class ByControlPlane(LoadScopeScheduling):
    """Gives workers a group at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByControlPlane:
    """Asked for when there are several workers."""
    return ByControlPlane(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest groups first, where workers share the tests."""
    if hasattr(config, "workerinput"):
        rank = {group: number for number, group in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: rank.get(group_of(item.nodeid), len(rank)))


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
        lambda: takes_pods(admin, name), f"{name} to take pods", NAMESPACE_DEADLINE_SECONDS
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
