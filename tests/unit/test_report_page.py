"""The page of a report as text: whole, escaped, and with nothing in it that loads or runs.

How it looks and behaves is for tests/browser.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from coldstart.planning import plan_stack
from coldstart.report import summary
from coldstart.report.markup import linked, tag
from coldstart.report.page import page
from coldstart.report.series import Pictures
from coldstart.spec import load_stack

ROOT = Path(__file__).parents[2]
VOID = {"meta", "br", "col", "link", "img", "input", "hr"}
ALLOWED = (
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav"),
    *("section", "article", "div", "h1", "h2", "h3", "p", "span", "strong", "code", "a"),
    *("ul", "li", "dl", "dt", "dd", "figure", "figcaption", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("svg", "desc", "g", "path", "rect", "line", "text", "defs", "clippath"),
)
INJECTION = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


class Outline(HTMLParser):
    """Every element with its attributes and the text inside; unbalanced markup fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, *tags: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name in tags)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return summary(plan_stack(load_stack(ROOT, "eks-prod")))


@pytest.fixture(scope="module")
def whole(found: dict[str, Any]) -> str:
    return page(found, samples.EVERYTHING)


def test_the_page_is_well_formed_and_of_known_elements(whole: str) -> None:
    assert {name for name, _ in Outline(whole).elements} <= set(ALLOWED)


def test_the_page_loads_and_runs_nothing(whole: str) -> None:
    outline = Outline(whole)
    for name, attributes in outline.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "style")]
        assert name == "a" or "href" not in attributes
        assert name == "a" or "xlink:href" not in attributes
    css = re.search(r"<style>(.*?)</style>", whole, re.S)
    assert css is not None
    assert not re.search(r"url\(|@import|@font-face|expression", css[1])


def test_the_policy_of_the_page_allows_its_own_style_and_nothing_else(whole: str) -> None:
    css = re.search(r"<style>(.*?)</style>", whole, re.S)
    assert css is not None
    digest = base64.b64encode(hashlib.sha256(css[1].encode()).digest()).decode()
    policies = [a["content"] for a in Outline(whole).of("meta") if a.get("http-equiv") is not None]
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]


def test_the_same_plan_gives_the_same_page(found: dict[str, Any], whole: str) -> None:
    assert page(copy.deepcopy(found), samples.EVERYTHING) == whole


def test_headings_go_down_one_level_at_a_time(whole: str) -> None:
    levels = [int(name[1]) for name, _ in Outline(whole).elements if re.fullmatch(r"h\d", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_identifiers_are_unique_and_every_reference_finds_one(whole: str) -> None:
    outline = Outline(whole)
    names = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(names) == len(set(names))
    for _, attributes in outline.elements:
        for key in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(key) is None or attributes[key] in names
    for link in outline.of("a"):
        href = link["href"] or ""
        assert href[1:] in names if href.startswith("#") else href.startswith("https://")


def test_the_links_at_the_top_are_the_sections_of_the_page(whole: str) -> None:
    outline = Outline(whole)
    nav = whole[whole.index("<nav") : whole.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', nav) == [a["id"] for a in outline.of("section")]


def test_tables_have_captions_and_their_headings_a_scope(whole: str) -> None:
    tables = re.findall(r"<table>.*?</table>", whole, re.S)
    assert len(tables) >= 8
    for table in tables:
        assert table.startswith("<table><caption ")
        assert all("scope=" in cell for cell in re.findall(r"<th\b[^>]*>", table))


def test_every_picture_has_its_table_and_its_words(whole: str) -> None:
    figures = re.findall(r"<figure .*?</figure>", whole, re.S)
    assert len(figures) == 7
    for figure in figures:
        assert figure.count('role="img"') == 2
        assert figure.count("<figcaption>") == 1
        assert figure.count("<table>") == 1


def test_a_section_without_data_is_left_out(found: dict[str, Any]) -> None:
    plain = [a["id"] for a in Outline(page(found)).of("section")]
    assert plain == ["glance", "cold-start", "cost", "decisions", "sources"]
    with_curve = page(found, Pictures(warm=(samples.WARM,)))
    assert "warm" in [a["id"] for a in Outline(with_curve).of("section")]


def test_a_stack_without_models_has_a_page() -> None:
    text = page(summary(plan_stack(load_stack(ROOT, "eks-prod-infra"))))
    assert "Cost of the stack" in text
    assert "cold-start" not in [a["id"] for a in Outline(text).of("section")]


def test_every_decision_is_on_the_page_with_what_was_turned_down(
    found: dict[str, Any], whole: str
) -> None:
    said = " ".join(Outline(whole).texts)
    for decision in found["decisions"]:
        assert decision["path"] in said
        assert decision["reason"] in said
        for other in decision["rejected"]:
            assert other["reason"] in said


def test_the_page_tells_the_typical_cost_where_it_is_known(found: dict[str, Any]) -> None:
    def texts(cost: dict[str, Any]) -> list[str]:
        return Outline(page({**found, "cost": cost})).texts

    cost = found["cost"]
    assert "Typical" not in texts(cost)
    lines = [{**line, "typicalUsdPerHour": 1.5} for line in cost["lines"]]
    tokens = [{"model": "qwen3-8b", "replicas": 3, "usdPerMillionTokens": 0.2472}]
    told = texts({**cost, "lines": lines, "typicalUsdPerHour": 31.25, "tokens": tokens})
    assert "Typical" in told
    assert told.count("31.25") == 1 and told.count("$31.25") == 1
    assert told.count("1.50") == len(lines)
    assert "A million tokens of qwen3-8b cost $0.25 at its mean traffic (replicas: 3)." in told


def test_each_way_to_start_has_its_seconds_on_the_card(found: dict[str, Any]) -> None:
    zero = {**found["models"]["qwen3-8b"]["fromZero"], "totalSeconds": 1234.0}
    models = {"qwen3-8b": {**found["models"]["qwen3-8b"], "fromZero": zero}}
    told = Outline(page({**found, "models": models})).texts
    assert told[told.index("from zero replicas") + 1] == "20\u00a0min\u00a034\u00a0s"


def test_every_source_is_on_the_page_once(found: dict[str, Any], whole: str) -> None:
    part = whole[whole.index('<section id="sources"') :]
    said = re.sub(r"<[^>]+>", "", part)
    lines = ("coldStart", "firstNode", "fromZero", "warmNode", "baseline")
    sources = {
        p["source"] for m in found["models"].values() for key in lines for p in m[key]["phases"]
    }
    sources |= {line["source"] for line in found["cost"]["lines"]}
    sources |= {source for even in samples.EVERYTHING.break_even for _, source in even.sources}
    for source in sources:
        assert source.replace("&", "&amp;").replace("'", "&#x27;") in said
    assert len(re.findall("<dt>", part)) == len(sources)


@pytest.mark.parametrize(
    ("cold", "first", "budget", "words"),
    [
        (100.0, 110.0, 120.0, "Within the budget of 2 min 0 s, 10 s to spare"),
        (100.0, 130.0, 120.0, "Over the budget of 2 min 0 s on the first node by 10 s"),
        (150.0, 160.0, 120.0, "Over the budget of 2 min 0 s by 40 s"),
        (150.0, 160.0, None, "No budget is named in the stack file."),
    ],
)
def test_a_budget_is_judged_by_the_slowest_start(
    found: dict[str, Any], cold: float, first: float, budget: float | None, words: str
) -> None:
    changed = copy.deepcopy(found)
    model = changed["models"]["qwen3-8b"]
    model["coldStart"]["totalSeconds"] = cold
    model["firstNode"]["totalSeconds"] = first
    model["budgetSeconds"] = budget
    assert words in " ".join(Outline(page(changed)).texts).replace("\u00a0", " ")


def spoilt(value: Any) -> Any:
    """Every text of a summary with markup put into it; what the page compares stays."""
    if isinstance(value, dict):
        return {
            key + (INJECTION if key in ("qwen3-8b", "qwen3-32b") else ""): spoilt(item)
            if key not in ("key", "criticalPath")
            else item
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [spoilt(item) for item in value]
    return value + INJECTION if isinstance(value, str) else value


def test_no_text_of_a_plan_becomes_markup(found: dict[str, Any]) -> None:
    outline = Outline(page(spoilt(found)))
    assert {name for name, _ in outline.elements} <= set(ALLOWED)
    assert not [key for _, a in outline.elements for key in a if key.startswith("on")]
    assert any(INJECTION in text for text in outline.texts)


def test_only_https_addresses_become_links() -> None:
    assert linked("see https://a.example/b?c=1&d, then") == (
        'see <a href="https://a.example/b?c=1&amp;d" rel="noreferrer noopener">'
        "https://a.example/b?c=1&amp;d</a>, then"
    )
    for other in ("javascript:alert(1)", "http://a.example", "data:text/html,x", "file:///etc"):
        assert "<a" not in linked(other)
    assert "onmouseover=" not in linked('https://a.example/"onmouseover="x').split(">")[0]


def test_elements_escape_what_they_are_given() -> None:
    assert tag("p", "<b>", class_='"', aria_label=None) == '<p class="&quot;">&lt;b&gt;</p>'
    assert tag("p", tag("b", "x")) == "<p><b>x</b></p>"
