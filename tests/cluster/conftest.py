"""A fresh control plane per test file, a fresh namespace per test."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator

import pytest

from coldstart.controlplane import Client, ControlPlane

# A namespace is emptied by the controller-manager, which on a busy machine takes its time.
NAMESPACE_DEADLINE_SECONDS = 90


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "proof(part, statement): which real part proves what; without a statement the name of the"
        " test is the statement",
    )


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
