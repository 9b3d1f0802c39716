"""Reads the data files into a `Catalog`, checking every entry and every cross reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from coldstart.catalog.models import (
    Accelerator,
    Chart,
    ContainerImage,
    EksRelease,
    EngineVersion,
    InstanceType,
    Limit,
    MigProfile,
    Model,
    PhaseFigure,
)
from coldstart.catalog.prices import FixedPrice, GpuSecondPrice, Price, RentalPrice, TokenPrice
from coldstart.errors import UserError

DATA = Path(__file__).parent / "data"
_LABEL = "coldstart/catalog/data"
_BASE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

EntryT = TypeVar("EntryT", bound=BaseModel)


class CatalogError(UserError):
    """The data is wrong: one line per fault, each with file, key path, value and what is due."""


class UnknownKeyError(LookupError):
    """A key the catalog does not have; the message lists the nearest or all known ones."""


class _UniqueKeyLoader(_BASE_LOADER):
    """YAML keeps the last of two equal keys; in a data table that hides a typing error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                mark = key_node.start_mark
                raise CatalogError(f"line {mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Catalog:
    """Everything the planner and the components may know about the outside world."""

    accelerators: Mapping[str, Accelerator]
    instance_types: Mapping[str, InstanceType]
    models: Mapping[str, Model]
    images: Mapping[str, ContainerImage]
    engines: Mapping[str, EngineVersion]
    prices: Mapping[tuple[str, str], Price]
    fixed_prices: Mapping[str, FixedPrice]
    token_prices: Mapping[tuple[str, str], TokenPrice]
    gpu_second_prices: Mapping[tuple[str, str], GpuSecondPrice]
    rental_prices: Mapping[str, RentalPrice]
    limits: Mapping[str, Limit]
    figures: Mapping[str, PhaseFigure]
    charts: Mapping[str, Chart]
    eks_releases: Mapping[str, EksRelease]
    mig_profiles: Mapping[str, tuple[MigProfile, ...]]

    def with_models(self, models: Mapping[str, Model]) -> Catalog:
        """This catalog with more models beside its own."""
        return replace(self, models={**models, **self.models}) if models else self

    def instances_with(self, accelerator: str) -> tuple[InstanceType, ...]:
        """Instance types carrying `accelerator`, fewest accelerators and least vCPU first."""
        self.accelerator(accelerator)
        found = [t for t in self.instance_types.values() if t.accelerator == accelerator]
        return tuple(sorted(found, key=lambda t: (t.accelerator_count, t.vcpu, t.name)))

    def accelerator(self, key: str) -> Accelerator:
        """The accelerator `key`; `UnknownKeyError` names the known ones."""
        return _get(self.accelerators, key, "accelerator")

    def instance(self, name: str) -> InstanceType:
        """The instance type `name`; `UnknownKeyError` names the known ones."""
        return _get(self.instance_types, name, "instance type")

    def model(self, name: str) -> Model:
        """The model of Hugging Face repository `name`."""
        return _get(self.models, name, "model")

    def image(self, key: str) -> ContainerImage:
        """The container image `key` (a role such as "engine", not a repository name)."""
        return _get(self.images, key, "image")

    def engine(self, key: str) -> EngineVersion:
        """The engine version `key`."""
        return _get(self.engines, key, "engine")

    def price(self, region: str, instance: str) -> Price | None:
        """Hourly price of `instance` in `region`, or None where the catalog has no figure."""
        return self.prices.get((region, instance))

    def fixed_price(self, key: str) -> FixedPrice:
        """The list price `key`; ask it for a region with `.usd(region)`."""
        return _get(self.fixed_prices, key, "fixed price")

    def token_prices_of(self, model: str) -> tuple[TokenPrice, ...]:
        """Serverless prices of Hugging Face repository `model`, by provider; empty when unknown."""
        found = [price for price in self.token_prices.values() if price.model == model]
        return tuple(sorted(found, key=lambda price: price.provider))

    def gpu_second_prices_of(self, accelerator: str) -> tuple[GpuSecondPrice, ...]:
        """Per-second serverless prices of `accelerator`, by provider; empty when unknown."""
        found = [p for p in self.gpu_second_prices.values() if p.accelerator == accelerator]
        return tuple(sorted(found, key=lambda price: price.provider))

    def rental_price(self, key: str) -> RentalPrice:
        """The hourly price `key` of a GPU outside AWS, such as "digitalocean/mi300x-2026-06"."""
        return _get(self.rental_prices, key, "rental price")

    def limit(self, key: str) -> Limit:
        """The limit `key`; its `unit` says what `value` counts."""
        return _get(self.limits, key, "limit")

    def figure(self, key: str) -> PhaseFigure:
        """The published cold-start figure `key`."""
        return _get(self.figures, key, "figure")

    def chart(self, key: str) -> Chart:
        """The pinned Helm chart `key`."""
        return _get(self.charts, key, "chart")

    def eks_release(self, version: str) -> EksRelease:
        """Pins for Kubernetes `version` on EKS, such as "1.35"."""
        return _get(self.eks_releases, version, "EKS release")


def _get(table: Mapping[str, EntryT], key: str, kind: str) -> EntryT:
    try:
        return table[key]
    except KeyError:
        known = ", ".join(sorted(table))
        raise UnknownKeyError(f"no {kind} {key!r} in the catalog; known: {known}") from None


class _Reader:
    """Reads one data folder and gathers every fault, so that all are reported at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = _LABEL if folder == DATA else str(folder)
        self.faults: list[str] = []

    def fault(self, file: str, path: str, text: str) -> None:
        self.faults.append(f"{self.label}/{file}: {path}: {text}")

    def document(self, file: str) -> dict[str, Any]:
        try:
            text = (self.folder / file).read_text(encoding="utf-8")
            found = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a safe loader)
        except FileNotFoundError:
            self.faults.append(f"{self.label}/{file}: the file is missing")
            return {}
        except (yaml.YAMLError, CatalogError) as error:
            self.faults.append(f"{self.label}/{file}: not valid YAML: {error}")
            return {}
        if not isinstance(found, dict):
            self.faults.append(f"{self.label}/{file}: expected a mapping at the top")
            return {}
        return found

    def entry(self, kind: type[EntryT], file: str, key: str, raw: Any) -> EntryT | None:
        if not isinstance(raw, dict):
            self.fault(file, key, f"{raw!r}: expected a mapping of fields")
            return None
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            for found in error.errors():
                path = ".".join([key, *(str(part) for part in found["loc"])])
                given = "" if found["type"] == "missing" else f"{_shown(found['input'])}: "
                self.fault(file, path, f"{given}{found['msg']}")
            return None

    def entries(self, kind: type[EntryT], file: str, key_field: str) -> dict[str, EntryT]:
        """Mapping file: each key becomes the entry's `key_field`."""
        built: dict[str, EntryT] = {}
        for key, raw in self.document(file).items():
            fields = {key_field: key, **raw} if isinstance(raw, dict) else raw
            entry = self.entry(kind, file, str(key), fields)
            if entry is not None:
                built[str(key)] = entry
        return built

    def table(self, file: str) -> list[tuple[str, dict[str, Any]]]:
        """Table file: shared `source`, `columns` and one list of values per key in `rows`."""
        document = self.document(file)
        columns, rows = document.get("columns"), document.get("rows")
        if not isinstance(columns, list) or not isinstance(rows, dict):
            if document:
                self.fault(file, "columns, rows", "expected a list of names and a mapping of lists")
            return []
        shared = {k: v for k, v in document.items() if k not in ("columns", "rows")}
        found: list[tuple[str, dict[str, Any]]] = []
        for key, values in rows.items():
            if not isinstance(values, list) or len(values) != len(columns):
                self.fault(file, f"rows.{key}", f"{values!r}: expected {len(columns)} values")
                continue
            found.append((str(key), {**shared, **dict(zip(columns, values, strict=True))}))
        return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _instance_types(reader: _Reader) -> dict[str, InstanceType]:
    file = "aws_instance_types.yaml"
    built: dict[str, InstanceType] = {}
    for name, fields in reader.table(file):
        family, _, size = name.partition(".")
        fields = {**fields, "name": name, "family": family, "size": size}
        entry = reader.entry(InstanceType, file, name, fields)
        if entry is not None:
            built[name] = entry
    return built


def _blocks(
    reader: _Reader,
    kind: type[EntryT],
    file: str,
    outer: str,
    rows: tuple[str, str],
    columns: tuple[str, ...],
) -> dict[tuple[str, str], EntryT]:
    """One block per `outer`: fields its rows share, and under `rows[0]` a list of `columns` each.

    A row's own key becomes the field `rows[1]`; a single column needs no list.
    """
    table, inner = rows
    built: dict[tuple[str, str], EntryT] = {}
    for key, block in reader.document(file).items():
        if not isinstance(block, dict) or not isinstance(block.get(table), dict):
            reader.fault(file, str(key), f"expected source, date and a mapping `{table}`")
            continue
        shared = {k: v for k, v in block.items() if k != table}
        for name, given in block[table].items():
            path = f"{key}.{name}"
            values = given if isinstance(given, list) else [given]
            if len(values) != len(columns):
                reader.fault(file, path, f"{given!r}: expected [{', '.join(columns)}]")
                continue
            fields = {**shared, outer: key, inner: name, **dict(zip(columns, values, strict=True))}
            entry = reader.entry(kind, file, path, fields)
            if entry is not None:
                built[(str(key), str(name))] = entry
    return built


def _prices(reader: _Reader) -> dict[tuple[str, str], Price]:
    columns = ("on_demand_usd_per_hour", "spot_usd_per_hour")
    rows = ("instances", "instance")
    return _blocks(reader, Price, "aws_prices.yaml", "region", rows, columns)


def _token_prices(reader: _Reader) -> dict[tuple[str, str], TokenPrice]:
    columns = ("input_usd_per_million", "output_usd_per_million", "served_as")
    rows = ("models", "model")
    return _blocks(reader, TokenPrice, "serverless_prices.yaml", "provider", rows, columns)


def _gpu_second_prices(reader: _Reader) -> dict[tuple[str, str], GpuSecondPrice]:
    file, rows = "serverless_gpu_prices.yaml", ("accelerators", "accelerator")
    return _blocks(reader, GpuSecondPrice, file, "provider", rows, ("usd_per_second",))


def _mig_profiles(reader: _Reader) -> dict[str, tuple[MigProfile, ...]]:
    """`mig_profiles.yaml`: per accelerator a source and its slices, smallest first."""
    file, columns = (
        "mig_profiles.yaml",
        ("profile", "compute_slices", "memory_eighths", "instances"),
    )
    built: dict[str, tuple[MigProfile, ...]] = {}
    for key, block in reader.document(file).items():
        if not isinstance(block, dict) or not isinstance(block.get("profiles"), list):
            reader.fault(file, str(key), "expected a source and a list `profiles`")
            continue
        entries = []
        for i, row in enumerate(block["profiles"]):
            path = f"{key}.profiles[{i}]"
            if not isinstance(row, list) or len(row) != len(columns):
                reader.fault(file, path, f"{row!r}: expected {len(columns)} values")
                continue
            fields = {"accelerator": key, "source": block.get("source")}
            entry = reader.entry(
                MigProfile, file, path, {**fields, **dict(zip(columns, row, strict=True))}
            )
            entries += [entry] if entry else []
        built[str(key)] = tuple(sorted(entries, key=lambda p: (p.memory_eighths, p.compute_slices)))
    return built


def _cross_references(reader: _Reader, catalog: Catalog) -> None:
    for name, kind in catalog.instance_types.items():
        if kind.accelerator is None:
            continue
        gpu = catalog.accelerators.get(kind.accelerator)
        if gpu is None:
            known = ", ".join(sorted(catalog.accelerators))
            text = f"{kind.accelerator!r}: expected a key of accelerators.yaml: {known}"
            reader.fault("aws_instance_types.yaml", f"{name}.accelerator", text)
        elif abs(kind.accelerator_memory_mib / 1024 - gpu.memory_gib) > 0.02 * gpu.memory_gib:
            text = f"{kind.accelerator_memory_mib}: {gpu.key} has {gpu.memory_gib} GiB"
            reader.fault("aws_instance_types.yaml", f"{name}.accelerator_memory_mib", text)
    for name, model in catalog.models.items():
        if model.revision is None:
            text = f"None: expected a commit of https://huggingface.co/{name}/commits/main"
            reader.fault("models.yaml", f"{name}.revision", text)
    for key in catalog.mig_profiles:
        if key not in catalog.accelerators:
            text = f"{key!r}: expected a key of accelerators.yaml"
            reader.fault("mig_profiles.yaml", key, text)
    for region, instance in catalog.prices:
        if instance not in catalog.instance_types:
            text = f"{instance!r}: expected an instance type of aws_instance_types.yaml"
            reader.fault("aws_prices.yaml", f"{region}.{instance}", text)
    for provider, model in catalog.token_prices:
        if model not in catalog.models:
            text = f"{model!r}: expected a model of models.yaml"
            reader.fault("serverless_prices.yaml", f"{provider}.{model}", text)
    for provider, accelerator in catalog.gpu_second_prices:
        if accelerator not in catalog.accelerators:
            text = f"{accelerator!r}: expected a key of accelerators.yaml"
            reader.fault("serverless_gpu_prices.yaml", f"{provider}.{accelerator}", text)
    for key, engine in catalog.engines.items():
        if engine.image not in catalog.images:
            known = ", ".join(sorted(catalog.images))
            text = f"{engine.image!r}: expected a key of images.yaml: {known}"
            reader.fault("engines.yaml", f"{key}.image", text)


def load_folder(folder: Path) -> Catalog:
    """Read the data files of `folder`; raises `CatalogError` with every fault found in them."""
    reader = _Reader(folder)
    catalog = Catalog(
        accelerators=reader.entries(Accelerator, "accelerators.yaml", "key"),
        instance_types=_instance_types(reader),
        models=reader.entries(Model, "models.yaml", "name"),
        images=reader.entries(ContainerImage, "images.yaml", "key"),
        engines=reader.entries(EngineVersion, "engines.yaml", "key"),
        prices=_prices(reader),
        fixed_prices=reader.entries(FixedPrice, "fixed_prices.yaml", "key"),
        token_prices=_token_prices(reader),
        gpu_second_prices=_gpu_second_prices(reader),
        rental_prices=reader.entries(RentalPrice, "rental_prices.yaml", "key"),
        limits=reader.entries(Limit, "limits.yaml", "key"),
        figures=reader.entries(PhaseFigure, "figures.yaml", "key"),
        charts=reader.entries(Chart, "charts.yaml", "key"),
        eks_releases=reader.entries(EksRelease, "eks_releases.yaml", "kubernetes_version"),
        mig_profiles=_mig_profiles(reader),
    )
    _cross_references(reader, catalog)
    if reader.faults:
        raise CatalogError("\n".join(reader.faults))
    return catalog


@cache
def load() -> Catalog:
    """The catalog of this package, read once."""
    return load_folder(DATA)
