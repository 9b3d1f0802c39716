"""What wakes a model that has no replica: how soon, from what value on, and by which metric."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from policies.reading.quantities import quantity
from policies.reading.scalers import (
    Trigger,
    in_words,
    is_paused,
    is_scaled_object,
    key_of,
    metrics_in,
    reaches_zero,
    scales_a_model,
    triggers_of,
)
from policies.reading.values import NotYetKnown, Resource, at, gather, judge_each, whole
from policies.rule import Finding, Option, Settings, StackRule

# KEDA's default, keda.sh/v1alpha1 ScaledObject spec.pollingInterval.
_DEFAULT_POLLING_SECONDS = 30
# What llm-d's guide for KEDA sets; half of it is the mean wait before anything starts.
_MAXIMUM_POLLING_SECONDS = 15
# Pushed or planned ahead: these do not wait for the next poll.
_NOT_POLLED = frozenset({"external-push", "cron"})
# Metrics of pods that run; none of them exists while no pod does.
_OF_PODS = re.compile(
    r"vllm:(?!num_incoming_requests|current_qps|healthy_pods|avg_|router_)|sglang[:_]|tgi_|trtllm_"
    r"|nv_inference_|DCGM_FI_|container_"
)
_RESOURCE_TRIGGERS = frozenset({"cpu", "memory"})


def _each_from_zero(
    resources: Sequence[Resource], judge: Callable[[Resource], Iterator[Finding]]
) -> Iterator[Finding]:
    """Runs `judge` on every active ScaledObject of a model that may have no replica."""
    workloads = {key_of(item): item for item in resources if item.is_kubernetes}

    def judge_scaler(scaler: Resource) -> Iterator[Finding]:
        if is_paused(scaler) or not reaches_zero(scaler):
            return
        if scales_a_model(scaler, workloads):
            yield from judge(scaler)

    yield from judge_each(filter(is_scaled_object, resources), judge_scaler)


def _judge_polling(resources: Sequence[Resource], settings: Settings) -> Iterator[Finding]:
    limit_seconds = whole(settings["maximumSeconds"], _MAXIMUM_POLLING_SECONDS)

    def judge(scaler: Resource) -> Iterator[Finding]:
        stated = at(scaler.properties, "spec", "pollingInterval")
        seconds = whole(stated, _DEFAULT_POLLING_SECONDS)
        types = [trigger.type for trigger in triggers_of(scaler)]
        # Whatever is pushed wakes the model, so the polled triggers do not have to.
        if not types or "external-push" in types or set(types) <= _NOT_POLLED:
            return
        if seconds > limit_seconds:
            says = f"is {seconds} s" if stated is not None else f"is not set, which is {seconds} s"
            yield Finding(
                scaler,
                f"ScaledObject {scaler.object_name}: spec.pollingInterval {says}, above "
                f"{limit_seconds} s, and the model may have no replica: a first request waits up "
                "to that long before the cold start even begins. Set pollingInterval to a few "
                "seconds, or add an external-push trigger.",
            )

    yield from _each_from_zero(resources, judge)


def _judge_activation(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    def judge(scaler: Resource) -> Iterator[Finding]:
        modifiers = ("spec", "advanced", "scalingModifiers")
        if at(scaler.properties, *modifiers, "formula"):
            if quantity(at(scaler.properties, *modifiers, "activationTarget")) is None:
                field = ".".join((*modifiers, "activationTarget"))
                yield Finding(scaler, _without_activation(scaler, field))
            return

        def judge_trigger(trigger: Trigger) -> Iterator[Finding]:
            if trigger.type != "prometheus":
                return
            if quantity(at(trigger.metadata, "activationThreshold")) is None:
                field = f"{trigger.field}.metadata.activationThreshold"
                yield Finding(scaler, _without_activation(scaler, field))

        yield from judge_each(triggers_of(scaler), judge_trigger)

    yield from _each_from_zero(resources, judge)


def _without_activation(scaler: Resource, field: str) -> str:
    return (
        f"ScaledObject {scaler.object_name} may scale to no replica and states no number in "
        f"{field}: KEDA then takes 0, so any value above it wakes a GPU node and noise in the "
        "metric keeps it. State from which value on the model is worth waking."
    )


def _judge_zero_metric(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    def judge(scaler: Resource) -> Iterator[Finding]:
        triggers = list(triggers_of(scaler))
        seen, unknown = gather(triggers, _why_blind)
        # One finding of a blind trigger each; fewer than triggers means that one of them sees.
        if len(seen) + len(unknown) < len(triggers) or not triggers:
            return
        if unknown:
            raise NotYetKnown(*unknown)
        yield Finding(
            scaler,
            f"ScaledObject {scaler.object_name} may scale to no replica (spec.minReplicaCount "
            f"{whole(at(scaler.properties, 'spec', 'minReplicaCount'), 0)}), and all it watches is "
            f"{in_words(seen)}: these exist only while a pod runs, so nothing ever wakes the model "
            "again. Watch the queue of the gateway or router before it, which is there at zero "
            "replicas, or keep minReplicaCount at 1.",
        )

    yield from _each_from_zero(resources, judge)


def _why_blind(trigger: Trigger) -> Iterator[str]:
    """What a trigger watches, where that cannot exist without a running pod."""
    if trigger.type in _RESOURCE_TRIGGERS:
        yield f"{trigger.type} of its pods"
        return
    at(trigger.metadata, "query")
    metrics = metrics_in(trigger.query)
    if metrics and all(_OF_PODS.match(name) for name in metrics):
        yield in_words(metrics)


LIMIT_POLLING = StackRule(
    code="CS501",
    name="keda-scaledobject-limit-polling-interval",
    concern="scaling",
    title="A model at zero is polled often",
    description="A ScaledObject that may take a model to no replica must poll its triggers at "
    "short intervals, unless one of them is pushed.",
    severity="medium",
    tags=("keda", "cold-start"),
    remediation="Set spec.pollingInterval to 5 and scrape the metric as often, or add a trigger of "
    "type external-push.",
    reason="KEDA's default of 30 seconds is added to the cold start of every first request.",
    links=(
        "https://keda.sh/docs/latest/reference/scaledobject-spec/",
        "https://github.com/kedacore/external-scalers/issues/34",
    ),
    options=(
        Option(
            "maximumSeconds",
            {"type": "integer", "minimum": 1, "default": _MAXIMUM_POLLING_SECONDS},
            _MAXIMUM_POLLING_SECONDS,
            "Longest polling interval that is let through, in seconds.",
        ),
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    judge=_judge_polling,
)

REQUIRE_ACTIVATION = StackRule(
    code="CS502",
    name="keda-scaledobject-require-activation-threshold",
    concern="scaling",
    title="What wakes a model is stated",
    description="Prometheus triggers of a model that may have no replica must state their "
    "activation threshold.",
    severity="low",
    tags=("keda", "cost"),
    remediation="Add metadata.activationThreshold to every Prometheus trigger (activationTarget "
    "with scalingModifiers), as a quoted number.",
    reason="The threshold only counts from one replica on; the step from none has its own value.",
    links=(
        "https://keda.sh/docs/latest/scalers/prometheus/",
        "https://keda.sh/docs/latest/concepts/scaling-deployments/",
    ),
    level="advisory",
    production="mandatory",
    development="advisory",
    judge=_judge_activation,
)

REQUIRE_METRIC_AT_ZERO = StackRule(
    code="CS503",
    name="keda-scaledobject-require-metric-at-zero",
    concern="scaling",
    title="A model at zero is woken by something that exists",
    description="A ScaledObject that may take a model to no replica must have a trigger whose "
    "metric exists without any pod of the model.",
    severity="high",
    tags=("keda", "reliability", "cold-start"),
    remediation="Add a trigger on the gateway's or router's queue, an external-push trigger of the "
    "HTTP add-on, or set minReplicaCount to 1.",
    reason="Metrics of the engine vanish with its last pod: no value, no activation.",
    links=(
        "https://keda.sh/docs/latest/concepts/scaling-deployments/",
        "https://github.com/vllm-project/production-stack/pull/679",
    ),
    judge=_judge_zero_metric,
)
