"""What a user may say in a stack file. Data only: no decision is taken here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)
from pydantic.alias_generators import to_camel

from coldstart.catalog import Model
from coldstart.spec.fields import (
    LARGEST_IMAGE_BYTES,
    ClientBlock,
    ClockMinutes,
    Count,
    NodeLifeSeconds,
    Percent,
    ResourceName,
    TimeZone,
    UsdPerHour,
    VpcBlock,
    written,
)
from coldstart.spec.problems import line_of
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


class Day(StrEnum):
    """A day of the week, as cron names it."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class NatGateways(StrEnum):
    """One NAT gateway per zone survives the loss of a zone; one gateway costs less."""

    PER_ZONE = "per-zone"
    ONE = "one"


AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]


class _Spec(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False, strict=False
    )


class NetworkSpec(_Spec):
    """The VPC: one IPv4 block spread over `zones` availability zones."""

    cidr: VpcBlock = IPv4Network("10.40.0.0/16")
    zones: Count = Field(default=3, ge=2, le=4)
    nat_gateways: NatGateways | Auto = AUTO


class ClusterSpec(_Spec):
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


class ReservationSpec(_Spec):
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


class NodePoolSpec(_Spec):
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
    warm_nodes: Count = Field(default=0, ge=0, le=100)
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
        if self.warm_nodes > self.max_nodes:
            raise ValueError(f"warmNodes {self.warm_nodes} exceeds maxNodes {self.max_nodes}")
        return self


MOST_REPLICAS = 1000
"""Of one model in one stack; a slip of the keyboard asks for more."""


class ScheduleSpec(_Spec):
    """Replicas that are ready from one time of day to another, on some days of the week.

    `until` before `start` ends on the next day. The lead time a cold start needs is added by the
    planner, so `start` is when traffic comes.
    """

    days: tuple[Day, ...] = Field(default=tuple(Day), min_length=1)
    start: ClockMinutes
    until: ClockMinutes
    timezone: TimeZone
    replicas: Count = Field(ge=1, le=MOST_REPLICAS)

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.start == self.until:
            raise ValueError("start and until are the same time; scaling.min holds all day")
        if len(set(self.days)) != len(self.days):
            raise ValueError("days must name each day at most once")
        return self


class ScalingSpec(_Spec):
    """Replica bounds, and the load one replica takes before the next is asked for.

    `waiting_requests` is auto-derived from the model's traffic and SLO where both are given.
    """

    min: Count = Field(default=1, ge=0, le=MOST_REPLICAS)
    max: Count = Field(ge=1, le=MOST_REPLICAS)
    waiting_requests: Annotated[Count, Field(ge=1, le=10_000)] | Auto = AUTO
    # The autoscaler acts when a figure is a tenth over its target, and a cache is full at 100 %.
    kv_cache_percent: Count = Field(default=80, ge=10, le=90)
    cooldown: Annotated[DurationSeconds, Field(ge=30, le=86_400)] | Auto = AUTO
    schedules: tuple[ScheduleSpec, ...] = Field(default=(), max_length=20)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} exceeds max {self.max}")
        if any(schedule.replicas > self.max for schedule in self.schedules):
            raise ValueError(f"a schedule asks for more replicas than max {self.max}")
        return self


class LengthSpec(_Spec):
    """Tokens of a prompt or an answer: the mean, and what 95 % stay below."""

    mean: Count = Field(ge=1, le=10_000_000)
    p95: Count | None = Field(default=None, ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 is not None and self.p95 < self.mean:
            raise ValueError(f"p95 {self.p95} is below the mean {self.mean}")
        return self


class TrafficSpec(_Spec):
    """What a model is expected to be asked: arrivals a second, lengths in tokens."""

    requests_per_second: float = Field(gt=0, le=1e6)
    peak_requests_per_second: float | None = Field(default=None, gt=0, le=1e6)
    prompt_tokens: LengthSpec
    output_tokens: LengthSpec

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        peak = self.peak_requests_per_second
        if peak is not None and peak < self.requests_per_second:
            raise ValueError(
                f"peakRequestsPerSecond {peak:g} is below requestsPerSecond "
                f"{self.requests_per_second:g}"
            )
        return self


class SloSpec(_Spec):
    """What `percentile` of requests must keep: time to first token, time per output token."""

    ttft: DurationSeconds = Field(gt=0, le=3600)
    tpot: DurationSeconds = Field(gt=0, le=60)
    percentile: Count = Field(default=95, ge=50, le=99)


class LoraSpec(_Spec):
    """LoRA adapters one replica serves beside the base model, and the largest rank of them."""

    adapters: Count = Field(ge=1, le=1024)
    rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16


class MeasuredSpec(_Spec):
    """Seconds of a cold-start phase as measured on the user's own clusters."""

    p50: DurationSeconds
    p95: DurationSeconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 < self.p50:
            raise ValueError("p95 is below p50")
        return self


class ModelSpec(_Spec):
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
    def repository(self) -> str:
        """The Hugging Face repository, `organisation/name`."""
        return self.source.removeprefix("hf://").partition("@")[0]

    @property
    def revision(self) -> str:
        """The 40-digit commit the weights are pinned to."""
        return self.source.rpartition("@")[2]


class PricesSpec(_Spec):
    """What you pay instead of list prices: US dollars an hour by instance type and way to buy it.

    `shares` says in percent how the nodes of a pool are expected to be bought.
    """

    instances: Mapping[str, Annotated[Mapping[CapacityType, UsdPerHour], Field(min_length=1)]] = (
        Field(default_factory=dict)
    )
    shares: Mapping[str, Annotated[Mapping[CapacityType, Percent], Field(min_length=1)]] = Field(
        default_factory=dict
    )


class RegistrySpec(_Spec):
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


class StorageSpec(_Spec):
    """Storage beside the weights bucket, which is always made."""

    shared_file_system: bool = False


class EngineSpec(_Spec):
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


class StackSpec(_Spec):
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
