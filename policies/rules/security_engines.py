"""What model servers are told to run, and which of their paths are open to the outside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from policies.reading.command_lines import commands_of, variable
from policies.reading.engines import engines_of
from policies.reading.pod_security import makes_pods_as_written
from policies.reading.routes import Backend, Path, ways_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    gather,
    is_true,
    judge_each,
    known,
    mapping_at,
)
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Finding, Option, ResourceRule, Settings, StackRule

_TRUST_FLAG = re.compile(r"--trust[-_]remote[-_]code(?:=(.*))?")
_TRUST_IN_CODE = re.compile(r"\btrust_remote_code\s*=\s*True\b")
_TRUST_VARIABLES = ("TRUST_REMOTE_CODE", "HF_TRUST_REMOTE_CODE", "VLLM_TRUST_REMOTE_CODE")
_MODEL_FLAGS = frozenset({"--model", "--model-path", "--model-id", "--model_path", "--model_id"})
_MODEL_VARIABLES = ("MODEL_ID", "MODEL_NAME", "MODEL")
_SERVE = "serve"
# Paths of vLLM that its API key does not guard and no client needs: vLLM's security guide, and
# vllm/entrypoints/serve/middleware/authenticate.py, which guards /v1, /v2, /inference and /cohere.
_ADMIN_PATHS = (
    "/metrics",
    "/docs",
    "/openapi.json",
    "/load",
    "/invocations",
    "/server_info",
    "/sleep",
    "/wake_up",
    "/pause",
    "/resume",
    "/collective_rpc",
    "/update_weights",
    "/reset_prefix_cache",
    "/abort_requests",
)
_SHOWN_PATHS = 4


def _judge_code(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge(container: Container) -> Iterator[str]:
        found = _trust_in(container)
        if not found:
            return
        models = list(_models_of(container))
        allowed = settings["allowedModels"]
        if models and all(any(fnmatchcase(name, item) for item in allowed) for name in models):
            return
        of = f" of {', '.join(models)}" if models else ""
        yield (
            f"{container.field}: container {container.name!r} is told to trust remote code "
            f"({found}): Python files from the model's repository{of} run with the server's "
            "rights, in whichever revision is loaded. Drop it, since current engines run most "
            "models with their own code; or read that code, pin --revision and --code-revision, "
            "and name the model in allowedModels."
        )

    yield from judge_each(
        pods_of(resource), lambda pod: judge_each(pod.containers(with_init=True), judge)
    )


def _trust_in(container: Container) -> str:
    for name in _TRUST_VARIABLES:
        if is_true(variable(container, name)) or variable(container, name) == "1":
            return f"{name}={variable(container, name)}"
    for words in commands_of(container):
        for place, word in enumerate(words):
            match = _TRUST_FLAG.fullmatch(word)
            following = words[place + 1] if place + 1 < len(words) else ""
            if match and (match[1] or following).lower() not in ("false", "0", "no"):
                return word
            if _TRUST_IN_CODE.search(word):
                return "trust_remote_code=True"
    return ""


def _models_of(container: Container) -> Iterator[str]:
    for words in commands_of(container):
        for place, word in enumerate(words):
            flag, equals, value = word.partition("=")
            following = words[place + 1] if place + 1 < len(words) else ""
            if flag in _MODEL_FLAGS:
                yield value if equals else following
            elif word == _SERVE and following and not following.startswith("-"):
                yield following
    for name in _MODEL_VARIABLES:
        value = variable(container, name)
        if value:
            yield value


@dataclass(frozen=True)
class _Server:
    """Pods of a vLLM engine by their labels."""

    name: str
    namespace: str
    labels: Mapping[str, Any]


def _judge_routes(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    servers, undecided_pods = gather(resources, _servers_of)
    services, undecided_services = gather(
        resources, lambda resource: _services_before(resource, servers)
    )
    undecided = (*undecided_pods, *undecided_services)

    def judge(route: Resource) -> Iterator[Finding]:
        told: set[tuple[str, str]] = set()
        for path, backend in ways_of(route):
            reached = [item for item in _ADMIN_PATHS if path.lets_through(item)]
            if not reached or (path.field, backend.name) in told:
                continue
            server = _server_behind(backend, services)
            if server is None and undecided and backend.kind == "Service":
                raise NotYetKnown(*undecided)
            if server is not None:
                told.add((path.field, backend.name))
                yield Finding(route, _open_path(path, backend, server, reached))

    yield from judge_each(resources, judge)


def _open_path(path: Path, backend: Backend, server: str, reached: Sequence[str]) -> str:
    shown = ", ".join(reached[:_SHOWN_PATHS])
    more = f" and {len(reached) - _SHOWN_PATHS} more" if len(reached) > _SHOWN_PATHS else ""
    return (
        f"{path.field} {path.text!r} leads to {backend.kind} {backend.name} and so to {server}, "
        f"with {shown}{more}: the engine's API key guards none of these, /invocations "
        "answers prompts without one, and others pause the engine. Let only the paths through "
        "that clients call, such as the prefix /v1."
    )


def _servers_of(resource: Resource) -> Iterator[_Server]:
    # The controller of another kind gives its pods labels that are not written here.
    if makes_pods_as_written(resource):
        for pod in pods_of(resource):
            if any(True for _ in engines_of(pod)):
                yield _Server(
                    f"vLLM of {resource.kind} {resource.object_name}",
                    resource.namespace,
                    _labels(pod),
                )


def _labels(pod: Pod) -> Mapping[str, Any]:
    return mapping_at(pod.template, "metadata", "labels")


def _services_before(
    resource: Resource, servers: Sequence[_Server]
) -> Iterator[tuple[tuple[str, str], str]]:
    """Namespace and name of a Service that selects model servers, with one of these."""
    if resource.kind != "Service" or resource.group:
        return
    selector = mapping_at(resource.properties, "spec", "selector")
    for server in servers:
        if selector and server.namespace == resource.namespace and _selects(selector, server):
            yield (resource.namespace, resource.object_name), server.name


def _selects(selector: Mapping[str, Any], server: _Server) -> bool:
    return all(
        key in server.labels and known(server.labels[key]) == known(value)
        for key, value in selector.items()
    )


def _server_behind(backend: Backend, services: Sequence[tuple[tuple[str, str], str]]) -> str | None:
    if backend.is_model_pool:
        return "the model servers of the pool"
    place = (backend.namespace, backend.name)
    found = (server for service, server in services if service == place)
    return next(found, None) if backend.kind == "Service" and not backend.group else None


FORBID_REMOTE_CODE = ResourceRule(
    code="CS719",
    name="kubernetes-pod-forbid-remote-code",
    concern="security",
    title="No model brings code of its own",
    description="A model server must not trust remote code, except of models on a list.",
    severity="high",
    tags=("kubernetes", "security", "model-server", "supply-chain"),
    remediation="Remove --trust-remote-code; for a model that cannot do without it, read its code, "
    "pin its revision and name it in allowedModels.",
    reason="The flag runs Python files of the model's repository at every start, so whoever can "
    "push to it runs code beside your weights, keys and prompts.",
    links=(
        "https://docs.vllm.ai/en/latest/usage/security/",
        "https://huggingface.co/docs/transformers/main/en/model_doc/auto",
    ),
    options=(
        Option(
            "allowedModels",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Models whose code was read, as the server names them; 'org/*' stands for all of one "
            "publisher.",
        ),
    ),
    level="advisory",
    development="advisory",
    reads=carries_pods,
    judge=_judge_code,
)

FORBID_ADMIN_PATHS = StackRule(
    code="CS721",
    name="kubernetes-route-forbid-open-admin-paths",
    concern="security",
    title="Routes let through what clients call, and no more",
    description="An Ingress or HTTPRoute to a vLLM server must not let its unguarded paths "
    "through.",
    severity="high",
    tags=("kubernetes", "security", "model-server", "network"),
    remediation="Match the path prefix /v1 (and /health where the balancer asks for it) instead of "
    "/ in every rule that leads to a model server.",
    reason="vLLM checks its API key on /v1, /v2, /inference and /cohere only; metrics, the API's "
    "documentation, /invocations and the development endpoints answer everybody.",
    links=(
        "https://docs.vllm.ai/en/latest/usage/security/",
        "https://gateway-api.sigs.k8s.io/api-types/httproute/",
    ),
    level="advisory",
    development="advisory",
    judge=_judge_routes,
)
