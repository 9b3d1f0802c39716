"""Makes the golden compile cache: one Job per key writes, every serving pod reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import batch, core, meta

from coldstart.render import pods
from components.contract import PUBLISHER_ACCOUNT
from components.workload import names
from components.workload.engine_pod import EnginePod
from components.workload.jobs import disruptions_are_no_failures
from components.workload.scripts import scripts_config
from components.workload.security import container_security

SCRIPTS = ("stage.sh", "publish-compile-cache.sh")
RETRIES = 2


@dataclass(frozen=True)
class CompileCacheArgs:
    """The serving pod to compile for, and what has to exist first."""

    pod: EnginePod
    namespace: str
    after: Sequence[pulumi.Resource]


class CompileCache(ComponentResource):
    """The publishing Job. It skips a key that exists, and no Deployment waits for it.

    What the Job was made with stays: the archive of a key is made once, and running the Job anew
    would take a GPU only to find that out.
    """

    def __init__(
        self, name: str, args: CompileCacheArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:workload:CompileCache", name, opts=opts)
        model = args.pod.model
        object_name = f"compile-cache-{model.compile_cache.key}"
        child = ResourceOptions(parent=self, depends_on=list(args.after))
        kept = ResourceOptions.merge(child, ResourceOptions(ignore_changes=["metadata", "data"]))
        scripts = scripts_config(
            f"{name}-{model.compile_cache.key}", object_name, args.namespace, SCRIPTS, kept
        )
        pod = replace(args.pod, publishing=True, scripts=scripts.metadata.name)
        labels = names.labels(model.name, names.COMPILE_CACHE)
        batch.v1.Job(
            f"{name}-{model.compile_cache.key}",
            metadata=meta.v1.ObjectMetaArgs(
                name=object_name,
                namespace=args.namespace,
                labels=labels,
                # It may wait long for a GPU that serving pods need more.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=batch.v1.JobSpecArgs(
                backoff_limit=RETRIES,
                pod_failure_policy=disruptions_are_no_failures(),
                template=core.v1.PodTemplateSpecArgs(
                    metadata=meta.v1.ObjectMetaArgs(
                        labels=labels,
                        annotations={
                            **pod.annotations(),
                            names.DO_NOT_DISRUPT_ANNOTATION: f"{pods.publish_seconds(model)}s",
                        },
                    ),
                    spec=pod.spec(
                        publishing_engine(pod),
                        account=PUBLISHER_ACCOUNT,
                        priority=names.JOBS_PRIORITY,
                        restart_policy="Never",
                        # Of the pod, not of the Job: there the wait for a GPU counts too.
                        active_deadline_seconds=pods.publish_seconds(model),
                    ),
                ),
            ),
            opts=ResourceOptions.merge(
                child,
                ResourceOptions(ignore_changes=["metadata.annotations", "metadata.labels", "spec"]),
            ),
        )
        self.register_outputs({"key": model.compile_cache.key})


def publishing_engine(pod: EnginePod) -> core.v1.ContainerArgs:
    """The engine with serving's own flags, path and variables; no key, as nobody else calls it."""
    own = {
        "WAIT_FOR": " ".join(pod.awaited),
        "DEADLINE_SECONDS": str(pods.publish_seconds(pod.model)),
        "PORT": str(pods.PORT),
        "SERVED_MODEL": pod.model.name,
        "CACHE_DIRECTORY": pods.CACHE_ROOT,
        "EXCHANGE": pods.EXCHANGE_MOUNT,
    }
    return core.v1.ContainerArgs(
        name="engine",
        image=pod.images.reference("engine"),
        image_pull_policy="IfNotPresent",
        command=["/bin/sh", f"{pods.SCRIPTS_MOUNT}/publish-compile-cache.sh"],
        args=pod.command(),
        env=[
            *pod.environment(),
            *(core.v1.EnvVarArgs(name=key, value=value) for key, value in own.items()),
        ],
        env_from=pod.environment_sources() or None,
        resources=pod.resources(),
        # The GPU's device hook writes into the root file system (see server.py).
        security_context=container_security(writable_root=True),
        volume_mounts=pod.mounts(),
    )
