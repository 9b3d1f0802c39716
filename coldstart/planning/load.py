"""What a model is asked for, and how many replicas of it that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from coldstart.capacity.lengths import Lengths
from coldstart.capacity.memory import KV_BYTES
from coldstart.capacity.sizing import (
    SpeedAt,
    Targets,
    UnreachableTargetError,
    capacity_plan,
    in_flight_at,
    replica_capacity,
    replicas_for,
)
from coldstart.capacity.speed import EngineSpeed
from coldstart.capacity.throughput import achieved, engine_speed
from coldstart.catalog import Accelerator, Catalog, Model, load
from coldstart.planning.decision import Decision, PlanError
from coldstart.planning.model import FitPlan, ModelPlan, PoolPlan, StackPlan
from coldstart.planning.operation_plan import LoadPlan
from coldstart.spec.model import AUTO, ModelSpec
from coldstart.spec.traffic import MOST_REPLICAS, LengthSpec
from coldstart.units import format_seconds

ANY = Targets(math.inf, math.inf)
ESTIMATE = "estimated from the GPU's bandwidth and arithmetic, measured engines differ by a fifth"
PROMPTS_IN_TURN = "stages of a pipeline overlap while they write, prompts are counted in turn"


def estimate(stages: int) -> str:
    """How the speed of a replica of so many pipeline stages was found, in words."""
    return ESTIMATE if stages == 1 else f"{ESTIMATE}; {PROMPTS_IN_TURN}"


def lengths(spec: LengthSpec) -> Lengths:
    """Tokens of the stack file as a distribution."""
    return Lengths(spec.mean, spec.p95)


def replica_speed(
    plan: StackPlan,
    name: str,
    prompt_tokens: float,
    output_tokens: float,
    catalog: Catalog | None = None,
) -> EngineSpeed:
    """The estimated speed of a model's replica with as many sequences as the engine runs.

    `catalog` is the one the plan was made with, the packaged one when it is left out.
    """
    catalog, planned = catalog or load(), plan.models[name]
    model = catalog.with_models(plan.spec.local_models).model(planned.repository)
    accelerator = catalog.accelerator(plan.pools[planned.pool].accelerator)
    speed = speed_at(prompt_tokens, output_tokens, model, accelerator, planned.fit, catalog)
    return speed(planned.fit.max_num_seqs)


def speed_at(
    prompt: float,
    output: float,
    model: Model,
    accelerator: Accelerator,
    fit: FitPlan,
    catalog: Catalog,
) -> SpeedAt:
    """The speed of a replica for mean lengths in tokens, by the sequences that run at once."""
    figures = achieved(catalog)
    return lambda running: engine_speed(
        model,
        accelerator,
        figures,
        precision=fit.precision,
        kv_bytes=KV_BYTES[fit.kv_cache],
        context_tokens=prompt + output / 2,
        prompt_tokens=prompt,
        parallel=fit.parallel,
        running=running,
    )


def load_plan(
    path: str,
    spec: ModelSpec,
    model: Model,
    accelerator: Accelerator,
    fit: FitPlan,
    catalog: Catalog,
) -> LoadPlan | None:
    """What the traffic asks of a replica; None when the stack file names no traffic.

    Raises PlanError for targets that no number of replicas keeps.
    """
    traffic = spec.traffic
    if traffic is None:
        return None
    targets = (
        Targets(spec.slo.ttft, spec.slo.tpot, spec.slo.percentile) if spec.slo is not None else None
    )
    prompt, output = lengths(traffic.prompt_tokens), lengths(traffic.output_tokens)
    _check_context(path, prompt.mean + output.mean, spec, model, fit)
    speed = speed_at(prompt.mean, output.mean, model, accelerator, fit, catalog)
    try:
        replica = replica_capacity(
            speed,
            prompt,
            output,
            targets or ANY,
            kv_cache_tokens=fit.kv_cache_tokens,
            max_num_seqs=fit.max_num_seqs,
        )
    except UnreachableTargetError as error:
        digits = f"{math.ceil(1000 * error.least_seconds)}ms"
        raise PlanError(
            f"{path}.slo.{error.bound}",
            f"{error} on {fit.gpus} x {accelerator.marketing_name} "
            f"({estimate(fit.pipeline_parallel)}). Use "
            f"{error.bound}: {digits} or more, a larger tensorParallel, or a faster accelerator",
        ) from None
    peak = traffic.peak_requests_per_second or traffic.requests_per_second
    return LoadPlan(
        requests_per_second=traffic.requests_per_second,
        peak_requests_per_second=peak,
        peaks_per_day=traffic.peaks_per_day if peak > traffic.requests_per_second else 0.0,
        targets=targets,
        replica=replica,
        durations=Lengths.with_cv(replica.service_seconds, replica.service_cv),
        in_flight=min(
            replica.concurrency,
            in_flight_at(replica.requests_per_second, speed, prompt, output),
        ),
        replicas=replicas_for(traffic.requests_per_second, replica),
        peak_replicas=replicas_for(peak, replica),
        stages=fit.pipeline_parallel,
    )


def _check_context(
    path: str, request_tokens: float, spec: ModelSpec, model: Model, fit: FitPlan
) -> None:
    """The engine refuses a request that is longer than its context."""
    if request_tokens <= fit.max_model_len:
        return
    needed = math.ceil(request_tokens)
    works = (
        f"Shorten them, or name maxModelLen: {needed} or more"
        if needed <= model.context_tokens
        else f"Shorten them: {model.name} was made for {model.context_tokens} tokens"
    )
    said = "auto" if spec.max_model_len == AUTO else "as named"
    raise PlanError(
        f"{path}.traffic",
        f"promptTokens and outputTokens take {needed} tokens in the mean, more than the context of "
        f"{fit.max_model_len} (maxModelLen {said}), so that the engine would refuse most requests. "
        f"{works}",
    )


def typical_replicas(models: Mapping[str, ModelPlan]) -> dict[str, float]:
    """Replicas that each model's mean traffic keeps running, where it is known."""
    return {
        name: min(max(model.scaling.min_replicas, model.load.replicas), model.scaling.max_replicas)
        for name, model in models.items()
        if model.load is not None
    }


def replicas_decision(load: LoadPlan, min_replicas: int, start_seconds: float) -> Decision[int]:
    """Replicas the peak needs, what one of them does, and what waits until the last is ready."""
    replica = load.replica
    kept = (
        f"{replica.requests_per_second:.3g} requests/s within the targets"
        if load.targets is not None
        else f"{replica.requests_per_second:.3g} requests/s at most (no slo is given)"
    )
    bound = f", bound by {BOUND_WORDS[replica.bound]}" if load.targets is not None else ""
    reason = (
        f"a replica runs {replica.concurrency} requests at once and does {kept}{bound}; "
        f"{load.requests_per_second:g} requests/s need {load.replicas}, the peak of "
        f"{load.peak_requests_per_second:g} needs {load.peak_replicas}"
    )
    if load.stages > 1:
        reason += f" ({PROMPTS_IN_TURN})"
    if min_replicas < load.peak_replicas:
        at_once = math.ceil(load.peak_requests_per_second * replica.service_seconds)
        surge = capacity_plan(at_once, replica.concurrency, min_replicas)
        if surge.requests_waiting:
            reason += (
                f"; with scaling.min {min_replicas} a jump to the peak leaves "
                f"{surge.requests_waiting} of {at_once} requests waiting for "
                f"{format_seconds(start_seconds)}"
            )
    return Decision(load.peak_replicas, reason)


BOUND_WORDS: Mapping[str, str] = {
    "ttft": "the time to first token",
    "tpot": "the time per output token",
    "kv-cache": "KV cache memory",
    "max-num-seqs": "maxConcurrency",
}


def load_errors(
    models: Mapping[str, ModelPlan], pools: Mapping[str, PoolPlan], catalog: Catalog
) -> list[PlanError]:
    """A maximum that finishes less than the peak brings: the queue would grow without end."""
    return [
        PlanError(f"models.{name}.scaling.max", _too_few(model, load, pools, catalog))
        for name, model in models.items()
        if (load := model.load) is not None
        and model.scaling.max_replicas * load.replica.throughput_per_second
        <= load.peak_requests_per_second
    ]


def load_notes(
    models: Mapping[str, ModelPlan], pools: Mapping[str, PoolPlan], catalog: Catalog
) -> list[str]:
    """A maximum that finishes the peak, but later than the targets say."""
    return [
        f"models.{name}.scaling.max: {_too_few(model, load, pools, catalog)}"
        for name, model in models.items()
        if (load := model.load) is not None and model.scaling.max_replicas < load.peak_replicas
    ]


def _too_few(
    model: ModelPlan, load: LoadPlan, pools: Mapping[str, PoolPlan], catalog: Catalog
) -> str:
    pool = pools[model.pool]
    expected = catalog.instance(model.expected_instance_type)
    per_node = max(1, expected.accelerator_count // model.fit.gpus)
    needed = load.peak_replicas
    nodes = -(-needed // per_node)
    have = model.scaling.max_replicas
    finished = have * load.replica.throughput_per_second
    what = (
        f"{have} replicas finish at most {finished:.3g} requests/s, fewer than the peak of "
        f"{load.peak_requests_per_second:g}: the queue would grow without end"
        if finished <= load.peak_requests_per_second
        else f"{have} replicas do not keep the targets at the peak of "
        f"{load.peak_requests_per_second:g} requests/s"
    )
    works = f"Use max: {needed}"
    if needed > MOST_REPLICAS:
        works = f"one stack has at most {MOST_REPLICAS}: share the traffic over several stacks"
    elif nodes > pool.max_nodes:
        works += f" and maxNodes: {nodes} of pool {pool.name}"
    return (
        f"{what}; {needed} replicas on {nodes} nodes of {expected.name} would do "
        f"({estimate(load.stages)}). {works}"
    )
