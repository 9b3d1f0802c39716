"""What the catalog holds: frozen, closed models, each entry with the source of its facts."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from coldstart.catalog.entry import (
    AddonVersion,
    Count,
    Digest,
    Entry,
    Natural,
    NodeOs,
    Phase,
    Platform,
    Positive,
    Precision,
    Revision,
)

DRIVER_SHARE = 0.0125
"""Of the memory a cloud reports, what no CUDA process sees: 0.3 to 1.4 % where `cuda_memory_gib`
comes from a log."""


class Accelerator(Entry):
    """One accelerator as a cloud sells it. `interconnect_gb_per_second` counts both directions.

    `dense_tflops` is arithmetic without sparsity, in 10^12 operations a second by precision.
    `driver_min` is None where no CUDA driver is involved.
    `memory_gib` is what the cloud reports, `cuda_memory_gib` what a process sees of it where a log
    shows that; `visible_gib` is the latter, or the former less what drivers keep back.
    """

    key: str
    vendor: Literal["nvidia", "amd"]
    resource_name: str
    marketing_name: str
    memory_gib: Positive
    cuda_memory_gib: Positive | None = None
    memory_bandwidth_gb_per_second: Positive
    compute_capability: Annotated[str, StringConstraints(pattern=r"^(\d+\.\d|gfx[0-9a-f]+)$")]
    architecture: Literal["turing", "ampere", "ada", "hopper", "blackwell", "cdna3"]
    interconnect: Literal["nvlink", "pcie", "infinity-fabric"]
    interconnect_gb_per_second: Positive
    dense_tflops: dict[Precision, Positive] = Field(min_length=1)
    precisions: tuple[Precision, ...] = Field(min_length=1)
    weight_only_precisions: tuple[Precision, ...] = ()
    driver_min: Count | None = None

    @model_validator(mode="after")
    def _computes(self) -> Self:
        if "fp16" not in self.dense_tflops:
            raise ValueError("dense_tflops must have fp16, the arithmetic of dequantised weights")
        return self

    def flops_per_second(self, precision: str) -> float:
        """Dense operations a second for weights of `precision`.

        Weights the hardware has no arithmetic for are dequantised and multiplied in 16 bit.
        """
        found = {str(key): tflops for key, tflops in self.dense_tflops.items()}
        return 1e12 * found.get(precision, found["fp16"])

    @property
    def visible_gib(self) -> float:
        """GiB that CUDA reports as the device's total."""
        return self.cuda_memory_gib or self.memory_gib * (1 - DRIVER_SHARE)

    def runs(self, precision: str) -> bool:
        """Whether weights of `precision` can be served, in hardware or dequantised on the fly."""
        return precision in self.precisions or precision in self.weight_only_precisions


class InstanceType(Entry):
    """One machine type. Allocatable figures are Karpenter's estimate for an AL2023 node."""

    name: str
    platform: Platform
    family: str
    size: str
    accelerator: str | None
    accelerator_count: Natural
    accelerator_memory_mib: Natural
    vcpu: Count
    memory_mib: Count
    nvme_gb: Natural
    network_mbps: Count
    ebs_mbps: Count
    efa_interfaces: Natural
    allocatable_cpu_millicores: Count
    allocatable_memory_mib: Count
    arch: Literal["amd64", "arm64"]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.accelerator is None) != (self.accelerator_count == 0):
            raise ValueError("accelerator and accelerator_count must both be set or both be absent")
        if self.allocatable_memory_mib > self.memory_mib:
            raise ValueError("allocatable_memory_mib cannot exceed memory_mib")
        if self.allocatable_cpu_millicores > self.vcpu * 1000:
            raise ValueError("allocatable_cpu_millicores cannot exceed vcpu x 1000")
        return self


class Model(Entry):
    """One open model, by its Hugging Face repository.

    `weight_bytes` is the size of the weights at each precision. The native precision is the
    checkpoint as published, which is what a node has to fetch; the others are derived. `revision`
    is a commit of the repository, None only for a model read from files of this machine.

    What a layer remembers decides how much memory a sequence takes:

    - an attention layer keeps a key and a value of `kv_heads` x `head_dim` for every token, or,
      with `kv_latent_dim`, one latent of that many values, which every GPU holds whole (MLA);
    - with `sliding_window_tokens`, the layers beside `full_attention_layers` keep that many tokens;
    - `state_layers` (Mamba, linear attention) keep `state_bytes_per_layer` for a sequence of any
      length. Layers that are none of these keep nothing.

    `full_attention_layers` is None where every layer is one. `expert_intermediate_size` is the
    width of one expert. With a latent, `head_dim` is the mean width of a query and of a value: what
    a head computes with, not what it keeps.
    """

    name: str
    parameters_billion: Positive
    active_parameters_billion: Positive
    layers: Count
    kv_heads: Count
    attention_heads: Count
    head_dim: Count
    hidden_size: Count
    intermediate_size: Count
    vocabulary_size: Count
    context_tokens: Count
    kv_latent_dim: Count | None = None
    sliding_window_tokens: Count | None = None
    full_attention_layers: Natural | None = None
    state_layers: Natural = 0
    state_bytes_per_layer: Natural = 0
    experts: Count | None = None
    experts_per_token: Count | None = None
    expert_intermediate_size: Count | None = None
    native_precision: Precision
    weight_bytes: dict[Precision, Count]
    gated: bool
    license: str
    revision: Revision | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.attention_heads % self.kv_heads:
            raise ValueError(
                f"attention_heads {self.attention_heads} must be a multiple of kv_heads "
                f"{self.kv_heads}"
            )
        if self.native_precision not in self.weight_bytes:
            raise ValueError(f"weight_bytes must have the native precision {self.native_precision}")
        if self.active_parameters_billion > self.parameters_billion:
            raise ValueError("active_parameters_billion cannot exceed parameters_billion")
        if self.full_attention_layers is None and (self.sliding_window_tokens or self.state_layers):
            raise ValueError("sliding windows and state layers need full_attention_layers")
        if (self.full_attention_layers or 0) + self.state_layers > self.layers:
            raise ValueError(
                f"full_attention_layers and state_layers exceed the {self.layers} layers"
            )
        if not self.full_layers + self.sliding_layers + self.state_layers:
            raise ValueError(
                "no layer looks at other tokens: full_attention_layers cannot be 0 here"
            )
        if bool(self.state_layers) != bool(self.state_bytes_per_layer):
            raise ValueError("state_layers and state_bytes_per_layer come together")
        if len({self.experts is None, self.experts_per_token is None}) > 1 or (
            (self.experts is None) != (self.expert_intermediate_size is None)
        ):
            raise ValueError(
                "experts, experts_per_token and expert_intermediate_size come together"
            )
        if (self.experts_per_token or 0) > (self.experts or 0):
            raise ValueError(f"experts_per_token cannot exceed the {self.experts} experts")
        return self

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of the published checkpoint: what staging and loading have to move."""
        return self.weight_bytes[self.native_precision]

    @property
    def expert_parameters_billion(self) -> float:
        """Parameters of all routed experts: what a token leaves out is E - k of every E of them."""
        if not self.experts or not self.experts_per_token or self.experts == self.experts_per_token:
            return 0.0
        left_out = self.parameters_billion - self.active_parameters_billion
        all_of_them = left_out * self.experts / (self.experts - self.experts_per_token)
        return min(all_of_them, self.parameters_billion)

    @property
    def full_layers(self) -> int:
        """Layers that keep something of every token."""
        return self.layers if self.full_attention_layers is None else self.full_attention_layers

    @property
    def sliding_layers(self) -> int:
        """Layers that keep the last `sliding_window_tokens` tokens."""
        if self.sliding_window_tokens is None:
            return 0
        return self.layers - self.full_layers - self.state_layers


class MigProfile(Entry):
    """One way to cut slices out of a GPU (NVIDIA Multi-Instance GPU).

    A slice has `memory_eighths` of the GPU's memory and `compute_slices` of its compute slices;
    `instances` is how many such slices one GPU gives.
    """

    accelerator: str
    profile: Annotated[str, StringConstraints(pattern=r"^\d+g\.\d+gb$")]
    compute_slices: Count
    memory_eighths: Annotated[int, Field(ge=1, le=8)]
    instances: Count

    @property
    def resource_name(self) -> str:
        """What a pod asks for under the device plugin's mixed strategy."""
        return f"nvidia.com/mig-{self.profile}"


class ContainerImage(Entry):
    """One container image pinned by digest, an index or the amd64 manifest as `digest_of` says.

    Sizes are those of the amd64 image; `compressed_bytes` is what a pull moves.
    """

    key: str
    repository: str
    tag: str
    digest: Digest
    digest_of: Literal["index", "amd64"]
    compressed_bytes: Count | None
    unpacked_bytes: Count | None
    unpacked_is_estimate: bool = False

    @property
    def reference(self) -> str:
        """`repository:tag@digest`: the runtime pulls the digest, people read the tag."""
        return f"{self.repository}:{self.tag}@{self.digest}"


class EngineVersion(Entry):
    """What one release of the serving engine accepts and contains."""

    key: str
    engine: Literal["vllm"]
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    image: str
    cuda_version: str
    driver_min: Count
    python_version: str
    user_id: Count
    group_id: Natural
    entrypoint: tuple[str, ...]
    load_formats: tuple[str, ...] = Field(min_length=1)
    flags: frozenset[str] = Field(min_length=1)
    gpu_memory_utilization_default: Annotated[float, Field(gt=0, le=1)]
    ready_timeout_seconds_default: Count
    compile_cache_ignored_environment: frozenset[str]
    packages_present: frozenset[str]
    packages_absent: frozenset[str]

    def accepts(self, flag: str) -> bool:
        """Whether `--flag` (with or without its dashes) was verified in this release."""
        return flag.removeprefix("--") in self.flags


class Limit(Entry):
    """One limit of a mechanism, in `unit`."""

    key: str
    value: float
    unit: str


class PhaseFigure(Entry):
    """A published figure of one cold-start phase: seconds, or a rate when it scales with size."""

    key: str
    phase: Phase
    platform: Literal["aws", "any"]
    os: NodeOs | Literal["any"]
    mechanism: str
    seconds_p50: Annotated[float, Field(ge=0)] | None = None
    seconds_low: Annotated[float, Field(ge=0)] | None = None
    seconds_high: Annotated[float, Field(ge=0)] | None = None
    bytes_per_second: Positive | None = None
    parameters_billion: Positive | None = None
    tensor_parallel: Count | None = None
    size_bytes: Count | None = None
    kind: Literal["measured", "claimed", "derived"]
    conditions: str

    @model_validator(mode="after")
    def _has_a_figure(self) -> Self:
        if self.seconds_p50 is None and self.bytes_per_second is None:
            raise ValueError("give seconds_p50 or bytes_per_second")
        bounds = [self.seconds_low, self.seconds_p50, self.seconds_high]
        known = [bound for bound in bounds if bound is not None]
        if known != sorted(known):
            raise ValueError("seconds_low <= seconds_p50 <= seconds_high does not hold")
        return self


class Chart(Entry):
    """One pinned Helm chart: an `oci://` reference in `repository`, or a repository URL."""

    key: str
    name: str
    repository: Annotated[str, StringConstraints(pattern=r"^(oci|https)://")]
    chart: str
    version: str
    namespace: str

    @property
    def is_oci(self) -> bool:
        """Whether the chart comes from an OCI registry rather than a chart repository."""
        return self.repository.startswith("oci://")


class EksRelease(Entry):
    """One Kubernetes minor version on EKS, with the add-on and node image pins for it."""

    kubernetes_version: Annotated[str, StringConstraints(pattern=r"^1\.\d{2}$")]
    standard_support_ends: dt.date
    extended_support_ends: dt.date
    addons: dict[str, AddonVersion] = Field(min_length=1)
    al2023_ami_alias: Annotated[str, StringConstraints(pattern=r"^al2023@v\d{8}$")]
    bottlerocket_ami_alias: Annotated[
        str, StringConstraints(pattern=r"^bottlerocket@v\d+\.\d+\.\d+$")
    ]
    karpenter_min: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
