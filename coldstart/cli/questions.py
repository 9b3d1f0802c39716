"""What `coldstart init` has to know: from flags, or asked on a terminal."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from coldstart.cli.shared import refuse

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Question:
    """One thing init has to know: its flag, the question, how an answer is read, a suggestion.

    `read` raises ValueError with what is wrong and what would work. `assumed` is what holds without
    an answer where nobody can be asked; None makes the flag required there.
    """

    flag: str
    text: str
    read: Callable[[str], Any]
    suggested: str | None = None
    assumed: str | None = None


def is_interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def answers(given: Mapping[str, str | None], asked: tuple[Question, ...]) -> dict[str, Any]:
    """What the flags say, then what is asked; every wrong or missing flag is named at once."""
    found: dict[str, Any] = {}
    wrong, missing = [], []
    for question in asked:
        text = given[question.flag]
        if text is None:
            continue
        try:
            found[question.flag] = question.read(text)
        except ValueError as error:
            wrong.append(f"--{question.flag}: {error}")
    if wrong:
        refuse("\n".join(wrong))
    for question in asked:
        if question.flag in found:
            continue
        if is_interactive():
            found[question.flag] = _asked(question)
        elif question.assumed is not None:
            found[question.flag] = question.read(question.assumed)
        else:
            missing.append(f"--{question.flag}")
    if missing:
        refuse(f"nobody can be asked here; give {', '.join(missing)}")
    return found


def _asked(question: Question) -> Any:
    def read(text: str) -> Any:
        try:
            return question.read(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    default = question.suggested if question.suggested is not None else question.assumed
    try:
        return typer.prompt(question.text, default=default, value_proc=read, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None


def questions(root: Path, force: bool) -> tuple[Question, ...]:
    """Everything init has to know, in the order it is asked."""
    from coldstart.spec.model import Environment

    return (
        Question("platform", "Cloud platform", _platform, assumed="eks"),
        Question("name", "Name of the stack", lambda text: _name(text, root, force)),
        Question("region", "Region", _region, suggested="us-west-2"),
        Question("environment", "prod or dev", _choice(Environment), assumed="prod"),
        Question("model", "Model", _model, suggested="Qwen/Qwen3-8B"),
        Question("requests-per-second", "Requests a second", _rate, suggested="1"),
        Question("prompt-tokens", "Mean tokens of a prompt", _tokens, suggested="800"),
        Question("output-tokens", "Mean tokens of an answer", _tokens, suggested="250"),
        Question("ttft", "Time to first token", _seconds(3600), suggested="2s"),
        Question("tpot", "Time per output token", _seconds(60), suggested="50ms"),
        Question("admin-cidr", "Networks of the operators, with commas", _blocks, assumed=""),
        Question("budget", "Longest cold start, or nothing", _budget, assumed=""),
    )


def _platform(text: str) -> str:
    if text.lower() != "eks":
        raise ValueError(
            f"{text!r} cannot be written yet: eks is the one platform that is implemented; use eks"
        )
    return "eks"


def _name(text: str, root: Path, force: bool) -> str:
    from coldstart.planning.proposal import plain_name
    from coldstart.spec import stack_file

    if _NAME.fullmatch(text) is None:
        near = plain_name(text)
        hint = f"; for example {near}" if _NAME.fullmatch(near) else ""
        raise ValueError(
            f"{text!r} is not a name; use up to 40 of a-z, 0-9 and -, a letter first{hint}"
        )
    file = stack_file(root, text)
    if file.exists() and not force:
        raise ValueError(
            f"{file.relative_to(root).as_posix()} exists; --force overwrites it, or use another "
            "name"
        )
    return text


def _region(text: str) -> str:
    from coldstart.catalog import load
    from coldstart.spec.problems import did_you_mean

    known = {region for region, _ in load().prices}
    if text not in known:
        raise ValueError(f"no prices are known for {text!r}{did_you_mean(text, known)}")
    return text


def _model(text: str) -> Any:
    from coldstart.catalog import load
    from coldstart.planning.survey import named_model

    return named_model(text, load())


def _choice(kind: type[StrEnum]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not one of {', '.join(map(str, kind))}") from None

    return read


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; write for example 2 or 0.5") from None
    if not math.isfinite(rate) or not 1e-6 <= rate <= 1e6:
        raise ValueError(f"{text} is out of range; use 0.000001 to 1000000")
    return rate


def _tokens(text: str) -> int:
    if re.fullmatch(r"-?\d{1,15}", text) is None:
        raise ValueError(f"{text!r} is not a whole number; write for example 800")
    if not 1 <= int(text) <= 10_000_000:
        raise ValueError(f"{text} is out of range; use 1 to 10000000 tokens")
    return int(text)


def _seconds(most: float) -> Callable[[str], float]:
    from coldstart.units import parse_duration_seconds

    def read(text: str) -> float:
        try:
            seconds = parse_duration_seconds(text)
        except ValueError as error:
            raise ValueError(f"{text!r} {error}") from None
        if not 0.001 <= seconds <= most:
            raise ValueError(f"{text} is out of range; use 1ms to {most:g}s")
        return seconds

    return read


def _blocks(text: str) -> tuple[str, ...]:
    from pydantic import TypeAdapter, ValidationError

    from coldstart.spec.fields import ClientBlock

    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(TypeAdapter(ClientBlock).validate_python(part))
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{part!r} {message}") from None
    return tuple(found)


def _budget(text: str) -> float | None:
    return _seconds(86_400)(text) if text.strip() else None
