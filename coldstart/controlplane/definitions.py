"""The CustomResourceDefinitions of every kind the project writes, at pinned versions.

Karpenter, KEDA and the KEDA HTTP add-on publish theirs in Go modules. The others publish theirs in
no package that can be pinned, so `own_definitions` describes the fields this project may write;
where a folder of published ones is at hand (`PUBLISHED`), those are taken instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from coldstart.controlplane.modules import (
    KARPENTER_AWS,
    KEDA,
    KEDA_HTTP_ADD_ON,
    Module,
    ModuleUnavailableError,
    module_folder,
)

if TYPE_CHECKING:
    from coldstart.controlplane.client import Client

OWN = Path(__file__).parent / "own_definitions"
PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "crds"
"""Published definitions beside the checkout, where somebody has put them; needed by nothing."""
DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
"""API version and kind of a definition."""
DEADLINE_SECONDS = 60.0
"""For the API server to accept and serve them; on two busy cores they took 3 s."""
_NUDGE_SECONDS = 10.0
_TOUCHED = "coldstart.dev/touched"

PLACES = (
    (KARPENTER_AWS, "pkg/apis/crds"),
    (KEDA, "config/crd/bases"),
    (KEDA_HTTP_ADD_ON, "config/crd/bases"),
)
CHARTS: Mapping[str, tuple[str, ...]] = {
    "karpenter": ("karpenter.k8s.aws", "karpenter.sh", "autoscaling.x-k8s.io"),
    "karpenter-crd": ("karpenter.k8s.aws", "karpenter.sh", "autoscaling.x-k8s.io"),
    "keda": ("keda.sh", "eventing.keda.sh"),
    "keda-add-ons-http": ("http.keda.sh",),
    "kube-prometheus-stack": ("monitoring.coreos.com",),
}
"""The API groups whose definitions a Helm chart brings."""

Definition = dict[str, Any]


class DefinitionsError(Exception):
    """Definitions cannot be had or are not served; the message says what to do."""


def directories() -> tuple[Path, ...]:
    """Folders of YAML files with all definitions, the repository's own among them.

    Raises DefinitionsError when Go or a module is missing.
    """
    try:
        return (*(module_folder(module) / folder for module, folder in PLACES), OWN)
    except ModuleUnavailableError as error:
        raise DefinitionsError(str(error)) from error


def all_definitions(published: Path | None = PUBLISHED) -> list[Definition]:
    """Every definition, by name. `published` is preferred to `OWN` where it exists; None: never.

    Raises DefinitionsError when Go or a module is missing.
    """
    *modules, own = directories()
    found = [item for folder in modules for item in _in_folder(folder)]
    found += [_published(item, published) or item for item in _in_folder(own)]
    return json.loads(json.dumps(sorted(found, key=name_of)))


def own_definitions() -> list[Definition]:
    """Those whose publisher has no package that can be pinned, in our own words."""
    return json.loads(json.dumps(_in_folder(OWN)))


def of_chart(chart: str, published: Path | None = PUBLISHED) -> list[Definition]:
    """What a Helm chart brings; empty for a chart that brings none. Raises as `all_definitions`."""
    groups = CHARTS.get(chart, ())
    if not groups:
        return []
    return [item for item in all_definitions(published) if item["spec"]["group"] in groups]


def of_module(module: Module, folder: str) -> list[Definition]:
    """The definitions in a folder of another Go module. Raises DefinitionsError."""
    try:
        return list(_in_folder(module_folder(module) / folder))
    except ModuleUnavailableError as error:
        raise DefinitionsError(str(error)) from error


def install(
    client: Client, names: Iterable[str] | None = None, published: Path | None = PUBLISHED
) -> list[Definition]:
    """Apply definitions (`names`, or all) and wait until the API server serves every one.

    Raises DefinitionsError for an unknown name, and as `all_definitions`; the client's own errors
    when the server refuses one or the deadline passes.
    """
    found = {name_of(item): item for item in all_definitions(published)}
    wanted = list(found) if names is None else list(names)
    if unknown := [name for name in wanted if name not in found]:
        raise DefinitionsError(f"no definition {', '.join(unknown)}; known: {', '.join(found)}")
    chosen = [found[name] for name in wanted]
    apply(client, chosen)
    return chosen


def apply(client: Client, chosen: Sequence[Definition]) -> None:
    """Apply these definitions and wait until the API server serves every version of them."""
    for definition in chosen:
        client.apply(definition, force=True)
    await_served(client, chosen)


def await_served(client: Client, chosen: Sequence[Mapping[str, Any]]) -> None:
    """Wait until the API server serves every version of these definitions.

    One that an API server accepted and then died over is looked at by its successor only when it
    changes, so it is touched after a while.
    """
    for definition in chosen:
        nudged_at = time.monotonic()

        def served(asked: Mapping[str, Any] = definition) -> bool | None:
            nonlocal nudged_at
            if _served(client, asked):
                return True
            if time.monotonic() - nudged_at > _NUDGE_SECONDS:
                nudged_at = time.monotonic()
                _touch(client, name_of(asked))
            return None

        client.wait_for(
            served, f"the definition {name_of(definition)} to be served", DEADLINE_SECONDS
        )


def name_of(definition: Mapping[str, Any]) -> str:
    """`plural.group`."""
    return definition["metadata"]["name"]


def _touch(client: Client, name: str) -> None:
    for value in (str(time.time_ns()), None):
        client.patch(*DEFINITION, name, {"metadata": {"annotations": {_TOUCHED: value}}})


def _served(client: Client, definition: Mapping[str, Any]) -> bool:
    """Established, in discovery, and answering: each comes a moment after the one before."""
    live = client.get(*DEFINITION, name_of(definition)) or {"status": {}}
    conditions = live.get("status", {}).get("conditions") or []
    if not any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
        return False
    plural, group = definition["spec"]["names"]["plural"], definition["spec"]["group"]
    for version in definition["spec"]["versions"]:
        if not version["served"]:
            continue
        place = f"/apis/{group}/{version['name']}"
        discovered = client.request("GET", place)
        # Null for a moment, between the group and its first kind.
        known = (discovered.body.get("resources") if discovered.status == 200 else None) or []
        if plural not in {item["name"] for item in known}:
            return False
        if client.request("GET", f"{place}/{plural}", query={"limit": "1"}).status != 200:
            return False
    return True


@cache
def _in_folder(folder: Path) -> tuple[Definition, ...]:
    documents = [
        document
        for file in sorted(folder.glob("*.yaml"))
        for document in yaml.load_all(file.read_text(encoding="utf-8"), Loader=_LOADER)
    ]
    found = tuple(item for item in documents if item and item.get("kind") == DEFINITION[1])
    if not found:
        raise DefinitionsError(f"{folder} has no definitions; a file may have been removed there")
    return found


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _published(own: Definition, folder: Path | None) -> Definition | None:
    """The published definition of the same name, as YAML or as the JSON schema of one version."""
    if folder is None:
        return None
    spec = own["spec"]
    whole = folder / f"{spec['group']}_{spec['names']['plural']}.yaml"
    if whole.is_file():
        return yaml.load(whole.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
    kind = spec["names"]["kind"].lower()
    versions = []
    for version in spec["versions"]:
        file = folder / f"{spec['group']}_{kind}_{version['name']}.schema.json"
        if not file.is_file():
            return None
        schema = _structural(json.loads(file.read_text(encoding="utf-8")))
        versions.append({**version, "schema": {"openAPIV3Schema": schema}})
    return {**own, "spec": {**spec, "versions": versions}}


def _structural(schema: Any) -> Any:
    """The schema without what tools for editors add and a definition must not have.

    `additionalProperties: false` beside `properties` is what every definition means anyway.
    """
    if isinstance(schema, list):
        return [_structural(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = schema.get("additionalProperties") is False
    kept = {
        key: value
        for key, value in schema.items()
        if not (closed and key == "additionalProperties")
    }
    if "properties" in kept and isinstance(kept["properties"], dict):
        fields = {key: _structural(value) for key, value in kept["properties"].items()}
        rest = {key: _structural(value) for key, value in kept.items() if key != "properties"}
        return {**rest, "properties": fields}
    return {key: _structural(value) for key, value in kept.items()}
