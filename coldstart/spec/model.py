"""What a user may say in a stack file. Data only: no decision is taken here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Annotated, Self

from pydantic import (
    Field,
    PrivateAttr,
    model_validator,
)

from coldstart.catalog import Model
from coldstart.spec.base import AUTO as AUTO
from coldstart.spec.base import Auto, Spec
from coldstart.spec.fields import (
    LARGEST_IMAGE_BYTES,
    ClientBlock,
    Count,
    NodeLifeSeconds,
    Percent,
    ResourceName,
    UsdPerHour,
    VpcBlock,
    written,
)
from coldstart.spec.problems import line_of
from coldstart.spec.traffic import LoraSpec, MeasuredSpec, ScalingSpec, SloSpec, TrafficSpec
from coldstart.units import DurationSeconds, SizeBytes


class Platform(StrEnum):
    """Where the cluster runs."""

    EKS = "eks"


class Environment(StrEnum):
    """How much is at stake: `prod` turns every protection on, `dev` may loosen named ones."""

    PROD = "prod"
    DEV = "dev"


class Layer(StrEnum):
    """`infra` makes the cluster, `workload` serves models on it."""

    INFRA = "infra"
    WORKLOAD = "workload"


class ImageDelivery(StrEnum):
    """How the engine image reaches a fresh node."""

    SNAPSHOT = "snapshot"
    PARALLEL = "parallel"
    PEER = "peer"
    REGISTRY = "registry"


class OperatingSystem(StrEnum):
    """The node image family."""

    AL2023 = "al2023"
    BOTTLEROCKET = "bottlerocket"


class LocalStorage(StrEnum):
    """Who prepares the instance's NVMe disks, and what lives on them.

    `raid0` is Karpenter's instanceStorePolicy: containerd, kubelet and pods on the array.
    `pods-only` lets the node agent (nodeadm, or Bottlerocket's ephemeral-storage) prepare the
    array for pods alone and leaves containerd on its own volume. `user-data` is a boot script for
    images without either agent. `daemonset` is a privileged pod and is for dev stacks only.
    """

    RAID0 = "raid0"
    PODS_ONLY = "pods-only"
    USER_DATA = "user-data"
    DAEMONSET = "daemonset"
    NONE = "none"


class WeightsPath(StrEnum):
    """How weights reach GPU memory: from the object store, staged to NVMe first, or shared."""

    STREAM = "stream"
    LOCAL = "local"
    SHARED = "shared"


class CompileCache(StrEnum):
    """`golden` restores a verified archive at start; `none` compiles in every pod."""

    GOLDEN = "golden"
    NONE = "none"


class CapacityType(StrEnum):
    """A way to buy a node, by Karpenter's names."""

    RESERVED = "reserved"
    SPOT = "spot"
    ON_DEMAND = "on-demand"


class KvCache(StrEnum):
    """Precision of the KV cache; `fp8` halves what a token takes."""

    BF16 = "bf16"
    FP8 = "fp8"


class NatGateways(StrEnum):
    """One NAT gateway per zone survives the loss of a zone; one gateway costs less."""

    PER_ZONE = "per-zone"
    ONE = "one"


class NetworkSpec(Spec):
    """The VPC: one IPv4 block spread over `zones` availability zones."""

    cidr: VpcBlock = IPv4Network("10.40.0.0/16")
    zones: Count = Field(default=3, ge=2, le=4)
    nat_gateways: NatGateways | Auto = AUTO


class ClusterSpec(Spec):
    """The Kubernetes control plane and who may reach it."""

    version: str = "1.35"
    admin_cidrs: tuple[ClientBlock, ...] = Field(default=(), max_length=40)
    admin_principals: tuple[
        Annotated[
            str,
            written(
                r"arn:aws[\w-]*:iam::\d{12}:(role|user)/[\w+=,.@/-]+",
                "is not the ARN of a role or user; write arn:aws:iam::<account>:role/<name>",
            ),
        ],
        ...,
    ] = ()
    system_instance_type: str = "m7i.xlarge"
    system_nodes: Count = Field(default=3, ge=2, le=10)


class ReservationSpec(Spec):
    """On-demand capacity reservations or capacity blocks, by id or by tags."""

    ids: tuple[
        Annotated[str, written(r"cr-[0-9a-z]+", "is not a reservation; write cr-…")], ...
    ] = ()
    tags: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.ids) == bool(self.tags):
            raise ValueError("give either ids or tags of the reservations, one of the two")
        return self


class NodePoolSpec(Spec):
    """A pool of GPU nodes of one accelerator."""

    accelerator: str
    instance_types: Annotated[tuple[str, ...], Field(min_length=1)] | Auto = AUTO
    capacity: tuple[CapacityType, ...] = (CapacityType.ON_DEMAND,)
    reservations: ReservationSpec | None = None
    os: OperatingSystem | Auto = AUTO
    image: ImageDelivery | Auto = AUTO
    image_snapshot: (
        Annotated[
            str,
            written(r"snap-[0-9a-f]{8,17}", "is not a snapshot; write snap- and its hex digits"),
        ]
        | None
    ) = None
    local_storage: LocalStorage | Auto = AUTO
    max_nodes: Count = Field(ge=1, le=1000)
    warm_nodes: Annotated[Count, Field(ge=0, le=100)] | Auto = AUTO
    expire_after: NodeLifeSeconds | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.capacity)) != len(self.capacity) or not self.capacity:
            raise ValueError(
                "capacity must name each of reserved, spot, on-demand at most once, "
                "and at least one of them"
            )
        if (CapacityType.RESERVED in self.capacity) != (self.reservations is not None):
            raise ValueError(
                "capacity reserved and reservations go together: Karpenter never uses "
                "a reservation that is not selected, and selects none without reserved"
            )
        if self.warm_nodes != AUTO and self.warm_nodes > self.max_nodes:
            raise ValueError(f"warmNodes {self.warm_nodes} exceeds maxNodes {self.max_nodes}")
        return self


class ModelSpec(Spec):
    """One model served on one node pool."""

    source: Annotated[
        str,
        written(
            r"hf://[\w.-]+/[\w.-]+@[0-9a-f]{40}",
            "is not a pinned source; write hf://<organisation>/<name>@<40-digit commit>, so that "
            "every replica serves the same weights",
        ),
    ]
    node_pool: str
    precision: str = AUTO
    kv_cache: KvCache | Auto = AUTO
    tensor_parallel: Annotated[Count, Field(ge=1)] | Auto = AUTO
    pipeline_parallel: Annotated[Count, Field(ge=1)] | Auto = AUTO
    expert_parallel: bool | Auto = AUTO
    lora: LoraSpec | None = None
    max_model_len: Annotated[Count, Field(ge=256)] | Auto = AUTO
    max_concurrency: Count = Field(default=32, ge=1, le=1024)
    weights: WeightsPath | Auto = AUTO
    load_format: str = AUTO
    compile_cache: CompileCache | Auto = AUTO
    scaling: ScalingSpec
    traffic: TrafficSpec | None = None
    slo: SloSpec | None = None
    measurements: Mapping[str, MeasuredSpec] = Field(default_factory=dict)
    max_request_duration: DurationSeconds = Field(default=60, ge=1, le=3600)
    cold_start_budget: DurationSeconds | None = Field(default=None, gt=0)

    @property
    def prices_violations(self) -> bool:
        """Whether a violated second has a price, by which warm capacity is chosen."""
        return self.slo is not None and self.slo.usd_per_violated_second is not None

    @property
    def tells_cooldown(self) -> bool:
        """Whether the file names the cooldown, or the idle gaps that it follows from."""
        gaps = self.traffic is not None and self.traffic.idle_gaps is not None
        return gaps or self.scaling.cooldown != AUTO

    @property
    def repository(self) -> str:
        """The Hugging Face repository, `organisation/name`."""
        return self.source.removeprefix("hf://").partition("@")[0]

    @property
    def revision(self) -> str:
        """The 40-digit commit the weights are pinned to."""
        return self.source.rpartition("@")[2]


class PricesSpec(Spec):
    """What you pay instead of list prices: US dollars an hour by instance type and way to buy it.

    `shares` says in percent how the nodes of a pool are expected to be bought.
    """

    instances: Mapping[str, Annotated[Mapping[CapacityType, UsdPerHour], Field(min_length=1)]] = (
        Field(default_factory=dict)
    )
    shares: Mapping[str, Annotated[Mapping[CapacityType, Percent], Field(min_length=1)]] = Field(
        default_factory=dict
    )


class RegistrySpec(Spec):
    """A pull-through cache in the cluster's own registry.

    `docker_hub_credential` is the ARN of a Secrets Manager secret; without it images of Docker Hub
    are pulled from Docker Hub itself.
    """

    pull_through_cache: bool = False
    docker_hub_credential: (
        Annotated[
            str,
            written(
                r"arn:aws[\w-]*:secretsmanager:[\w-]+:\d{12}:secret:ecr-pullthroughcache/[\w/+=.@-]+",
                "is not the ARN of a Secrets Manager secret named ecr-pullthroughcache/…, the only "
                "ones ECR reads",
            ),
        ]
        | None
    ) = None


class StorageSpec(Spec):
    """Storage beside the weights bucket, which is always made."""

    shared_file_system: bool = False


class EngineSpec(Spec):
    """The inference engine; the catalog's pinned image unless named here by digest."""

    image: (
        Annotated[
            str,
            written(
                r"[\w.\-/:]+@sha256:[0-9a-f]{64}",
                "is not pinned; write <registry>/<repository>@sha256:<64 hex digits>",
            ),
        ]
        | None
    ) = None
    image_size: SizeBytes | None = Field(default=None, gt=0, le=LARGEST_IMAGE_BYTES)

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if (self.image is None) != (self.image_size is None):
            raise ValueError(
                "image and imageSize go together: the time to pull an image follows from its "
                "compressed size, which the registry shows"
            )
        return self


class StackSpec(Spec):
    """One stack file, whole."""

    stack: str
    region: Annotated[
        str, written(r"[a-z]{2}(-[a-z]+)+-\d", "is not a region; write for example us-west-2")
    ]
    platform: Platform
    environment: Environment = Environment.PROD
    layers: tuple[Layer, ...] = (Layer.INFRA, Layer.WORKLOAD)
    infra_stack: str | None = None
    serving_namespaces: tuple[ResourceName, ...] = ()
    network: NetworkSpec = NetworkSpec()
    cluster: ClusterSpec = ClusterSpec()
    registry: RegistrySpec = RegistrySpec()
    storage: StorageSpec = StorageSpec()
    engine: EngineSpec = EngineSpec()
    node_pools: Mapping[ResourceName, NodePoolSpec] = Field(default_factory=dict)
    models: Mapping[ResourceName, ModelSpec] = Field(default_factory=dict)
    prices: PricesSpec = PricesSpec()

    _lines: Mapping[str, int] = PrivateAttr(default_factory=dict)
    _local_models: Mapping[str, Model] = PrivateAttr(default_factory=dict)

    def line_of(self, path: str) -> int | None:
        """The line of the stack file a dotted path stands in; None without a file."""
        return line_of(path, self._lines)

    @property
    def local_models(self) -> Mapping[str, Model]:
        """Models the catalog lacks, by repository, read from their files in the project."""
        return self._local_models

    @property
    def tenants(self) -> tuple[str, ...]:
        """Namespaces that get a storage identity: one per model, or as granted to other stacks."""
        return self.serving_namespaces or tuple(self.models)

    @property
    def cluster_name(self) -> str:
        """The cluster's name: the stack that makes it."""
        return self.infra_stack or self.stack
