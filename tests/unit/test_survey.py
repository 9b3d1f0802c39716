"""Which accelerator holds a model, and what `coldstart models` and `gpus` print of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from coldstart.catalog import load
from coldstart.cli.app import app
from coldstart.planning.survey import NO_REVISION, named_model, survey

CATALOG = load()
REGION = "us-east-1"


def answer(*arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def of_8b():
    return survey(CATALOG.model("Qwen/Qwen3-8B"), REGION, CATALOG)


def test_every_accelerator_is_surveyed_once(of_8b) -> None:
    carried = {t.accelerator for t in CATALOG.instance_types.values() if t.accelerator}
    assert sorted(f.accelerator for f in of_8b) == sorted(carried)


def test_the_cheapest_node_comes_first_and_what_does_not_fit_last(of_8b) -> None:
    fitting = [f for f in of_8b if f.obstacle is None]
    assert list(of_8b[: len(fitting)]) == fitting
    prices = [f.usd_per_hour for f in fitting if f.usd_per_hour is not None]
    assert prices == sorted(prices)
    assert fitting[0].instance == "g6e.xlarge"


def test_a_model_that_one_gpu_cannot_hold_gets_the_smallest_node_with_enough() -> None:
    found = {f.accelerator: f for f in survey(CATALOG.model("Qwen/Qwen3-32B"), REGION, CATALOG)}
    l40s = found["nvidia-l40s-48gb"]
    assert (l40s.gpus, l40s.instance, l40s.gpus_per_node) == (2, "g6e.12xlarge", 4)
    assert l40s.instance_types == ("g6e.12xlarge", "g6e.24xlarge")


def test_why_an_accelerator_is_out_is_told(of_8b) -> None:
    reasons = {f.accelerator: f.obstacle for f in of_8b if f.obstacle}
    assert "arm64" in reasons["nvidia-t4g-16gb"]
    assert "cannot be served on NVIDIA T4" in reasons["nvidia-t4-16gb"]


def test_replicas_share_a_node_before_another_is_paid_for(of_8b) -> None:
    a100 = next(f for f in of_8b if f.accelerator == "nvidia-a100-40gb")
    assert a100.replicas_per_node == 8
    assert a100.usd_per_hour_of(8) == a100.usd_per_hour
    assert a100.usd_per_hour_of(9) == pytest.approx(2 * (a100.usd_per_hour or 0))


def test_a_model_of_no_catalog_is_surveyed_like_one_of_it() -> None:
    known = CATALOG.model("Qwen/Qwen3-8B")
    own = known.model_copy(update={"name": "my checkpoint", "revision": None})
    mine, theirs = (survey(model, REGION, CATALOG) for model in (own, known))
    assert [f for f in mine if not f.obstacle] == [f for f in theirs if not f.obstacle]
    assert len(mine) == len(theirs)
    assert len(NO_REVISION) == 40


def test_an_unpriced_region_leaves_prices_out_and_never_at_zero() -> None:
    found = survey(CATALOG.model("Qwen/Qwen3-8B"), "sa-east-9", CATALOG)
    assert {f.usd_per_hour for f in found} == {None}
    assert all(f.usd_per_hour_of(1) is None for f in found)


@pytest.mark.parametrize("word", ["Qwen/Qwen3-8B", "qwen/qwen3-8b", "qwen3-8b"])
def test_a_model_is_found_by_its_short_name_too(word: str) -> None:
    assert named_model(word, CATALOG).name == "Qwen/Qwen3-8B"


def test_models_lists_the_catalog_with_the_arithmetic_of_each() -> None:
    rows = {row["name"]: row for row in answer("models", "--region", REGION)}
    assert set(rows) == set(CATALOG.models)
    row = rows["Qwen/Qwen3-8B"]
    # 2 x 36 layers x 8 KV heads x 128 x 2 bytes
    assert row["kvBytesPerToken"] == 147_456
    assert row["weightBytes"]["bf16"] == 16_381_470_720
    assert row["accelerators"][0] == {
        "accelerator": "nvidia-l40s-48gb",
        "fits": True,
        "instanceType": "g6e.xlarge",
        "gpus": 1,
        "gpusPerNode": 1,
        "precision": "bf16",
        "maxModelLen": 32_768,
        "usdPerHour": 1.861,
        "coldStartSeconds": row["accelerators"][0]["coldStartSeconds"],
        "firstNodeSeconds": row["accelerators"][0]["firstNodeSeconds"],
    }


def test_models_in_text_names_every_model_and_its_smallest_fit() -> None:
    done = CliRunner().invoke(app, ["models", "--region", REGION])
    assert done.exit_code == 0
    for name in CATALOG.models:
        assert name in done.stdout
    assert "1 GPU of g6.xlarge $0.80/h" in done.stdout


def test_gpus_lists_types_with_their_prices() -> None:
    rows = {row["key"]: row for row in answer("gpus", "--region", REGION)}
    types = {t["name"]: t for t in rows["nvidia-l4-24gb"]["instanceTypes"]}
    assert types["g6.xlarge"]["onDemandUsdPerHour"] == 0.8048
    assert "model" not in rows["nvidia-l4-24gb"]
    done = CliRunner().invoke(app, ["gpus", "--region", REGION])
    for key in rows:
        assert key in done.stdout


def test_gpus_of_a_model_say_what_fits_and_why_the_rest_does_not() -> None:
    done = CliRunner().invoke(app, ["gpus", "--model", "Qwen/Qwen3-32B", "--region", REGION])
    assert done.exit_code == 0
    assert "g7e.2xlarge" in done.stdout
    assert 'not nvidia-t4-16gb: "bf16" of Qwen/Qwen3-32B cannot be served' in done.stdout


def test_a_catalog_without_an_accelerators_nodes_does_not_list_it() -> None:
    types = {n: t for n, t in CATALOG.instance_types.items() if t.family != "g6"}
    types = {n: t for n, t in types.items() if t.family != "gr6"}
    found = survey(CATALOG.model("Qwen/Qwen3-0.6B"), REGION, replace(CATALOG, instance_types=types))
    assert "nvidia-l4-24gb" not in {f.accelerator for f in found}
