"""Pictures as SVG and PNG, drawn by Vega-Lite in this process: no browser, no network."""

from __future__ import annotations

import re

import vl_convert

from coldstart.report.frame import Spec
from coldstart.report.markup import Html, tag
from coldstart.report.palette import LIGHT
from coldstart.report.pictures import Picture

PNG_SCALE = 2
"""Device pixels for each of the picture's, so that it is sharp on a fine screen."""

_COLOUR_NAMES = {value: name for name, value in LIGHT.items()}
_COLOUR = re.compile(f'="({"|".join(_COLOUR_NAMES)})"')
_OPENING = re.compile(r'^<svg [^>]*?width="([\d.]+)" height="([\d.]+)"[^>]*>')
_IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)')
_ITALIC = ' style="italic"'
"""How the library writes an italic text: as a style sheet that means nothing."""
_TAG = re.compile(r"<[^>]+>")
_ROLE = re.compile(r' (?:role|aria-\w+)="[^"]*"')
"""What the library says of the parts of a picture, which as a whole is one image with one name."""


def svg_file(picture: Picture) -> str:
    """The wide picture as a file of its own, on paper, in the light colours."""
    return _svg(picture.wide, picture, picture.key, inline=False) + "\n"


def png_file(picture: Picture) -> bytes:
    """The wide picture in light colours, twice as fine."""
    return vl_convert.vegalite_to_png(picture.wide, scale=PNG_SCALE)


def inline_svg(picture: Picture, *, narrow: bool) -> Html:
    """The picture for a page: its colours are the page's variables, its identifiers its own."""
    spec = picture.narrow if narrow else picture.wide
    identifier = f"{picture.key}-{'narrow' if narrow else 'wide'}"
    return Html(_svg(spec, picture, identifier, inline=True))


def _svg(spec: Spec, picture: Picture, identifier: str, *, inline: bool) -> str:
    drawn = vl_convert.vegalite_to_svg(spec)
    opening = _OPENING.match(drawn)
    if opening is None:
        raise ValueError(f"the SVG of {picture.key} does not begin as expected: {drawn[:80]}")

    def own(found: re.Match[str]) -> str:
        text = _ROLE.sub("", found[0].replace(_ITALIC, ' font-style="italic"'))
        text = _IDENTIFIER.sub(lambda part: f"{part[1]}{identifier}-", text)
        if inline:
            text = _COLOUR.sub(lambda part: f'="var(--{_COLOUR_NAMES[part[1]]})"', text)
        return text

    body = _TAG.sub(own, drawn[opening.end() :].removesuffix("</svg>"))
    width, height = opening[1], opening[2]
    title = tag("title", picture.title, id=f"{identifier}-title")
    words = tag("desc", picture.description, id=f"{identifier}-words")
    size = "" if inline else f' width="{width}" height="{height}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"{size} role="img" '
        f'aria-labelledby="{identifier}-title" aria-describedby="{identifier}-words">'
    )
    return f'{head}{title}{words}<g aria-hidden="true">{body}</g></svg>'
