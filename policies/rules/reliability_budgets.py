"""PodDisruptionBudgets: there where replicas need one, and with an effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.reading.replicas import Scaling, scaling_in
from policies.reading.scheduling import requirements_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    whole,
)
from policies.reading.workloads import pods_of
from policies.rule import Finding, Settings, StackRule

# Kinds whose pods a budget counts by spec.replicas.
_COUNTED = frozenset({"Deployment", "StatefulSet", "Rollout"})


def _judge_required(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    workloads = [item for item in resources if item.is_kubernetes and item.kind in _COUNTED]
    if not workloads:
        return
    scaling = scaling_in(resources)
    budgets = list(filter(_is_budget, resources))

    def judge(workload: Resource) -> Iterator[Finding]:
        if not _serves_on_gpus(workload) or not _labels_of(workload):
            return
        bounds = scaling.bounds_of(workload)
        if bounds is None or bounds.maximum < 2:
            return
        covering, undecided = gather(budgets, lambda budget: _selected(budget, [workload]))
        if covering:
            return
        if undecided:
            raise NotYetKnown(*undecided)
        yield Finding(
            workload,
            f"{workload.kind} {workload.object_name} serves on GPUs with up to {bounds.maximum} "
            f"replicas ({bounds.told}), and no PodDisruptionBudget in namespace "
            f"{workload.namespace} selects its pods. A node upgrade or drain then evicts all of "
            "them at once, and every one starts cold. Add a PodDisruptionBudget with "
            "maxUnavailable: 1.",
        )

    yield from judge_each(workloads, judge)


def _judge_effect(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    budgets = list(filter(_is_budget, resources))
    if not budgets:
        return
    workloads = [item for item in resources if item.is_kubernetes and item.kind in _COUNTED]
    scaling = scaling_in(resources)

    def judge(budget: Resource) -> Iterator[Finding]:
        selected = list(_selected(budget, workloads))
        most = _most_replicas(selected, scaling)
        if not most:
            return
        names = ", ".join(f"{item.kind} {item.object_name}" for item in selected)
        spec = mapping_at(budget.properties, "spec")
        for field in ("maxUnavailable", "minAvailable"):
            wrong = _wrong(field, at(spec, field), most)
            if wrong:
                yield Finding(
                    budget,
                    f"PodDisruptionBudget {budget.object_name} has spec.{field}="
                    f"{_plain(at(spec, field))} for {names} with at most {most} "
                    f"replica{'s' if most > 1 else ''}: {wrong}",
                )

    yield from judge_each(budgets, judge)


def _is_budget(resource: Resource) -> bool:
    return resource.group == "policy" and resource.kind == "PodDisruptionBudget"


def _serves_on_gpus(workload: Resource) -> bool:
    return any(
        container.requests_gpu and not container.holds_a_place_only
        for pod in pods_of(workload)
        for container in pod.containers(with_init=False)
    )


def _labels_of(workload: Resource) -> Mapping[str, Any]:
    """Labels of the pods. Only a patch of a workload has none, since a selector must meet some."""
    return mapping_at(workload.properties, "spec", "template", "metadata", "labels")


def _selected(budget: Resource, workloads: Sequence[Resource]) -> Iterator[Resource]:
    """The workloads whose pods a budget selects. Raises NotYetKnown for what decides it."""
    selector = at(budget.properties, "spec", "selector")
    if not isinstance(selector, Mapping):
        return
    for workload in workloads:
        if workload.namespace == budget.namespace and _selects(selector, workload):
            yield workload


def _selects(selector: Mapping[str, Any], workload: Resource) -> bool:
    labels = _labels_of(workload)
    if any(
        known(value) != known(labels.get(key))
        for key, value in mapping_at(selector, "matchLabels").items()
    ):
        return False
    for wanted in requirements_of(list_at(selector, "matchExpressions")):
        value = known(labels.get(wanted.key))
        if value is None:
            if wanted.operator in ("In", "Exists"):
                return False
        elif not wanted.allows(str(value)):
            return False
    return True


def _most_replicas(workloads: Sequence[Resource], scaling: Scaling) -> int | None:
    bounds = [scaling.bounds_of(workload) for workload in workloads]
    if any(item is None for item in bounds):
        return None
    return sum(item.maximum for item in bounds if item is not None)


def _wrong(field: str, value: Any, most: int) -> str | None:
    """What a bound of a budget brings about that nobody wants, however many replicas run."""
    pods = _pods(value, most)
    if pods is None:
        return None
    may_go = pods if field == "maxUnavailable" else most - pods
    if may_go <= 0:
        return (
            "no pod may ever be evicted, so a drained node waits for ever and node upgrades stop. "
            "Set maxUnavailable: 1, and run two replicas where none may be missing."
        )
    if may_go >= most:
        return (
            "all of them may be evicted at once, so the budget protects nothing. Run at least two "
            "replicas with maxUnavailable: 1, or remove the budget."
        )
    return None


def _pods(value: Any, most: int) -> int | None:
    """A number of pods or a share of them, which Kubernetes rounds up for budgets."""
    if isinstance(value, str) and value.strip().endswith("%"):
        share = whole(value.strip()[:-1], -1)
        return None if share < 0 else math.ceil(most * share / 100)
    pods = whole(value, -1)
    return None if pods < 0 else pods


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(whole(value, 0))


REQUIRE_BUDGET = StackRule(
    code="CS901",
    name="kubernetes-workload-require-disruption-budget",
    concern="reliability",
    title="Replicas are not all evicted at once",
    description="A workload that serves on GPUs and can have more than one replica must be "
    "selected by a PodDisruptionBudget.",
    severity="high",
    tags=("kubernetes", "reliability"),
    remediation="Add a PodDisruptionBudget with maxUnavailable: 1 whose selector matches the "
    "labels of the pod template, in the namespace of the workload.",
    reason="A drain evicts what no budget holds, and a model's replicas come back one cold start "
    "later.",
    links=(
        "https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-budgets",
        "https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
    ),
    level="advisory",
    development="disabled",
    judge=_judge_required,
)

FORBID_BUDGET_WITHOUT_EFFECT = StackRule(
    code="CS902",
    name="kubernetes-disruptionbudget-forbid-no-effect",
    concern="reliability",
    title="A disruption budget lets one pod go, and not all",
    description="A PodDisruptionBudget must leave some pod evictable and must hold some pod back, "
    "at the largest number of replicas its workloads can have.",
    severity="medium",
    tags=("kubernetes", "reliability"),
    remediation="Set maxUnavailable: 1 and let the workload have at least two replicas; a "
    "workload that never has more than one needs no budget.",
    reason="A budget that allows no eviction blocks every drain, one that allows all of them is "
    "no budget.",
    links=(
        "https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
        "https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-budgets",
    ),
    level="advisory",
    development="disabled",
    judge=_judge_effect,
)
