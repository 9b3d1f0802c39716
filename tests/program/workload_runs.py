"""Runs of the workload layer alone, on a cluster that exists only as a contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from coldstart.planning import ChartPlan, StackPlan, plan_stack
from coldstart.spec.model import StackSpec
from components import workload
from components.contract import ClusterContract, ObjectStore, SharedFileSystem, pool_facts
from tests.program.harness import run_program
from tests.program.recording import Recorded, Resource

REVISION = "b968826d9c46dd6066d109eabc6255188de91218"
OTHER_REVISION = "0123456789012345678901234567890123456789"
API_KEY = "key-of-the-test"
TOKEN = "token-of-the-test"
BUCKET = "weights-of-the-test"
MIRROR = "111122223333.dkr.ecr.us-west-2.amazonaws.com/docker-hub"
WAKING_CHART = ChartPlan(
    "keda-add-ons-http", "keda-add-ons-http", "https://kedacore.github.io/charts", "0.15.0", "keda"
)

LOCAL, STREAM, SHARED = "local", "stream", "shared"


def stack_spec(
    models: Mapping[str, Mapping[str, Any]], *, pool: Mapping[str, Any] | None = None, **extra: Any
) -> StackSpec:
    """A spec of one L40S pool with these models; each needs no more than what differs."""
    usual = {
        "source": f"hf://Qwen/Qwen3-8B@{REVISION}",
        "nodePool": "l40s",
        "scaling": {"min": 1, "max": 3},
    }
    gpus = {"accelerator": "nvidia-l40s-48gb", "capacity": ["spot"], "maxNodes": 8}
    return StackSpec.model_validate(
        {
            "stack": "eks-test",
            "region": "us-west-2",
            "platform": "eks",
            "layers": ["workload"],
            "nodePools": {"l40s": {**gpus, **(pool or {})}},
            "models": {name: {**usual, **model} for name, model in models.items()},
            **extra,
        }
    )


def planned(spec: StackSpec) -> StackPlan:
    """The plan, with a chart for the waking proxy whatever the catalog has."""
    plan = plan_stack(spec)
    return replace(plan, charts={"keda-add-ons-http": WAKING_CHART, **plan.charts})


@cache
def plan_for(way: str, cache_mode: str = "golden", minimum: int = 1, warm: int = 0) -> StackPlan:
    """One model `chat` whose weights come by `way`."""
    return planned(
        stack_spec(
            {
                "chat": {
                    "weights": way,
                    "compileCache": cache_mode,
                    "scaling": {"min": minimum, "max": 3},
                }
            },
            pool={"warmNodes": warm},
            storage={"sharedFileSystem": way == SHARED},
        )
    )


@cache
def dev_plan() -> StackPlan:
    """A dev stack whose local disks come from the privileged DaemonSet."""
    return planned(
        stack_spec(
            {"chat": {"weights": LOCAL}}, pool={"localStorage": "daemonset"}, environment="dev"
        )
    )


@cache
def fleet_plan() -> StackPlan:
    """Every way for weights at once, warm nodes and a model that scales to zero."""
    return planned(
        stack_spec(
            {
                "near": {"weights": LOCAL},
                "streamed": {"weights": STREAM, "scaling": {"min": 0, "max": 2}},
                "shared": {"weights": SHARED, "compileCache": "none"},
            },
            pool={"warmNodes": 2},
            storage={"sharedFileSystem": True},
        )
    )


@cache
def scheduled_plan() -> StackPlan:
    """A model that sleeps and is woken for the working hours of two days."""
    hours = {
        "days": ["mon", "fri"],
        "start": "08:30",
        "until": "18:00",
        "timezone": "Europe/Berlin",
        "replicas": 2,
    }
    return planned(
        stack_spec(
            {"chat": {"weights": STREAM, "scaling": {"min": 0, "max": 3, "schedules": [hours]}}}
        )
    )


@cache
def priced_plan() -> StackPlan:
    """One model whose replicas follow from the price of a violated second, one set by hand."""
    load = {
        "traffic": {
            "requestsPerSecond": 2,
            "peakRequestsPerSecond": 8,
            "peaksPerDay": 24,
            "promptTokens": {"mean": 1500},
            "outputTokens": {"mean": 300},
        },
        "slo": {"ttft": "5s", "tpot": "50ms", "usdPerViolatedSecond": 1},
    }
    return planned(
        stack_spec(
            {
                "chat": {**load, "scaling": {"max": 8}},
                "fixed": {**load, "scaling": {"min": 1, "max": 8}},
            },
            pool={"maxNodes": 24},
        )
    )


def contract_of(plan: StackPlan, ready: tuple[pulumi.Resource, ...]) -> ClusterContract:
    """A cluster that fits `plan`."""
    shared = SharedFileSystem(
        "efs.csi.aws.com",
        {name: f"fs-1::fsap-{name}" for name in plan.models},
        ["tls"],
        "1Ti",
    )
    return ClusterContract(
        name="eks-test",
        platform="eks",
        region="us-west-2",
        kubeconfig="{}",
        zones=["us-west-2a"],
        object_store=ObjectStore(
            "s3",
            pulumi.Output.from_input(BUCKET),
            {"provider": "AWS", "region": "us-west-2", "env_auth": "true"},
        ),
        shared_file_system=shared if plan.shared_file_system.value else None,
        registry_mirrors={"docker.io": MIRROR},
        pools={name: pool_facts(pool) for name, pool in plan.pools.items()},
        ready=ready,
    )


def served(plan: StackPlan, *, keys: bool = True) -> Recorded:
    """Everything `deploy` registers for `plan`; `keys` says whether the stack names its secrets."""

    def program() -> None:
        cluster = kubernetes.core.v1.ConfigMap("the-cluster-is-ready")
        secrets = (
            workload.Secrets(pulumi.Output.secret(API_KEY), pulumi.Output.secret(TOKEN))
            if keys
            else workload.Secrets()
        )
        for name, value in workload.deploy(plan, contract_of(plan, (cluster,)), secrets).items():
            pulumi.export(name, value)

    return run_program("eks-test", config={}, program=program)


def served_on_reference(plan: StackPlan) -> Recorded:
    """The same, on a cluster known only by what another stack exported."""

    def infra() -> None:
        cluster = kubernetes.core.v1.ConfigMap("the-cluster-is-ready")
        pulumi.export("contract", contract_of(plan, (cluster,)).to_outputs())

    def program() -> None:
        secrets = workload.Secrets(pulumi.Output.secret(API_KEY), pulumi.Output.secret(TOKEN))
        workload.deploy(plan, ClusterContract.from_stack("infra", plan), secrets)

    exported = run_program("infra", config={}, program=infra).exports()
    return run_program("eks-test", config={}, program=program, stack_outputs={"infra": exported})


@cache
def run(way: str, cache_mode: str = "golden", minimum: int = 1, warm: int = 0) -> Recorded:
    """The one-model plan, deployed."""
    return served(plan_for(way, cache_mode, minimum, warm))


@cache
def fleet() -> Recorded:
    """The plan with everything in it, deployed."""
    return served(fleet_plan())


def pod_templates(recorded: Recorded) -> list[tuple[Resource, dict[str, Any]]]:
    """Every Deployment and Job with its pod template, secrets revealed."""
    return [
        (resource, resource.at("spec.template"))
        for kind in ("Deployment", "Job")
        for resource in recorded.of_type(kind)
    ]


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod spec, in starting order."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def server(recorded: Recorded, name: str = "chat") -> Resource:
    """The Deployment of one model."""
    return recorded.one("Deployment", name)


def engine(recorded: Recorded, name: str = "chat") -> dict[str, Any]:
    """The engine's container in the Deployment of one model."""
    return server(recorded, name).at("spec.template.spec.containers.0")


def variables(container: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a container that have a plain value."""
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}
