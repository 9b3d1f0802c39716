"""A report as people meet it: from a file, in a real browser, by eye, by keyboard and on paper."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from conftest import Open
from playwright.sync_api import Page

from coldstart.report.contents import all_pictures
from coldstart.report.page import page as report_page
from tests.unit import report_samples as samples

WIDTHS = (320, 360, 768, 1280)
SCHEMES = ("light", "dark")
LEAST_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3."""
LEAST_LETTER_PIXELS = 10
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"
CONTRASTS = """() => {
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const shine = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    throw new Error('nothing is behind ' + element.outerHTML);
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || /^(title|desc)$/.test(element.tagName)) continue;
    const style = getComputedStyle(element);
    const drawn = element.tagName === 'text';
    if (drawn && style.stroke !== 'none') continue;
    const [a, b] = [shine(parts(drawn ? style.fill : style.color)), shine(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([element.textContent.trim().slice(0, 40), ratio]);
  }
  return found;
}"""
LETTERS = """() => [...document.querySelectorAll('svg')].filter(svg => svg.checkVisibility())
  .flatMap(svg => [...svg.querySelectorAll('text')]
    .map(t => parseFloat(getComputedStyle(t).fontSize) * svg.getScreenCTM().a))"""
OVERLAPS = """() => {
  const found = [];
  for (const svg of [...document.querySelectorAll('svg')].filter(s => s.checkVisibility())) {
    const boxes = [...svg.querySelectorAll('text')]
      .filter(t => getComputedStyle(t).stroke === 'none')
      .map(t => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width > 0);
    const frame = svg.parentElement.getBoundingClientRect();
    for (const [text, box] of boxes)
      if (box.left < frame.left - 16 || box.right > frame.right + 16) found.push(['out', text]);
    boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 3) found.push([one, other]);
    }));
  }
  return found;
}"""
REACHED = """() => [...document.querySelectorAll('a[href], summary, [tabindex="0"]')]
  .filter(e => e.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true}))
  .filter(e => !e.closest('details:not([open])') || e.tagName === 'SUMMARY')
  .map((e, i) => { e.dataset.place = i; return i; })"""
FOCUSED = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return [e.dataset.place === undefined ? null : Number(e.dataset.place),
          style.outlineStyle, parseFloat(style.outlineWidth), box.width > 0 && box.height > 0];
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_report_opens_from_a_file_and_asks_for_nothing_else(
    opened: Open, report_file: Path, scheme: str
) -> None:
    report = opened(1280, scheme)
    report.page.evaluate(OPEN_ALL)
    assert report.page.title() == "eks-prod: plan of an LLM serving stack"
    assert report.requests == [report_file.as_uri()]
    assert report.messages == []


def test_the_browser_itself_keeps_a_script_out_of_the_page(opened: Open) -> None:
    report = opened()
    report.page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s)"
    )
    assert report.page.evaluate("window.ran") is None


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways_but_a_table_in_its_own_container(
    opened: Open, width: int
) -> None:
    report = opened(width)
    for _ in range(2):
        assert report.page.evaluate("document.documentElement.scrollWidth") == width
        report.page.evaluate(OPEN_ALL)


@pytest.mark.parametrize("width", WIDTHS)
def test_each_picture_is_there_once_with_letters_one_can_read(opened: Open, width: int) -> None:
    report = opened(width)
    shown = "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg')]"
    assert report.page.evaluate(f"{shown}.filter(s => s.checkVisibility()).length)") == [1] * 7
    assert min(report.page.evaluate(LETTERS)) >= LEAST_LETTER_PIXELS


@pytest.mark.parametrize("width", WIDTHS)
def test_no_two_labels_of_a_picture_touch_and_none_leaves_it(opened: Open, width: int) -> None:
    assert opened(width).page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 1280])
def test_every_text_stands_out_from_what_is_behind_it(
    opened: Open, width: int, scheme: str
) -> None:
    report = opened(width, scheme)
    report.page.evaluate(OPEN_ALL)
    found = report.page.evaluate(CONTRASTS)
    assert len(found) > 500
    assert [item for item in found if item[1] < LEAST_CONTRAST] == []


def test_dark_is_dark_and_light_is_light(opened: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened(1280, "light").page.evaluate(ground) == "rgb(253, 253, 251)"
    assert opened(1280, "dark").page.evaluate(ground) == "rgb(20, 25, 31)"


def test_paper_shows_every_table_and_always_in_light_colours(opened: Open) -> None:
    page = opened(800, "dark").page
    page.emulate_media(media="print", color_scheme="dark")
    hidden = page.evaluate(
        "[...document.querySelectorAll('table, h1, h2, h3, p, figcaption, td, .wide svg, li, dd')]"
        ".filter(e => !e.closest('nav')).filter(e => { const b = e.getBoundingClientRect();"
        " return !e.checkVisibility({contentVisibilityAuto: true})"
        " || (e.textContent && b.height === 0); })"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert hidden == []
    assert not page.locator("nav").is_visible()
    assert page.locator(".narrow").first.is_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 38, 49)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def walked(page: Page, places: int) -> list[list[Any]]:
    found = []
    for _ in range(places):
        page.keyboard.press("Tab")
        found.append(page.evaluate(FOCUSED))
    return found


@pytest.mark.parametrize("width", [320, 1280])
def test_tab_reaches_everything_in_order_and_shows_where_it_is(opened: Open, width: int) -> None:
    page = opened(width).page
    places = page.evaluate(REACHED)
    assert len(places) > 25
    found = walked(page, len(places))
    assert [place for place, *_ in found] == places
    for place, style, pixels, there in found:
        assert (style, there) == ("solid", True), place
        assert pixels >= 2, place


def test_the_first_stop_leads_past_the_links(opened: Open) -> None:
    page = opened().page
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    box = skip.bounding_box()
    assert box is not None
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_table_opens_by_the_keyboard_and_can_then_be_reached(opened: Open) -> None:
    page = opened(320).page
    figure = page.locator("figure").first
    figure.locator("summary").focus()
    page.keyboard.press("Enter")
    assert figure.locator("table").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"


@pytest.mark.parametrize("width", [360, 1280])
def test_a_screen_reader_finds_landmarks_headings_and_named_pictures(
    opened: Open, width: int, found: dict[str, Any]
) -> None:
    lines = [
        line.strip().removeprefix("- ").rstrip(":")
        for line in opened(width).page.locator("body").aria_snapshot().splitlines()
    ]
    for landmark in ("banner", 'navigation "Sections"', "main", "contentinfo"):
        assert lines.count(landmark) == 1, landmark
    pictures = all_pictures(found, samples.EVERYTHING)
    assert [line for line in lines if line.startswith("img")] == [
        f'img "{picture.title}"' for picture in pictures
    ]
    sections = [line for line in lines if line.startswith("heading") and "[level=2]" in line]
    assert sections == [
        f'heading "{title}" [level=2]'
        for title in (
            "At a glance",
            "Cold start",
            "Levers",
            "Capacity plan",
            "Warm capacity",
            "Break-even",
            "Simulation",
            "Cost",
            "Decisions",
            "Sources of figures",
        )
    ]


def test_every_picture_has_a_table_with_its_figures(opened: Open, found: dict[str, Any]) -> None:
    page = opened().page
    page.evaluate(OPEN_ALL)
    for picture in all_pictures(found, samples.EVERYTHING):
        rows = page.evaluate(
            "key => [...document.getElementById(key).querySelectorAll('tbody tr')]"
            ".map(row => [...row.children].map(cell => cell.innerText))",
            picture.key,
        )
        assert [tuple(row) for row in rows] == list(picture.table.rows), picture.key


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing(opened: Open, axe: str, width: int, scheme: str) -> None:
    page = opened(width, scheme).page
    page.evaluate(OPEN_ALL)
    page.evaluate(axe)
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert len(result["passes"]) > 20
    assert [
        (item["id"], [node["html"][:120] for node in item["nodes"]][:3])
        for item in result["violations"]
    ] == []


def test_what_a_stack_says_is_shown_and_never_run(
    opened: Open, found: dict[str, Any], tmp_path: Path
) -> None:
    bad = '"><img src=x onerror="window.ran=1"><svg onload="window.ran=1">'
    changed = copy.deepcopy(found)
    changed["stack"] += bad
    changed["models"] = {name + bad: model for name, model in changed["models"].items()}
    for decision in changed["decisions"]:
        decision["reason"] += bad
    for model in changed["models"].values():
        for phase in model["coldStart"]["phases"]:
            phase["name"] += bad
            phase["source"] += bad
    file = tmp_path / "bad.html"
    file.write_text(report_page(changed), encoding="utf-8")
    report = opened(file=file)
    assert report.requests == [file.as_uri()]
    assert report.messages == []
    assert report.page.evaluate("[window.ran, document.images.length]") == [None, 0]
    assert report.page.locator("h1").inner_text() == f"eks-prod{bad}"
