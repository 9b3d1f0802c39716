"""Durations, sizes and bandwidths: what people write is what the planner counts with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.units import (
    GIB,
    MIB,
    format_bytes,
    format_seconds,
    go_duration,
    parse_bytes,
    parse_duration_seconds,
    parse_mib_per_second,
)

quick = settings(max_examples=60, deadline=None)
whole = st.integers(min_value=0, max_value=10**9)
DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZE_UNITS = ("B", "KB", "MB", "GB", "TB", "Ki", "Mi", "Gi", "Ti", "KiB", "MiB", "GiB", "TiB")


@quick
@given(whole, st.sampled_from(sorted(DURATION_UNITS)))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_duration_seconds(f"{number}{unit}") == pytest.approx(number * DURATION_UNITS[unit])


@quick
@given(whole, st.integers(0, 59), st.integers(0, 59))
def test_a_duration_of_parts_is_their_sum(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s"
    assert parse_duration_seconds(text) == hours * 3600 + minutes * 60 + seconds


@quick
@given(whole, whole, st.sampled_from(SIZE_UNITS))
def test_a_larger_number_is_a_larger_size(low: int, more: int, unit: str) -> None:
    smaller, larger = parse_bytes(f"{low}{unit}"), parse_bytes(f"{low + more + 1}{unit}")
    assert smaller < larger


@quick
@given(whole)
def test_whole_seconds_survive_the_form_kubernetes_reads(seconds: int) -> None:
    assert parse_duration_seconds(go_duration(seconds)) == seconds


@quick
@given(st.floats(min_value=0, max_value=1e6))
def test_a_deadline_is_never_rounded_down(seconds: float) -> None:
    written = parse_duration_seconds(go_duration(seconds))
    assert seconds <= written <= seconds + 1


@quick
@given(st.integers(min_value=10, max_value=10**6))
def test_a_duration_in_words_reads_back_to_the_second(seconds: int) -> None:
    written = format_seconds(seconds).replace(" min ", "m").replace(" s", "s")
    assert parse_duration_seconds(written) == seconds


@quick
@given(st.integers(min_value=0, max_value=10**15))
def test_a_size_in_words_is_off_by_less_than_its_last_digit(count: int) -> None:
    read = parse_bytes(format_bytes(count))
    assert abs(read - count) <= (5e7 if count >= 1e9 else 5e5) + 1


@quick
@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_a_bare_number_is_refused_because_its_unit_is_a_guess(value: object) -> None:
    for parse in (parse_duration_seconds, parse_bytes, parse_mib_per_second):
        with pytest.raises(ValueError, match="write"):
            parse(value)
        with pytest.raises(ValueError, match="write"):
            parse(str(value))


@quick
@given(st.text(max_size=40))
def test_any_text_is_a_quantity_or_a_clear_refusal(text: str) -> None:
    for parse in (parse_duration_seconds, parse_bytes, parse_mib_per_second):
        try:
            found = parse(text)
        except ValueError as error:
            assert "write" in str(error)
        else:
            assert math.isfinite(found)
            assert found >= 0


@pytest.mark.parametrize(
    "text", ["9" * 400 + "s", "1e9s", "-5s", "5 minutes", "s", "", "1,5s", "٣s", "1h 30m", "inf"]
)
def test_a_duration_nobody_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="with a unit"):
        parse_duration_seconds(text)


@pytest.mark.parametrize("text", ["16gi", "16G", "-1Gi", "9" * 400 + "Gi", "Gi", "1e3GB", "nan"])
def test_a_size_nobody_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="with a unit"):
        parse_bytes(text)


def test_binary_and_decimal_sizes_are_kept_apart() -> None:
    assert parse_bytes("16Gi") == parse_bytes("16 GiB") == 16 * GIB
    assert parse_bytes("16GB") == 16 * 10**9


def test_a_network_rate_counts_bits_and_a_disk_rate_bytes() -> None:
    assert parse_mib_per_second("10Gbps") == pytest.approx(10e9 / 8 / MIB)
    assert parse_mib_per_second("300MiB/s") == 300
    assert parse_mib_per_second("1GB/s") == pytest.approx(1e9 / MIB)


def test_short_times_keep_a_decimal_and_long_ones_become_minutes() -> None:
    assert format_seconds(5.54) == "5.5 s"
    assert format_seconds(93.4) == "93 s"
    assert format_seconds(252) == "4 min 12 s"
