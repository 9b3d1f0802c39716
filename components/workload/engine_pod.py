"""The pod an engine runs in, the same for serving and for compiling what serving will load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pulumi
from pulumi_kubernetes import core

from coldstart.planning import ModelPlan, PoolPlan
from coldstart.render import pods
from coldstart.spec.model import WeightsPath
from components.contract import ObjectStore
from components.workload import names
from components.workload.images import Images
from components.workload.placement import node_selector, tolerations
from components.workload.security import container_security, pod_security

WEIGHTS, CACHE, HANDOVER, EXCHANGE, SCRIPTS = (
    "weights", "compile-cache", "handover", "exchange", "scripts",
)  # fmt: skip
CACHE_MIB, HOME_MIB, TMP_MIB, HANDOVER_MIB = 12_288, 1024, 4096, 1
"""Together below what the planner asks of the node's disk beside the weights (20 GiB)."""
EXCHANGE_MIB = 4096


@dataclass(frozen=True)
class EnginePod:
    """One model's engine with everything its pod mounts.

    `scripts` is the ConfigMap with the pod's scripts, `object_store_config` the one that names the
    object store, `claim` the shared volume's claim. A publishing pod restores no compile cache; it
    makes one.
    """

    model: ModelPlan
    pool: PoolPlan
    images: Images
    object_store: ObjectStore
    scripts: pulumi.Input[str]
    object_store_config: pulumi.Input[str]
    claim: pulumi.Input[str] | None = None
    publishing: bool = False

    @property
    def awaited(self) -> tuple[str, ...]:
        """Files the engine waits for."""
        return pods.awaited_files(self.model, publishing=self.publishing)

    @property
    def has_stager(self) -> bool:
        """Whether a sidecar works for this pod."""
        return self.publishing or pods.needs_stager(self.model)

    def command(self) -> list[pulumi.Input[str]]:
        """What starts the engine; identical flags and path give an identical compile-cache key."""
        return ["vllm", "serve", self._model_location(), *map(pods.literal, self.model.engine_args)]

    def _model_location(self) -> pulumi.Input[str]:
        if self.model.model_path is not None:
            return self.model.model_path
        store = self.object_store
        return pulumi.Output.concat(
            store.scheme, "://", store.bucket, "/", self.model.weights_prefix
        )

    def environment(self) -> list[core.v1.EnvVarArgs]:
        """The engine's variables, without secrets."""
        return [
            *(
                core.v1.EnvVarArgs(name=key, value=value)
                for key, value in self.model.environment.items()
            ),
            *self.pod_uid(),
        ]

    def environment_sources(self) -> list[core.v1.EnvFromSourceArgs]:
        """The object store's settings, for an engine that streams from it."""
        if self.model.weights.value is not WeightsPath.STREAM:
            return []
        return [self._store_settings()]

    def _store_settings(self) -> core.v1.EnvFromSourceArgs:
        return core.v1.EnvFromSourceArgs(
            config_map_ref=core.v1.ConfigMapEnvSourceArgs(name=self.object_store_config)
        )

    def resources(self) -> core.v1.ResourceRequirementsArgs:
        """GPUs and memory are bounded; CPU is not, since most of a start is CPU work."""
        host = self.model.host
        gpus = {self.pool.resource_name: str(self.model.fit.gpus)}
        return core.v1.ResourceRequirementsArgs(
            requests={
                "cpu": f"{host.cpu_request_millicores}m",
                "memory": f"{host.memory_request_mib}Mi",
                # No limit beside it: a limit here would count the whole pod's emptyDirs, and each
                # of those has its own.
                "ephemeral-storage": f"{host.ephemeral_storage_mib}Mi",
                **gpus,
            },
            limits={"memory": f"{host.memory_limit_mib}Mi", **gpus},
        )

    def mounts(self) -> list[core.v1.VolumeMountArgs]:
        """What the engine sees."""
        mounts = [
            mount("shm", "/dev/shm"),  # noqa: S108
            mount("tmp", "/tmp"),  # noqa: S108
            mount("home", self.model.environment["HOME"]),
            mount(CACHE, pods.CACHE_MOUNT),
        ]
        if (at := pods.weights_mount(self.model)) is not None:
            mounts.append(self._weights_mount(at, read_only=True))
        if self.awaited:
            mounts.append(mount(SCRIPTS, pods.SCRIPTS_MOUNT, read_only=True))
        if self.has_stager:
            mounts.append(mount(HANDOVER, pods.HANDOVER_MOUNT, read_only=True))
        if self.publishing:
            mounts.append(mount(EXCHANGE, pods.EXCHANGE_MOUNT))
        return mounts

    def _weights_mount(self, at: str, *, read_only: bool) -> core.v1.VolumeMountArgs:
        # Pods of one node share the DaemonSet's disk, each in a directory of its own.
        own = "$(POD_UID)" if self._on_host_path else None
        return core.v1.VolumeMountArgs(
            name=WEIGHTS, mount_path=at, read_only=read_only, sub_path_expr=own
        )

    @property
    def _on_host_path(self) -> bool:
        return (
            self.model.weights.value is WeightsPath.LOCAL
            and self.pool.scratch_host_path is not None
        )

    def pod_uid(self) -> list[core.v1.EnvVarArgs]:
        """What `$(POD_UID)` in a mount stands for, where one is used."""
        if not self._on_host_path:
            return []
        field = core.v1.ObjectFieldSelectorArgs(field_path="metadata.uid")
        return [
            core.v1.EnvVarArgs(name="POD_UID", value_from=core.v1.EnvVarSourceArgs(field_ref=field))
        ]

    def volumes(self) -> list[core.v1.VolumeArgs]:
        """Node-local directories, each with a bound."""
        volumes = [
            scratch("shm", self.model.host.shm_mib, medium="Memory"),
            scratch("tmp", TMP_MIB),
            scratch("home", HOME_MIB),
            scratch(CACHE, CACHE_MIB),
        ]
        if (weights := self._weights_volume()) is not None:
            volumes.append(weights)
        if self.awaited:
            volumes.append(
                core.v1.VolumeArgs(
                    name=SCRIPTS,
                    config_map=core.v1.ConfigMapVolumeSourceArgs(name=self.scripts),
                )
            )
        if self.has_stager:
            volumes.append(scratch(HANDOVER, HANDOVER_MIB))
            volumes.append(scratch("stager-tmp", HANDOVER_MIB))
        if self.publishing:
            volumes.append(scratch(EXCHANGE, EXCHANGE_MIB))
        return volumes

    def _weights_volume(self) -> core.v1.VolumeArgs | None:
        if self.model.weights.value is WeightsPath.STREAM:
            return None
        if self._on_host_path:
            return core.v1.VolumeArgs(
                name=WEIGHTS,
                host_path=core.v1.HostPathVolumeSourceArgs(
                    path=str(self.pool.scratch_host_path), type="Directory"
                ),
            )
        if self.claim is not None:
            return core.v1.VolumeArgs(
                name=WEIGHTS,
                persistent_volume_claim=core.v1.PersistentVolumeClaimVolumeSourceArgs(
                    claim_name=self.claim, read_only=True
                ),
            )
        return scratch(WEIGHTS, pods.weights_mib(self.model))

    def stager(self) -> list[core.v1.ContainerArgs]:
        """The native sidecar, if there is anything to bring or to take away."""
        if not self.has_stager:
            return []
        mounts = [
            mount(HANDOVER, pods.HANDOVER_MOUNT),
            mount(CACHE, pods.CACHE_MOUNT),
            mount(SCRIPTS, pods.SCRIPTS_MOUNT, read_only=True),
            mount("stager-tmp", "/tmp"),  # noqa: S108
        ]
        variables = pods.stager_environment(self.model, publishing=self.publishing)
        local = self.model.weights.value is WeightsPath.LOCAL
        if local:
            at = str(pods.weights_mount(self.model))
            mounts.append(self._weights_mount(at, read_only=False))
            if self._on_host_path:
                variables["CLEAN_ON_EXIT"] = variables["WEIGHTS_DIRECTORY"]
        if self.publishing:
            mounts.append(mount(EXCHANGE, pods.EXCHANGE_MOUNT))
        # Fresh weights stay in this container's page cache, from where the engine reads them; a
        # limit below their size would push them out. Page cache is no reservation.
        cached_mib = pods.weights_mib(self.model) if local else 0
        host = self.model.host
        return [
            core.v1.ContainerArgs(
                name="stager",
                image=self.images.reference("stager"),
                image_pull_policy="IfNotPresent",
                restart_policy="Always",
                command=["/bin/sh", str(PurePosixPath(pods.SCRIPTS_MOUNT, "stage.sh"))],
                env=[
                    *(core.v1.EnvVarArgs(name=k, value=v) for k, v in variables.items()),
                    *self.pod_uid(),
                ],
                env_from=[self._store_settings()],
                resources=core.v1.ResourceRequirementsArgs(
                    requests={
                        "cpu": f"{host.stager_cpu_millicores}m",
                        "memory": f"{host.stager_memory_mib}Mi",
                    },
                    limits={"memory": f"{host.stager_memory_mib * 4 + cached_mib}Mi"},
                ),
                security_context=container_security(),
                volume_mounts=mounts,
            )
        ]

    def spec(
        self,
        engine: core.v1.ContainerArgs,
        *,
        account: str,
        priority: str,
        restart_policy: str | None = None,
        grace_seconds: int | None = None,
        active_deadline_seconds: int | None = None,
        spread_over: Sequence[core.v1.TopologySpreadConstraintArgs] | None = None,
    ) -> core.v1.PodSpecArgs:
        """The pod around the engine's container."""
        return core.v1.PodSpecArgs(
            service_account_name=account,
            automount_service_account_token=False,
            # The kubelet would inject VLLM_* variables for Services of that name.
            enable_service_links=False,
            priority_class_name=priority,
            security_context=pod_security(),
            node_selector=node_selector(self.pool),
            tolerations=tolerations(pods.tolerated_taints(self.model, self.pool)),
            init_containers=self.stager() or None,
            containers=[engine],
            volumes=self.volumes(),
            restart_policy=restart_policy,
            termination_grace_period_seconds=grace_seconds,
            active_deadline_seconds=active_deadline_seconds,
            topology_spread_constraints=spread_over,
        )

    def annotations(self) -> dict[str, str]:
        """What policies and Karpenter read."""
        shared = (
            {names.COMPILE_CACHE_ANNOTATION: "shared"} if pods.restores_cache(self.model) else {}
        )
        return {
            names.COLD_START_ANNOTATION: str(self.model.predicted_startup_seconds),
            **shared,
        }


def mount(name: str, at: str, *, read_only: bool = False) -> core.v1.VolumeMountArgs:
    """A volume at a path."""
    return core.v1.VolumeMountArgs(name=name, mount_path=at, read_only=read_only or None)


def scratch(name: str, size_mib: int, *, medium: str | None = None) -> core.v1.VolumeArgs:
    """An empty directory with a bound, on the node's disk or in memory."""
    return core.v1.VolumeArgs(
        name=name,
        empty_dir=core.v1.EmptyDirVolumeSourceArgs(size_limit=f"{size_mib}Mi", medium=medium),
    )
