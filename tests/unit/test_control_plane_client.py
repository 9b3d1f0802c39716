"""The client's own behaviour, against a small server with answers written beforehand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from coldstart.controlplane import Client, DeadlineError, Refused, Unreachable, http
from coldstart.controlplane import client as client_module
from coldstart.controlplane.client import Resource
from coldstart.controlplane.components import free_ports
from coldstart.controlplane.http import Answer, parse_warnings

NO_AUTHORITY = Path("/nonexistent")
NAMESPACE = {"name": "namespaces", "kind": "Namespace", "namespaced": False}
POD = {"name": "pods", "kind": "Pod", "namespaced": True}
STATUS_OF_POD = {"name": "pods/status", "kind": "Pod", "namespaced": True}


class Scripted(ThreadingHTTPServer):
    """Gives the answers of a path in turn, the last one again and again."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers: dict[str, list[tuple[int, object, list[tuple[str, str]]]]] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def will(self, path: str, status: int, body: object, *headers: tuple[str, str]) -> None:
        self.answers.setdefault(path, []).append((status, body, list(headers)))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        server = cast("Scripted", self.server)
        server.asked.append(f"{self.command} {path}")
        script = server.answers.get(path, [(404, {}, [])])
        status, body, headers = script.pop(0) if len(script) > 1 else script[0]
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers:
            # Header bytes as Kubernetes writes them: UTF-8.
            self.send_header(name, value.encode().decode("latin-1"))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests print nothing."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    running = Scripted()
    running.will("/api/v1", 200, {"resources": [NAMESPACE, STATUS_OF_POD, POD]})
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def client(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    made = Client(server.url, NO_AUTHORITY, "secret")
    yield made
    made.close()


def status(code: int, reason: str, message: str) -> dict:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@pytest.mark.parametrize("passing", [429, 502, 503, 504])
def test_a_passing_answer_to_a_repeatable_request_is_asked_again(
    server: Scripted, client: Client, passing: int
) -> None:
    server.will("/x", passing, "busy", ("Retry-After", "0"))
    server.will("/x", passing, "busy")
    server.will("/x", 200, {"fine": True})
    assert client.request("GET", "/x").body == {"fine": True}
    assert server.asked == ["GET /x"] * 3


def test_it_gives_up_after_four_and_gives_the_last_answer(server: Scripted, client: Client) -> None:
    server.will("/x", 503, "busy")
    assert client.request("GET", "/x").status == 503
    assert server.asked == ["GET /x"] * 4


def test_a_server_that_was_long_in_answering_is_not_asked_again(
    server: Scripted, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_RETRY_SECONDS", -1)
    server.will("/x", 504, "after a minute")
    assert client.request("GET", "/x").status == 504
    assert server.asked == ["GET /x"]


def test_what_the_server_judged_is_final(server: Scripted, client: Client) -> None:
    server.will("/x", 500, "a webhook failed")
    assert client.request("GET", "/x").status == 500
    assert server.asked == ["GET /x"]


def test_a_creation_is_never_sent_twice(server: Scripted, client: Client) -> None:
    server.will("/x", 503, "busy")
    assert client.request("POST", "/x", {}).status == 503
    assert server.asked == ["POST /x"]


def test_apply_is_repeatable(server: Scripted, client: Client) -> None:
    server.will("/api/v1/namespaces/a", 429, "busy")
    server.will("/api/v1/namespaces/a", 200, {"kind": "Namespace"})
    applied = client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})
    assert applied.object == {"kind": "Namespace"}
    assert server.asked == ["GET /api/v1", *["PATCH /api/v1/namespaces/a"] * 2]


def test_a_refused_connection_is_tried_again_even_for_a_creation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Scripted] = []
    (port,) = free_ports(1)

    def start_it(_seconds: float) -> None:
        if not started:
            started.append(Scripted(port))
            started[0].will("/x", 201, {})

    monkeypatch.setattr(http.time, "sleep", start_it)
    client = Client(f"http://127.0.0.1:{port}", NO_AUTHORITY, None)
    try:
        assert client.request("POST", "/x", {}).status == 201
        assert started[0].asked == ["POST /x"]
    finally:
        for server in started:
            server.shutdown()
            server.server_close()


def test_nobody_there_is_unreachable_with_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    (port,) = free_ports(1)
    client = Client(f"http://127.0.0.1:{port}", NO_AUTHORITY, None)
    with pytest.raises(Unreachable, match=f"GET http://127.0.0.1:{port}/x: no answer"):
        client.request("GET", "/x")


def test_proxies_of_the_environment_have_no_say(
    server: Scripted, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.will("/x", 200, {})
    assert client.request("GET", "/x").status == 200


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ('299 - "plain"', ("plain",)),
        ('299 - "one, two", 299 - "three"', ("one, two", "three")),
        (r'299 - "say \"hi\" \\ there"', (r'say "hi" \ there',)),
        ('199 - "other code", 299 agent:1 "ours" "Wed, 21 Oct 2015 07:28:00 GMT"', ("ours",)),
        ("", ()),
        ("299 - unquoted", ()),
    ],
)
def test_warnings_are_read_as_quoted_strings(header: str, texts: tuple[str, ...]) -> None:
    assert parse_warnings(header) == texts


def test_every_warning_header_counts_and_keeps_its_letters(
    server: Scripted, client: Client
) -> None:
    first, second = ("Warning", '299 - "größer, älter"'), ("Warning", '299 - "deprecated"')
    server.will("/x", 200, {}, first, second)
    assert client.request("GET", "/x").warnings == ("größer, älter", "deprecated")


def test_a_refusal_keeps_the_servers_words_whole(server: Scripted, client: Client) -> None:
    message = "pods is forbidden: " + "x" * 5000
    server.will("/api/v1/namespaces/n/pods", 403, status(403, "Forbidden", message))
    with pytest.raises(Refused) as refused:
        client.list("v1", "Pod", "n")
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    assert refused.value.message == message


def test_an_answer_that_is_no_status_is_kept_as_text(server: Scripted, client: Client) -> None:
    server.will("/api/v1/namespaces/n/pods", 400, "what a proxy says")
    with pytest.raises(Refused, match="400 Unknown: what a proxy says"):
        client.list("v1", "Pod", "n")


def test_a_kind_that_comes_later_is_found(server: Scripted, client: Client) -> None:
    with pytest.raises(Refused, match=r"no kind Engine in x\.io/v1: is its definition installed"):
        client.resource("x.io/v1", "Engine")
    engine = {"name": "engines", "kind": "Engine", "namespaced": True}
    server.will("/apis/x.io/v1", 200, {"resources": [engine]})
    assert client.path("x.io/v1", "Engine", "a", "n") == "/apis/x.io/v1/namespaces/n/engines/a"
    wheel = {"name": "wheels", "kind": "Wheel", "namespaced": False}
    server.answers["/apis/x.io/v1"] = [(200, {"resources": [engine, wheel]}, [])]
    assert client.path("x.io/v1", "Wheel", "a") == "/apis/x.io/v1/wheels/a"
    asked = len(server.asked)
    client.path("x.io/v1", "Wheel", "b")
    assert len(server.asked) == asked


THREADS = 4


@pytest.fixture
def together(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Answer], list]:
    """Ask for a kind in several threads: the first answer comes when all the others wait for it.

    The thread that got it goes on when another is through.
    """
    waiting, through = threading.Semaphore(0), threading.Event()
    first_answers = iter([True])

    class Shared(Future):
        def set_result(self, result: dict) -> None:
            super().set_result(result)
            if next(first_answers, False):
                assert through.wait(timeout=10), "nobody went on with the answer"

        def result(self, timeout: float | None = None) -> dict:
            waiting.release()
            return super().result(timeout)

    def asked(kind: str, first: Answer) -> list[Resource | BaseException | None]:
        answers = iter([first])
        send = client.request

        def late(method: str, path: str) -> Answer:
            answer = next(answers, None)
            if answer is None:
                return send(method, path)
            for _ in range(THREADS - 1):
                assert waiting.acquire(timeout=10), "another thread asked for itself"
            return answer

        def ask() -> Resource:
            try:
                return client.resource("v1", kind)
            finally:
                through.set()

        monkeypatch.setattr(client, "request", late)
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(ask) for _ in range(THREADS)]
            return [future.exception() or future.result() for future in futures]

    monkeypatch.setattr(client_module, "Future", Shared)
    return asked


def test_threads_that_want_to_know_the_same_ask_once(
    server: Scripted, together: Callable[[str, Answer], list]
) -> None:
    found = together("Pod", Answer(200, {"resources": [POD]}, ()))
    assert found == [Resource("pods", True)] * THREADS
    assert server.asked == []


def test_threads_that_wait_for_an_answer_share_its_error(
    server: Scripted, client: Client, together: Callable[[str, Answer], list]
) -> None:
    found = together("Pod", Answer(503, "nobody behind the door", ()))
    assert [type(error) for error in found] == [Refused] * THREADS
    assert server.asked == []
    assert client.resource("v1", "Pod") == Resource("pods", True)


def test_a_kind_that_came_after_the_shared_question_is_found(
    together: Callable[[str, Answer], list],
) -> None:
    found = together("Pod", Answer(200, {"resources": [NAMESPACE]}, ()))
    assert sum(isinstance(each, Refused) for each in found) == 1
    assert found.count(Resource("pods", True)) == THREADS - 1


def test_a_namespaced_object_without_a_namespace_is_not_put_into_default(client: Client) -> None:
    with pytest.raises(ValueError, match="Pod a lives in a namespace, and none is named"):
        client.get("v1", "Pod", "a")


def test_names_cannot_leave_their_place_in_the_path(client: Client) -> None:
    assert client.path("v1", "Pod", "../x?y", "n/m").endswith("/namespaces/n%2Fm/pods/..%2Fx%3Fy")


def test_waiting_says_what_was_awaited_and_last_seen(server: Scripted, client: Client) -> None:
    server.will("/api/v1/namespaces/n/pods/p", 404, status(404, "NotFound", "no pod p, sorry"))
    with pytest.raises(DeadlineError) as late:
        client.wait_for(lambda: client.get("v1", "Pod", "p", "n"), "pod p", 0)
    assert "waited 0 s for pod p; last seen: GET " in str(late.value)
    assert "no pod p, sorry" in str(late.value)


def test_waiting_goes_on_over_what_may_pass_and_stops_at_a_no(client: Client) -> None:
    refusals = iter([Refused(404, "NotFound", ""), Unreachable(""), Refused(500, "", "")])

    def probe() -> str:
        for refusal in refusals:
            raise refusal
        return "there"

    assert client.wait_for(probe, "it", 10) == "there"
    with pytest.raises(Refused, match="403"):
        client.wait_for(lambda: (_ for _ in ()).throw(Refused(403, "Forbidden", "no")), "it", 10)
