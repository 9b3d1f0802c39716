"""`coldstart simulate` as people and scripts meet it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from coldstart.cli.app import app
from coldstart.cli.simulation_text import curve, print_simulation
from coldstart.simulation import SloInput, simulate
from tests.unit.simulation_scenes import NODES, SLEEPY, scaled, trace

EXAMPLE = str(Path(__file__).parents[2] / "examples/traces/morning-rush.csv")
SPEED = ["--prefill-tokens-per-second", "12000", "--step-ms", "12", "--step-ms-per-sequence", "0.4"]
TOKENS = ["--prompt-tokens", "400", "--output-tokens", "100"]
HEADER = "arrival_seconds,prompt_tokens,output_tokens\n"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments], input=stdin)


def test_a_trace_is_told_in_figures_and_curves() -> None:
    done = run("eks-dev", "--trace", EXAMPLE, *SPEED)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("qwen3-1-7b of eks-dev: 2,206 requests in ")
    for words in ("time to first token", "Served: 2,206, 100.00%", "Paid:", "replicas ready", "█"):
        assert words in done.stdout
    assert done.stderr == ""


def told(starts_at: datetime | None = None, **overrides: Any) -> str:
    """What is printed of a model with at most two replicas on one node."""
    fields: dict[str, Any] = {
        "nodes": replace(NODES, max_nodes=1),
        "scaling": replace(SLEEPY, max_replicas=2),
        "slo": SloInput(2.0, 0.5, 90),
        "hold_seconds": 200.0,
        **overrides,
    }
    text = StringIO()
    rows = [(0.0, 500, 400)] * 60 + [(900.0, 5000, 4000)] + [(1000.0, 500, 400)] * 60
    given = scaled(replace(trace(rows), starts_at=starts_at), **fields)
    print_simulation(Console(file=text, width=400), "prod", "m", given, simulate(given))
    return text.getvalue()


def test_the_verdict_comes_first_and_losses_have_their_reasons() -> None:
    lines = told().splitlines()
    assert lines[0].startswith("m of prod: 121 requests in 16 min 40 s, over after ")
    assert lines[1].startswith("Objective missed: 0.00% of all requests, 90% are to, had their ")
    assert lines[2].startswith("Served: 60, 49.59% of all, 1 rejected longer than the engine takes")
    assert "60 rejected held as long as the proxy does, in vain; at most 60 waited" in lines[2]
    kept = told(slo=SloInput(600.0, 0.5, 90), hold_seconds=900.0)
    assert "Objective kept: 99.17% of all requests" in kept


def test_what_an_engineer_asks_next_is_told_when_it_was_slowest_and_what_stood_in_the_way() -> None:
    text = told()
    assert "Slowest: who came from 1" in text
    assert "0 → 1 at 0.7 s (held request)" in text
    assert "Limit: scaling.max of 2 was asked for during " in text
    assert " for a node, all together; the pool has at most 1 node\n" in text
    clock = datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert "Slowest: who came from 2026-03-02 08:1" in told(starts_at=clock)
    assert "0 → 1 at 2026-03-02 08:00:00+00:00 (held request)" in told(starts_at=clock)
    roomy = told(nodes=NODES, scaling=replace(SLEEPY, max_replicas=4), slo=None)
    assert "for a node" not in roomy
    assert "Objective: none; models.m.slo in the stack file says what is to be kept" in roomy


def test_the_same_as_data_with_columns_of_equal_length() -> None:
    done = run("eks-dev", "--trace", EXAMPLE, "--json", *SPEED)
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert (data["stack"], data["model"]) == ("eks-dev", "qwen3-1-7b")
    assert data["requests"]["served"] == data["requests"]["arrived"] == 2206
    assert data["ttftSeconds"]["p50"] <= data["ttftSeconds"]["p95"] <= data["ttftSeconds"]["most"]
    assert len({len(column) for column in data["series"].values()}) == 1
    assert data["costUsd"] > 0


def test_a_trace_may_come_from_standard_input() -> None:
    done = run("eks-dev", "--trace", "-", "--json", *SPEED, stdin=HEADER + "0,100,10\n5,100,10\n")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["requests"]["arrived"] == 2


@pytest.mark.parametrize("shape", ["steady", "day", "burst"])
def test_a_trace_may_be_made_up_and_its_seed_decides(shape: str) -> None:
    made = ["--requests-per-second", "0.05"]
    made += [] if shape == "steady" else ["--peak-requests-per-second", "0.5"]
    made += ["--shape", shape, "--duration", "1h", "--json", *SPEED, *TOKENS]
    first, again, other = (run("eks-dev", *made, "--seed", seed) for seed in ("1", "1", "2"))
    assert first.exit_code == 0, first.output
    assert first.stdout == again.stdout != other.stdout


RATE = ("--requests-per-second", "1")
BAD = [
    (("nowhere",), "nowhere"),
    (("eks-prod",), "--model: which of them? Models of eks-prod: qwen3-32b, qwen3-8b"),
    (
        ("eks-dev", "--model", "gpt"),
        "--model: 'gpt' is none of them. Models of eks-dev: qwen3-1-7b",
    ),
    (
        ("eks-dev", *TOKENS, *RATE, "--step-ms", "9"),
        "the speed of a replica: --prefill-tokens-per-second, --step-ms and",
    ),
    (("eks-dev", *SPEED), "no trace: give --trace FILE, or --requests-per-second"),
    (("eks-dev", *SPEED, *RATE), "--prompt-tokens: not given, and models.qwen3-1-7b.traffic"),
    (("eks-dev", *SPEED, *RATE, "--trace", "x.csv"), "are two traces; give one of them"),
    *(
        (("eks-dev", *SPEED, *words, "--trace", "x.csv"), f"--trace and {words[0]} are two traces")
        for words in (
            ("--prompt-tokens", "5"),
            ("--output-tokens", "5"),
            ("--duration", "2h"),
            ("--shape", "day"),
            ("--peak-requests-per-second", "2"),
        )
    ),
    (
        ("eks-dev", *SPEED, *TOKENS, *RATE, "--peak-requests-per-second", "9"),
        "--peak-requests-per-second is for --shape day and --shape burst",
    ),
    (("eks-dev", *SPEED, "--trace", "no-such.csv"), "no-such.csv: no such file"),
    (("eks-dev", *SPEED, *TOKENS, "--requests-per-second", "-1"), "make no trace"),
    (("eks-dev", *SPEED, *TOKENS, "--requests-per-second", "nan"), "make no trace"),
    (("eks-dev", *SPEED, *TOKENS, *RATE, "--duration", "3600"), "--duration: '3600' is not a"),
    (
        ("eks-dev", *SPEED, *TOKENS, *RATE, "--shape", "day"),
        "--peak-requests-per-second: --shape day",
    ),
    (
        ("eks-dev", *SPEED, *TOKENS, *RATE, "--starts-at", "noon"),
        "--starts-at: 'noon' is not a time",
    ),
    (
        ("eks-dev", *SPEED, *TOKENS, *RATE, "--starts-at", "9999-12-31T23:59Z"),
        "--starts-at: '9999-12-31T23:59Z' is not of the years 1970 to 8999",
    ),
    (("eks-dev", *TOKENS, *RATE, *SPEED[:3], "0", *SPEED[4:]), "the speed of a replica: "),
    (("eks-dev", *TOKENS, *RATE, *SPEED[:3], "nan", *SPEED[4:]), "the speed of a replica: "),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_ends_with_2_and_one_clear_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_a_malformed_trace_is_named_with_line_column_and_value(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(HEADER + "0,100,10\n1,many,10\n")
    done = run("eks-dev", "--trace", str(file), *SPEED)
    assert done.exit_code == 2
    assert done.stderr == (
        f"{file}:3: column prompt_tokens: 'many'; expected a whole number of tokens\n"
    )


def test_a_trace_of_iso_times_says_itself_when_it_starts() -> None:
    rows = HEADER + "2026-03-02T08:00:00Z,100,10\n"
    done = run("eks-dev", "--trace", "-", *SPEED, "--starts-at", "2026-03-02T09:00Z", stdin=rows)
    assert done.exit_code == 2
    assert "--starts-at: the trace itself starts at 2026-03-02T08:00:00+00:00" in done.stderr


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0], "  "),
        ([0, 1, 8], " ▁█"),
        ([1], "█"),
        ([0.001, 8], "▁█"),
        (list(range(9)), " ▁▂▃▄▅▆▇█"),
    ],
)
def test_a_curve_rises_from_nothing_to_the_highest_value(
    values: list[float], expected: str
) -> None:
    assert curve(values) == expected


def test_a_narrow_curve_keeps_its_peak() -> None:
    assert curve([0.0] * 99 + [5.0] + [0.0] * 100, columns=10) == " " * 4 + "█" + " " * 5
