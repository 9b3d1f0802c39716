"""`coldstart models` and `coldstart gpus`: what the catalog knows, and what fits what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import completion
from coldstart.cli.shared import JsonOption, console, print_json, progress, refuse, told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from coldstart.catalog import Accelerator, Catalog, InstanceType, Model
    from coldstart.planning.survey import Fitting

DEFAULT_REGION = "us-west-2"
RegionOption = Annotated[
    str,
    typer.Option("--region", help="Where prices are looked up.", autocompletion=completion.regions),
]


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="One model, with every GPU it fits.",
            autocompletion=completion.catalog_models,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A model's own config.json, or the folder it lies in."),
    ] = None,
    region: RegionOption = DEFAULT_REGION,
    json_output: JsonOption = False,
) -> None:
    """List the models of the catalog and the smallest nodes that hold them.

    Example: coldstart models Qwen/Qwen3-8B --region us-east-1
    """
    with told():
        from coldstart.catalog import load
        from coldstart.planning.survey import survey

        catalog = load()
        _check_region(region, catalog)
        if file is not None and name is not None:
            refuse("give a model of the catalog or --file, one of the two")
        if file is not None:
            chosen = [read_file(file)]
        else:
            chosen = list(catalog.models.values()) if name is None else [found_model(name, catalog)]
        detailed = len(chosen) == 1
        rows = []
        for number, model in enumerate(chosen):
            if not detailed and not json_output and number == 0:
                progress(f"planning {len(chosen)} models on every accelerator")
            rows.append((model, survey(model, region, catalog)))
        if json_output:
            print_json([_model_data(model, fits) for model, fits in rows])
        elif detailed:
            _print_model(rows[0][0], rows[0][1], region)
        else:
            _print_models(rows, region)


def gpus(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Say which of them hold this model.",
            autocompletion=completion.catalog_models,
        ),
    ] = None,
    region: RegionOption = DEFAULT_REGION,
    json_output: JsonOption = False,
) -> None:
    """List accelerators with their instance types and prices; with --model, which of them fit.

    Example: coldstart gpus --model Qwen/Qwen3-32B
    """
    with told():
        from coldstart.catalog import load
        from coldstart.planning.survey import survey

        catalog = load()
        _check_region(region, catalog)
        fits = () if model is None else survey(found_model(model, catalog), region, catalog)
        by_key = {fitting.accelerator: fitting for fitting in fits}
        if json_output:
            print_json(
                [_gpu_data(a, region, catalog, by_key.get(a.key)) for a in _offered(catalog)]
            )
        elif model is not None:
            out = console()
            out.print(_fit_table(fits, region))
            _print_obstacles(fits)
        else:
            console().print(_gpu_table(region, catalog))


def found_model(name: str, catalog: Catalog) -> Model:
    """A model of the catalog; refuses an unknown one with the nearest."""
    from coldstart.planning.survey import named_model

    try:
        return named_model(name, catalog)
    except ValueError as error:
        refuse(f"{error}\nanother one: coldstart models --file CONFIG.JSON")


def read_file(path: Path) -> Model:
    """A model from its own config.json."""
    from coldstart.catalog.hugging_face import read_model

    return read_model(path)


def _check_region(region: str, catalog: Catalog) -> None:
    from coldstart.spec.problems import did_you_mean

    known = {r for r, _ in catalog.prices}
    if region not in known:
        refuse(f"--region: no prices are known for {region!r}{did_you_mean(region, known)}")


def _offered(catalog: Catalog) -> list[Accelerator]:
    carried = {t.accelerator for t in catalog.instance_types.values()}
    return [a for key, a in catalog.accelerators.items() if key in carried]


def _usd(value: float | None) -> str:
    return "no price" if value is None else f"${value:,.2f}/h"


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, padding=(0, 2, 0, 0))


def _print_models(rows: Iterable[tuple[Model, tuple[Fitting, ...]]], region: str) -> None:
    from coldstart.capacity.memory import kv_bytes_per_token
    from coldstart.units import format_bytes

    table = _table(
        "Model", "Parameters", "Precision", "Weights", "KV/token", "Context", "Smallest fit"
    )
    for model, fits in rows:
        fitting = [f for f in fits if f.obstacle is None]
        if fitting:
            best = fitting[0]
            where = f"{best.gpus} GPU of {best.instance} {_usd(best.usd_per_hour)}"
            where += f", {len(fitting)} of {len(fits)} accelerators fit"
        else:
            where = "none"
        table.add_row(
            model.name,
            f"{model.parameters_billion:.1f} B",
            model.native_precision,
            format_bytes(model.checkpoint_bytes),
            f"{kv_bytes_per_token(model) / 1024:.0f} KiB",
            f"{model.context_tokens:,}",
            where,
        )
    out = console()
    out.print(table)
    out.print(
        f"On demand in {region}, 32 requests at once. `coldstart models MODEL` shows all fits."
    )


def _print_model(model: Model, fits: tuple[Fitting, ...], region: str) -> None:
    from rich.text import Text

    from coldstart.capacity.memory import kv_bytes_per_token
    from coldstart.units import format_bytes

    out = console()
    out.print(Text(model.name, style="bold"))
    out.print(
        f"{model.parameters_billion:.2f} B parameters, {model.active_parameters_billion:.2f} B "
        f"active; {model.native_precision}, {format_bytes(model.checkpoint_bytes)}; "
        f"{kv_bytes_per_token(model):,} B of KV cache per token (16 bit); "
        f"{model.context_tokens:,} tokens of context; {model.license}"
        f"{', gated' if model.gated else ''}",
    )
    out.print(Text(f"source: {model.source}", style="dim"))
    out.print("", _fit_table(fits, region))
    _print_obstacles(fits)


def _fit_table(fits: Iterable[Fitting], region: str) -> Table:
    from coldstart.units import format_seconds

    table = _table(
        "Accelerator",
        "GPUs",
        f"Smallest node in {region}",
        "of its GPUs",
        "a node",
        "Precision",
        "Context",
        "Cold start",
    )
    for f in fits:
        if f.obstacle is None:
            table.add_row(
                f.accelerator,
                str(f.gpus),
                f.instance,
                str(f.gpus_per_node),
                _usd(f.usd_per_hour),
                f.precision,
                f"{f.max_model_len:,}",
                format_seconds(f.cold_start_seconds),
            )
    return table


def _print_obstacles(fits: Iterable[Fitting]) -> None:
    from rich.text import Text

    out = console()
    for f in fits:
        if f.obstacle is not None:
            out.print(Text(f"not {f.accelerator}: {' '.join(f.obstacle.split())}", style="dim"))


def _gpu_table(region: str, catalog: Catalog) -> Table:
    from rich.text import Text

    table = _table(
        "Accelerator", "Memory", "Bandwidth", "Interconnect", "Precisions", "Nodes in " + region
    )
    for a in _offered(catalog):
        precisions = ", ".join(a.precisions)
        if a.weight_only_precisions:
            precisions += f" ({', '.join(a.weight_only_precisions)})"
        cheapest: dict[int, str] = {}
        for t in catalog.instances_with(a.key):
            if t.size != "metal":
                cheapest.setdefault(
                    t.accelerator_count,
                    f"{t.accelerator_count} x {t.name} {_usd(_price(t, region, catalog))}",
                )
        table.add_row(
            a.key,
            f"{a.memory_gib:g} GiB",
            f"{a.memory_bandwidth_gb_per_second:,.0f} GB/s",
            f"{a.interconnect} {a.interconnect_gb_per_second:g} GB/s",
            Text(precisions),
            Text(", ".join(cheapest.values())),
        )
    return table


def _price(kind: InstanceType, region: str, catalog: Catalog) -> float | None:
    price = catalog.price(region, kind.name)
    return price.on_demand_usd_per_hour if price else None


def _fitting_data(f: Fitting) -> dict[str, Any]:
    if f.obstacle is not None:
        return {"accelerator": f.accelerator, "fits": False, "reason": f.obstacle}
    return {
        "accelerator": f.accelerator,
        "fits": True,
        "instanceType": f.instance,
        "gpus": f.gpus,
        "gpusPerNode": f.gpus_per_node,
        "precision": f.precision,
        "maxModelLen": f.max_model_len,
        "usdPerHour": f.usd_per_hour,
        "coldStartSeconds": round(f.cold_start_seconds, 1),
        "firstNodeSeconds": round(f.first_node_seconds, 1),
    }


def _model_data(model: Model, fits: tuple[Fitting, ...]) -> dict[str, Any]:
    from coldstart.capacity.memory import kv_bytes_per_token

    return {
        "name": model.name,
        "parametersBillion": model.parameters_billion,
        "activeParametersBillion": model.active_parameters_billion,
        "precision": model.native_precision,
        "weightBytes": {str(key): size for key, size in model.weight_bytes.items()},
        "kvBytesPerToken": kv_bytes_per_token(model),
        "contextTokens": model.context_tokens,
        "revision": model.revision,
        "license": model.license,
        "gated": model.gated,
        "source": model.source,
        "accelerators": [_fitting_data(f) for f in fits],
    }


def _gpu_data(
    a: Accelerator, region: str, catalog: Catalog, fitting: Fitting | None
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "key": a.key,
        "name": a.marketing_name,
        "memoryGib": a.memory_gib,
        "memoryBandwidthGbPerSecond": a.memory_bandwidth_gb_per_second,
        "interconnect": a.interconnect,
        "interconnectGbPerSecond": a.interconnect_gb_per_second,
        "precisions": list(a.precisions),
        "weightOnlyPrecisions": list(a.weight_only_precisions),
        "source": a.source,
        "region": region,
        "instanceTypes": [_type_data(t, region, catalog) for t in catalog.instances_with(a.key)],
    }
    return data if fitting is None else {**data, "model": _fitting_data(fitting)}


def _type_data(t: InstanceType, region: str, catalog: Catalog) -> dict[str, Any]:
    price = catalog.price(region, t.name)
    return {
        "name": t.name,
        "gpus": t.accelerator_count,
        "onDemandUsdPerHour": price.on_demand_usd_per_hour if price else None,
        "spotUsdPerHour": price.spot_usd_per_hour if price else None,
    }
