"""HTML that is escaped unless it was made here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_VOID = frozenset({"meta", "br", "col"})
_LINK = re.compile(r"https://[^\s<>\"'`(){}|\\^\[\],;]+[^\s<>\"'`(){}|\\^\[\],;.:]")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """Any text, as it is read and never as markup."""
    return text if isinstance(text, Html) else Html(html.escape(text, quote=True))


def joined(parts: Iterable[str]) -> Html:
    """Parts one after another, each escaped unless it is markup."""
    return Html("".join(escaped(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | None) -> Html:
    """An element. A `_` at the end of an attribute's name is dropped, others become `-`.

    An attribute that is None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def linked(text: str) -> Html:
    """Text in which every https address leads there; no other scheme does."""
    parts: list[str] = []
    end = 0
    for found in _LINK.finditer(text):
        parts.append(text[end : found.start()])
        parts.append(tag("a", found[0], href=found[0], rel="noreferrer noopener"))
        end = found.end()
    return joined([*parts, text[end:]])
