"""What `coldstart breakeven` compares: its flags, a stack and the catalog made into cases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coldstart.capacity.breakeven import Case, GpuBySecond
from coldstart.catalog import Catalog, load
from coldstart.cli.breakeven import FLAGS
from coldstart.cli.breakeven_text import Answer, Offer, SecondOffer
from coldstart.cli.shared import planned, refuse
from coldstart.errors import UserError
from coldstart.planning import StackPlan
from coldstart.planning.alternatives import gpu_by_second, replica_usd_per_hour
from coldstart.spec.problems import did_you_mean

OWN = "the prices given"
LEAST, MOST = 1e-9, 1e9
"""Above zero no figure of a flag is smaller or larger: what follows from such has no meaning."""


@dataclass(slots=True)
class Given:
    """What the flags, the stack and the catalog say together; `assumed` is what nobody said."""

    usd_per_hour: float | None
    input_tokens: float | None
    output_tokens: float | None
    capacity: float | None
    rate: float | None
    offers: list[Offer] = field(default_factory=list)
    workers: list[SecondOffer] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Worker:
    """The flags about GPUs by the second."""

    usd_per_second: float | None
    request_seconds: float | None
    start_seconds: float | None
    idle_seconds: float | None


def answered(
    given: Given,
    worker: Worker,
    place: tuple[Path, str | None],
    model: str | None,
    against: str | None,
    prices: tuple[float | None, float | None],
    change_percent: float,
) -> Answer:
    """The comparison; `place` is the checkout and its stack, `prices` USD per million tokens.

    Ends the command for what cannot be compared.
    """
    root, stack = place
    _check_sizes(given, worker, prices)
    with _refusing():
        catalog = load()
        repository = model
        if stack is not None:
            plan = planned(root, stack)
            name = _model_of(plan, model)
            repository = plan.models[name].repository
            _from_stack(given, plan, name, worker, catalog)
        given.offers = _offers(catalog, repository, against, *prices)
        _own_worker(given, worker)
        return _answer(given, change_percent)


def _check_sizes(given: Given, worker: Worker, prices: tuple[float | None, float | None]) -> None:
    """Refuse what is out of all proportion; zero and below are for the figure's own sentence."""
    figures = {
        "usd_per_hour": given.usd_per_hour,
        "input_usd_per_million": prices[0],
        "output_usd_per_million": prices[1],
        "input_tokens": given.input_tokens,
        "output_tokens": given.output_tokens,
        "capacity_requests_per_second": given.capacity,
        "requests_per_second": given.rate,
        "usd_per_second": worker.usd_per_second,
        "request_seconds": worker.request_seconds,
        "start_seconds": worker.start_seconds,
        "idle_seconds": worker.idle_seconds,
    }
    for name, value in figures.items():
        if value is not None and (0 < value < LEAST or MOST < value < math.inf):
            refuse(f"{FLAGS[name]} {value:g} is out of range; use {LEAST:g} to {MOST:,.0f}")


def _model_of(plan: StackPlan, model: str | None) -> str:
    name, known = plan.spec.stack, sorted(plan.models)
    if not known:
        refuse(f"--stack: {name} serves no model")
    if model is None and len(known) == 1:
        return known[0]
    if model is None:
        refuse(f"--model: {name} serves several; choose from: {', '.join(known)}")
    if model not in plan.models:
        refuse(f'--model: "{model}" is not a model of {name}{did_you_mean(model, known)}')
    return model


def _from_stack(given: Given, plan: StackPlan, name: str, worker: Worker, catalog: Catalog) -> None:
    """What the flags leave out, from the plan and the model's traffic."""
    model, spec = plan.models[name], plan.spec.models[name]
    if given.usd_per_hour is None:
        given.usd_per_hour = replica_usd_per_hour(plan, name, catalog)
        if given.usd_per_hour is None:
            refuse(
                f"--gpu-usd-per-hour is needed: the catalog has no price of "
                f"{model.expected_instance_type} in {plan.spec.region}"
            )
        given.assumed.append(
            f"a replica is priced by its GPUs ({model.fit.gpus} on "
            f"{model.expected_instance_type}), on demand; the rest of the stack is left out"
        )
    if spec.traffic is not None:
        given.input_tokens = _first(given.input_tokens, spec.traffic.prompt_tokens.mean)
        given.output_tokens = _first(given.output_tokens, spec.traffic.output_tokens.mean)
        given.rate = _first(given.rate, spec.traffic.requests_per_second)
    load, seconds = model.load, worker.request_seconds
    if load is not None and given.capacity is None:
        given.capacity = load.replica.requests_per_second
        given.assumed.append(
            f"a replica answers up to {given.capacity:.3g} requests/s, as the plan sizes it"
        )
    prices = catalog.gpu_second_prices_of(plan.pools[model.pool].accelerator)
    if worker.usd_per_second is not None or not prices:
        return
    if seconds is None and load is not None:
        seconds = load.replica.service_seconds
        given.assumed.append(f"a request runs {seconds:.3g} s, as the plan sizes a replica")
    if seconds is None:
        given.assumed.append("GPUs by the second are left out: --request-seconds is not known")
        return
    given.workers = [
        SecondOffer(
            p.provider,
            gpu_by_second(plan, name, p, seconds, worker.start_seconds, worker.idle_seconds),
            f"{p.date}: {p.source}" if p.date else p.source,
        )
        for p in prices
    ]
    if worker.start_seconds is None:
        given.assumed.append(
            f"a serverless GPU starts in {model.predicted_startup_seconds} s, as this stack's "
            "containers do"
        )


def _first(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _offers(
    catalog: Catalog,
    repository: str | None,
    against: str | None,
    input_usd_per_million: float | None,
    output_usd_per_million: float | None,
) -> list[Offer]:
    """The prices given by flags, else those of the catalog for the model."""
    if input_usd_per_million is not None or output_usd_per_million is not None:
        if input_usd_per_million is None or output_usd_per_million is None:
            refuse("--input-usd-per-million and --output-usd-per-million go together")
        if against is not None:
            refuse("--against takes prices from the catalog; leave out the prices per million")
        return [Offer(OWN, input_usd_per_million, output_usd_per_million)]
    if repository is None:
        refuse(
            "prices per token are needed: give --input-usd-per-million and "
            "--output-usd-per-million, or --model for those of the catalog"
        )
    found = catalog.token_prices_of(repository)
    if not found:
        priced = sorted({price.model for price in catalog.token_prices.values()})
        refuse(
            f'--model: no serverless price of "{repository}" in the catalog'
            f"{did_you_mean(repository, priced)}; --input-usd-per-million and "
            "--output-usd-per-million take yours"
        )
    if against is not None and against not in [price.provider for price in found]:
        known = [price.provider for price in found]
        refuse(f'--against: "{against}" has no price of {repository}{did_you_mean(against, known)}')
    return [
        Offer(
            p.provider, p.input_usd_per_million, p.output_usd_per_million, f"{p.date}: {p.source}"
        )
        for p in found
        if against in (None, p.provider)
    ]


def _own_worker(given: Given, worker: Worker) -> None:
    if worker.usd_per_second is None:
        times = {
            FLAGS["request_seconds"]: worker.request_seconds,
            FLAGS["start_seconds"]: worker.start_seconds,
            FLAGS["idle_seconds"]: worker.idle_seconds,
        }
        said = [flag for flag, seconds in times.items() if seconds is not None]
        if said and not given.workers:
            refuse(f"{said[0]} is about a GPU by the second; give its --gpu-usd-per-second")
        return
    if worker.request_seconds is None:
        refuse("--request-seconds is needed beside --gpu-usd-per-second")
    if worker.start_seconds is None or worker.idle_seconds is None:
        given.assumed.append("a GPU by the second starts and stops at once where nothing is said")
    given.workers = [
        SecondOffer(
            OWN,
            GpuBySecond(
                worker.usd_per_second,
                worker.request_seconds,
                worker.start_seconds or 0.0,
                worker.idle_seconds or 0.0,
            ),
        )
    ]


def _answer(given: Given, change_percent: float) -> Answer:
    if given.usd_per_hour is None:
        refuse("--gpu-usd-per-hour is needed, or --stack to take a replica's price from")
    if given.input_tokens is None or given.output_tokens is None:
        refuse("--input-tokens and --output-tokens are needed: the mean prompt and answer")
    if not 0 < change_percent < 100:
        refuse(f"--change {change_percent:g} must be above 0 and below 100 percent")
    cases = [
        (
            offer,
            Case(
                given.usd_per_hour,
                offer.input_usd_per_million,
                offer.output_usd_per_million,
                given.input_tokens,
                given.output_tokens,
                given.capacity,
            ),
        )
        for offer in given.offers
    ]
    cases.sort(key=lambda pair: pair[1].request_usd)
    if given.rate is not None and not 0 < given.rate < math.inf:
        refuse(f"--requests-per-second {given.rate:g} must be a number above 0")
    return Answer(
        tuple(cases), tuple(given.workers), given.rate, change_percent / 100, tuple(given.assumed)
    )


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what a user can mend into its sentence and exit code 2."""
    try:
        yield
    except UserError as error:
        refuse(str(error))
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        refuse(f"{FLAGS.get(name, name)} {rest}")
