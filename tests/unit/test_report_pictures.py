"""Pictures of a report: what they show, in which colours, and the table that says the same."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
import report_samples as samples
from hypothesis import given
from hypothesis import strategies as st

from coldstart.planning import plan_stack
from coldstart.report import summary
from coldstart.report.charts import capacity_spec
from coldstart.report.contents import all_pictures, gantts
from coldstart.report.drawing import inline_svg, png_file, svg_file
from coldstart.report.frame import NARROW, WIDE, amount, spread
from coldstart.report.gantt import gantt_spec
from coldstart.report.palette import LIGHT
from coldstart.report.pictures import Picture, gantt_picture, simulation_picture
from coldstart.report.series import (
    BreakEven,
    CapacityPlan,
    CapacityRow,
    ColdStartGantt,
    Curve,
    GanttRow,
    StartLine,
    TimePoint,
    slug,
    thinned,
)
from coldstart.spec import load_stack
from coldstart.units import format_seconds

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "report" / "cold-start.json"
README_PICTURE = ROOT / "docs" / "pictures" / "eks-prod-cold-start-qwen3-8b.svg"
SMALL = ColdStartGantt(
    "tiny",
    StartLine(
        "This plan",
        (
            GanttRow("node", 0.0, 30.0, True, "a"),
            GanttRow("weights", 30.0, 12.5, False, "b"),
            GanttRow("image", 30.0, 40.0, True, "c"),
        ),
    ),
    StartLine("Without these levers", (GanttRow("node", 0.0, 200.0, True, "a"),)),
    90.0,
)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    found = summary(plan_stack(load_stack(ROOT, "eks-prod")))
    return all_pictures(found, samples.EVERYTHING)


@pytest.fixture(scope="module")
def drawn(pictures: list[Picture]) -> dict[tuple[str, bool], str]:
    """Every picture for a page, by its key and whether it is the narrow one."""
    return {
        (picture.key, narrow): inline_svg(picture, narrow=narrow)
        for picture in pictures
        for narrow in (False, True)
    }


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def test_the_specification_of_a_cold_start_is_what_was_last_reviewed() -> None:
    drawn = {"wide": gantt_spec(SMALL, WIDE), "narrow": gantt_spec(SMALL, NARROW)}
    rendered = json.dumps(drawn, indent=1) + "\n"
    if os.environ.get("COLDSTART_UPDATE_GOLDEN") == "1":
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(rendered, encoding="utf-8")
        pytest.fail(f"wrote {GOLDEN.name}: review it, then run without COLDSTART_UPDATE_GOLDEN")
    assert rendered == GOLDEN.read_text(encoding="utf-8")


def test_plan_and_baseline_stand_on_one_scale_that_holds_the_budget() -> None:
    late = ColdStartGantt("tiny", SMALL.plan, SMALL.baseline, 500.0)
    for gantt, most in ((SMALL, 200.0), (late, 500.0)):
        scales = {
            tuple(layer["encoding"]["x"]["scale"]["domain"])
            for layer in gantt_spec(gantt, WIDE)["layer"]
            if "scale" in layer["encoding"]["x"]
        }
        assert scales == {(0, most)}


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_critical_path_is_marked_by_form_and_not_by_colour_alone(size: object) -> None:
    bars = next(
        layer
        for layer in gantt_spec(SMALL, size)["layer"]  # type: ignore[arg-type]
        if layer["mark"]["type"] == "bar"
    )
    dash, fill = bars["encoding"]["strokeDash"], bars["encoding"]["fill"]
    assert dash["condition"]["value"] != dash["value"]
    assert (fill["condition"]["value"], fill["value"]) == (LIGHT["first"], LIGHT["paper"])
    marked = {row["row"]: row["critical"] for row in bars["data"]["values"]}
    assert marked == {"plan.0": True, "plan.1": False, "plan.2": True, "baseline.0": True}


def test_every_phase_and_both_totals_are_written_into_the_picture() -> None:
    found = texts(svg_file(gantt_picture(SMALL)))
    for line in (SMALL.plan, SMALL.baseline):
        assert f"{line.name}: {format_seconds(line.total_seconds)}" in found
        for row in line.rows:
            assert row.phase in found
            assert format_seconds(row.seconds) in found
    assert "budget 90 s" in found


def test_drawn_pictures_have_no_colour_that_the_dark_page_could_not_change(
    drawn: dict[tuple[str, bool], str],
) -> None:
    for name, svg in drawn.items():
        used = set(re.findall(r'(?:fill|stroke|stop-color)="([^"]*)"', svg))
        fixed = {c for c in used if not c.startswith("var(--")} - {"none", "transparent"}
        assert not fixed, f"{name}: {fixed}"


def test_drawn_pictures_ask_for_nothing_and_run_nothing(
    drawn: dict[tuple[str, bool], str],
) -> None:
    for svg in drawn.values():
        assert not re.search(r"<(script|image|foreignObject|style|a)\b|\son\w+=|\sstyle=", svg)
        assert set(re.findall(r"https?://[^\"' ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }


def test_identifiers_of_pictures_do_not_meet_on_a_page(
    drawn: dict[tuple[str, bool], str],
) -> None:
    page = "".join(drawn.values())
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(names)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(names)


def test_a_picture_is_named_and_told_to_those_who_do_not_see_it() -> None:
    root = ET.fromstring(svg_file(gantt_picture(SMALL)))  # noqa: S314
    assert root.get("role") == "img"
    title, words = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert words is not None
    assert root.get("aria-labelledby") == title.get("id")
    assert root.get("aria-describedby") == words.get("id")
    assert words.text == (
        "This plan: 70 s. Without these levers: 3 min 20 s. Critical path: node, image. "
        "Budget: 90 s."
    )


def test_a_phases_name_is_text_whatever_it_says() -> None:
    bad = '<script>"1"&#0;'
    line = StartLine("This plan", (GanttRow(bad, 0.0, 9.0, True),))
    svg = svg_file(gantt_picture(ColdStartGantt("tiny", line, line)))
    assert "<script" not in svg
    assert bad in texts(svg)


def test_pictures_fit_the_width_they_are_made_for(drawn: dict[tuple[str, bool], str]) -> None:
    for name, svg in drawn.items():
        found = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
        assert found is not None
        assert float(found[1]) <= (340 if name[1] else 740), name


def test_a_png_is_twice_as_fine_as_the_svg() -> None:
    picture = gantt_picture(SMALL)
    head = png_file(picture)[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20]) == 2 * WIDE.pixels


def test_the_tables_hold_the_series_they_stand_for(pictures: list[Picture]) -> None:
    by_key = {picture.key: picture.table.rows for picture in pictures}
    assert [(float(r[0]), int(r[1])) for r in by_key[samples.CAPACITY.key]] == [
        (row.arrivals_per_second, row.replicas) for row in samples.CAPACITY.rows
    ]
    assert [(int(r[0]), float(r[1])) for r in by_key[samples.WARM.key]] == [
        (p.warm_replicas, round(p.idle_usd_per_hour, 2)) for p in samples.WARM.points
    ]
    even = by_key[samples.BREAK_EVEN.key]
    assert [r[1] for r in even if r[3] == "yes"] == ["17,304", "2,803", "9,045"]
    assert by_key[samples.SIMULATION.key] == tuple(
        (
            f"{p.seconds / 60:.1f}",
            f"{p.arrivals_per_second:.2f}",
            amount(p.replicas_wanted),
            amount(p.replicas_ready),
            amount(p.queued),
            "–" if p.ttft_p95_seconds is None else f"{p.ttft_p95_seconds:.2f}",
        )
        for p in thinned(samples.SIMULATION.points)
    )
    assert gantt_picture(SMALL).table.rows == (
        ("node", "This plan", "0.0", "30.0", "yes"),
        ("weights", "This plan", "30.0", "12.5", "no"),
        ("image", "This plan", "30.0", "40.0", "yes"),
        ("node", "Without these levers", "0.0", "200.0", "yes"),
    )


def test_a_picture_without_optional_figures_says_so_and_draws() -> None:
    plan = CapacityPlan("m", (CapacityRow(0.0, 1), CapacityRow(2.0, 2)))
    assert capacity_spec(plan, WIDE)["vconcat"]
    even = BreakEven("m", "requests an hour", Curve("own", ((0, 1), (9, 1))), ())
    words = all_pictures({"models": {}}, samples.Pictures(break_even=(even,)))[0].description
    assert "do not meet" in words


def test_an_interval_without_answers_is_a_gap_and_not_a_zero() -> None:
    answered = [0.5, None, 0.7]
    points = tuple(TimePoint(60.0 * i, 1, 1, 1, 0, ttft) for i, ttft in enumerate(answered))
    run = samples.SimulationRun("m", points)
    panel = simulation_picture(run).wide["vconcat"][-1]
    drawn = [row["y"] for row in panel["layer"][0]["data"]["values"]]
    assert drawn == answered
    assert [row[-1] for row in simulation_picture(run).table.rows] == ["0.50", "–", "0.70"]


POINT = st.builds(
    TimePoint,
    seconds=st.floats(0, 1e6),
    arrivals_per_second=st.floats(0, 1e4),
    replicas_wanted=st.integers(0, 500),
    replicas_ready=st.integers(0, 500),
    queued=st.integers(0, 10**6),
    ttft_p95_seconds=st.none() | st.floats(0, 1e4),
)


@given(points=st.lists(POINT, max_size=300), most=st.integers(1, 50))
def test_thinning_loses_no_bad_moment(points: list[TimePoint], most: int) -> None:
    found = thinned(points, most)
    assert len(found) <= most
    assert max((p.queued for p in points), default=0) == max((p.queued for p in found), default=0)
    assert min((p.replicas_ready for p in points), default=0) == min(
        (p.replicas_ready for p in found), default=0
    )
    worst = [
        max((p.ttft_p95_seconds for p in some if p.ttft_p95_seconds is not None), default=None)
        for some in (points, found)
    ]
    assert worst[0] == worst[1]


@given(
    wanted=st.lists(st.floats(-50, 300), min_size=1, max_size=8),
    gap=st.floats(1, 20),
)
def test_names_of_lines_never_touch_and_stay_in_their_panel(
    wanted: list[float], gap: float
) -> None:
    least, most = 6.0, 6.0 + gap * 10
    placed = spread(wanted, gap, least, most)
    ordered = sorted(placed)
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(ordered))
    assert ordered[0] >= least - 1e-6
    assert ordered[-1] <= most + 1e-6


def test_names_keep_their_places_where_there_is_room() -> None:
    assert spread([100.0, 20.0, 60.0], 16, 6, 200) == [100.0, 20.0, 60.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [(17304.2, "17,304"), (3, "3"), (0, "0"), (55.83, "55.8"), (2.4, "2.40"), (0.004, "0.00")],
)
def test_an_amount_has_no_exponent(value: float, words: str) -> None:
    assert amount(value) == words


def test_the_picture_in_the_readme_is_of_the_plan_as_it_is() -> None:
    found = summary(plan_stack(load_stack(ROOT, "eks-prod")))
    gantt = next(item for item in gantts(found) if item.model == "qwen3-8b")
    assert texts(README_PICTURE.read_text(encoding="utf-8")) == texts(
        svg_file(gantt_picture(gantt))
    ), "coldstart report eks-prod --model qwen3-8b --svg docs/pictures draws it anew"


def test_the_name_of_a_picture_is_safe_for_files_and_pages() -> None:
    evil = ColdStartGantt('../"a b"\n', SMALL.plan, SMALL.baseline)
    assert evil.key == "cold-start-..-a-b"
    assert slug("eks-prod-cold-start-qwen3-1.7b") == "eks-prod-cold-start-qwen3-1.7b"
