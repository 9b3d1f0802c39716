"""Brings the pinned weights into the cluster's own store, once per revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ComponentResource, CustomTimeouts, ResourceOptions
from pulumi_kubernetes import batch, core, meta

from coldstart.planning import ModelPlan
from coldstart.render import pods
from coldstart.spec.model import WeightsPath
from components.contract import PUBLISHER_ACCOUNT, ObjectStore
from components.workload import names
from components.workload.engine_pod import mount, scratch
from components.workload.images import Images
from components.workload.jobs import disruptions_are_no_failures
from components.workload.scripts import scripts_config
from components.workload.security import container_security, pod_security

SCRIPT = "fetch_weights.py"
REQUESTS = {"cpu": "500m", "memory": "2Gi"}
LIMITS = {"memory": "4Gi"}
TMP_MIB = 2048
RETRIES = 4
"""Each run goes on where the last one stopped."""
STORE_VOLUME = "store"


@dataclass(frozen=True)
class WeightsArgs:
    """What to fetch and where to, and what has to exist first; `claim` is the shared volume when
    that is the place."""

    model: ModelPlan
    namespace: str
    images: Images
    object_store: ObjectStore
    object_store_config: pulumi.Input[str]
    token_secret: pulumi.Input[str] | None
    claim: pulumi.Input[str] | None
    after: Sequence[pulumi.Resource]


class Weights(ComponentResource):
    """The Job that fetches one revision; a second one exists only for another revision.

    No time to live: a Job that Kubernetes deleted would be made again by the next update. The
    engine's image may change without a new run, so the Job keeps the one it was made with.
    """

    def __init__(self, name: str, args: WeightsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:workload:Weights", name, opts=opts)
        model = args.model
        child = ResourceOptions(parent=self, depends_on=list(args.after))
        revision = pods.digest(
            model.repository, model.revision, model.model_path, model.weights_prefix,
            model.weights.value, pods.script(SCRIPT), REQUESTS, LIMITS,
        )  # fmt: skip
        object_name = f"weights-{revision}"
        # Another revision is another resource: the old Job goes only when the new one is done.
        resource = f"{name}-{revision}"
        scripts = scripts_config(resource, object_name, args.namespace, (SCRIPT,), child)
        deadline_seconds = pods.fetch_seconds(model)
        labels = names.labels(model.name, names.WEIGHTS)
        self.job = batch.v1.Job(
            resource,
            metadata=meta.v1.ObjectMetaArgs(
                name=object_name,
                namespace=args.namespace,
                labels=labels,
                # A failed run is made anew by the next update instead of failing it again.
                annotations={"pulumi.com/replaceUnready": "true"},
            ),
            spec=batch.v1.JobSpecArgs(
                backoff_limit=RETRIES,
                pod_failure_policy=disruptions_are_no_failures(),
                active_deadline_seconds=deadline_seconds,
                template=core.v1.PodTemplateSpecArgs(
                    metadata=meta.v1.ObjectMetaArgs(labels=labels),
                    spec=fetching_pod(args, scripts.metadata.name),
                ),
            ),
            opts=ResourceOptions.merge(
                child,
                ResourceOptions(
                    ignore_changes=["spec.template.spec.containers[0].image"],
                    custom_timeouts=CustomTimeouts(create=f"{deadline_seconds}s"),
                ),
            ),
        )
        self.register_outputs({"job": self.job.metadata.name})


def fetching_pod(args: WeightsArgs, scripts: pulumi.Input[str]) -> core.v1.PodSpecArgs:
    """Runs on the system nodes: the pod asks for no GPU and tolerates no GPU taint."""
    model = args.model
    shared = model.weights.value is WeightsPath.SHARED
    place = (
        core.v1.VolumeArgs(
            name=STORE_VOLUME,
            persistent_volume_claim=core.v1.PersistentVolumeClaimVolumeSourceArgs(
                claim_name=args.claim or ""
            ),
        )
        if shared
        else scratch(STORE_VOLUME, pods.staging_mib(model))
    )
    place_at = str(pods.weights_mount(model)) if shared else pods.STAGING_MOUNT
    disk = {} if shared else {"ephemeral-storage": f"{pods.staging_mib(model) + TMP_MIB}Mi"}
    return core.v1.PodSpecArgs(
        restart_policy="Never",
        service_account_name=PUBLISHER_ACCOUNT,
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=names.JOBS_PRIORITY,
        security_context=pod_security(),
        containers=[
            core.v1.ContainerArgs(
                name="fetch",
                # The engine's image has the Hub's client and boto3 already.
                image=args.images.reference("engine"),
                image_pull_policy="IfNotPresent",
                command=["python3", f"{pods.SCRIPTS_MOUNT}/{SCRIPT}"],
                env=fetch_environment(args, shared=shared),
                env_from=[
                    core.v1.EnvFromSourceArgs(
                        config_map_ref=core.v1.ConfigMapEnvSourceArgs(name=args.object_store_config)
                    )
                ],
                resources=core.v1.ResourceRequirementsArgs(
                    requests={**REQUESTS, **disk}, limits=LIMITS
                ),
                security_context=container_security(),
                volume_mounts=[
                    mount("scripts", pods.SCRIPTS_MOUNT, read_only=True),
                    mount("tmp", "/tmp"),  # noqa: S108
                    mount(STORE_VOLUME, place_at),
                ],
            )
        ],
        volumes=[
            core.v1.VolumeArgs(
                name="scripts", config_map=core.v1.ConfigMapVolumeSourceArgs(name=scripts)
            ),
            scratch("tmp", TMP_MIB),
            place,
        ],
    )


def fetch_environment(args: WeightsArgs, *, shared: bool) -> list[core.v1.EnvVarArgs]:
    """What to fetch, where to, and the token, which no other pod gets."""
    model, store = args.model, args.object_store
    destination: pulumi.Input[str] = (
        str(model.model_path)
        if shared
        else pulumi.Output.concat(store.scheme, "://", store.bucket, "/", model.weights_prefix)
    )
    values: dict[str, pulumi.Input[str]] = {
        "REPOSITORY": model.repository,
        "REVISION": model.revision,
        "DESTINATION": destination,
        "STAGING_DIRECTORY": pods.STAGING_MOUNT,
        "STAGING_BYTES": str((pods.weights_mib if shared else pods.staging_mib)(model) * pods.MIB),
        "HOME": "/tmp",  # noqa: S108
        "HF_HOME": "/tmp/huggingface",  # noqa: S108
        # The chunk cache would fill /tmp with what is downloaded once. HF_XET_HIGH_PERFORMANCE is
        # left out: it expects 64 GiB of memory, a system node has 8.
        "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    environment = [core.v1.EnvVarArgs(name=key, value=value) for key, value in values.items()]
    if args.token_secret is not None:
        reference = core.v1.SecretKeySelectorArgs(name=args.token_secret, key=names.TOKEN)
        environment.append(
            core.v1.EnvVarArgs(
                name="HF_TOKEN", value_from=core.v1.EnvVarSourceArgs(secret_key_ref=reference)
            )
        )
    return environment
