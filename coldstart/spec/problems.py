"""Problems in a stack file, worded for the person who wrote it."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from coldstart.errors import UserError

Loc = tuple[str | int, ...]
LONGEST_LINE = 600
"""Characters of one line of a message: what a stack file may put into it is not bounded."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what would work.

    `path` is dotted (`nodePools.a100.image`); `line` counts from 1, None when it is not known.
    """

    path: str
    message: str
    line: int | None = None

    def render(self, file: str) -> str:
        """One message: file, line, path, then the text with continuation lines indented."""
        place = f"{file}:{self.line}" if self.line else file
        head = f"{place}: {visible(self.path)}: " if self.path else f"{place}: "
        return head + "\n  ".join(visible(line) for line in self.message.split("\n"))


def line_of(path: str, lines: Mapping[str, int]) -> int | None:
    """The line of `path`, or of the nearest key around it that stands in the file."""
    while path and path not in lines:
        path = path.rpartition("[")[0] if path.endswith("]") else path.rpartition(".")[0]
    return lines.get(path) if path else None


class SpecError(UserError):
    """A stack file that cannot be used; carries every problem found."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda p: (p.line or 0, p.path, p.message)))
        super().__init__("\n".join(problem.render(file) for problem in self.problems))


def visible(text: str) -> str:
    """`text` without the characters that move a cursor or break a line, and not endlessly long."""
    short = text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 3] + "..."
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in short
    )


def dotted(loc: Loc) -> str:
    """`("nodePools", "a100", "capacity", 0)` as `nodePools.a100.capacity[0]`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """`; did you mean "x"?`, or the choices when nothing is near and they are few."""
    names = sorted(set(choices))
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; choose from: {', '.join(names)}" if 0 < len(names) <= 16 else ""


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType):
        return [found for part in get_args(annotation) for found in _models_in(part)]
    return []


def _keys_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys the schema allows in the mapping at `loc`."""
    current: list[Any] = [model]
    for part in loc:
        following: list[Any] = []
        for annotation in current:
            for owner in _models_in(annotation):
                following += [
                    field.annotation
                    for name, field in owner.model_fields.items()
                    if (field.alias or name) == part
                ]
            if get_origin(annotation) is not None and not _models_in(annotation):
                following += list(get_args(annotation))[-1:]
        current = following
    owners = [owner for annotation in current for owner in _models_in(annotation)]
    return [field.alias or name for owner in owners for name, field in owner.model_fields.items()]


def _real_location(loc: Loc, data: Any) -> tuple[Loc, Any]:
    """`loc` without the union and wrapper parts pydantic adds, and the value found there."""
    real: list[str | int] = []
    for part in loc:
        if (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        ):
            data = data[part]  # type: ignore[index]
            real.append(part)
        elif part == "[key]" and real:
            return tuple(real), real[-1]
        elif part == loc[-1] and isinstance(data, Mapping) and isinstance(part, str):
            return (*real, part), None
    return tuple(real), data


def quoted(value: object) -> str:
    """A value of the stack file as the file spells it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'"{visible(value if len(value) <= 60 else value[:57] + "...")}"'
    if isinstance(value, int) and abs(value) > 10**18:
        return f"a number of {value.bit_length()} bits"
    text = str(value) if isinstance(value, float | dt.date) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_IN_YAML = {
    "string_type": "must be text; put it in quotes",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "too_short": "must name at least one",
    "finite_number": "must be a finite number",
    "ip_v4_network": "is not an IPv4 block; write for example 10.40.0.0/16, host bits zero",
    "string_unicode": "must be text that can be written as UTF-8",
}
"""Pydantic's error types, said for somebody who wrote YAML."""


def _choices(error: ErrorDetails) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",") if word.strip()]


def _message(errors: list[ErrorDetails], loc: Loc, value: Any, model: type[BaseModel]) -> str:
    kinds = {error["type"] for error in errors}
    if "missing" in kinds:
        return "is required"
    if "extra_forbidden" in kinds:
        return (
            f"is not a key the stack file knows{did_you_mean(loc[-1], _keys_at(model, loc[:-1]))}"
        )
    choices = [
        c for error in errors if error["type"] in ("enum", "literal_error") for c in _choices(error)
    ]
    rest = [e for e in errors if e["type"] not in ("enum", "literal_error")]
    if choices and (not rest or isinstance(value, str)):
        listed = ", ".join(dict.fromkeys(choices))
        hint = did_you_mean(value, choices)
        return f"{quoted(value)} is not one of {listed}{hint if 'did you' in hint else ''}"
    texts = dict.fromkeys(_text(error) for error in rest or errors)
    text = "; ".join(texts)
    if isinstance(value, dict | list | tuple) and "value_error" in kinds:
        return text
    if text.startswith(("is ", "has ", "opens ")):
        return f"{quoted(value)} {text}"
    return f"{quoted(value)}: {text}"


def _text(error: ErrorDetails) -> str:
    """Pydantic's words, in those of a YAML file where they speak of Python."""
    said = error["msg"].removeprefix("Value error, ")
    return _IN_YAML.get(error["type"], said.replace("Input should be", "must be"))


def from_pydantic(
    errors: Iterable[ErrorDetails], data: Any, model: type[BaseModel]
) -> list[Problem]:
    """One problem for each place, however many union branches complained about it."""
    grouped: dict[Loc, tuple[Any, list[ErrorDetails]]] = {}
    for error in errors:
        loc, value = _real_location(tuple(error["loc"]), data)
        grouped.setdefault(loc, (value, []))[1].append(error)
    return [
        Problem(dotted(loc), _message(found, loc, value, model))
        for loc, (value, found) in grouped.items()
    ]
