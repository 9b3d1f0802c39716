"""How a replica is cut over GPUs: by tensors, by layers, by experts."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.capacity.communication import all_reduce_seconds
from coldstart.capacity.memory import Parallelism
from coldstart.capacity.reads import weight_bytes_read
from coldstart.catalog import Accelerator, Model
from coldstart.planning.decision import PlanError
from coldstart.spec.model import AUTO, ModelSpec

WIDTHS = (1, 2, 4, 8, 16)
"""Tensor parallel sizes: head counts are powers of two times something."""
EXPERT_TILE = 128
"""Columns of an expert that matrix kernels and block scales of fp8 work on at once; a thinner slice
is refused for block-quantised weights (vllm/model_executor/layers/quantization/fp8.py)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to cut a replica, and why this before another of as many GPUs."""

    parallel: Parallelism
    reason: str


def splits(model: Model, tensor: int) -> bool:
    """Whether vLLM can give each of `tensor` GPUs whole heads."""
    heads = model.kv_heads
    return model.attention_heads % tensor == 0 and (
        model.kv_latent_dim is not None or heads % tensor == 0 or tensor % heads == 0
    )


def shown(parallel: Parallelism) -> str:
    """`1 GPU`, `4 GPUs by tensors`, `2 stages of 4 GPUs`."""
    experts = ", whole experts each" if parallel.expert else ""
    if parallel.pipeline == 1:
        return f"{parallel.tensor} GPUs by tensors{experts}" if parallel.tensor > 1 else "1 GPU"
    each = "1 GPU" if parallel.tensor == 1 else f"{parallel.tensor} GPUs"
    return f"{parallel.pipeline} stages of {each}{experts}"


def layouts(
    path: str,
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    precision: str,
    widest: int,
) -> list[Layout]:
    """What may be tried on nodes with up to `widest` GPUs, fewest GPUs first.

    Raises PlanError for a wish that no node of the pool can keep.
    """
    widths = [n for n in WIDTHS if n <= widest and splits(model, n)]
    tensor, pipeline = spec.tensor_parallel, spec.pipeline_parallel
    if tensor != AUTO and tensor not in widths:
        raise PlanError(
            f"{path}.tensorParallel",
            f"{tensor} does not work: "
            f"{model.name} splits its {model.attention_heads} heads over "
            f"{', '.join(map(str, widths))} GPUs of a node of this pool",
        )
    if pipeline != AUTO:
        _check_stages(path, int(pipeline), 1 if tensor == AUTO else int(tensor), model, widest)
    found = []
    for gpus in range(1, widest + 1):
        cuts = [
            Parallelism(width, gpus // width)
            for width in (widths if tensor == AUTO else [int(tensor)])
            if gpus % width == 0 and gpus // width <= model.layers
        ]
        if pipeline != AUTO:
            cuts = [cut for cut in cuts if cut.pipeline == pipeline]
        elif tensor != AUTO:
            cuts = [cut for cut in cuts if cut.pipeline == 1]
        elif gpus not in WIDTHS:
            continue
        if cuts:
            found.append(_best(cuts, spec, model, accelerator, precision))
    return [
        Layout(with_experts(path, spec, model, precision, layout.parallel), layout.reason)
        for layout in found
    ]


def _check_stages(path: str, stages: int, tensor: int, model: Model, widest: int) -> None:
    if stages > model.layers:
        raise PlanError(
            f"{path}.pipelineParallel",
            f"{stages} stages are more than the {model.layers} layers of {model.name}; "
            f"use pipelineParallel: {min(model.layers, widest)} or fewer",
        )
    if stages * tensor > widest:
        raise PlanError(
            f"{path}.pipelineParallel",
            f"{stages} stages of {tensor} GPU{'s' if tensor > 1 else ''} are more than the "
            f"{widest} GPUs of a node of this pool, and a replica does not span nodes; use "
            f"pipelineParallel: {max(1, widest // tensor)} or fewer, or instanceTypes with more "
            "GPUs",
        )


def _best(
    cuts: list[Parallelism],
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    precision: str,
) -> Layout:
    """Of cuts into as many GPUs: tensors over NVLink; over PCIe unless the links are the brake."""
    widest = max(cuts, key=lambda cut: cut.tensor)
    fewest = min(cuts, key=lambda cut: cut.tensor)
    if widest.gpus == 1:
        return Layout(widest, "one GPU needs no other")
    if widest.tensor == 1:
        return Layout(widest, f"{widest.gpus} GPUs split no heads evenly, so layers are split")
    if accelerator.interconnect == "nvlink":
        return Layout(widest, "NVLink joins the GPUs of the node, so every GPU works on each token")
    talk = all_reduce_seconds(model, accelerator, spec.max_concurrency, widest)
    weights = weight_bytes_read(model, precision, spec.max_concurrency) / widest.tensor
    read = weights / (accelerator.memory_bandwidth_gb_per_second * 1e9)
    figures = (
        f"over PCIe a decode step of {spec.max_concurrency} sequences spends {talk * 1e3:.1f} ms "
        f"in all-reduces and {read * 1e3:.1f} ms reading weights"
    )
    if talk > read and fewest.tensor < widest.tensor:
        return Layout(fewest, f"{figures} when cut by tensors; stages pass activations on once")
    return Layout(widest, f"{figures}; stages would read all weights in turn")


def with_experts(
    path: str, spec: ModelSpec, model: Model, precision: str, parallel: Parallelism
) -> Parallelism:
    """Whole experts per GPU where they are wished, or where a slice would be too thin."""
    wish, tensor = spec.expert_parallel, parallel.tensor
    experts, width = model.experts, model.expert_intermediate_size
    if wish is True and (experts is None or width is None):
        raise PlanError(
            f"{path}.expertParallel",
            f"{model.name} has no experts; remove expertParallel or use false",
        )
    if experts is None or width is None or wish is False or tensor == 1:
        return parallel
    if experts % tensor:
        if wish is True and spec.tensor_parallel != AUTO:
            raise PlanError(
                f"{path}.expertParallel",
                f"{experts} experts do not divide over {tensor} GPUs; use tensorParallel: "
                f"{max(n for n in WIDTHS if n < tensor and experts % n == 0)}",
            )
        return parallel
    thin = precision in ("fp8", "int8", "int4") and width // tensor % EXPERT_TILE != 0
    if wish is True or thin:
        return Parallelism(tensor, parallel.pipeline, expert=True)
    return parallel
