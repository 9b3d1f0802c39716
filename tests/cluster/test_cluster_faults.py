"""What goes wrong with a cluster in the middle of an up, and that the next up puts it right."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coldstart.controlplane import Client, ControlPlane
from coldstart.engine import Rehearsal, Result, Toolchain, ensure
from coldstart.engine.run import STATE_AT_THE_END
from tests.cluster.conftest import say
from tests.cluster.stack_cluster import (
    ROOT,
    access_to,
    everything,
    key_of,
    made_by,
    settled_as,
    stays,
    untouched,
)
from tests.cluster.stack_given import Given, Item, item
from tests.cluster.stack_proxy import Bad, proxy

# Namespaces come early, ConfigMaps in the middle, Deployments late.
WATCHED = (("v1", "Namespace"), ("v1", "ConfigMap"), ("v1", "ServiceAccount"), ("v1", "Secret"),
           ("v1", "Service"), ("v1", "ResourceQuota"), ("networking.k8s.io/v1", "NetworkPolicy"),
           ("scheduling.k8s.io/v1", "PriorityClass"), ("apps/v1", "Deployment"))  # fmt: skip
REACHED_DEADLINE_SECONDS = 120
SHORT_PATIENCE_SECONDS = 6.0

pytestmark = pytest.mark.proof("Pulumi engine")


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure(say)


@pytest.fixture(scope="module")
def before(plane: ControlPlane) -> set[Any]:
    """What is in the cluster before any test."""
    return set(untouched(plane.admin))


@dataclass(frozen=True)
class Program:
    """What is rehearsed; `open` takes what differs from the plain access to the cluster."""

    stack: str
    open: Callable[..., Rehearsal]


@pytest.fixture
def whole(
    plane: ControlPlane, toolchain: Toolchain, before: set[Any], tmp_path: Path
) -> Iterator[Program]:
    """The program of this repository; at the end everything is taken down and nothing is left."""
    access = access_to(plane)

    def opened(**differing: Any) -> Rehearsal:
        return Rehearsal(
            ROOT,
            toolchain,
            folder=tmp_path / "rehearsal",
            extra_environment=STATE_AT_THE_END,
            cluster=replace(access, **differing),
        )

    yield from taken_down(Program("eks-dev", opened), plane.admin, before)


@pytest.fixture
def small(
    plane: ControlPlane, toolchain: Toolchain, before: set[Any], tmp_path: Path
) -> Iterator[Program]:
    """A program of forty objects one after the other, for faults that know no kind of object."""
    access = access_to(plane)

    def opened(**differing: Any) -> Rehearsal:
        given = Given(tmp_path, toolchain, replace(access, **differing))
        given.give(forty_objects())
        return given.rehearsal

    yield from taken_down(Program("one", opened), plane.admin, before)


def forty_objects() -> list[Item]:
    """Two namespaces with nineteen objects each, every object after the one before it."""
    made: list[Item] = []
    for namespace in ("first", "second"):
        for name in (None, *"abcdefghijklmnopqrs"):
            after = [made[-1]["name"]] if made else []
            if name is None:
                made.append(item("Namespace", namespace, after=after))
                continue
            named = f"{namespace}-{name}"
            made.append(
                item("ConfigMap", named, namespace=namespace, after=after, data={"is": name})
            )
    return made


def taken_down(program: Program, admin: Client, before: set[Any]) -> Iterator[Program]:
    """Lends the program; the destroy afterwards succeeds and leaves nothing of it."""
    yield program
    ended = program.open().destroy(program.stack)
    assert ended.ok, ended.errors
    assert {key for key in settled_as(admin, before) if not stays(key)} == set()


def ours(admin: Client) -> int:
    """How many objects of the watched kinds the engine has made."""
    return sum(
        any(m["manager"].startswith("pulumi-kubernetes-") for m in _managers(thing))
        for version, kind in WATCHED
        for thing in admin.list(version, kind)
    )


def _managers(thing: dict[str, Any]) -> list[dict[str, Any]]:
    return thing["metadata"].get("managedFields", [])


def during(run: Callable[[], Result], admin: Client, k: int, then: Callable[[], None]) -> Result:
    """`then` as soon as the server has `k` of the engine's objects while `run` is at work."""
    with ThreadPoolExecutor(1) as pool:
        running: Future[Result] = pool.submit(run)
        admin.wait_for(
            lambda: running.done() or ours(admin) >= k,
            f"{k} objects of the engine",
            REACHED_DEADLINE_SECONDS,
        )
        assert not running.done(), f"the up ended before it had made {k} objects"
        then()
        return running.result()


def assert_converged(program: Program, admin: Client, **differing: Any) -> None:
    """The next up succeeds, one more changes nothing, and every object is there."""
    rehearsal = program.open(**differing)
    mended = rehearsal.up(program.stack)
    assert mended.ok, mended.errors
    again = rehearsal.up(program.stack)
    assert [step.urn for step in again.changed] == []
    there = everything(admin)
    assert [step.name for step in made_by(again) if key_of(step) not in there] == []


def crash_and_return(plane: ControlPlane, program: Program, k: int) -> None:
    """The API server crashes at object `k` of an up, and is back at once."""

    def crash() -> None:
        plane.kill("kube-apiserver")
        plane.start("kube-apiserver")

    rehearsal = program.open(patience_seconds=REACHED_DEADLINE_SECONDS)
    up = during(lambda: rehearsal.up(program.stack), plane.admin, k, crash)
    assert up.ok, up.errors
    assert_converged(program, plane.admin)


def test_an_up_of_a_stack_outlives_a_crash_and_restart_of_the_api_server(
    plane: ControlPlane, whole: Program
) -> None:
    crash_and_return(plane, whole, 12)


@pytest.mark.parametrize("k", (2, 12, 25))
def test_an_up_outlives_a_crash_and_restart_of_the_api_server(
    k: int, plane: ControlPlane, small: Program
) -> None:
    crash_and_return(plane, small, k)


@pytest.mark.parametrize("component", ("kube-apiserver", "etcd"))
def test_an_up_without_its_server_ends_in_a_clear_message_and_the_next_converges(
    component: str, plane: ControlPlane, small: Program
) -> None:
    impatient = small.open(patience_seconds=SHORT_PATIENCE_SECONDS)
    up = during(lambda: impatient.up(small.stack), plane.admin, 12, lambda: plane.kill(component))
    plane.start(component)
    assert not up.ok
    told = "\n".join(up.errors)
    assert "the API server at https://127.0.0.1:" in told or "etcdserver" in told, told
    assert "Traceback" not in told
    assert_converged(small, plane.admin)


def test_an_up_succeeds_while_every_tenth_answer_is_bad(
    plane: ControlPlane, whole: Program, tmp_path: Path
) -> None:
    # Too many requests, an internal error, and one after which the object is there all the same.
    kinds = (Bad(429, retry_after_seconds=1), Bad(500), Bad(500, after=True))

    def every_tenth(number: int, _method: str) -> Bad | None:
        return kinds[number // 10 % len(kinds)] if number % 10 == 0 else None

    with proxy(plane, every_tenth) as (address, seen):
        # Helm's own client gives up at the first internal error, wherever it runs.
        kubeconfig = _through(address, plane.kubeconfig, tmp_path)
        up = whole.open(kubeconfig=kubeconfig, helm=None).up(whole.stack)
        assert up.ok, up.errors
    assert seen.bad[429] >= 3
    assert seen.bad[500] >= 6
    assert seen.too_early == []
    assert_converged(whole, plane.admin, helm=None)


def test_a_second_up_of_the_same_stack_is_refused_by_the_engines_lock(
    plane: ControlPlane, toolchain: Toolchain, tmp_path: Path
) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def hold_the_first_write(_number: int, method: str) -> None:
        if method == "PATCH":
            writing.set()
            go_on.wait(REACHED_DEADLINE_SECONDS)

    access, objects = access_to(plane), [item("Namespace", "locked")]
    with proxy(plane, hold_the_first_write) as (address, _):
        kubeconfig = _through(address, plane.kubeconfig, tmp_path)
        # Its first write is held as long as the second engine takes to start and be refused.
        slow = Given(
            tmp_path,
            toolchain,
            replace(access, kubeconfig=kubeconfig, patience_seconds=REACHED_DEADLINE_SECONDS),
        )
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(slow.up, objects)
            try:
                assert writing.wait(REACHED_DEADLINE_SECONDS)
                second = Given(tmp_path, toolchain, access)
                refused = second.rehearsal.up("one")
            finally:
                go_on.set()
            made = running.result()
    assert not refused.ok
    assert "the stack is currently locked by 1 lock" in "\n".join(refused.errors)
    assert made.ok, made.errors
    assert second.rehearsal.destroy("one").ok


def _through(address: str, kubeconfig: Path, folder: Path) -> Path:
    found = json.loads(kubeconfig.read_text())
    found["clusters"][0]["cluster"]["server"] = address
    path = folder / "through-the-proxy.kubeconfig"
    path.write_text(json.dumps(found))
    return path
