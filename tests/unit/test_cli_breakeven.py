"""`coldstart breakeven`: what it says, and how it refuses what cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_stacks import SMALL, good, with_value
from typer.testing import CliRunner

from coldstart.capacity.breakeven import Case, GpuBySecond
from coldstart.catalog import load
from coldstart.cli.app import app
from coldstart.cli.breakeven_text import Answer, Offer, SecondOffer, as_data, as_text
from coldstart.planning import plan_stack
from coldstart.planning.alternatives import gpu_by_second, replica_usd_per_hour
from coldstart.spec import load_stack

ROOT = Path(__file__).parents[2]
MI300X = (
    *("--gpu-usd-per-hour", "1.88", "--model", "openai/gpt-oss-120b", "--against", "digitalocean"),
    *("--input-tokens", "80", "--output-tokens", "220"),
)
STACK = ("--stack", "eks-prod", "--model", "qwen3-8b")
LENGTHS = ("--input-tokens", "500", "--output-tokens", "200")
TRAFFIC = {
    "requestsPerSecond": 2,
    "promptTokens": {"mean": 500},
    "outputTokens": {"mean": 200},
}


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["breakeven", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def data(*arguments: str) -> dict[str, Any]:
    return json.loads(printed(*arguments, "--json"))


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["breakeven", *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def test_the_articles_crossover_is_printed() -> None:
    text = printed(*MI300X)
    assert "A replica for 1.88 USD an hour; 80 tokens in and 220 out a request" in text
    assert "digitalocean  0.1  0.7  0.000162       3.22 requests/s\n" in text
    assert "price of the replica     2.58 to 3.87" in text


def test_prices_of_the_catalog_and_prices_of_flags_give_the_same_answer() -> None:
    flags = ("--input-usd-per-million", "0.10", "--output-usd-per-million", "0.70")
    own = data(*MI300X[:2], *MI300X[6:], *flags)
    catalog = data(*MI300X)
    assert own["sensitivity"] == catalog["sensitivity"]
    assert own["curve"] == catalog["curve"]
    assert own["byToken"][0]["provider"] == "the prices given"
    assert "2026-07-02" in catalog["byToken"][0]["source"]


def test_without_a_provider_all_are_compared_and_the_cheapest_leads() -> None:
    offers = data(*MI300X[:4], *MI300X[6:])["byToken"]
    assert offers[0]["provider"] == "deepinfra"
    usd = [offer["usdPerRequest"] for offer in offers]
    assert len(usd) == 6
    assert usd == sorted(usd)


def test_a_capacity_makes_it_a_share_of_a_replica() -> None:
    found = data(*MI300X, "--requests-per-second-capacity", "10", "--requests-per-second", "5")
    assert found["byToken"][0]["breakEvenUtilisation"] == pytest.approx(0.322, abs=1e-3)
    assert found["costRatio"] == pytest.approx(0.645, abs=1e-3)
    assert found["atRate"]["cheapest"] == "dedicated"
    assert found["sensitivity"][0]["parameter"] == "utilisation"


def test_a_replica_too_small_for_its_break_even_is_said_to_never_pay() -> None:
    text = printed(*MI300X, "--requests-per-second-capacity", "0.7")
    assert "3.22 requests/s, more than a replica takes" in text
    assert "No number of such replicas is ever cheaper" in text


def test_a_gpu_by_the_second_is_billed_its_start_and_its_idle_time() -> None:
    second = ("--gpu-usd-per-second", "0.001", "--request-seconds", "2")
    quick = data(*MI300X, *second)["bySecond"][0]["breakEvenRequestsPerSecond"]
    slow = data(*MI300X, *second, "--cold-start-seconds", "61", "--idle-seconds", "60")["bySecond"]
    assert slow[0]["breakEvenRequestsPerSecond"] < quick / 10
    never = data(*MI300X, "--gpu-usd-per-second", "0.0001", "--request-seconds", "2")["bySecond"]
    assert never[0]["breakEvenRequestsPerSecond"] is None


def test_the_platform_that_is_cheapest_at_the_rate_is_taken() -> None:
    def worker(provider: str, usd: float, idle_seconds: float) -> SecondOffer:
        return SecondOffer(provider, GpuBySecond(usd, 2.0, 30.0, idle_seconds), "read there")

    case = Case(2.0, 0.1, 0.7, 80, 220, 10.0)
    offers = (worker("stays", 0.0009, 300.0), worker("leaves", 0.0010, 5.0))

    def answer(rate: float | None) -> Answer:
        return Answer(((Offer("a", 0.1, 0.7), case),), offers, rate, 0.2, ())

    for rate, provider in ((0.001, "leaves"), (5.0, "stays"), (None, "stays")):
        found = answer(rate).cheapest_worker
        assert found is not None
        assert found.provider == provider
    least = min(offer.worker.usd_per_hour(0.001, 10.0) for offer in offers)
    assert f"by second {least:.2f} (leaves)" in as_text(answer(0.001))
    data_ = as_data(answer(0.001))
    assert data_["atRate"]["bySecondUsdPerHour"] == least
    assert [offer["source"] for offer in data_["bySecond"]] == ["read there"] * 2


def test_a_stack_gives_the_price_of_a_replica_and_the_platforms_of_its_gpu() -> None:
    found = data(*STACK, *LENGTHS, "--request-seconds", "5")
    assert found["replicaUsdPerHour"] == 1.861
    assert "https://modal.com/pricing" in found["bySecond"][0]["source"]
    assert [worker["provider"] for worker in found["bySecond"]] == ["modal", "runpod"]
    plan = plan_stack(load_stack(ROOT, "eks-prod"))
    start = plan.models["qwen3-8b"].predicted_startup_seconds
    assert found["bySecond"][0]["startSeconds"] == start
    assert f"a serverless GPU starts in {start} s" in " ".join(found["assumed"])


def test_a_replica_of_half_a_node_costs_half_of_it() -> None:
    plan, catalog = plan_stack(load_stack(ROOT, "eks-prod")), load()
    assert plan.models["qwen3-32b"].fit.tensor_parallel == 4
    assert replica_usd_per_hour(plan, "qwen3-32b", catalog) == pytest.approx(21.957642 / 2)
    price = catalog.gpu_second_prices[("modal", "nvidia-a100-40gb")]
    assert gpu_by_second(plan, "qwen3-32b", price, 5).usd_per_second == pytest.approx(4 * 0.000583)


def test_traffic_and_objectives_of_the_stack_file_are_used(tmp_path: Path) -> None:
    config: dict[str, Any] = dict(good("eks-prod"))
    config = with_value(config, (*SMALL, "traffic"), TRAFFIC)
    config = with_value(config, (*SMALL, "slo"), {"ttft": "1s", "tpot": "60ms"})
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/Pulumi.mine.yaml").write_text(yaml.safe_dump({"config": config}))
    own = ("--stack", "mine", "--model", "qwen3-8b", "--root", str(tmp_path))
    found = data(*own)
    assert (found["inputTokens"], found["outputTokens"]) == (500, 200)
    assert found["atRate"]["requestsPerSecond"] == 2
    assert any(
        re.fullmatch(r"a request runs .* s, as the plan sizes a replica", words)
        for words in found["assumed"]
    )
    assert found["sensitivity"]
    assert "requests/s, as the plan sizes it" in " ".join(found["assumed"])
    assert data(*own, "--output-tokens", "50")["outputTokens"] == 50


def test_without_the_length_of_a_request_gpus_by_the_second_are_left_out_and_it_says_so() -> None:
    text = printed(*STACK, *LENGTHS)
    assert "GPUs by the second are left out: --request-seconds is not known" in text
    assert "By the second" not in text


def test_the_only_model_of_a_stack_needs_no_name() -> None:
    prices = ("--input-usd-per-million", "0.05", "--output-usd-per-million", "0.1")
    assert data("--stack", "eks-dev", *LENGTHS, *prices)["replicaUsdPerHour"] == 0.8048


def test_text_and_data_agree() -> None:
    found, text = data(*MI300X), printed(*MI300X)
    for swing in found["sensitivity"]:
        assert f"{swing['low']:.3g} to {swing['high']:.3g}" in text
    assert len(found["curve"]) == 40


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--gpu-usd-per-hour", "0", "--gpu-usd-per-hour 0 must be a number above 0"),
        ("--gpu-usd-per-hour", "-2", "--gpu-usd-per-hour -2 must be a number above 0"),
        ("--gpu-usd-per-hour", "nan", "--gpu-usd-per-hour nan must be a number above 0"),
        ("--output-tokens", "0", "--output-tokens 0 must be a number above 0"),
        ("--input-tokens", "-1", "--input-tokens -1 must be 0 or more"),
        ("--requests-per-second-capacity", "0", "--requests-per-second-capacity 0 must be a num"),
        ("--requests-per-second", "0", "--requests-per-second 0 must be a number above 0"),
        ("--requests-per-second", "nan", "--requests-per-second nan must be a number above 0"),
        ("--requests-per-second", "1e308", "1e+308 is out of range; use 1e-09 to 1,000,000,000"),
        (
            "--requests-per-second-capacity",
            "1e-300",
            "--requests-per-second-capacity 1e-300 is out",
        ),
        ("--gpu-usd-per-hour", "1e300", "--gpu-usd-per-hour 1e+300 is out of range"),
        ("--output-tokens", "inf", "--output-tokens inf must be a number above 0"),
        ("--change", "100", "--change 100 must be above 0 and below 100 percent"),
        ("--gpu-usd-per-second", "1", "--request-seconds is needed beside --gpu-usd-per-second"),
        ("--idle-seconds", "5", "--idle-seconds is about a GPU by the second"),
        ("--input-usd-per-million", "1", "--input-usd-per-million and --output-usd-per-million go"),
        (
            "--against",
            "digitalocaen",
            '"digitalocaen" has no price of openai/gpt-oss-120b; did you',
        ),
        ("--model", "openai/gpt-oss-12b", 'did you mean "openai/gpt-oss-120b"?'),
    ],
)
def test_nonsense_is_refused_in_one_sentence(flag: str, value: str, words: str) -> None:
    assert words in refusal(*MI300X, flag, value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "prices per token are needed: give --input-usd-per-million"),
        (MI300X[2:], "--gpu-usd-per-hour is needed, or --stack"),
        (MI300X[:6], "--input-tokens and --output-tokens are needed"),
        (
            ("--stack", "eks-pord", *STACK[2:]),
            'there is no such file; did you mean "eks-prod"?',
        ),
        (
            ("--stack", "eks-prod"),
            "--model: eks-prod serves several; choose from: qwen3-32b",
        ),
        (
            ("--stack", "eks-prod", "--model", "qwen3-8"),
            '--model: "qwen3-8" is not a model of eks-prod; did you mean "qwen3-8b"?',
        ),
        (("--stack", "eks-prod-infra"), "--stack: eks-prod-infra serves no model"),
        (("--stack", "eks-dev", *LENGTHS), 'no serverless price of "Qwen/Qwen3-1.7B" in the catal'),
        (
            (*MI300X, "--gpu-usd-per-second", "-1", "--request-seconds", "2"),
            "--gpu-usd-per-second -1 must be a number above 0",
        ),
    ],
)
def test_what_is_missing_or_unknown_is_named(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal(*arguments)


def test_a_region_without_a_price_asks_for_one(tmp_path: Path) -> None:
    config = with_value(dict(good("eks-prod")), ("aws:region",), "eu-north-1")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/Pulumi.north.yaml").write_text(yaml.safe_dump({"config": config}))
    own = ("--stack", "north", "--model", "qwen3-8b", "--root", str(tmp_path), *LENGTHS)
    assert "--gpu-usd-per-hour is needed: the catalog has no price of g6e.xlarge" in refusal(*own)
    assert data(*own, "--gpu-usd-per-hour", "2")["replicaUsdPerHour"] == 2


def test_help_has_an_example() -> None:
    assert "Example: coldstart breakeven --gpu-usd-per-hour" in printed("--help")
