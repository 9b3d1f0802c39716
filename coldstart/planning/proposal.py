"""A first stack for a model and its traffic: the cheapest GPU that holds both, and the reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldstart.catalog import Catalog, Model
from coldstart.errors import UserError
from coldstart.planning.fit import AUTO_MAX_MODEL_LEN
from coldstart.planning.survey import MOST, Fitting, survey
from coldstart.spec.fields import RESERVED_NAMESPACES
from coldstart.spec.model import ClusterSpec, Environment

LONGEST_OVER_MEAN = 2
"""A context of twice the mean request holds all but the rare long ones."""


class NothingFitsError(UserError):
    """No accelerator serves what was asked for; the message says what each lacks."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for: a stack's name and place, a model, its traffic, its objectives."""

    name: str
    region: str
    environment: Environment
    model: Model
    requests_per_second: float
    prompt_tokens: int
    output_tokens: int
    ttft_seconds: float
    tpot_seconds: float
    admin_cidrs: tuple[str, ...] = ()
    budget_seconds: float | None = None

    @property
    def request_tokens(self) -> int:
        """Prompt and answer together, on average."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Option:
    """One accelerator, sized; `obstacle` says why it is out. `usd_per_hour` is of its `nodes`."""

    fitting: Fitting
    replicas: int = 0
    nodes: int = 0
    usd_per_hour: float | None = None
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """The stack to write: `options` are all accelerators, the chosen one first."""

    wishes: Wishes
    options: tuple[Option, ...]
    file_text: str

    @property
    def chosen(self) -> Option:
        """The cheapest that serves what was asked for."""
        return self.options[0]


def propose(wishes: Wishes, catalog: Catalog) -> Proposal:
    """Plan every accelerator for `wishes` and take the cheapest. Raises NothingFitsError."""
    if wishes.request_tokens > wishes.model.context_tokens:
        raise NothingFitsError(_too_long(wishes, catalog))
    keys = _model_keys(wishes)
    fits = survey(wishes.model, wishes.region, catalog, keys)
    options = sorted((_option(wishes, fitting) for fitting in fits), key=_cheapest_first)
    if options[0].obstacle is not None:
        raise NothingFitsError(_nothing(wishes, options))
    return Proposal(wishes, tuple(options), _file_text(wishes, options, keys))


def model_name(repository: str) -> str:
    """A name for the served model: `Qwen/Qwen3-1.7B` as `qwen3-1-7b`."""
    name = plain_name(repository.rpartition("/")[2])
    taken = name == "vllm" or name in RESERVED_NAMESPACES or name.startswith("kube-")
    return f"model-{name}"[:40] if taken else name


def plain_name(text: str) -> str:
    """The nearest name that a stack or a model may have."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"m-{plain}"
    return plain[:40].strip("-")


def _model_keys(wishes: Wishes) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "traffic": {
            "requestsPerSecond": wishes.requests_per_second,
            "promptTokens": {"mean": wishes.prompt_tokens},
            "outputTokens": {"mean": wishes.output_tokens},
        },
        "slo": {"ttft": _duration(wishes.ttft_seconds), "tpot": _duration(wishes.tpot_seconds)},
    }
    longest = -(-LONGEST_OVER_MEAN * wishes.request_tokens // 1024) * 1024
    if longest > AUTO_MAX_MODEL_LEN:
        keys["maxModelLen"] = min(longest, wishes.model.context_tokens)
    if wishes.budget_seconds is not None:
        keys["coldStartBudget"] = _duration(wishes.budget_seconds)
    return keys


def _option(wishes: Wishes, fitting: Fitting) -> Option:
    if fitting.obstacle is not None:
        return Option(fitting, obstacle=" ".join(fitting.obstacle.split()))
    replicas = fitting.peak_replicas
    nodes = -(-replicas // fitting.replicas_per_node)
    usd = fitting.usd_per_hour_of(replicas)
    obstacle = None
    if usd is None:
        obstacle = f"no price is known for {fitting.instance} in {wishes.region}"
    elif replicas + 1 > MOST or nodes + 1 > MOST:
        obstacle = (
            f"it takes {replicas:,} replicas; one stack has at most {MOST}: lower the "
            "requests per second, or share them over several stacks"
        )
    return Option(fitting, replicas, nodes, usd, obstacle)


def _cheapest_first(option: Option) -> tuple[bool, float, float, str]:
    usd = math.inf if option.usd_per_hour is None else option.usd_per_hour
    return (
        option.obstacle is not None,
        usd,
        option.fitting.cold_start_seconds,
        option.fitting.accelerator,
    )


def _too_long(wishes: Wishes, catalog: Catalog) -> str:
    longer = [m.name for m in catalog.models.values() if m.context_tokens >= wishes.request_tokens]
    return (
        f"prompt and answer take {wishes.request_tokens:,} tokens together; {wishes.model.name} "
        f"was made for {wishes.model.context_tokens:,}. "
        + (
            f"Shorten them, or use one of {', '.join(longer)}"
            if longer
            else f"The longest context of the catalog has "
            f"{max(m.context_tokens for m in catalog.models.values()):,}"
        )
    )


def _nothing(wishes: Wishes, options: list[Option]) -> str:
    lines = [f"nothing in {wishes.region} serves {wishes.model.name} like this:"]
    lines += [f"  {o.fitting.accelerator}: {o.obstacle}" for o in options]
    return "\n".join(lines)


def most_replicas(option: Option) -> int:
    """What `scaling.max` is set to: what the traffic needs, and one for bursts."""
    return option.replicas + 1


def reason(options: Sequence[Option]) -> str:
    """Why the first of `options` was chosen."""
    best = options[0]
    fitting = best.fitting
    gpus = f"{fitting.gpus} GPU{'' if fitting.gpus == 1 else 's'}"
    text = (
        f"cheapest that fits: {best.nodes} x {fitting.instance} for {best.replicas} "
        f"replica{'' if best.replicas == 1 else 's'} of {gpus}, "
        f"${best.usd_per_hour:,.2f}/h on demand"
    )
    after = [o for o in options[1:] if o.obstacle is None]
    if after:
        other = after[0]
        text += (
            f"; next {other.fitting.accelerator}, {other.nodes} x {other.fitting.instance}, "
            f"${other.usd_per_hour:,.2f}/h"
        )
    return text


def _pool_name(accelerator: str) -> str:
    return re.sub(r"-\d+gb$", "", accelerator.partition("-")[2]) or accelerator


def _file_text(wishes: Wishes, options: list[Option], keys: Mapping[str, Any]) -> str:
    """The stack file, with the reasons as comments."""
    pool = _pool_name(options[0].fitting.accelerator)
    dev = wishes.environment is Environment.DEV
    access = (
        f"adminCidrs: [{', '.join(wishes.admin_cidrs)}]"
        if wishes.admin_cidrs
        else "# without adminCidrs the API endpoint is reached from inside the VPC only"
    )
    lines = [
        f"# {wishes.model.name} for {wishes.requests_per_second:g} requests a second.",
        "# Written by `coldstart init`; docs/stack-file.md has every key.",
        "config:",
        f"  aws:region: {wishes.region}",
        "  coldstart:platform: eks",
        f"  coldstart:environment: {wishes.environment}",
        *(["  coldstart:network: {zones: 2}"] if dev else []),
        "  coldstart:cluster:",
        f'    version: "{ClusterSpec().version}"',
        f"    {access}",
        *(["    systemNodes: 2"] if dev else []),
        "  coldstart:nodePools:",
        f"    {pool}:",
        *(f"      {line}" for line in _pool_lines(wishes, options)),
        "  coldstart:models:",
        f"    {model_name(wishes.model.name)}:",
        f"      source: hf://{wishes.model.name}@{wishes.model.revision}",
        f"      nodePool: {pool}",
        *(f"      {line}" for line in _scaling_lines(wishes, options[0])),
        *(f"      {key}: {_flow(value)}" for key, value in keys.items()),
    ]
    return "\n".join(lines) + "\n"


def _pool_lines(wishes: Wishes, options: list[Option]) -> list[str]:
    best, fitting = options[0], options[0].fitting
    dev = wishes.environment is Environment.DEV
    types = fitting.instance_types
    return [
        f"# {reason(options)}",
        f"accelerator: {fitting.accelerator}",
        *([f"instanceTypes: [{', '.join(types)}]"] if types else []),
        f"capacity: [{'spot, on-demand' if dev else 'on-demand'}]",
        "# room for scaling.max and for one replica more during a rollout",
        f"maxNodes: {-(-(most_replicas(best) + 1) // fitting.replicas_per_node)}",
    ]


def _scaling_lines(wishes: Wishes, best: Option) -> list[str]:
    least = 0 if wishes.environment is Environment.DEV else 1
    return [
        f"# the traffic needs {best.replicas} within these objectives, one more is for bursts",
        f"scaling: {{min: {least}, max: {most_replicas(best)}}}",
    ]


def _flow(value: Any) -> str:
    """A value in YAML's flow style; what stands here are numbers and plain words."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """Seconds as a stack file writes them, to the millisecond."""
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
