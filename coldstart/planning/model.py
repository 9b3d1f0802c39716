"""The plan: every decision as plain data, ready to be wired by the components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from coldstart.capacity.warm import WarmCosts
from coldstart.planning.bill import CostPlan
from coldstart.planning.cold_start import ColdStart
from coldstart.planning.decision import Decision
from coldstart.planning.fit_plan import FitPlan, HostPlan
from coldstart.planning.operation_plan import (
    DrainPlan,
    LoadPlan,
    ProbePlan,
    RolloutPlan,
    ScalingPlan,
)
from coldstart.planning.timeline import Timeline
from coldstart.spec.model import (
    CapacityType,
    CompileCache,
    ImageDelivery,
    LocalStorage,
    NatGateways,
    OperatingSystem,
    StackSpec,
    WeightsPath,
)


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """One subnet: the index of its zone among the region's available ones, block, audience."""

    zone_index: int
    cidr: str
    public: bool


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The VPC's blocks and its way out."""

    cidr: str
    subnets: tuple[SubnetPlan, ...]
    nat_gateways: Decision[NatGateways]


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """The control plane."""

    name: str
    version: str
    admin_cidrs: tuple[str, ...]
    admin_principals: tuple[str, ...]
    deletion_protection: bool
    system_instance_type: str
    system_nodes: int
    addons: Mapping[str, str]
    system_ami_type: str


@dataclass(frozen=True, slots=True)
class Taint:
    """A Kubernetes taint."""

    key: str
    effect: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class KarpenterPool:
    """One Karpenter NodePool object; weights order several of them, higher first."""

    name: str
    capacity_types: tuple[CapacityType, ...]
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """One encrypted gp3 volume of a node.

    `root` marks the one that holds the kubelet's directory, as Karpenter means it, not the one the
    node boots from: on it Karpenter counts the scratch space of pods.
    """

    device_name: str
    size_gib: int
    iops: int
    throughput_mib_per_second: int
    root: bool = False
    snapshot_id: str | None = None
    initialization_rate_mib_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One pool of GPU nodes, decided.

    `local_disk_path` is where the array is mounted on the node, None without NVMe for pods;
    `scratch_host_path` is set only for the dev-only privileged DaemonSet, whose disks pods reach
    by hostPath; otherwise an emptyDir lies on `local_disk_gb` of NVMe.
    """

    name: str
    accelerator: str
    resource_name: str
    gpu_architecture: str
    instance_types: tuple[str, ...]
    gpus_per_node: int
    operating_system: Decision[OperatingSystem]
    ami_alias: str
    local_storage: Decision[LocalStorage]
    local_disk_path: str | None
    local_disk_gb: int
    scratch_host_path: str | None
    image_delivery: Decision[ImageDelivery]
    capacity: Decision[tuple[KarpenterPool, ...]]
    reservation_ids: tuple[str, ...]
    reservation_tags: Mapping[str, str]
    max_nodes: int
    warm: Decision[int]
    limits: Mapping[str, str]
    volumes: tuple[VolumePlan, ...]
    user_data: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    startup_taints: tuple[Taint, ...]
    consolidate_after_seconds: int
    expire_after_seconds: int | None
    termination_grace_seconds: int
    shares_compile_cache: bool
    cpu_architecture: str

    @property
    def warm_nodes(self) -> int:
        """Nodes kept empty and ready beside those in use."""
        return self.warm.value


@dataclass(frozen=True, slots=True)
class CompileCachePlan:
    """The golden archive of compiled artefacts.

    `key` names everything that decides whether an archive may be used; `factors` is the same in
    words.
    """

    mode: Decision[CompileCache]
    key: str
    factors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model, decided. `name` is its namespace, Service and served model name.

    `weights_prefix` is where the weights lie in the bucket or shared file system (no scheme, no
    bucket). `model_path` is the path the engine opens, the same in serving and publishing pods, or
    None when it streams `<scheme>://<bucket>/<weights_prefix>`. `engine_args` follow the path.
    `start` is what `cold_start` (N→N+1), `first_node`, `from_zero` (0→1) and `warm_node` were
    predicted from, `baseline` the same without any lever. `warm_costs` is what warm capacity costs
    and saves, None where its nodes have no price.
    """

    name: str
    repository: str
    revision: str
    gated: bool
    pool: str
    expected_instance_type: str
    fit: FitPlan
    parallelism: Decision[str]
    host: HostPlan
    weight_bytes: int
    weights_prefix: str
    model_path: str | None
    weights: Decision[WeightsPath]
    load_format: Decision[str]
    loader_config: Mapping[str, Any]
    compile_cache: CompileCachePlan
    engine_args: tuple[str, ...]
    environment: Mapping[str, str]
    probe: ProbePlan
    drain: DrainPlan
    scaling: ScalingPlan
    rollout: Decision[RolloutPlan]
    start: ColdStart
    cold_start: Timeline
    first_node: Timeline
    from_zero: Timeline
    warm_node: Timeline
    baseline: Timeline
    budget_seconds: float | None
    warm_costs: WarmCosts | None
    load: LoadPlan | None = None

    @property
    def least_gpus(self) -> int:
        """GPUs of the replicas that always run."""
        return self.scaling.min_replicas * self.fit.gpus

    @property
    def most_gpus(self) -> int:
        """GPUs at full scale."""
        return self.scaling.max_replicas * self.fit.gpus

    @property
    def predicted_startup_seconds(self) -> int:
        """Container start to ready without a golden archive, which the startup probe must cover."""
        return self.probe.covers_seconds


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One container image: upstream registry, repository path there, digest."""

    registry: str
    repository: str
    digest: str
    tag: str | None = None

    @property
    def reference(self) -> str:
        """Pinned by digest at its upstream registry."""
        return f"{self.registry}/{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class ChartPlan:
    """One pinned Helm chart; an `oci://` repository is the folder the chart lies in."""

    name: str
    chart: str
    repository: str
    version: str
    namespace: str


@dataclass(frozen=True, slots=True)
class StackPlan:
    """Everything the components need, and every reason."""

    spec: StackSpec
    network: NetworkPlan
    cluster: ClusterPlan
    pools: Mapping[str, PoolPlan]
    models: Mapping[str, ModelPlan]
    images: Mapping[str, ImagePlan]
    charts: Mapping[str, ChartPlan]
    pull_through: Mapping[str, str]
    shared_file_system: Decision[bool]
    cost: CostPlan
    notes: tuple[str, ...] = field(default=())

    def models_of(self, pool: str) -> tuple[ModelPlan, ...]:
        """The models served on a pool."""
        return tuple(model for model in self.models.values() if model.pool == pool)

    def decisions(self) -> Iterator[tuple[str, Decision[Any]]]:
        """Every decision with its path in the stack file, in the file's order."""
        yield "network.natGateways", self.network.nat_gateways
        yield "storage.sharedFileSystem", self.shared_file_system
        for name, pool in self.pools.items():
            path = f"nodePools.{name}"
            yield f"{path}.os", pool.operating_system
            yield f"{path}.localStorage", pool.local_storage
            yield f"{path}.image", pool.image_delivery
            yield f"{path}.capacity", pool.capacity
            if any(self.spec.models[m.name].prices_violations for m in self.models_of(name)):
                yield f"{path}.warmNodes", pool.warm
        for name, model in self.models.items():
            path, spec = f"models.{name}", self.spec.models[name]
            yield f"{path}.tensorParallel", model.parallelism
            yield f"{path}.weights", model.weights
            yield f"{path}.loadFormat", model.load_format
            yield f"{path}.compileCache", model.compile_cache.mode
            yield f"{path}.rollout", model.rollout
            if model.scaling.replicas is not None:
                yield f"{path}.traffic", model.scaling.replicas
            if spec.prices_violations:
                yield f"{path}.scaling.min", model.scaling.minimum
            yield f"{path}.scaling.waitingRequests", model.scaling.waiting_requests
            if model.scaling.min_replicas == 0 or spec.tells_cooldown:
                yield f"{path}.scaling.cooldown", model.scaling.cooldown
            if model.scaling.schedules.value:
                yield f"{path}.scaling.schedules", model.scaling.schedules
