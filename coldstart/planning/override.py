"""What another value of a decision would do: the stack is planned again with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from coldstart.catalog import Catalog
from coldstart.planning.decision import PlanError
from coldstart.planning.model import StackPlan
from coldstart.planning.plan import PlanFailedError, plan_stack
from coldstart.spec.model import StackSpec


class NotAKeyError(LookupError):
    """A path that is no key of the stack file, or a value its key does not take."""


@dataclass(frozen=True, slots=True)
class Slower:
    """How much longer one model starts, in seconds; less than zero is faster."""

    model: str
    cold_start_seconds: float
    first_node_seconds: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What a value would change against the plan; `refused` says why it cannot be used."""

    refused: tuple[PlanError, ...] = ()
    slower: tuple[Slower, ...] = ()
    idle_usd_per_hour: float = 0.0
    maximum_usd_per_hour: float = 0.0


def with_value(spec: StackSpec, path: str, value: Any) -> StackSpec:
    """`spec` with `path` (dotted, as in the stack file) set to `value`. Raises NotAKeyError."""
    return _set(spec, path.split("."), value, path)


def effect(plan: StackPlan, path: str, value: Any, catalog: Catalog | None = None) -> Effect:
    """What `path: value` would do to `plan`, by planning again. Raises NotAKeyError."""
    spec = with_value(plan.spec, path, value)
    try:
        other = plan_stack(spec, catalog)
    except PlanFailedError as error:
        return Effect(refused=tuple(error.errors))
    return Effect(
        slower=tuple(
            Slower(
                name,
                other.models[name].cold_start.total_seconds - model.cold_start.total_seconds,
                other.models[name].first_node.total_seconds - model.first_node.total_seconds,
            )
            for name, model in plan.models.items()
        ),
        idle_usd_per_hour=other.cost.idle_usd_per_hour - plan.cost.idle_usd_per_hour,
        maximum_usd_per_hour=other.cost.maximum_usd_per_hour - plan.cost.maximum_usd_per_hour,
    )


def _set(node: Any, parts: list[str], value: Any, path: str) -> Any:
    head, rest = parts[0], parts[1:]
    if isinstance(node, Mapping):
        if head not in node or not rest:
            raise NotAKeyError(f"{path} is no key of the stack file")
        return {**node, head: _set(node[head], rest, value, path)}
    name, field = _field(node, head, path)
    new = _set(getattr(node, name), rest, value, path) if rest else _taken(field, value, path)
    return node.model_copy(update={name: new})


def _field(node: Any, alias: str, path: str) -> tuple[str, FieldInfo]:
    fields = type(node).model_fields if isinstance(node, BaseModel) else {}
    for name, field in fields.items():
        if (field.alias or name) == alias:
            return name, field
    raise NotAKeyError(f"{path} is no key of the stack file")


def _taken(field: FieldInfo, value: Any, path: str) -> Any:
    kind: Any = field.annotation
    if field.metadata:
        kind = Annotated[kind, *field.metadata]
    # A plan holds seconds where the file writes a duration with its unit.
    for written in (value, f"{value}s"):
        try:
            return TypeAdapter(kind).validate_python(written)
        except ValidationError:
            continue
    raise NotAKeyError(f"{path} does not take {value}")
