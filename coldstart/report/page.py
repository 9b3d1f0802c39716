"""A report as one HTML file: nothing is loaded, nothing runs, everything is in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coldstart.report.contents import gantts
from coldstart.report.drawing import inline_svg
from coldstart.report.markup import Html, linked, tag
from coldstart.report.palette import DARK, LIGHT
from coldstart.report.pictures import (
    UNKNOWN,
    Picture,
    Table,
    break_even_picture,
    capacity_picture,
    gantt_picture,
    simulation_picture,
    warm_picture,
)
from coldstart.report.series import Levers, Pictures, slug
from coldstart.units import format_seconds as plain_seconds

STYLE = Path(__file__).with_name("page.css")
Section = tuple[str, str, list[Html]]
"""Identifier, heading and contents."""


def page(found: Mapping[str, Any], more: Pictures | None = None) -> str:
    """The whole page of `report.summary` and of what else is given.

    A section without data is left out. The same input gives the same text.
    """
    sections = [part for part in _sections(found, more or Pictures()) if part[2]]
    stack = found["stack"]
    style = style_sheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{stack}: plan of an LLM serving stack"),
        tag("style", Html(style)),
    )
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, title, _ in sections]
    header = tag(
        "header",
        tag("p", "Plan of an LLM serving stack", class_="kind"),
        tag("h1", stack),
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )
    main = tag("main", *(_section(*part) for part in sections), id="content")
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    body = tag("body", skip, header, main, _footer())
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def style_sheet() -> str:
    """The page's style sheet, its colours from the palette: print is always light."""
    light, dark = (
        ":root{" + "".join(f"--{name}:{value};" for name, value in colours.items()) + "}"
        for colours in (LIGHT, DARK)
    )
    screen = f"{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n"
    return screen + STYLE.read_text(encoding="utf-8")


def format_seconds(seconds: float) -> str:
    """A duration that is not broken over two lines."""
    return plain_seconds(seconds).replace(" ", "\u00a0")


def _sections(found: Mapping[str, Any], more: Pictures) -> list[Section]:
    return [
        ("glance", "At a glance", _glance(found)),
        ("cold-start", "Cold start", _figures(gantt_picture(item) for item in gantts(found))),
        ("levers", "Levers", [part for item in more.levers for part in _levers(item)]),
        ("capacity", "Capacity plan", _figures(capacity_picture(item) for item in more.capacity)),
        ("warm", "Warm capacity", _figures(warm_picture(item) for item in more.warm)),
        ("break-even", "Break-even", _figures(break_even_picture(i) for i in more.break_even)),
        ("simulation", "Simulation", _simulations(more)),
        ("cost", "Cost", _cost(found["cost"])),
        ("decisions", "Decisions", _decisions(found["decisions"])),
        ("notes", "Notes", _notes(found["notes"])),
        ("sources", "Sources of figures", _sources(found, more)),
    ]


def _section(key: str, title: str, contents: Iterable[Html]) -> Html:
    heading = tag("h2", title, id=f"{key}-heading")
    return tag("section", heading, *contents, id=key, aria_labelledby=f"{key}-heading")


def _footer() -> Html:
    return tag(
        "footer",
        tag(
            "p",
            "Written by coldstart report. Figures are predictions from published figures, not "
            "measurements of this stack; prices are on demand, at list prices or the stack file's "
            "own.",
        ),
    )


def _glance(found: Mapping[str, Any]) -> list[Html]:
    cards = [_card(name, model) for name, model in found["models"].items()]
    return [tag("div", *cards, _cost_card(found["cost"]), class_="cards")]


def _cost_card(cost: Mapping[str, Any]) -> Html:
    rows = [("with every node pool at its limit", cost["maximumUsdPerHour"])]
    if cost["typicalUsdPerHour"] is not None:
        rows.insert(0, ("at mean traffic", cost["typicalUsdPerHour"]))
    return tag(
        "article",
        tag("h3", "Cost of the stack"),
        tag("p", f"${cost['idleUsdPerHour']:,.2f}", tag("span", " an hour, idle"), class_="big"),
        tag("dl", *(tag("div", tag("dt", t), tag("dd", f"${usd:,.2f}")) for t, usd in rows)),
    )


def _card(name: str, model: Mapping[str, Any]) -> Html:
    starts = (
        ("first node of an empty cluster", model["firstNode"]),
        ("from zero replicas", model["fromZero"]),
        ("on a warm node", model["warmNode"]),
        ("without these levers", model["baseline"]),
    )
    rows = [
        tag("div", tag("dt", label), tag("dd", format_seconds(line["totalSeconds"])))
        for label, line in starts
    ]
    start = model["coldStart"]
    return tag(
        "article",
        tag("h3", name),
        tag("p", f"{model['instanceType']}, node pool {model['nodePool']}", class_="soft"),
        tag(
            "p",
            format_seconds(start["totalSeconds"]),
            tag("span", " to the first token of the next replica"),
            class_="big",
        ),
        tag(
            "p",
            f"half of all starts within {format_seconds(start['p50Seconds'])}, "
            f"95\u00a0% within {format_seconds(start['p95Seconds'])}",
        ),
        _verdict(model),
        tag("dl", *rows),
    )


def _verdict(model: Mapping[str, Any]) -> Html:
    """The budget against the slower of the next replica and the first node."""
    budget = model["budgetSeconds"]
    if not budget:
        return tag("p", "No budget is named in the stack file.", class_="soft")
    slowest = max(model[key]["totalSeconds"] for key in ("coldStart", "firstNode"))
    named = f"budget of {format_seconds(budget)}"
    if slowest <= budget:
        words = f"Within the {named}, {format_seconds(budget - slowest)} to spare"
        return tag("p", tag("strong", "✓ "), words, class_="kept")
    where = "" if model["coldStart"]["totalSeconds"] > budget else " on the first node"
    words = f"Over the {named}{where} by {format_seconds(slowest - budget)}"
    return tag("p", tag("strong", "✗ "), words, class_="broken")


def _figures(pictures: Iterable[Picture]) -> list[Html]:
    return [figure(picture) for picture in pictures]


def figure(picture: Picture) -> Html:
    """A picture in both widths, what it shows in words, and its numbers folded below."""
    return tag(
        "figure",
        tag("h3", picture.title),
        tag("figcaption", picture.description),
        tag("div", inline_svg(picture, narrow=False), class_="wide"),
        tag("div", inline_svg(picture, narrow=True), class_="narrow"),
        tag(
            "details",
            tag("summary", "The same in figures"),
            table(picture.table, f"{picture.key}-table"),
        ),
        id=picture.key,
    )


def table(data: Table, key: str) -> Html:
    """A table in a container of its own, which scrolls where the table is too wide."""
    head = [
        tag("th", column, scope="col", class_="n" if i in data.numeric else None)
        for i, column in enumerate(data.columns)
    ]
    rows = [
        tag(
            "tr",
            *(
                tag(
                    "td" if i else "th",
                    cell,
                    scope=None if i else "row",
                    class_="n" if i in data.numeric else None,
                )
                for i, cell in enumerate(row)
            ),
        )
        for row in data.rows
    ]
    caption = tag("caption", data.caption, id=f"{key}-caption")
    return tag(
        "div",
        tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *rows)),
        class_="scroll",
        role="group",
        tabindex="0",
        aria_labelledby=f"{key}-caption",
    )


def _levers(levers: Levers) -> list[Html]:
    words = (
        f"Without any lever a start of {levers.model} takes "
        f"{format_seconds(levers.none_seconds)}, with all in use "
        f"{format_seconds(levers.together_seconds)} on a fresh node"
    )
    if levers.warm_seconds is not None:
        words += f" and {format_seconds(levers.warm_seconds)} on a warm one"
    words += (
        ". Each lever saves more or less beside others: alone is on a start without any other, "
        "in this plan beside all that are used"
    )
    rows = tuple(
        (
            row.lever,
            "yes" if row.used else "no",
            UNKNOWN if row.alone_seconds is None else f"{row.alone_seconds:.1f}",
            f"{row.saved_seconds:.1f}",
            UNKNOWN if row.usd_per_hour is None else f"{row.usd_per_hour:.2f}",
            UNKNOWN if row.seconds_per_usd is None else f"{row.seconds_per_usd:,.0f}",
            row.remark,
        )
        for row in levers.rows
    )
    data = Table(
        f"Levers of {levers.model}, one at a time",
        (
            "Lever",
            "Used",
            "Saves alone,\u00a0s",
            "Saves in this plan,\u00a0s",
            "Costs, USD an hour",
            "Saves per USD an hour,\u00a0s",
            "Remark",
        ),
        rows,
        frozenset({2, 3, 4, 5}),
    )
    key = slug(f"levers-{levers.model}")
    return [tag("h3", levers.model), tag("p", f"{words}."), table(data, key)]


def _simulations(more: Pictures) -> list[Html]:
    parts: list[Html] = []
    for run in more.simulations:
        totals = [tag("div", tag("dt", name), tag("dd", text)) for name, text in run.totals]
        parts.append(figure(simulation_picture(run)))
        if totals:
            parts.append(tag("dl", *totals, class_="totals"))
    return parts


def _cost(cost: Mapping[str, Any]) -> list[Html]:
    moments = ["idle", "typical", "maximum"]
    if cost["typicalUsdPerHour"] is None:
        moments.remove("typical")
    rows = [
        (line["name"], *(f"{line[f'{moment}UsdPerHour']:,.2f}" for moment in moments))
        for line in [*cost["lines"], {**cost, "name": "in all"}]
    ]
    data = Table(
        "US dollars an hour on demand, at list prices or the stack file's own",
        ("Position", *(moment.title() for moment in moments)),
        tuple(rows),
        frozenset(range(1, 1 + len(moments))),
    )
    parts = [table(data, "cost-table")]
    if "typical" in moments:
        parts.append(tag("p", "Typical is at mean traffic.", class_="soft"))
    parts += [
        tag(
            "p",
            f"A million tokens of {item['model']} cost ${item['usdPerMillionTokens']:,.2f} at its "
            f"mean traffic (replicas: {item['replicas']}).",
        )
        for item in cost["tokens"]
    ]
    if cost["unpriced"]:
        parts.append(tag("p", "No price is known for: " + ", ".join(cost["unpriced"]) + "."))
    parts.append(tag("p", "Storage in use and traffic are left out.", class_="soft"))
    return parts


def _decisions(decisions: Iterable[Mapping[str, Any]]) -> list[Html]:
    return [tag("div", *(_decision(item) for item in decisions), class_="decisions")]


def _decision(decision: Mapping[str, Any]) -> Html:
    rejected = [
        tag("li", tag("strong", other["value"]), ": ", other["reason"])
        for other in decision["rejected"]
    ]
    return tag(
        "article",
        tag("h3", tag("code", decision["path"])),
        tag("p", tag("strong", decision["value"])),
        tag("p", decision["reason"]),
        tag("details", tag("summary", f"Turned down: {len(rejected)}"), tag("ul", *rejected))
        if rejected
        else "",
    )


def _notes(notes: Iterable[str]) -> list[Html]:
    items = [tag("li", note) for note in notes]
    return [tag("ul", *items)] if items else []


def _sources(found: Mapping[str, Any], more: Pictures) -> list[Html]:
    """Each source once, with everything that rests on it."""
    users: dict[str, dict[str, None]] = {}
    for name, model in found["models"].items():
        for line in ("coldStart", "firstNode", "fromZero", "warmNode", "baseline"):
            for phase in model[line]["phases"]:
                users.setdefault(phase["source"], {})[f"{phase['name']} of {name}"] = None
    for line in found["cost"]["lines"]:
        users.setdefault(line["source"], {})[line["name"]] = None
    for even in more.break_even:
        for price, source in even.sources:
            users.setdefault(source, {})[price] = None
    if not users:
        return []
    entries = [
        tag("div", tag("dt", linked(source)), tag("dd", ", ".join(names)))
        for source, names in users.items()
    ]
    return [tag("dl", *entries, class_="sources")]
