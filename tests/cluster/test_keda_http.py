"""Models that sleep: woken, scaled and laid to rest by the real KEDA and its real HTTP add-on."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest

from coldstart.planning import StackPlan
from tests.cluster.keda_formula import TOLERANCE
from tests.cluster.keda_http_process import Backend, HttpAddOn
from tests.cluster.keda_scene import SOONER, Model, Scene, keda_scene, models_of, moment, plan_of
from tests.program.workload_runs import served

pytestmark = pytest.mark.proof("KEDA HTTP add-on")

COOLDOWN_SECONDS = 4
"""In place of the plan's, which is several minutes."""
SLEEPY = {**SOONER, "cooldownPeriod": COOLDOWN_SECONDS, "initialCooldownPeriod": 0}
"""What is shortened in a ScaledObject: how often KEDA looks, and how long it waits to lay a model
to rest, also a new one."""
QUESTION = json.dumps({"model": "it", "messages": []}).encode()
ANSWER_SECONDS = 300.0
"""As long as the steps between a question and its answer may take together."""
LONG_AWAKE = {"cooldownPeriod": 300}
"""Where a model must not be laid to rest between two steps of a test."""
_NAMES = (
    *("woken", "named", "late", "busy", "long", "resting", "new", "measured", "dark"),
    *("outage-with", "outage-without", "secretless"),
)


@cache
def the_plan() -> StackPlan:
    return plan_of({name: {"min": 0, "max": 3} for name in _NAMES})


@cache
def endpoints() -> dict[str, str]:
    """Where clients send requests, as the stack exports it."""
    return served(the_plan()).exports()["endpoints"]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with keda_scene(blind_to_secrets=True) as running:
        yield running


@pytest.fixture(scope="module")
def rendered(scene: Scene) -> dict[str, Model]:
    return models_of(scene, the_plan())


@pytest.fixture(scope="module")
def add_on(scene: Scene, rendered: dict[str, Model]) -> HttpAddOn:
    triggers = rendered["woken"].scaled_object["spec"]["triggers"]
    (pushed,) = (t["metadata"] for t in triggers if t["type"] == "external-push")
    port = urlsplit(endpoints()["woken"]).port
    proxy = rendered["woken"].object("Service", "entry")["spec"]["externalName"]
    return HttpAddOn(scene.plane, scene.network, pushed["scalerAddress"], f"{proxy}:{port}")


@pytest.fixture
def models(rendered: dict[str, Model], add_on: HttpAddOn) -> Iterator[dict[str, Model]]:
    """Every model by its name; those a test has deployed are taken away after it."""
    yield rendered
    for model in rendered.values():
        if model.deployed:
            model.remove()


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as running:
        yield running


class Client:
    """Clients of one model, each request in a thread of its own."""

    def __init__(self, scene: Scene, model: Model, backend: Backend, pool: ThreadPoolExecutor):
        self._scene, self._pool = scene, pool
        self.endpoint = urlsplit(endpoints()[model.name])
        # Cluster DNS follows the external name of the entry Service; the Service of the model
        # leads to its pods, all of which are the one backend.
        entry = scene.client.get("v1", "Service", "entry", model.name) or {}
        scene.network.follow(self.endpoint.netloc, entry["spec"]["externalName"])
        service = model.object("Service", model.name)
        (port,) = service["spec"]["ports"]
        scene.network.lead(f"{model.name}.{model.name}:{port['port']}", backend.port)

    def ask(self, host: str | None = None) -> tuple[int, dict[str, str]]:
        """Ask once and give the status and the headers of the answer."""
        connection = self._scene.network.connection(self.endpoint.netloc, ANSWER_SECONDS)
        headers = {"Host": host or self.endpoint.netloc, "Authorization": "Bearer of-the-test"}
        try:
            path = f"{self.endpoint.path}/chat/completions"
            connection.request("POST", path, QUESTION, headers)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        return answer.status, dict(answer.getheaders())

    def start(self, count: int = 1) -> list[Future[tuple[int, dict[str, str]]]]:
        """Ask `count` times at once."""
        return [self._pool.submit(self.ask) for _ in range(count)]


@pytest.fixture
def clients(scene: Scene, backend: Backend) -> Iterator[Any]:
    """Makes the clients of a model."""
    with ThreadPoolExecutor(max_workers=200) as pool:
        yield lambda model: Client(scene, model, backend, pool)
        backend.release()


def asleep(model: Model, **overrides: Any) -> Model:
    """The model at zero replicas, which export nothing."""
    model.load(None, None)
    model.deploy({**SLEEPY, **overrides})
    model.await_hpa()
    model.await_replicas(0)
    # Or a first pod, about to go, would be taken for one that was asked for.
    model.await_acted()
    model.await_pods(0)
    return model


def serve(model: Model, number: int = 1) -> None:
    """The model's one pod becomes ready."""
    (pod,) = model.await_pods(1)
    model.make_ready(pod, f"10.244.1.{number}")


def test_a_held_request_wakes_the_model_and_is_answered_once_a_pod_is_ready(
    scene: Scene, models: dict[str, Model], clients: Any, backend: Backend
) -> None:
    model = asleep(models["woken"], **LONG_AWAKE)
    (request,) = clients(model).start()
    model.await_replicas(1)
    model.await_pods(1)
    assert not request.done()
    assert backend.received == []
    serve(model)
    status, headers = request.result(ANSWER_SECONDS)
    assert status == 200
    assert headers["X-Keda-Http-Cold-Start"] == "true"
    path = "/v1/chat/completions"
    assert backend.received == [
        ("POST", path, "entry.woken.svc:8080", QUESTION, "Bearer of-the-test")
    ]
    triggers = model.scaled_object["spec"]["triggers"]
    assert {triggers[-1]["metadata"]["scalerAddress"], "woken.woken:8000"} <= scene.network.asked()


def test_every_name_of_the_entry_service_leads_to_the_model_and_no_other_does(
    models: dict[str, Model], clients: Any
) -> None:
    model = asleep(models["named"], **LONG_AWAKE)
    client = clients(model)
    (request,) = client.start()
    model.await_replicas(1)
    serve(model)
    assert request.result(ANSWER_SECONDS)[0] == 200
    names = ["entry.named", "entry.named.svc", "entry.named.svc.cluster.local"]
    answers = {
        f"{name}{port}": client.ask(f"{name}{port}")[0] for name in names for port in ("", ":8080")
    }
    assert set(answers.values()) == {200}
    assert client.ask("entry.other.svc:8080")[0] == 404
    assert client.ask("named.named.svc:8080")[0] == 404


def test_a_request_is_held_no_longer_than_the_route_says(
    scene: Scene,
    models: dict[str, Model],
    add_on: HttpAddOn,
    clients: Any,
    backend: Backend,
) -> None:
    model = models["late"]
    route = copy.deepcopy(model.object("InterceptorRoute", "late"))
    wake = model.plan.scaling.wake
    assert wake is not None
    assert route["spec"]["timeouts"]["readiness"] == f"{wake.hold_seconds}s"
    # The plan's is as long as a cold start.
    route["spec"]["timeouts"]["readiness"] = "2s"
    model.replace(route)
    asleep(model)
    scene.client.wait_for(
        lambda: "late/late" in add_on.held(), "the interceptor to know the route", 60
    )
    assert clients(model).ask()[0] == 504
    assert backend.received == []


def test_requests_inside_ask_for_as_many_replicas_as_planned(
    scene: Scene, models: dict[str, Model], add_on: HttpAddOn, clients: Any, backend: Backend
) -> None:
    model = asleep(models["busy"], **LONG_AWAKE)
    wake = model.plan.scaling.wake
    assert wake is not None
    one = math.floor(wake.target_concurrency * (1 + TOLERANCE))
    client = clients(model)
    backend.hold()
    # Not more at once: before the first replica is counted, the HPA's tolerance does not hold.
    requests = client.start(wake.target_concurrency)
    model.await_replicas(1)
    serve(model)
    model.await_figure(2, wake.target_concurrency)
    requests += client.start(one - wake.target_concurrency)
    scene.client.wait_for(lambda: len(backend.received) == one, f"{one} requests inside", 60)
    model.await_figure(2, one)
    assert model.replicas() == 1
    requests += client.start(1)
    model.await_replicas(math.ceil((one + 1) / wake.target_concurrency))
    backend.release()
    assert {request.result(ANSWER_SECONDS)[0] for request in requests} == {200}


def test_a_long_request_keeps_the_last_replica(
    scene: Scene, models: dict[str, Model], clients: Any, backend: Backend
) -> None:
    model = asleep(models["long"])
    backend.hold()
    (request,) = clients(model).start()
    model.await_replicas(1)
    serve(model)
    # One request on an engine with room for many: nothing waits and the cache is next to empty.
    model.load(0, 0.4)
    # Asked at most twice a second, by KEDA and by the autoscaler: longer than the cooldown.
    model.await_rounds(3 * COOLDOWN_SECONDS)
    assert model.replicas() == 1
    backend.release()
    assert request.result(ANSWER_SECONDS)[0] == 200
    model.await_replicas(0)


def test_a_model_is_laid_to_rest_when_its_cooldown_is_over_and_not_before(
    models: dict[str, Model],
) -> None:
    model = asleep(models["resting"])
    model.load(1, 0)
    model.await_replicas(1)
    model.load(0, 0)
    model.await_replicas(0)
    model.await_condition("Active", "False")
    last_active = datetime.fromisoformat(model.status()["lastActiveTime"])
    # Another one was told when the model was made, and fell asleep.
    (event,) = model.await_events(
        "KEDAScaleTargetDeactivated", which=lambda event: moment(event) > last_active
    )
    rested = moment(event) - last_active
    assert rested.total_seconds() >= COOLDOWN_SECONDS


def test_a_new_model_is_not_laid_to_rest_before_it_could_have_started(
    models: dict[str, Model],
) -> None:
    model = models["new"]
    model.load(None, None)
    model.deploy({**SOONER, "cooldownPeriod": 1})
    model.await_hpa()
    model.await_condition("Active", "False")
    model.await_rounds(6)
    assert model.replicas() == 1


def test_figures_wake_a_model_only_above_the_activation_thresholds(
    models: dict[str, Model],
) -> None:
    model = asleep(models["measured"])
    for waiting, percent in ((0, 0), (0, 1)):
        model.load(waiting, percent)
        model.await_rounds(3)
        assert model.replicas() == 0
    model.load(0, 1.2)
    model.await_replicas(1)
    model.load(0, 0)
    model.await_replicas(0)
    model.load(1, 0)
    model.await_replicas(1)


def test_a_held_request_wakes_a_model_also_while_prometheus_fails(
    models: dict[str, Model], clients: Any
) -> None:
    model = asleep(models["dark"])
    model.blind()
    (request,) = clients(model).start()
    model.await_replicas(1)
    serve(model)
    assert request.result(ANSWER_SECONDS)[0] == 200
    # A second wish that is looked at before the first one's effect is seen wakes from 1 to 1.
    event, *_ = model.await_events("KEDAScaleTargetActivated")
    assert event["message"].endswith("from 0 to 1, triggered by s2-http_dark_concurrency")
    model.await_rounds(3 * COOLDOWN_SECONDS)
    assert model.replicas() == 1
    model.load(0, 0)
    model.await_replicas(0)


@pytest.mark.parametrize(("fallback", "replicas"), [("with", 1), ("without", 0)])
def test_an_outage_of_prometheus_wakes_a_sleeping_model_only_with_a_fallback(
    models: dict[str, Model], fallback: str, replicas: int
) -> None:
    plan = models["woken"].plan.scaling
    fields = {"failureThreshold": plan.fallback_failures, "replicas": 1}
    model = asleep(models[f"outage-{fallback}"], fallback=fields if fallback == "with" else None)
    model.blind()
    # KEDA alone asks while there is no replica; the failures of one threshold and some more.
    model.await_rounds(plan.fallback_failures + 4)
    model.await_replicas(replicas)


def test_keda_scales_a_model_without_reading_its_secrets(models: dict[str, Model]) -> None:
    model = models["secretless"]
    model.load(0, 0)
    model.deploy(SLEEPY, without=frozenset({"Secret"}))
    model.await_hpa()
    model.await_replicas(0)
    model.load(1, 0)
    model.await_replicas(1)
