"""Traces: what is read, what is refused in which words, and what is made up."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldstart.capacity.lengths import Lengths
from coldstart.simulation import SimulationError, TraceError, read_trace, write_trace
from coldstart.simulation.synthetic import burst, day_curve, poisson
from coldstart.simulation.trace import MAX_LINE_BYTES
from tests.unit.simulation_scenes import trace

HEADER = "arrival_seconds,prompt_tokens,output_tokens\n"
EXAMPLE = Path(__file__).parents[2] / "examples/traces/morning-rush.csv"


def read(text: str | bytes, name: str | None = "t.csv"):
    return read_trace(io.BytesIO(text.encode() if isinstance(text, str) else text), name)


def test_columns_may_come_in_any_order_and_others_are_left_alone() -> None:
    found = read(
        "\ufeffuser,output_tokens,arrival_seconds,prompt_tokens\r\na,7,0.5,100\r\n\r\nb,8,2,3\n"
    )
    assert list(found.arrivals) == [0.5, 2.0]
    assert list(found.prompt_tokens) == [100, 3]
    assert list(found.output_tokens) == [7, 8]


def test_iso_times_count_from_the_first_one_and_keep_it() -> None:
    found = read(HEADER + "2026-03-02T08:00:00Z,1,1\n2026-03-02T09:00:01.5+01:00,1,1\n")
    assert list(found.arrivals) == [0.0, 1.5]
    assert found.starts_at == datetime(2026, 3, 2, 8, tzinfo=UTC)


REFUSED = [
    ("", "t.csv:1: nothing; expected a header arrival_seconds,prompt_tokens,output_tokens"),
    (HEADER, "t.csv:1: no request; expected a line for each, for example 0.0,512,128"),
    ("arrival_seconds,prompt_tokens\n", "t.csv:1: column output_tokens: missing in"),
    (HEADER.strip() + ",prompt_tokens\n", "t.csv:1: column prompt_tokens: twice"),
    (HEADER + "0,1\n", "t.csv:2: 2 fields; expected 3"),
    (HEADER + "0,1,1\n\n-1,1,1\n", "t.csv:4: column arrival_seconds: '-1'; expected 0 or more"),
    (HEADER + "nan,1,1\n", "t.csv:2: column arrival_seconds: 'nan'; expected seconds such as"),
    (HEADER + "inf,1,1\n", "t.csv:2: column arrival_seconds: 'inf'; expected seconds such as"),
    (HEADER + "soon,1,1\n", "t.csv:2: column arrival_seconds: 'soon'; expected seconds such as"),
    (HEADER + "1_0,1,1\n", "t.csv:2: column arrival_seconds: '1_0'"),
    (HEADER + "1e99,1,1\n", "t.csv:2: column arrival_seconds: '1e99'; expected at most 31622400 s"),
    (
        HEADER + "1767225600,1,1\n",
        "t.csv:2: column arrival_seconds: '1767225600'; expected at most 31622400 s (a year) from "
        "the start of the trace; of Unix times take the first one away",
    ),
    (
        HEADER + "9999-12-31T23:59:59Z,1,1\n",
        "t.csv:2: column arrival_seconds: '9999-12-31T23:59:59Z'; expected seconds such as 12.5, "
        "or ISO times of the years 1970 to 8999",
    ),
    (HEADER.replace(",", ";") + "0;1;1\n", "t.csv:1: columns separated by semicolons; expected co"),
    (HEADER.replace(",", "\t") + "0\t1\t1\n", "t.csv:1: columns separated by tabs; expected com"),
    (
        gzip.compress(HEADER.encode(), mtime=0),
        "t.csv:1: gzip; expected CSV text: zcat FILE | coldstart",
    ),
    (
        HEADER + "5,1,1\n4.5,1,1\n",
        "t.csv:3: column arrival_seconds: '4.5' is 0.5 s before the line above; expected lines "
        "sorted by arrival",
    ),
    (
        HEADER + "2026-03-02T08:00:00Z,1,1\n12,1,1\n",
        "t.csv:3: column arrival_seconds: '12'; expected a time like the first",
    ),
    (
        HEADER + "0,1,1\n2026-03-02T08:00:00Z,1,1\n",
        "t.csv:3: column arrival_seconds: '2026-03-02T08:00:00Z'; expected seconds such as",
    ),
    (
        HEADER + "2026-03-02T08:00:00Z,1,1\n2026-03-02T07:00:00Z,1,1\n",
        "t.csv:3: column arrival_seconds: '2026-03-02T07:00:00Z' is 3600 s before the line above",
    ),
    (HEADER + "0,1.5,1\n", "t.csv:2: column prompt_tokens: '1.5'; expected a whole number"),
    (HEADER + "0,1,0\n", "t.csv:2: column output_tokens: '0'; expected 1 to 10000000 tokens"),
    (HEADER + "0,-4,1\n", "t.csv:2: column prompt_tokens: '-4'; expected 1 to 10000000 tokens"),
    (HEADER + "0,1," + "9" * 60 + "\n", "t.csv:2: column output_tokens: '" + "9" * 40 + "…'"),
    (HEADER + "0,1," + "9" * MAX_LINE_BYTES + "\n", "t.csv:2: a very long line; expected at most"),
    (HEADER + '0,"1,1\n', "t.csv:2: "),
    (b"\xff\xfe" + HEADER.encode("utf-16-le"), "t.csv:1: byte 1 is not UTF-8; expected CSV text"),
    (HEADER.encode() + b"0,1,\xe9\n", "t.csv:2: byte 5 is not UTF-8"),
    (HEADER + "0,1,1\x00\n", "t.csv:2: "),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_bad_trace_is_refused_with_its_place_and_what_is_expected(
    text: str | bytes, message: str
) -> None:
    with pytest.raises(TraceError) as refused:
        read(text)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.csv", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(TraceError, match=reason):
            read_trace(path)


def test_standard_input_is_called_so() -> None:
    with pytest.raises(TraceError, match=r"^standard input:1: nothing"):
        read("", None)


@given(st.binary(max_size=300))
def test_whatever_is_read_is_a_trace_or_one_clear_error(noise: bytes) -> None:
    for text in (noise, HEADER.encode() + noise):
        try:
            found = read(text)
        except TraceError as error:
            assert str(error).startswith("t.csv:")
        else:
            assert list(found.arrivals) == sorted(found.arrivals)


def test_a_trace_is_read_as_it_was_written() -> None:
    made = trace([(0.25, 5, 6), (1.5, 7, 8)])
    file = io.StringIO()
    write_trace(made, file)
    found = read(file.getvalue())
    assert list(found.arrivals) == [0.25, 1.5]
    assert list(found.prompt_tokens) == [5, 7]


def test_the_example_is_a_trace() -> None:
    found = read_trace(EXAMPLE)
    assert len(found) > 100
    assert EXAMPLE.stat().st_size < 100_000


def test_a_poisson_trace_has_its_rate_its_lengths_and_a_spread_of_one() -> None:
    found = poisson(5.0, 4000, Lengths(500, 1500), Lengths(100, 100), seed=3)
    assert len(found) / 4000 == pytest.approx(5.0, rel=0.03)
    gaps = [b - a for a, b in pairwise(found.arrivals)]
    mean = sum(gaps) / len(gaps)
    assert sum(gap**2 for gap in gaps) / len(gaps) == pytest.approx(2 * mean**2, rel=0.05)
    prompts = sorted(found.prompt_tokens)
    assert sum(prompts) / len(prompts) == pytest.approx(500, rel=0.03)
    assert prompts[int(0.95 * len(prompts))] == pytest.approx(1500, rel=0.05)
    assert set(found.output_tokens) == {100}


def test_lengths_of_which_only_the_mean_is_known_spread_as_the_planner_takes_them_to() -> None:
    """A coefficient of variation of 1 (capacity.lengths.UNKNOWN_SPREAD)."""
    lengths = Lengths(1000)
    found = poisson(10.0, 4000, lengths, lengths, seed=3).prompt_tokens
    mean = fmean(found)
    assert mean == pytest.approx(1000, rel=0.03)
    assert pstdev(found) / mean == pytest.approx(lengths.cv, rel=0.1)


def test_a_day_has_a_quiet_night_and_its_peaks() -> None:
    found = day_curve(0.1, 2.0, 86_400, Lengths(10), Lengths(10), peak_hours=(10.0,), seed=1)
    by_hour = [0] * 24
    for arrival in found.arrivals:
        by_hour[int(arrival // 3600)] += 1
    assert by_hour[2] / 3600 == pytest.approx(0.1, abs=0.03)
    assert max(by_hour) == max(by_hour[9:11])
    # The mean of the hour beside the peak.
    assert max(by_hour) / 3600 == pytest.approx(1.73, abs=0.1)


def test_a_burst_comes_in_the_middle_of_each_period() -> None:
    made = {"every_seconds": 600.0, "burst_seconds": 60.0, "seed": 5}
    found = burst(0.5, 10.0, 6000, Lengths(10), Lengths(10), **made)
    inside = sum(270 <= arrival % 600 < 330 for arrival in found.arrivals)
    assert inside / 600 == pytest.approx(10.0, rel=0.1)
    assert (len(found) - inside) / 5400 == pytest.approx(0.5, rel=0.1)


def test_the_same_seed_makes_the_same_trace_and_another_seed_another() -> None:
    made = [poisson(1.0, 500, Lengths(50, 100), Lengths(5), seed=seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("rate", "seconds", "message"),
    [
        (0, 60, "0 requests a second over 60 s make no trace"),
        (float("nan"), 60, "make no trace"),
        (-1, 60, "make no trace"),
        (1, 0, "make no trace"),
        (1e6, 3600, "3,600,000,000 requests, more than 20,000,000; simulate at most 20 s"),
        (1e-9, 1, "no request came in 1 s"),
    ],
)
def test_a_rate_that_makes_no_trace_is_refused(rate: float, seconds: float, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        poisson(rate, seconds, Lengths(10), Lengths(10))


@pytest.mark.parametrize(("quiet", "peak"), [(2.0, 1.0), (-0.1, 1.0), (float("nan"), 1.0)])
def test_a_quiet_rate_above_the_peak_or_below_nothing_is_refused(quiet: float, peak: float) -> None:
    for make in (day_curve, burst):
        with pytest.raises(SimulationError, match="must be 0 or more and no more than the peak"):
            make(quiet, peak, 3600, Lengths(10), Lengths(10))
