"""What changes between two plans: seconds, dollars, decisions. Pure; `compare` prints it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from coldstart.errors import UserError
from coldstart.units import format_seconds

MAX_PLAN_BYTES = 50_000_000
"""A plan of hundreds of models has a few megabytes."""
SAME_SECONDS = 0.05
"""Half of the last digit that a plan's JSON keeps."""
SAME_USD = 0.005
"""Half a cent an hour."""
_COLD, _FIRST = ": cold start", ": first node"

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PlanFileError(UserError):
    """A file that is not what `coldstart plan STACK --json` prints."""


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class Timeline(_Read):
    """The length of one cold start."""

    total_seconds: Seconds


class Model(_Read):
    """What is compared of one model."""

    node_pool: str
    instance_type: str
    cold_start: Timeline
    first_node: Timeline


class Decision(_Read):
    """One decision in the plan's words."""

    path: str
    value: str
    reason: str


class Cost(_Read):
    """US dollars an hour, typical where traffic tells it; `unpriced` names what is not in them."""

    idle_usd_per_hour: Usd
    typical_usd_per_hour: Usd | None = None
    maximum_usd_per_hour: Usd
    unpriced: tuple[str, ...] = ()


class Plan(_Read):
    """What is compared of a plan; keys that are not known are left alone."""

    stack: str
    models: Mapping[str, Model]
    decisions: tuple[Decision, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after, in seconds or US dollars an hour."""

    name: str
    before: float
    after: float

    @property
    def delta(self) -> float:
        """After minus before: positive is slower or dearer."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class DecisionChange:
    """One decision before and after; None where the plan has no such decision."""

    path: str
    before: Decision | None
    after: Decision | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two plans side by side."""

    before: str
    after: str
    seconds: tuple[Change, ...]
    usd: tuple[Change, ...]
    instances: tuple[tuple[str, str, str], ...]
    decisions: tuple[DecisionChange, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    newly_unpriced: tuple[str, ...]

    @property
    def slower_or_faster(self) -> tuple[Change, ...]:
        """Figures in seconds that changed."""
        return tuple(c for c in self.seconds if abs(c.delta) >= SAME_SECONDS)

    @property
    def dearer_or_cheaper(self) -> tuple[Change, ...]:
        """Figures in dollars that changed."""
        return tuple(c for c in self.usd if abs(c.delta) >= SAME_USD)

    @property
    def empty(self) -> bool:
        """Whether nothing that is compared has changed."""
        return not (
            self.slower_or_faster
            or self.dearer_or_cheaper
            or self.instances
            or self.decisions
            or self.added
            or self.removed
            or self.newly_unpriced
        )


def parse_plan(data: Any, shown: str) -> Plan:
    """A plan from the data of `coldstart plan --json`. Raises PlanFileError at the first fault."""
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        raise PlanFileError(
            f"{shown}: {place}: {first['msg']}. This is not a plan; write one with: "
            "coldstart plan STACK --json > plan.json"
        ) from None


def read_plan(path: Path) -> Plan:
    """A plan from a file. Raises PlanFileError with what is wrong with it."""
    shown = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PLAN_BYTES + 1)
        if len(content) > MAX_PLAN_BYTES:
            raise PlanFileError(f"{shown}: is larger than {MAX_PLAN_BYTES:,} bytes; not a plan")
        data = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise PlanFileError(f"{shown}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PlanFileError(
            f"{shown}: is not JSON: {error}. Write a plan with: coldstart plan STACK --json"
        ) from None
    return parse_plan(data, shown)


def difference(before: Plan, after: Plan) -> Difference:
    """What changes from `before` to `after`."""
    both = [name for name in before.models if name in after.models]
    seconds = [
        Change(f"{name}{what}", getattr(old, key).total_seconds, getattr(new, key).total_seconds)
        for name in both
        for old, new in [(before.models[name], after.models[name])]
        for what, key in ((_COLD, "cold_start"), (_FIRST, "first_node"))
    ]
    usd = [
        Change("idle", before.cost.idle_usd_per_hour, after.cost.idle_usd_per_hour),
        Change("at maximum", before.cost.maximum_usd_per_hour, after.cost.maximum_usd_per_hour),
    ]
    old_typical, typical = before.cost.typical_usd_per_hour, after.cost.typical_usd_per_hour
    if old_typical is not None and typical is not None:
        usd.insert(1, Change("typical", old_typical, typical))
    old_parts, new_parts = _parts(before), _parts(after)
    added = tuple(part for part in new_parts if part not in old_parts)
    removed = tuple(part for part in old_parts if part not in new_parts)
    return Difference(
        before=before.stack,
        after=after.stack,
        seconds=tuple(seconds),
        usd=tuple(usd),
        instances=tuple(
            (name, before.models[name].instance_type, after.models[name].instance_type)
            for name in both
            if before.models[name].instance_type != after.models[name].instance_type
        ),
        decisions=_decisions(before, after, (*added, *removed)),
        added=added,
        removed=removed,
        newly_unpriced=tuple(
            name for name in after.cost.unpriced if name not in before.cost.unpriced
        ),
    )


def _parts(plan: Plan) -> dict[str, None]:
    """Models and node pools by their path in the stack file, in the plan's order."""
    pools = [d.path.split(".")[1] for d in plan.decisions if d.path.startswith("nodePools.")]
    pools += [model.node_pool for model in plan.models.values()]
    return dict.fromkeys(
        [*(f"models.{name}" for name in plan.models), *(f"nodePools.{name}" for name in pools)]
    )


def _decisions(before: Plan, after: Plan, parts: tuple[str, ...]) -> tuple[DecisionChange, ...]:
    """Decisions with another value, but those of a part that is itself new or gone."""
    old = {d.path: d for d in before.decisions}
    new = {d.path: d for d in after.decisions}
    return tuple(
        DecisionChange(path, old.get(path), new.get(path))
        for path in {**old, **new}
        if _value(old.get(path)) != _value(new.get(path))
        and not path.startswith(tuple(f"{part}." for part in parts))
    )


def _value(decision: Decision | None) -> str | None:
    return decision.value if decision else None


def signed_seconds(seconds: float) -> str:
    """`+12 s`, `-1 min 5 s`, or `same`."""
    if abs(seconds) < SAME_SECONDS:
        return "same"
    return f"{'+' if seconds > 0 else '-'}{format_seconds(abs(seconds))}"


def signed_usd(usd: float) -> str:
    """`+$3.00/h`, `-$0.45/h`, or `same`."""
    if abs(usd) < SAME_USD:
        return "same"
    return f"{'+' if usd > 0 else '-'}${abs(usd):,.2f}/h"


def headline(found: Difference) -> str:
    """The difference in one sentence: `cold start +12 s, cost +$3.00/h`."""
    if found.empty:
        return "Nothing changes: the same cold starts, cost and decisions."
    parts = [f"{c.name} {signed_seconds(c.delta)}" for c in _told_once(found.slower_or_faster)]
    parts += [f"cost {c.name} {signed_usd(c.delta)}" for c in found.dearer_or_cheaper]
    parts += [f"new: {part}" for part in found.added]
    parts += [f"gone: {part}" for part in found.removed]
    if not parts:
        parts = ["cold starts and cost stay the same"]
    if found.decisions:
        count = len(found.decisions)
        parts.append(f"{count} decision{'' if count == 1 else 's'} changed")
    return "; ".join(parts) + "."


def _told_once(changes: tuple[Change, ...]) -> list[Change]:
    """A first node that changes as the cold start does needs no words of its own."""
    deltas = {c.name: c.delta for c in changes}
    return [
        c
        for c in changes
        if not c.name.endswith(_FIRST)
        or abs(c.delta - deltas.get(c.name.removesuffix(_FIRST) + _COLD, 0)) >= SAME_SECONDS
    ]


def over_limits(
    found: Difference, most_seconds: float | None, most_usd: float | None
) -> tuple[str, ...]:
    """What rose by more than is allowed; a limit of None allows everything."""
    broken = []
    if most_seconds is not None:
        broken += [
            f"{c.name} rises by {signed_seconds(c.delta)[1:]}, more than the allowed "
            f"{format_seconds(most_seconds)}"
            for c in found.slower_or_faster
            if c.delta > most_seconds + SAME_SECONDS
        ]
    if most_usd is not None:
        broken += [
            f"cost {c.name} rises by {signed_usd(c.delta)[1:]}, more than the allowed "
            f"${most_usd:,.2f}/h"
            for c in found.dearer_or_cheaper
            if c.delta > most_usd + SAME_USD
        ]
        broken += [
            f"cost rises by an unknown amount: no price for {name}" for name in found.newly_unpriced
        ]
    return tuple(broken)
