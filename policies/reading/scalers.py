"""Objects that set how many replicas a workload has, and what wakes a model from none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.values import (
    Resource,
    at,
    is_true,
    known,
    list_at,
    mapping_at,
    text_at,
    whole,
)
from policies.reading.workloads import pods_of

Target = tuple[str, str, str]
"""Namespace, kind and name of a workload."""

_PAUSED = ("autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas")
# Metrics of model servers, of the routers before them and of their GPUs.
_MODEL_METRIC = re.compile(
    r"\b(?:vllm:|sglang[:_]|tgi_|trtllm_|nv_inference_|DCGM_FI_|llm_d_|inference_(?:pool|objective))"
)
# Names in PromQL that are no metrics.
_WORDS = frozenset(
    {"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right"}
    | {"offset", "inf", "nan", "start", "end", "atan2"}
)
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w|\s*\()")


@dataclass(frozen=True)
class Trigger:
    """One trigger of a ScaledObject with the path of its field."""

    spec: Mapping[str, Any]
    field: str

    @property
    def type(self) -> str:
        return text_at(self.spec, "type")

    @property
    def metadata(self) -> Mapping[str, Any]:
        return mapping_at(self.spec, "metadata")

    @property
    def query(self) -> str:
        return text_at(self.metadata, "query") if self.type == "prometheus" else ""


def is_scaled_object(resource: Resource) -> bool:
    """Whether a resource is a ScaledObject of KEDA."""
    return resource.kind == "ScaledObject" and resource.group == "keda.sh"


def is_autoscaler(resource: Resource) -> bool:
    """Whether a resource is a HorizontalPodAutoscaler."""
    return resource.kind == "HorizontalPodAutoscaler" and resource.group == "autoscaling"


def target_of(scaler: Resource) -> Target | None:
    """The workload that a ScaledObject or HorizontalPodAutoscaler scales."""
    reference = mapping_at(scaler.properties, "spec", "scaleTargetRef")
    name = text_at(reference, "name")
    kind = text_at(reference, "kind", default="Deployment")
    return (scaler.namespace, kind, name) if name else None


def key_of(workload: Resource) -> Target:
    """What a scaler of this workload names."""
    return (workload.namespace, workload.kind, workload.object_name)


def triggers_of(scaled_object: Resource) -> Iterator[Trigger]:
    """The triggers in their order. Raises NotYetKnown for a list that is not known yet."""
    for index, spec in enumerate(list_at(scaled_object.properties, "spec", "triggers")):
        if isinstance(known(spec), Mapping):
            yield Trigger(spec, f"spec.triggers[{index}]")


def reaches_zero(scaled_object: Resource) -> bool:
    """Whether a ScaledObject may take all replicas away. KEDA's default minimum is none."""
    spec = mapping_at(scaled_object.properties, "spec")
    return whole(at(spec, "minReplicaCount"), 0) == 0 or at(spec, "idleReplicaCount") == 0


def is_paused(scaled_object: Resource) -> bool:
    """Whether an annotation keeps a ScaledObject from scaling."""
    annotations = mapping_at(scaled_object.properties, "metadata", "annotations")
    return is_true(at(annotations, _PAUSED[0])) or at(annotations, _PAUSED[1]) is not None


def scales_a_model(scaler: Resource, workloads: Mapping[Target, Resource]) -> bool:
    """Whether the target requests GPUs, or a trigger asks for a model server's metrics."""
    target = target_of(scaler)
    workload = workloads.get(target) if target else None
    if workload is not None and any(pod.requests_gpu for pod in pods_of(workload)):
        return True
    return any(_MODEL_METRIC.search(trigger.query) for trigger in triggers_of(scaler))


def metrics_in(query: str) -> list[str]:
    """Names of the metrics a PromQL query asks for, without functions, labels and words."""
    bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", "", query[:20_000])
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    # A number's exponent or a duration's unit is no name.
    bare = re.sub(r"\b\d[\w.]*", " ", bare)
    return [name for name in _METRIC.findall(bare) if name.lower() not in _WORDS]


def in_words(names: Iterable[str]) -> str:
    """Names one behind the other, for a message."""
    return ", ".join(sorted(set(names)))
