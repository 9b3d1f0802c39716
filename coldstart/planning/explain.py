"""One decision in depth: its reason, the figures it rests on, what another value would do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coldstart.catalog import Catalog
from coldstart.planning.decision import Decision
from coldstart.planning.figures import Figure, figures_of
from coldstart.planning.levers import levers
from coldstart.planning.model import ModelPlan, PoolPlan, StackPlan
from coldstart.planning.override import Effect, NotAKeyError, effect
from coldstart.planning.percentiles import percentiles
from coldstart.planning.timeline import Timeline
from coldstart.planning.whatif import best_levers
from coldstart.spec.problems import did_you_mean
from coldstart.units import GIB, format_bytes, format_seconds

FOLLOWS: Mapping[str, str] = {
    "capacity": "it follows from the order of {pool}.capacity and from maxNodes",
    "rollout": "it follows from scaling.max and tensorParallel of the pool's models and from "
    "{pool}.maxNodes",
    "coldStart": "it follows from os, image, weights, loadFormat and compileCache",
    "firstNode": "it follows from os, image, weights, loadFormat and compileCache",
    "warmNode": "a warm node is what {pool}.warmNodes keeps",
    "baseline": "it is what the same replica would take with nothing done about it",
    "levers": "each lever is a key of {pool} or {model}",
    "cost": "it follows from the instance types, scaling.min and maxNodes",
    "drain": "it follows from {model}.maxRequestDuration and {pool}.capacity",
}
"""What to change instead, for what has no key of its own."""
ALIASES = {
    "budget": "coldStartBudget",
    "gpu": "fit",
    "price": "cost",
    "storage": "localStorage",
    "warmReplicas": "min",
}
"""Other words for a decision."""


class UnknownTopicError(LookupError):
    """A model, pool or decision that this plan does not have; the message lists what it has."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A value that was turned down; `effect` is None where no key of the stack file takes it."""

    value: Any
    reason: str
    effect: Effect | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one decision.

    `path` is where it stands in the plan. `key` is the stack file's key that overrides it, None
    where there is none; `follows` then says what to change. `models` are those it is about.
    """

    path: str
    value: Any
    reason: str
    figures: tuple[Figure, ...]
    alternatives: tuple[Alternative, ...]
    key: str | None
    follows: str
    models: tuple[str, ...]


def explain(plan: StackPlan, name: str, topic: str, catalog: Catalog) -> Explanation:
    """The decision `topic` of the model or node pool `name`.

    `topic` may be short (`weights`, `compile-cache`) or a whole path of the plan. Raises
    UnknownTopicError with the nearest names.
    """
    found = _Subject(plan, name, catalog)
    known = found.topics()
    by_plain = {_plain(key): key for key in known}
    by_plain |= {_plain(short): key for short, key in ALIASES.items() if key in known}
    key = by_plain.get(_plain(topic.rpartition(".")[2]), "")
    explained = known[key]() if key else None
    if explained is None or ("." in topic and _plain(topic) != _plain(explained.path)):
        hint = did_you_mean(topic, known)
        near = hint if "did you mean" in hint else ""
        raise UnknownTopicError(
            f"{topic!r} is nothing that is decided for {name}{near}\nchoose from: "
            + ", ".join(known)
        )
    return explained


def _plain(word: str) -> str:
    return re.sub(r"[-_ ]", "", word).lower()


class _Subject:
    """One model with its pool, or one pool with its models."""

    def __init__(self, plan: StackPlan, name: str, catalog: Catalog) -> None:
        self.plan, self.catalog = plan, catalog
        self.model: ModelPlan | None = plan.models.get(name)
        if self.model is None and name not in plan.pools:
            known = [*plan.models, *plan.pools]
            raise UnknownTopicError(
                f"{name!r} is no model and no node pool of {plan.spec.stack}"
                f"{did_you_mean(name, known)}"
            )
        self.pool: PoolPlan = plan.pools[self.model.pool if self.model else name]
        self.models = (self.model,) if self.model else plan.models_of(self.pool.name)

    def topics(self) -> dict[str, Callable[[], Explanation]]:
        """What can be explained, by its short name."""
        found: dict[str, Callable[[], Explanation]] = {}
        for path, decision in self.plan.decisions():
            kind, _, rest = path.partition(".")
            owner, _, key = rest.partition(".")
            mine = {"models": self.model and self.model.name, "nodePools": self.pool.name}
            if kind in mine and owner != mine[kind]:
                continue
            short = (key if kind in mine else rest).rpartition(".")[2]
            found[short] = _deferred(self._decision, path, decision)
        if self.model is not None:
            model = self.model
            found["fit"] = lambda: self._fit(model)
            for key, what in (
                ("coldStart", "cold_start"),
                ("firstNode", "first_node"),
                ("warmNode", "warm_node"),
                ("baseline", "baseline"),
            ):
                found[key] = _deferred(
                    self._timeline, f"models.{model.name}.{key}", getattr(model, what)
                )
            found["levers"] = lambda: self._levers(model)
            found["coldStartBudget"] = lambda: self._budget(model)
            found["scaling"] = lambda: self._scaling(model)
            found["drain"] = lambda: self._drain(model)
        found["cost"] = self._cost
        return found

    def _made(
        self,
        path: str,
        value: Any,
        reason: str,
        figures: Iterable[Figure] = (),
        alternatives: Iterable[Alternative] = (),
        key: str | None = None,
    ) -> Explanation:
        names = {
            "pool": f"nodePools.{self.pool.name}",
            "model": f"models.{self.model.name if self.model else '<name>'}",
        }
        short = path.rpartition(".")[2]
        return Explanation(
            path=path,
            value=value,
            reason=reason,
            figures=tuple(dict.fromkeys(figures)),
            alternatives=tuple(alternatives),
            key=key,
            follows="" if key else FOLLOWS.get(short, "it has no key of its own").format(**names),
            models=tuple(m.name for m in self.models),
        )

    def _decision(self, path: str, decision: Decision[Any]) -> Explanation:
        alternatives = [
            Alternative(r.value, r.reason, self._effect(path, r.value)) for r in decision.rejected
        ]
        settable = self._effect(path, decision.value) is not None
        figures = figures_of(path.rpartition(".")[2], self.plan, self.models, self.catalog)
        return self._made(
            path, decision.value, decision.reason, figures, alternatives, path if settable else None
        )

    def _effect(self, path: str, value: Any) -> Effect | None:
        try:
            return effect(self.plan, path, value, self.catalog)
        except NotAKeyError:
            return None

    def _fit(self, model: ModelPlan) -> Explanation:
        fit = model.fit
        entry = self.catalog.model(model.repository)
        gpu = self.catalog.accelerator(self.pool.accelerator)
        size = format_bytes(entry.checkpoint_bytes)
        key = f"models.{model.name}.tensorParallel"
        most = self.pool.gpus_per_node
        others = [n for n in (1, 2, 4, 8) if n <= most and n != fit.tensor_parallel]
        return self._made(
            f"models.{model.name}.fit",
            f"{fit.tensor_parallel} x {gpu.marketing_name}, {fit.precision}, "
            f"{fit.max_model_len:,} tokens of context",
            fit.reason,
            [
                Figure("checkpoint", size, entry.source),
                Figure("memory of one GPU", f"{gpu.memory_gib:g} GiB", gpu.source),
                Figure("weights per GPU", f"{fit.weights_gib:.1f} GiB", "checkpoint over GPUs"),
                Figure(
                    "KV cache per GPU",
                    f"{fit.kv_cache_gib:.1f} GiB",
                    f"{fit.gpu_memory_utilization:.0%} of the memory, less weights and overhead",
                ),
                Figure(
                    "KV cache per token",
                    f"{fit.kv_cache_gib * fit.gpus * GIB / fit.kv_cache_tokens:,.0f} B"
                    if fit.kv_cache_tokens
                    else "none fits",
                    "layers, KV heads and head size of the model's config.json",
                ),
            ],
            [Alternative(n, "another number of GPUs", self._effect(key, n)) for n in others],
            key,
        )

    def _timeline(self, path: str, line: Timeline) -> Explanation:
        names = [line.phase(step).name for step in line.critical_path]
        figures = [
            Figure(
                f"{'* ' if p.key in line.critical_path else ''}{p.name}, "
                f"from {line.starts[p.key]:.0f} s",
                format_seconds(p.seconds),
                p.source,
            )
            for p in line.phases
        ]
        spread = percentiles(line)
        reason = (
            f"half of all starts take at most {format_seconds(spread.p50_seconds)}, 95 % at most "
            f"{format_seconds(spread.p95_seconds)}; critical path (*): {' → '.join(names)}"
        )
        if self.model is not None and line is self.model.cold_start:
            figures += self._lever_figures(self.model)
        return self._made(path, format_seconds(line.total_seconds), reason, figures)

    def _levers(self, model: ModelPlan) -> Explanation:
        found = levers(self.plan, model.name, self.catalog)
        possible = best_levers(self.plan.spec, model.name, self.catalog)
        reason = (
            f"a start without any takes {format_seconds(found.none.total_seconds)}, with all in "
            f"use {format_seconds(found.together.total_seconds)} on a fresh node; "
        )
        if possible:
            reason += f"next: {possible[0].name}: {possible[0].gain}"
        else:
            reason += "no other would save more"
        return self._made(
            f"models.{model.name}.levers",
            f"{format_seconds(found.saved_seconds)} saved",
            reason,
            self._lever_figures(model),
        )

    def _lever_figures(self, model: ModelPlan) -> list[Figure]:
        """What each lever in use saves here and alone, then those that could be used."""
        used = [
            Figure(f"{row.key}: {row.value}", row.gain, row.paid_for.partition(": ")[0])
            for row in levers(self.plan, model.name, self.catalog).rows
        ]
        where = "warm" if self.pool.warm_nodes else "fresh"
        unused = [
            Figure(f"not used: {row.name}", row.gain, f"planned anew, on a {where} node")
            for row in best_levers(self.plan.spec, model.name, self.catalog)
        ]
        return used + unused

    def _budget(self, model: ModelPlan) -> Explanation:
        path = f"models.{model.name}.coldStartBudget"
        total, budget = model.first_node.total_seconds, model.budget_seconds
        reason = f"a start on the first node is predicted to take {format_seconds(total)}"
        if budget is not None:
            reason += f", {format_seconds(budget - total)} less than the budget"
        value = "none" if budget is None else format_seconds(budget)
        return self._made(path, value, reason, key=path)

    def _scaling(self, model: ModelPlan) -> Explanation:
        scaling = model.scaling
        figures = [
            Figure(f"trigger {t.name}", f"{t.threshold} per replica", t.query)
            for t in scaling.triggers
        ]
        return self._made(
            f"models.{model.name}.scaling",
            f"{scaling.min_replicas} to {scaling.max_replicas} replicas",
            f"the next replica is asked for when a trigger exceeds its threshold; the last one "
            f"stops after {format_seconds(scaling.cooldown_seconds)} without work",
            figures,
            key=f"models.{model.name}.scaling",
        )

    def _drain(self, model: ModelPlan) -> Explanation:
        drain = model.drain
        figures = [
            Figure(name, f"{seconds} s", source)
            for name, seconds, source in (
                (
                    "endpoint removal",
                    drain.endpoint_removal_seconds,
                    "until proxies have dropped it",
                ),
                ("engine shutdown", drain.shutdown_timeout_seconds, "maxRequestDuration"),
                (
                    "grace of the pod",
                    drain.grace_seconds,
                    "removal, shutdown and teardown together",
                ),
            )
        ]
        return self._made(
            f"models.{model.name}.drain", f"{drain.grace_seconds} s", drain.reason, figures
        )

    def _cost(self) -> Explanation:
        cost = self.plan.cost
        figures = [
            Figure(
                line.name,
                f"${line.idle_usd_per_hour:,.2f} to ${line.maximum_usd_per_hour:,.2f}/h",
                line.source,
            )
            for line in cost.lines
        ]
        missing = f"; no price known for: {', '.join(cost.unpriced)}" if cost.unpriced else ""
        return self._made(
            "cost",
            f"${cost.idle_usd_per_hour:,.2f}/h idle, ${cost.maximum_usd_per_hour:,.2f}/h at "
            "maximum",
            f"the whole stack at list prices on demand{missing}",
            figures,
        )


def _deferred(make: Callable[..., Explanation], *arguments: Any) -> Callable[[], Explanation]:
    return lambda: make(*arguments)
