"""A plan as plain data: what `--json` prints and what the stack exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

from coldstart.planning import (
    CostPlan,
    CronTrigger,
    KarpenterPool,
    ModelPlan,
    RolloutPlan,
    StackPlan,
    Timeline,
)
from coldstart.planning.percentiles import percentiles


def shown(value: Any) -> str:
    """A decision's value in the words of the stack file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, RolloutPlan):
        return f"maxSurge {value.max_surge}, maxUnavailable {value.max_unavailable}"
    if isinstance(value, tuple) and all(isinstance(item, KarpenterPool) for item in value):
        return ", ".join(
            f"{p.name} ({'/'.join(p.capacity_types)}{f', weight {p.weight}' if p.weight else ''})"
            for p in value
        )
    if isinstance(value, tuple) and all(isinstance(item, CronTrigger) for item in value):
        return "; ".join(
            f"{c.desired_replicas} from {c.start} to {c.end} {c.timezone}" for c in value
        )
    return str(value.value if isinstance(value, Enum) else value)


def summary(plan: StackPlan) -> dict[str, Any]:
    """Decisions, cold starts and cost of a plan; seconds and US dollars an hour."""
    return {
        "stack": plan.spec.stack,
        "decisions": [
            {
                "path": path,
                "value": shown(decision.value),
                "reason": decision.reason,
                "rejected": [
                    {"value": shown(r.value), "reason": r.reason} for r in decision.rejected
                ],
            }
            for path, decision in plan.decisions()
        ],
        "models": {name: _model(model) for name, model in plan.models.items()},
        "cost": _cost(plan.cost),
        "notes": list(plan.notes),
    }


def stack_outputs(plan: StackPlan) -> dict[str, Any]:
    """What every stack exports of its plan; the reasons stay with the stack they explain."""
    found = summary(plan)
    return {
        "decisions": {
            d["path"]: {"value": d["value"], "reason": d["reason"]} for d in found["decisions"]
        },
        "coldStart": {
            name: model["coldStart"]["totalSeconds"] for name, model in found["models"].items()
        },
        "coldStartDetails": {name: _detail(model) for name, model in found["models"].items()},
        "cost": {key: found["cost"][key] for key in ("idleUsdPerHour", "maximumUsdPerHour")},
    }


def _cost(cost: CostPlan) -> dict[str, Any]:
    typical = cost.typical_usd_per_hour
    return {
        "idleUsdPerHour": round(cost.idle_usd_per_hour, 4),
        "typicalUsdPerHour": None if typical is None else round(typical, 4),
        "maximumUsdPerHour": round(cost.maximum_usd_per_hour, 4),
        "lines": _plain(cost.lines),
        "unpriced": list(cost.unpriced),
        "idleRange": _plain(cost.idle_range),
        "typicalRange": _plain(cost.typical_range),
        "maximumRange": _plain(cost.maximum_range),
        "mix": _plain(cost.mix),
        "tokens": _plain(cost.tokens),
        "untold": list(cost.untold),
    }


def _detail(model: Mapping[str, Any]) -> dict[str, Any]:
    """The start on a first node, which the budget is checked against."""
    line = model["firstNode"]
    return {
        "budgetSeconds": model["budgetSeconds"],
        "p50Seconds": line["p50Seconds"],
        "p95Seconds": line["p95Seconds"],
        "phases": {phase["key"]: phase["seconds"] for phase in line["phases"]},
    }


def _model(model: ModelPlan) -> dict[str, Any]:
    return {
        "source": f"{model.repository}@{model.revision}",
        "nodePool": model.pool,
        "instanceType": model.expected_instance_type,
        "fit": _plain(model.fit),
        "compileCacheKey": model.compile_cache.key,
        "drain": model.drain.reason,
        "coldStart": _timeline(model.cold_start),
        "firstNode": _timeline(model.first_node),
        "fromZero": _timeline(model.from_zero),
        "warmNode": _timeline(model.warm_node),
        "baseline": _timeline(model.baseline),
        "budgetSeconds": model.budget_seconds,
    }


def _timeline(line: Timeline) -> dict[str, Any]:
    spread = percentiles(line)
    return {
        "totalSeconds": round(line.total_seconds, 1),
        "p50Seconds": round(spread.p50_seconds, 1),
        "p95Seconds": round(spread.p95_seconds, 1),
        "p99Seconds": round(spread.p99_seconds, 1),
        "withoutSpread": list(spread.without_spread),
        "criticalPath": list(line.critical_path),
        "phases": [
            {
                "key": phase.key,
                "name": phase.name,
                "startSeconds": round(line.starts[phase.key], 1),
                "seconds": round(phase.seconds, 1),
                "p95Seconds": round(phase.p95_seconds, 1),
                "source": phase.source,
            }
            for phase in line.phases
        ],
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {_camel(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.title() for word in tail)
