"""Runs of the EKS infra layer alone, against plans made by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pulumi

from coldstart.planning import Decision, PoolPlan, StackPlan
from coldstart.spec.model import ImageDelivery, LocalStorage
from components import aws
from tests.program.harness import run_program
from tests.program.plans import A100, REGION, stack_plan
from tests.program.recording import Recorded

DEPLOYER = "arn:aws:iam::123456789012:role/ci/deployer"
DOCKER_HUB_SECRET = (
    "arn:aws:secretsmanager:us-west-2:123456789012:secret:ecr-pullthroughcache/docker-hub-a1b2c3"
)
MIRRORS = {"docker.io": "docker-hub", "quay.io": "quay"}


def provisioned(
    plan: StackPlan, *, preview: bool = False, settings: dict[str, Any] | None = None
) -> Recorded:
    """Everything `provision` registers for `plan`; `settings` are further stack settings."""

    def session(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"id": "1", "arn": arguments["arn"], "issuerArn": DEPLOYER}

    def program() -> None:
        contract = aws.provision(plan)
        pulumi.export("contract", contract.to_outputs())
        pulumi.export("ready", [resource.urn for resource in contract.ready])
        for name, awaited in (("pools", contract.node_pools), ("tenants", contract.identities)):
            pulumi.export(name, {key: [r.urn for r in found] for key, found in awaited.items()})

    return run_program(
        plan.spec.stack,
        config={"aws:region": REGION, **(settings or {})},
        program=program,
        preview=preview,
        invokes={"aws:iam/getSessionContext:getSessionContext": session},
    )


@cache
def plain() -> Recorded:
    """Three zones, one pool, no shared file system, no registry cache."""
    return provisioned(stack_plan())


@cache
def full() -> Recorded:
    """With the shared file system and the registry cache."""
    return provisioned(
        stack_plan(
            spec={"registry": {"pullThroughCache": True, "dockerHubCredential": DOCKER_HUB_SECRET}},
            pull_through=MIRRORS,
            shared_file_system=True,
        )
    )


@cache
def dev() -> Recorded:
    """A dev stack whose pool shares images between peers and has its disks made by a DaemonSet."""
    return provisioned(
        stack_plan(spec={"environment": "dev"}, pools=(scratch_pool(),), pull_through=MIRRORS)
    )


def scratch_pool() -> PoolPlan:
    """A pool with a peer mirror, and disks made by the privileged DaemonSet."""
    return replace(
        A100,
        local_storage=Decision(LocalStorage.DAEMONSET, "by hand"),
        image_delivery=Decision(ImageDelivery.PEER, "by hand"),
        scratch_host_path="/mnt/k8s-disks/0/scratch",
    )
