"""How a model fits GPU memory and its node: precision, parallelism, context, host memory.

The memory of a GPU is accounted for as vLLM does it (`coldstart.capacity.memory`), not by the 15 %
on top of weights and KV cache of "GPU Serving & Autoscaling" (leetllm.com): that share is too much
for large weights on large GPUs and says nothing of the batch that causes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coldstart.capacity.memory import (
    KV_BYTES,
    ONE_GPU,
    Adapters,
    Batch,
    Parallelism,
    longest_sequence,
    memory,
    sequence_bytes,
)
from coldstart.catalog import Accelerator, InstanceType, Model
from coldstart.planning.context import IMAGE_ARCHITECTURE, Context
from coldstart.planning.decision import NAMED, Decision, PlanError, Rejection
from coldstart.planning.fit_plan import FitPlan, HostPlan
from coldstart.planning.host import cheapest, holds, host_plan
from coldstart.planning.parallel import Layout, layouts, shown
from coldstart.spec.model import AUTO, KvCache, ModelSpec
from coldstart.units import GIB

UTILIZATION = 0.92
"""vLLM's own default (vllm/config/cache.py), for questions asked without an engine."""
TYPICAL_TOKENS_PER_REQUEST = 2048
"""Prompt and answer of a chat turn, the length concurrency is planned for."""
AUTO_MAX_MODEL_LEN = 32_768
"""Longer contexts are asked for by name: they cost KV cache that concurrency needs."""
SMALLEST_CONTEXT = 2048
LARGE_GPU_GIB = 70
"""GPUs with this much memory get the larger step of vLLM's own defaults (arg_utils.py)."""
BATCH_TOKENS, LARGE_BATCH_TOKENS = 2048, 8192


@dataclass(frozen=True, slots=True)
class Placement:
    """A model on an instance type, and how it was cut over GPUs."""

    fit: FitPlan
    host: HostPlan
    instance: InstanceType
    parallelism: Decision[str]


@dataclass(frozen=True, slots=True)
class Demand:
    """GPUs that the traffic takes at its peak with a layout, infinite when it misses the slo."""

    gpus: float
    words: str = ""


def fits(
    model: Model,
    accelerator: Accelerator,
    parallel: Parallelism = ONE_GPU,
    *,
    precision: str | None = None,
    kv_cache: str = "bf16",
    concurrency: int = 32,
    context_tokens: int | None = None,
    adapters: Adapters | None = None,
    utilization: float = UTILIZATION,
    visible_gib: float | None = None,
) -> FitPlan:
    """How `model` lies in the memory of `parallel` GPUs, whether or not it fits.

    `precision` is the checkpoint's own unless given. `concurrency` requests of a chat turn's length
    must fit at once, and one of `context_tokens`, or of the longest context up to 32,768 tokens
    that does when it is None. `fit.holds` says whether they do; `max_model_len` is 0 where they do
    not. `visible_gib` replaces the GPU's memory, for a slice of one. Pure and cheap; LookupError
    for a precision the model has no weights in.
    """
    precision = _known_precision(model, precision)
    total_gib = accelerator.visible_gib if visible_gib is None else visible_gib
    tokens = LARGE_BATCH_TOKENS if total_gib >= LARGE_GPU_GIB else BATCH_TOKENS
    found = memory(
        model,
        precision,
        total_gib,
        utilization,
        Batch(tokens, concurrency),
        parallel=parallel,
        adapters=adapters,
    )
    cache_gib = max(found.kv_cache_gib, 0.0)
    room = _room(
        model, cache_gib * GIB, parallel, KV_BYTES[kv_cache], tokens, concurrency, context_tokens
    )
    return FitPlan(
        precision=precision,
        kv_cache=kv_cache,
        tensor_parallel=parallel.tensor,
        pipeline_parallel=parallel.pipeline,
        expert_parallel=parallel.expert,
        max_model_len=room.context if room.holds else 0,
        max_num_seqs=concurrency,
        max_num_batched_tokens=tokens,
        adapters=adapters.count if adapters else 0,
        adapter_rank=adapters.rank if adapters else 0,
        gpu_memory_utilization=utilization,
        weights_gib=found.weights_gib,
        adapters_gib=found.adapters_gib,
        activations_gib=found.activations_gib,
        graphs_gib=found.graphs_gib,
        overhead_gib=found.overhead_gib,
        kv_cache_gib=cache_gib,
        kv_cache_tokens=room.tokens,
        most_sequences=room.sequences,
        longest_context=room.longest,
        reason=f"{parallel.gpus} x {total_gib:.4g} GiB: weights {found.weights_gib:.1f} and KV "
        f"cache {cache_gib:.1f} GiB per GPU, room for {room.tokens:,} tokens",
    )


@dataclass(frozen=True, slots=True)
class _Room:
    """What a KV cache holds: chat turns at once, the longest sequence, tokens at `context`."""

    holds: bool
    context: int
    longest: int
    tokens: int
    sequences: int


def _room(
    model: Model,
    cache_bytes: float,
    parallel: Parallelism,
    kv_bytes: int,
    batch_tokens: int,
    concurrency: int,
    context_tokens: int | None,
) -> _Room:
    def sequence(length: int) -> int:
        return sequence_bytes(
            model, length, batch_tokens=batch_tokens, kv_bytes=kv_bytes, parallel=parallel
        )

    longest = longest_sequence(
        model, cache_bytes, batch_tokens=batch_tokens, kv_bytes=kv_bytes, parallel=parallel
    )
    asked = AUTO_MAX_MODEL_LEN if context_tokens is None else context_tokens
    context = min(asked, model.context_tokens)
    turn = sequence(min(TYPICAL_TOKENS_PER_REQUEST, model.context_tokens))
    least = min(SMALLEST_CONTEXT, context) if context_tokens is None else context
    holds = cache_bytes >= max(concurrency * turn, sequence(least))
    if context_tokens is None and longest < context:
        context = 1 << max(longest.bit_length() - 1, 0)
    tokens = int(cache_bytes / sequence(context) * context)
    return _Room(holds, context, longest, tokens, int(cache_bytes / turn))


def _known_precision(model: Model, precision: str | None) -> str:
    wanted = precision or model.native_precision
    if wanted not in model.weight_bytes:
        known = ", ".join(model.weight_bytes)
        raise LookupError(f"{model.name} has no weights in {wanted!r}; known: {known}")
    return wanted


def served_precision(path: str, wish: str, model: Model, accelerator: Accelerator) -> str:
    """The checkpoint's own precision, or fp8 quantised at load when wished and supported."""
    possible = [
        p
        for p in dict.fromkeys((model.native_precision, "fp8"))
        if p in model.weight_bytes and accelerator.runs(p)
    ]
    if wish == AUTO and model.native_precision in possible:
        return model.native_precision
    if wish != AUTO and wish in possible:
        return wish
    chosen = model.native_precision if wish == AUTO else wish
    works = f"use precision: {' or '.join(possible)}" if possible else "use another accelerator"
    if wish in ("int8", "int4", "mxfp4") and wish != model.native_precision:
        works += f", or as source a repository whose checkpoint is {wish}"
    raise PlanError(
        f"{path}.precision",
        f'"{chosen}" of {model.name} cannot be served on '
        f"{accelerator.marketing_name} from this checkpoint; {works}",
    )


def served_kv_cache(path: str, wish: str, accelerator: Accelerator) -> str:
    """16 bit unless fp8 is wished and the GPU computes in it."""
    if wish == AUTO or KvCache(wish) is KvCache.BF16:
        return KvCache.BF16.value
    if "fp8" not in accelerator.precisions:
        raise PlanError(
            f"{path}.kvCache",
            f'"fp8" needs a GPU that computes in fp8, and {accelerator.marketing_name} (compute '
            f"capability {accelerator.compute_capability}) does not; use kvCache: auto, or an "
            "accelerator of compute capability 8.9 or newer",
        )
    return KvCache.FP8.value


def place(
    path: str,
    spec: ModelSpec,
    model: Model,
    types: tuple[InstanceType, ...],
    context: Context,
    scratch_mib: int,
    demand: Callable[[FitPlan], Demand] = lambda fit: Demand(fit.gpus),
) -> Placement:
    """The fewest GPUs that serve `spec`, cut as their links allow, on the cheapest type.

    `demand` says how many GPUs the traffic takes with a layout that holds the model; a larger one
    is taken while it saves GPUs.

    Raises PlanError with the memory it needs, what the pool has and the nearest type that holds it
    when nothing fits.
    """
    if spec.max_model_len != AUTO and spec.max_model_len > model.context_tokens:
        raise PlanError(
            f"{path}.maxModelLen",
            f"{spec.max_model_len} exceeds the {model.context_tokens} tokens {model.name} was "
            f"made for; use maxModelLen: {model.context_tokens} or less",
        )
    accelerator = context.catalog.accelerator(str(types[0].accelerator))
    precision = served_precision(path, spec.precision, model, accelerator)
    kv_cache = served_kv_cache(path, spec.kv_cache, accelerator)
    widest = max(t.accelerator_count for t in types)
    cuts = layouts(path, spec, model, accelerator, precision, widest)
    tried: list[FitPlan] = []
    demands: dict[FitPlan, Demand] = {}
    best: FitPlan | None = None
    for cut in cuts:
        fit = _tried(spec, model, accelerator, context, precision, kv_cache, cut)
        tried.append(fit)
        if not fit.holds:
            continue
        demands[fit] = demand(fit)
        if best is None or demands[fit].gpus < demands[best].gpus:
            best = fit
        elif demands[best].gpus < math.inf:
            break
        if demands[best].gpus <= best.gpus:
            break
    if best is None:
        raise PlanError(path, _no_fit(path, spec, model, accelerator, tried, context))
    fit = best
    if spec.expert_parallel is True and not fit.expert_parallel:
        raise PlanError(
            f"{path}.expertParallel",
            f"{fit.gpus} GPU{'s hold' if fit.gpus > 1 else ' holds'} {model.name}, and its experts "
            "are not divided among them; name a tensorParallel that divides "
            f"{model.experts} experts, or remove expertParallel",
        )
    host = host_plan(fit, scratch_mib)
    return Placement(
        fit,
        host,
        cheapest(path, fit, host, types, context),
        _parallelism(cuts[tried.index(fit)], fit, tried, demands, spec),
    )


def _tried(
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    context: Context,
    precision: str,
    kv_cache: str,
    cut: Layout,
) -> FitPlan:
    return fits(
        model,
        accelerator,
        cut.parallel,
        precision=precision,
        kv_cache=kv_cache,
        concurrency=spec.max_concurrency,
        context_tokens=None if spec.max_model_len == AUTO else int(spec.max_model_len),
        adapters=Adapters(spec.lora.adapters, spec.lora.rank) if spec.lora else None,
        utilization=context.engine.gpu_memory_utilization_default,
    )


def _parallelism(
    cut: Layout,
    best: FitPlan,
    tried: list[FitPlan],
    demands: Mapping[FitPlan, Demand],
    spec: ModelSpec,
) -> Decision[str]:
    if spec.tensor_parallel != AUTO or spec.pipeline_parallel != AUTO:
        why = f"{NAMED}: "
    elif next(iter(demands)) is best:
        why = "the fewest GPUs that hold it; "
    else:
        why = f"{demands[best].words}, the fewest; "
    return Decision(
        shown(cut.parallel),
        f"{why}{cut.reason}",
        tuple(
            Rejection(
                shown(f.parallel),
                demands[f].words
                if f in demands
                else f"weights take {f.weights_gib:.1f} GiB of each GPU and leave "
                f"{f.kv_cache_gib:.1f} for the KV cache, too few for {f.max_num_seqs} requests at "
                "once",
            )
            for f in tried
            if f is not best
        ),
    )


def _no_fit(
    path: str,
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    tried: list[FitPlan],
    context: Context,
) -> str:
    fit = tried[-1]
    gpus = fit.gpus
    turn = sequence_bytes(
        model,
        min(TYPICAL_TOKENS_PER_REQUEST, model.context_tokens),
        batch_tokens=fit.max_num_batched_tokens,
        kv_bytes=KV_BYTES[fit.kv_cache],
        parallel=fit.parallel,
    )
    adapters = f", adapters {fit.adapters_gib * gpus:.1f} GiB" if fit.adapters else ""
    asked = f"{spec.max_concurrency} concurrent requests"
    if spec.max_model_len != AUTO:
        asked += f" or one of {spec.max_model_len} tokens"
    works = ["use a larger accelerator"]
    if any(t.accelerator_count > gpus for t in context.catalog.instances_with(accelerator.key)):
        works.insert(0, "name instanceTypes with more GPUs")
    if 0 < fit.most_sequences < spec.max_concurrency:
        works.insert(0, f"lower maxConcurrency to {fit.most_sequences}")
    if spec.max_model_len != AUTO and 0 < fit.longest_context < spec.max_model_len:
        works.insert(0, f"lower maxModelLen to {fit.longest_context}")
    usable = gpus * accelerator.visible_gib * fit.gpu_memory_utilization
    near = nearest(path, spec, model, context)
    works += [f"the cheapest that holds it here is {near}"] if near else []
    return (
        f"{model.name} in {fit.precision} does not fit {gpus} x {accelerator.marketing_name}: "
        f"weights take {fit.weights_gib * gpus:.1f} GiB{adapters}, activations and graphs "
        f"{fit.overhead_gib * gpus:.1f} GiB, and {asked} need {turn * gpus / GIB:.2f} GiB of KV "
        f"cache each; vLLM may use {usable:.1f} GiB.\n"
        f"What would work: {'; '.join(works)}."
    )


def nearest(path: str, spec: ModelSpec, model: Model, context: Context) -> str:
    """The cheapest type of the catalog that holds `spec` in this region, in words; "" for none.

    Types without a price come last. Wishes for tensors and stages are kept where they can be.
    """
    catalog, best = context.catalog, (math.inf, "")
    for kind in catalog.instance_types.values():
        if kind.accelerator is None or kind.arch != IMAGE_ARCHITECTURE:
            continue
        price = catalog.price(context.spec.region, kind.name)
        usd = (price and price.on_demand_usd_per_hour) or math.inf
        if best[1] and usd >= best[0]:
            continue
        accelerator = catalog.accelerator(kind.accelerator)
        try:
            precision = served_precision(path, spec.precision, model, accelerator)
            kv_cache = served_kv_cache(path, spec.kv_cache, accelerator)
            cuts = layouts(path, spec, model, accelerator, precision, kind.accelerator_count)
        except PlanError:
            continue
        tried = (_tried(spec, model, accelerator, context, precision, kv_cache, c) for c in cuts)
        fit = next((f for f in tried if f.holds), None)
        if fit is not None and holds(kind, fit, host_plan(fit, 0)):
            gpus = f"{kind.accelerator_count} x {accelerator.marketing_name}"
            cost = "no price known" if usd == math.inf else f"${usd:.2f} an hour"
            best = (usd, f"accelerator: {kind.accelerator} with {kind.name} ({gpus}, {cost})")
    return best[1]
