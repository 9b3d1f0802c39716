"""One model, decided: where its weights come from, how they load, what is compiled beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from coldstart.catalog import EngineVersion, Model
from coldstart.planning.cold_start import PHASES, Case, ColdStart, altered, baseline, predict
from coldstart.planning.compile_cache import cache_key
from coldstart.planning.context import Context
from coldstart.planning.decision import NAMED, Candidate, Decision, PlanError, Rejection, choose
from coldstart.planning.distribution import Distribution, from_measurement
from coldstart.planning.fit import Demand, Placement, place
from coldstart.planning.host import STREAMER_BUFFER_MIB
from coldstart.planning.load import load_plan
from coldstart.planning.model import CompileCachePlan, FitPlan, HostPlan, ModelPlan, PoolPlan
from coldstart.planning.operation import drain_plan, probe_plan, rollout_plan
from coldstart.planning.operation_plan import DrainPlan, LoadPlan
from coldstart.planning.scaling import scaling_plan
from coldstart.planning.timeline import Timeline
from coldstart.planning.warm import warm_costs
from coldstart.render.engine import engine_arguments, engine_environment
from coldstart.spec.model import (
    AUTO,
    CompileCache,
    LocalStorage,
    ModelSpec,
    WeightsPath,
)
from coldstart.units import MIB, format_bytes, format_seconds

SCRATCH_BESIDE_WEIGHTS_MIB = 20_480
"""Compile cache, logs and /tmp of the engine."""
STREAMER = "runai_streamer"
"""The one load format that reads an object store itself."""
ONE_RANGE_AT_A_TIME = ("hf", "mistral", "npcache", "pt", "safetensors")
"""Load formats without parallel reads (vllm/model_executor/model_loader)."""
QUEUE_DEPTH_PER_SEQUENCE = 4
"""Requests a replica queues per running one before it answers 503: beyond four generations of
waiting a client is better told to retry. vLLM's limit counts the running ones as well
(vllm/v1/engine/async_llm.py, check_admission)."""


def plan_model(name: str, context: Context, pool: PoolPlan) -> ModelPlan:
    """Every decision of one model; its rollout as if no GPU of the pool were free.

    Violated seconds are not weighed yet: that takes all models of the pool. Raises PlanError for
    what cannot work.
    """
    path, model_spec = f"models.{name}", context.spec.models[name]
    catalog, engine = context.catalog, context.engine
    model = catalog.model(model_spec.repository)
    ways = _Ways(path, model_spec, context, pool, model)
    weights = ways.weights()
    placement = ways.placements[weights.value]
    fit = placement.fit
    cache = _cache_mode(path, model_spec, ways, weights.value)
    start = replace(ways.start(weights.value, cache.value), measured=_measured(model_spec))
    lines = {case: predict(start, catalog, case) for case in Case}
    _check_measurements(path, model_spec, lines.values())
    loader = _loader(path, model_spec, weights.value, fit, engine)
    _check_budget(path, model_spec, lines[Case.FIRST_NODE])
    load = ways.load(fit)
    drain = drain_plan(model_spec, pool, context.spec.platform, catalog, load)
    launch = _launch(name, context, pool, fit, weights.value, loader, drain)
    costs = warm_costs(pool, placement.instance, fit.gpus, lines, context.spec, catalog)
    return ModelPlan(
        name=name,
        repository=model.name,
        revision=model_spec.revision,
        gated=model.gated,
        pool=pool.name,
        expected_instance_type=placement.instance.name,
        fit=fit,
        parallelism=placement.parallelism,
        host=_schedulable(placement.host, pool),
        weight_bytes=model.checkpoint_bytes,
        weights_prefix=launch.weights_prefix,
        model_path=launch.model_path,
        weights=weights,
        load_format=loader[0],
        loader_config=loader[1],
        compile_cache=CompileCachePlan(cache, *launch.archive),
        engine_args=launch.arguments,
        environment=launch.environment,
        probe=probe_plan(altered(start, compile_cache=CompileCache.NONE), engine, catalog),
        drain=drain,
        scaling=scaling_plan(name, model_spec, catalog, lines, fit.max_num_seqs, load, costs),
        rollout=rollout_plan(fit.gpus, surge_gpus=0),
        start=start,
        cold_start=lines[Case.NEXT_REPLICA],
        first_node=lines[Case.FIRST_NODE],
        from_zero=lines[Case.FROM_ZERO],
        warm_node=lines[Case.WARM_NODE],
        baseline=baseline(start, catalog),
        budget_seconds=model_spec.cold_start_budget,
        warm_costs=costs,
        load=load,
    )


@dataclass(frozen=True, slots=True)
class _Launch:
    """What the engine is started with, and the name and factors of its compiled archive."""

    weights_prefix: str
    model_path: str | None
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    archive: tuple[str, Mapping[str, str]]


def _launch(
    name: str,
    context: Context,
    pool: PoolPlan,
    fit: FitPlan,
    way: WeightsPath,
    loader: tuple[Decision[str], Mapping[str, Any]],
    drain: DrainPlan,
) -> _Launch:
    model_spec, engine = context.spec.models[name], context.engine
    load_format, loader_config = loader
    arguments = engine_arguments(
        name=name,
        fit=fit,
        native_precision=context.catalog.model(model_spec.repository).native_precision,
        load_format=load_format.value,
        loader_config=loader_config,
        shutdown_timeout_seconds=drain.shutdown_timeout_seconds,
        unfinished_requests=(1 + QUEUE_DEPTH_PER_SEQUENCE) * fit.max_num_seqs,
    )
    environment = engine_environment(gpus=fit.gpus, streamer_buffer_bytes=STREAMER_BUFFER_MIB * MIB)
    prefix, model_path = _weights_place(name, model_spec, way)
    at = model_path or f"<store>/{prefix}"
    digest = context.image.digest
    archive = cache_key(arguments, environment, engine, digest, pool, at, model_spec)
    return _Launch(prefix, model_path, arguments, environment, archive)


def _measured(model_spec: ModelSpec) -> dict[str, Distribution]:
    return {
        key: from_measurement(found.p50, found.p95)
        for key, found in model_spec.measurements.items()
    }


def _check_measurements(path: str, model_spec: ModelSpec, lines: Iterable[Timeline]) -> None:
    """A measurement of no phase would be dropped without a word."""
    present = {phase.key for line in lines for phase in line.phases}
    for key in model_spec.measurements:
        place = f"{path}.measurements.{key}"
        if key not in PHASES:
            near = get_close_matches(key, PHASES, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else "."
            raise PlanError(
                place, f'"{key}" is no phase of a cold start{hint}\nPhases: {", ".join(PHASES)}.'
            )
        if key not in present:
            raise PlanError(
                place,
                f"this plan has no such phase ({PHASES[key]}); it has "
                f"{', '.join(k for k in PHASES if k in present)}",
            )


def _weights_place(name: str, model_spec: ModelSpec, way: WeightsPath) -> tuple[str, str | None]:
    """Where the weights lie in a store, and the path the engine opens, None when it streams."""
    prefix = f"{name}/weights/{model_spec.revision}"
    if way is WeightsPath.STREAM:
        return prefix, None
    local = way is WeightsPath.LOCAL
    return prefix, f"/models/{model_spec.revision}" if local else f"/shared/{prefix}"


def _schedulable(host: HostPlan, pool: PoolPlan) -> HostPlan:
    """Ask for no more scratch space than Karpenter believes the node to have.

    It counts NVMe as ephemeral storage only under instanceStorePolicy RAID0
    (karpenter-provider-aws v1.14.1, pkg/providers/instancetype/types.go); otherwise the volume.
    """
    if pool.local_storage.value is LocalStorage.RAID0:
        return host
    volume_mib = next(volume.size_gib for volume in pool.volumes if volume.root) * 1024
    return replace(host, ephemeral_storage_mib=min(host.ephemeral_storage_mib, volume_mib // 2))


class _Ways:
    """The ways weights could go, each with its placement and its cold start."""

    def __init__(
        self, path: str, model_spec: ModelSpec, context: Context, pool: PoolPlan, model: Model
    ) -> None:
        self.path, self.spec, self.pool, self.model = path, model_spec, pool, model
        self.context, self.catalog = context, context.catalog
        self._loads: dict[FitPlan, LoadPlan | PlanError | None] = {}
        types = tuple(self.catalog.instance(name) for name in pool.instance_types)
        self.placements: dict[WeightsPath, Placement] = {}
        self.misfits: dict[WeightsPath, PlanError] = {}
        for way in WeightsPath:
            on_disk = model.checkpoint_bytes // MIB if way is WeightsPath.LOCAL else 0
            scratch = SCRATCH_BESIDE_WEIGHTS_MIB + on_disk
            try:
                self.placements[way] = place(
                    path, model_spec, model, types, context, scratch, self._demand
                )
            except PlanError as error:
                self.misfits[way] = error
        if not self.placements:
            raise self.misfits[WeightsPath.STREAM]

    def load(self, fit: FitPlan) -> LoadPlan | None:
        """What the traffic asks of a replica that lies so. PlanError for missed targets."""
        if fit not in self._loads:
            accelerator = self.catalog.accelerator(self.pool.accelerator)
            try:
                self._loads[fit] = load_plan(
                    self.path, self.spec, self.model, accelerator, fit, self.catalog
                )
            except PlanError as error:
                self._loads[fit] = error
        found = self._loads[fit]
        if isinstance(found, PlanError):
            raise found
        return found

    def _demand(self, fit: FitPlan) -> Demand:
        try:
            load = self.load(fit)
        except PlanError as error:
            return Demand(math.inf, error.message.partition(" (")[0])
        if load is None:
            return Demand(fit.gpus)
        gpus = load.peak_replicas * fit.gpus
        return Demand(gpus, f"the peak takes {load.peak_replicas} such replicas, {gpus} GPUs")

    def start(self, way: WeightsPath, cache: CompileCache) -> ColdStart:
        placement = self.placements[way]
        return ColdStart(
            placement.instance,
            self.pool.operating_system.value,
            self.pool.image_delivery.value,
            self.context.image.compressed_bytes,
            self.model,
            way,
            cache,
            parallel_loader=self.spec.load_format not in ONE_RANGE_AT_A_TIME,
        )

    def _reads_files_only(self) -> bool:
        return self.spec.load_format not in (AUTO, STREAMER)

    def weights(self) -> Decision[WeightsPath]:
        wish = None if self.spec.weights == AUTO else WeightsPath(self.spec.weights)
        return choose(
            [self._candidate(way) for way in WeightsPath],
            path=f"{self.path}.weights",
            wish=wish,
        )

    def _candidate(self, way: WeightsPath) -> Candidate[WeightsPath]:
        if way in self.misfits:
            return Candidate(way, obstacle=self.misfits[way].message)
        if way is WeightsPath.LOCAL and self.pool.local_disk_path is None:
            return Candidate(way, obstacle=f"pool {self.pool.name} has no local disk for pods")
        if way is WeightsPath.SHARED and not self.context.shared_file_system:
            return Candidate(
                way,
                obstacle="this stack has no shared file system; set storage.sharedFileSystem: true",
            )
        # Where both are named `_loader` refuses the pair, with what works for either.
        if way is WeightsPath.STREAM and self.spec.weights == AUTO and self._reads_files_only():
            obstacle = f"loadFormat: {self.spec.load_format} cannot read an object store"
            return Candidate(way, obstacle=obstacle)
        wish = self.spec.compile_cache
        cache = CompileCache.GOLDEN if wish == AUTO else CompileCache(wish)
        line = predict(self.start(way, cache), self.catalog)
        size = format_bytes(self.model.checkpoint_bytes)
        reason = {
            WeightsPath.STREAM: f"{size} go from the object store straight to GPU memory in "
            f"{format_seconds(line.phase('load').seconds)}",
            WeightsPath.LOCAL: _staging(size, line) if way is WeightsPath.LOCAL else "",
            WeightsPath.SHARED: f"{size} are read over the network by every start, once its driver "
            "has mounted them",
        }[way]
        return Candidate(way, line.total_seconds, reason)


def _staging(size: str, line: Timeline) -> str:
    late = line.end("stage") - line.end("image")
    if late <= 0:
        return f"{size} reach local NVMe while the engine image is still pulled"
    return f"{size} reach local NVMe {format_seconds(late)} after the engine image"


def _loader(
    path: str, model_spec: ModelSpec, way: WeightsPath, fit: FitPlan, engine: EngineVersion
) -> tuple[Decision[str], Mapping[str, Any]]:
    reasons = {
        "runai_streamer": "reads many ranges at once from disk, file system or object store, and "
        "is in the engine image",
        "instanttensor": "its published figures come from its own authors only",
        "fastsafetensors": "without GPUDirect Storage, which the node image lacks, it is behind "
        "the streamer where both were measured",
        "safetensors": "page faults one after another",
    }
    wish = None if model_spec.load_format == AUTO else model_spec.load_format
    if wish is not None and wish not in engine.load_formats:
        raise PlanError(
            f"{path}.loadFormat",
            f'"{wish}" is not a load format of vLLM '
            f"{engine.version}; choose from: {', '.join(engine.load_formats)}",
        )
    if way is WeightsPath.STREAM and wish not in (None, STREAMER):
        raise PlanError(
            f"{path}.loadFormat",
            f'"{wish}" cannot read an object store; use '
            "loadFormat: runai_streamer, or weights: local",
        )
    chosen = wish or STREAMER
    reason = reasons.get(chosen, "a load format of this engine")
    decision = Decision(
        chosen,
        f"{NAMED}: {reason}" if wish else reason,
        tuple(Rejection(k, v) for k, v in reasons.items() if k != chosen),
    )
    if chosen != STREAMER:
        return decision, {}
    over_network = way is not WeightsPath.LOCAL
    config: dict[str, Any] = {"concurrency": 32 if over_network else 16}
    if over_network and fit.tensor_parallel > 1 and fit.pipeline_parallel == 1:
        config["distributed"] = True
    return decision, config


def _cache_mode(
    path: str, model_spec: ModelSpec, ways: _Ways, way: WeightsPath
) -> Decision[CompileCache]:
    warm, cold = (
        predict(ways.start(way, mode), ways.catalog)
        for mode in (CompileCache.GOLDEN, CompileCache.NONE)
    )
    saved = cold.phase("compile").seconds - warm.phase("compile").seconds
    wish = None if model_spec.compile_cache == AUTO else CompileCache(model_spec.compile_cache)
    return choose(
        [
            Candidate(
                CompileCache.GOLDEN,
                warm.total_seconds,
                f"restoring a verified archive saves {format_seconds(saved)} of compilation "
                "in every start",
            ),
            Candidate(CompileCache.NONE, cold.total_seconds, "every pod compiles for itself"),
        ],
        path=f"{path}.compileCache",
        wish=wish,
    )


def _check_budget(path: str, model_spec: ModelSpec, cold: Timeline) -> None:
    budget = model_spec.cold_start_budget
    if budget is None or cold.total_seconds <= budget:
        return
    slowest = sorted((cold.phase(key) for key in cold.critical_path), key=lambda p: -p.seconds)[:3]
    raise PlanError(
        f"{path}.coldStartBudget",
        f"{format_seconds(budget)} cannot be kept: a start on the first node takes "
        f"{format_seconds(cold.total_seconds)}, most of it "
        + ", ".join(f"{p.name} {format_seconds(p.seconds)}" for p in slowest)
        + f".\nA budget this plan keeps: {math.ceil(cold.total_seconds / 10) * 10}s",
    )
