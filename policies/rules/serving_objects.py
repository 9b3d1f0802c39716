"""Services and Jobs around an engine whose shape breaks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.command_lines import DOWNLOADS, commands_of
from policies.reading.engines import Engine, engines_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    mapping_at,
    text_at,
    whole,
)
from policies.reading.workloads import Container, Pod, pods_of
from policies.rule import Finding, ResourceRule, Settings, StackRule

_NAME = "vllm"
_HOOKS = ("helm.sh/hook", "argocd.argoproj.io/hook")


def _judge_service_name(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    services = [
        item
        for item in resources
        if item.is_kubernetes and item.group == "" and item.kind == "Service"
    ]
    if not services:
        return
    engines, undecided = gather(resources, _engines_with_namespace)

    def judge(service: Resource) -> Iterator[Finding]:
        if service.object_name != _NAME or not _has_address(service):
            return
        near = [item for namespace, item in engines if namespace == service.namespace]
        exposed = [item for item in near if _takes_the_variable(item)]
        if exposed:
            yield Finding(service, _told(service, exposed))
        elif undecided:
            raise NotYetKnown(*undecided)

    yield from judge_each(services, judge)


def _told(service: Resource, exposed: Sequence[Engine]) -> str:
    whom = ", ".join(
        sorted({f"{item.pod.owner.kind} {item.pod.owner.object_name}" for item in exposed})
    )
    return (
        f"Service {service.namespace}/{_NAME} (metadata.name) makes the kubelet set "
        f"VLLM_PORT=tcp://... in every pod of its namespace, so in {whom}, and "
        " vLLM stops at start because it reads VLLM_PORT as its own port number. Give the "
        "Service another name, or set enableServiceLinks: false in the pods."
    )


def _engines_with_namespace(resource: Resource) -> Iterator[tuple[str, Engine]]:
    def find(pod: Pod) -> Iterator[tuple[str, Engine]]:
        for engine in engines_of(pod):
            yield resource.namespace, engine

    yield from judge_each(pods_of(resource), find)


def _takes_the_variable(engine: Engine) -> bool:
    if at(engine.pod.spec, "enableServiceLinks") in (False, "false"):
        return False
    stated = engine.variable("VLLM_PORT")
    return stated is None or not stated.isdigit()


def _has_address(service: Resource) -> bool:
    spec = mapping_at(service.properties, "spec")
    return at(spec, "clusterIP") != "None" and at(spec, "type") != "ExternalName"


def _judge_job(resource: Resource, _: Settings) -> Iterator[str]:
    metadata = mapping_at(resource.properties, "metadata")
    annotations = mapping_at(metadata, "annotations")
    # A hook and a Job without a fixed name are made anew on purpose.
    if any(key in annotations for key in _HOOKS) or text_at(metadata, "generateName"):
        return
    ttl = at(resource.properties, "spec", "ttlSecondsAfterFinished")
    if ttl is None:
        return
    why = next(judge_each(pods_of(resource), _costs), None)
    if why:
        yield (
            f"Job {resource.object_name} {why} and has spec.ttlSecondsAfterFinished="
            f"{whole(ttl, 0)}: "
            "Kubernetes deletes it when it is done, and the next update of the program or the "
            "repository that holds it makes it again and runs it again. Leave the field out, and "
            "name the Job after what it makes."
        )


def _costs(pod: Pod) -> Iterator[str]:
    def find(container: Container) -> Iterator[str]:
        if container.requests_gpu:
            yield f"requests a GPU in container {container.name!r}"
        for words in commands_of(container):
            if DOWNLOADS.search(" ".join(words)):
                yield f"downloads in container {container.name!r}"

    yield from judge_each(pod.containers(with_init=True), find)


def _is_job(resource_type: str) -> bool:
    return resource_type.startswith("kubernetes:batch/") and resource_type.endswith(
        (":Job", ":JobPatch")
    )


FORBID_VLLM_SERVICE_NAME = StackRule(
    code="CS605",
    name="kubernetes-service-forbid-vllm-name",
    concern="serving",
    title="No Service is named vllm",
    description="A Service with an address must not be named vllm where engines take service "
    "variables.",
    severity="high",
    tags=("kubernetes", "vllm", "reliability"),
    remediation="Rename the Service, for example after the model, and set enableServiceLinks: "
    "false in the pod template of the engine.",
    reason="The kubelet sets <NAME>_PORT for every Service of the namespace, and VLLM_PORT is a "
    "variable of the engine itself.",
    links=(
        "https://docs.vllm.ai/en/latest/configuration/env_vars/",
        "https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables",
    ),
    judge=_judge_service_name,
)

FORBID_JOB_EXPIRY = ResourceRule(
    code="CS608",
    name="kubernetes-job-forbid-expiry",
    concern="serving",
    title="Jobs that prepare a model stay when they are done",
    description="A Job that downloads weights or takes a GPU must not delete itself, since the "
    "next update would make it again.",
    severity="medium",
    tags=("kubernetes", "pulumi", "cost"),
    remediation="Remove spec.ttlSecondsAfterFinished and derive the Job's name from what it makes, "
    "so that only another revision is another Job.",
    reason="A declared object that is gone is created again: the download or the GPU work runs "
    "anew with every update.",
    links=(
        "https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/",
        "https://github.com/digitalocean/scale-with-simplicity",
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    reads=_is_job,
    judge=_judge_job,
)
