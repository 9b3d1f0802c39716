"""The schemas of chart values: one per chart, right for what the program writes, closed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coldstart.catalog import load
from offline.chart_values import SCHEMAS, title_of, wrong_values
from offline.wire import UNKNOWN
from tests.program.harness import run_program

RELEASE = "kubernetes:helm.sh/v3:Release"


def test_every_pinned_chart_has_a_schema_of_its_own_version() -> None:
    charts = load().charts
    titles = {chart.chart: f"{chart.chart} {chart.version}" for chart in charts.values()}
    assert {chart: title_of(chart) for chart in titles} == titles
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{c}.schema.json" for c in titles}


@pytest.mark.parametrize("stack", ("eks-prod", "eks-dev"))
def test_what_the_program_writes_is_right(stack: str) -> None:
    releases = [r for r in run_program(stack).resources if r.type == RELEASE]
    assert len(releases) >= 6
    for release in releases:
        # Whole numbers come out of the mocks as floats.
        values = json.loads(json.dumps(release.inputs.get("values") or {}).replace(".0", ""))
        chart = release.inputs["chart"].rsplit("/", 1)[-1]
        assert wrong_values(chart, values) == []


NO_SUCH = "the chart has no such value; did you mean"


@pytest.mark.parametrize(
    ("chart", "place", "value", "told"),
    [
        ("keda", "operator", {"replicaCont": 2}, f'.replicaCont: {NO_SUCH} "replicaCount"?'),
        ("karpenter", "settings", {"featureGates": {"nodeRepare": True}}, ".featureGates.nodeR"),
        ("spegel", "spegel", {"resolveTags": "no"}, ".resolveTags: 'no' is not of type"),
        ("dcgm-exporter", "tolerations", [{"operater": "Exists"}], "[0].operater"),
        ("keda", "resources", {"webhooks": {"limits": {"memry": "1Gi"}}}, ".webhooks.limits"),
    ],
)
def test_a_wrong_value_is_told_with_its_path(chart: str, place: str, value: Any, told: str) -> None:
    (line,) = wrong_values(chart, {place: value})
    assert line.startswith(f"values.{place}{told}")


def test_a_value_that_is_not_known_yet_is_not_judged() -> None:
    assert wrong_values("karpenter", {"settings": {"clusterName": UNKNOWN}}) == []
    assert wrong_values("spegel", {"spegel": {"mirroredRegistries": [UNKNOWN]}}) == []
    assert wrong_values("no-such-chart", {"anything": "goes"}) == []
