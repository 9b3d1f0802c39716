"""Where definitions come from: pinned modules, own ones, published ones where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from coldstart.catalog import load
from coldstart.controlplane import Answer, Client, definitions, modules

OWN = {
    "aksnodeclasses.karpenter.azure.com",
    "computeclasses.cloud.google.com",
    "inferencepools.inference.networking.k8s.io",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
}
SMALL = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "additionalProperties": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "object", "additionalProperties": False}},
    },
}


@pytest.fixture(params=["own", "published"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """None, and a folder that holds one published schema and one published definition."""
    if request.param == "own":
        return None
    (tmp_path / "monitoring.coreos.com_podmonitor_v1.schema.json").write_text(json.dumps(SMALL))
    whole = {**own("aksnodeclass"), "published": True}
    (tmp_path / "karpenter.azure.com_aksnodeclasses.yaml").write_text(yaml.safe_dump(whole))
    return tmp_path


def own(kind: str) -> dict[str, Any]:
    return yaml.safe_load((definitions.OWN / f"{kind}.yaml").read_text())


def by_name(published: Path | None) -> dict[str, dict[str, Any]]:
    return {definitions.name_of(item): item for item in definitions.all_definitions(published)}


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_the_same_kinds_are_there_with_and_without_published_definitions(
    published: Path | None,
) -> None:
    found = by_name(published)
    assert found.keys() >= OWN | {"ec2nodeclasses.karpenter.k8s.aws", "nodepools.karpenter.sh"}
    assert found.keys() == by_name(None).keys()


def test_published_definitions_are_taken_before_our_own(published: Path | None) -> None:
    found = by_name(published)
    assert ("published" in found["aksnodeclasses.karpenter.azure.com"]) is bool(published)
    fields = schema_of(found["podmonitors.monitoring.coreos.com"])["properties"]
    assert ("labels" in fields) is bool(published)
    assert schema_of(found["computeclasses.cloud.google.com"]) == schema_of(own("computeclass"))


def test_a_schema_for_editors_becomes_one_an_api_server_takes(tmp_path: Path) -> None:
    (tmp_path / "monitoring.coreos.com_podmonitor_v1.schema.json").write_text(json.dumps(SMALL))
    schema = schema_of(by_name(tmp_path)["podmonitors.monitoring.coreos.com"])
    assert "additionalProperties" not in schema
    assert "additionalProperties" not in schema["properties"]["list"]["items"]
    # A field of that name, and a map, are no such mark.
    assert schema["properties"]["additionalProperties"] == {"type": "string"}
    assert schema["properties"]["labels"]["additionalProperties"] == {"type": "string"}


def test_what_is_handed_out_can_be_changed_without_harm() -> None:
    by_name(None)["nodepools.karpenter.sh"]["spec"]["group"] = "changed"
    assert by_name(None)["nodepools.karpenter.sh"]["spec"]["group"] == "karpenter.sh"


def test_every_chart_of_the_catalog_that_brings_definitions_has_them() -> None:
    charts = {chart.chart for chart in load().charts.values()}
    assert set(definitions.CHARTS) <= charts
    for chart in definitions.CHARTS:
        assert definitions.of_chart(chart, None), chart
    assert definitions.of_chart("nvidia-device-plugin") == []


def test_the_modules_have_the_versions_of_the_charts() -> None:
    charts = load().charts
    assert modules.KARPENTER_AWS.version == f"v{charts['karpenter'].version}"
    assert modules.KEDA.version == f"v{charts['keda'].version}"
    assert modules.KEDA_HTTP_ADD_ON.version == f"v{charts['keda-add-ons-http'].version}"


def test_own_definitions_let_no_unknown_field_through() -> None:
    text = "".join(file.read_text() for file in definitions.OWN.glob("*.yaml"))
    assert "preserve-unknown-fields" not in text
    assert {definitions.name_of(own(file.stem)) for file in definitions.OWN.glob("*.yaml")} == OWN


@pytest.mark.parametrize(
    "kind", ["aksnodeclass", "computeclass", "inferencepool", "podmonitor", "prometheusrule"]
)
def test_own_definitions_name_only_fields_that_published_ones_have(kind: str) -> None:
    """Compared where published definitions are at hand; they are not part of the repository."""
    ours = own(kind)
    fields = set(_fields(schema_of(ours)["properties"]["spec"]))
    assert len(fields) > 10
    theirs = by_name(definitions.PUBLISHED)[definitions.name_of(ours)]
    for version in theirs["spec"]["versions"]:
        if version["name"] == ours["spec"]["versions"][0]["name"]:
            known = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            assert fields <= set(_fields(known))


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield path + name
        yield from _fields(below, f"{path}{name}.")
    if "items" in schema:
        yield from _fields(schema["items"], path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the server was asked: {name}")

    with pytest.raises(definitions.DefinitionsError, match=r"nodepool\.karpenter.*nodepools"):
        definitions.install(Nobody(), ["nodepool.karpenter.sh"])  # type: ignore[arg-type]


def test_a_wrong_checksum_of_a_module_stops_everything() -> None:
    other = replace(modules.KEDA, checksum="h1:other")
    with pytest.raises(modules.ModuleUnavailableError, match="expected h1:other"):
        modules.module_folder(other)


def test_a_module_that_cannot_be_had_says_what_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "off")
    absent = replace(modules.KEDA, version="v2.0.987")
    with pytest.raises(modules.ModuleUnavailableError, match=r"GOPROXY.*go mod download github"):
        modules.module_folder(absent)


def test_a_missing_go_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    modules.module_folder.cache_clear()
    with pytest.raises(definitions.DefinitionsError, match="install Go"):
        definitions.all_definitions(None)


def test_a_folder_without_definitions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(definitions.DefinitionsError, match="has no definitions"):
        definitions._in_folder(tmp_path)


class AfterACrash:
    """An API server that died over a definition: its successor serves it once it has changed."""

    def __init__(self) -> None:
        self.touched: list[object] = []

    def get(self, *_: object) -> dict[str, Any]:
        changed = self.touched == ["touched", None]
        kinds = ("NamesAccepted", "Established") if changed else ("NamesAccepted",)
        return {"status": {"conditions": [{"type": kind, "status": "True"} for kind in kinds]}}

    def patch(self, version: str, kind: str, name: str, patch: dict[str, Any]) -> None:
        (value,) = patch["metadata"]["annotations"].values()
        self.touched.append(value and "touched")

    def request(self, method: str, path: str, **_: object) -> Answer:
        return Answer(200, {"resources": [{"name": "aksnodeclasses"}]}, ())

    def wait_for(self, probe: Callable[[], bool | None], what: str, seconds: float) -> bool:
        return any(probe() for _ in range(3))


def test_a_definition_that_a_dead_server_left_half_accepted_is_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(definitions, "_NUDGE_SECONDS", -1.0)
    server = AfterACrash()
    definitions.await_served(cast("Client", server), [own("aksnodeclass")])
    assert server.touched == ["touched", None]
