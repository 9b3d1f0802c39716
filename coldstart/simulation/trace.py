"""Traces: when requests came and how long they were, from a CSV file or standard input."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import IO, BinaryIO, NoReturn

from coldstart.errors import UserError

ARRIVAL, PROMPT, OUTPUT = COLUMNS = ("arrival_seconds", "prompt_tokens", "output_tokens")
EXAMPLE = "arrival_seconds,prompt_tokens,output_tokens\n0.0,512,128\n"
MAX_REQUESTS = 20_000_000
"""About 320 MB in memory, and 20 minutes of simulation."""
MAX_SECONDS = 366 * 86_400
MAX_TOKENS = 10_000_000
"""The longest prompt or answer a stack file may speak of (spec.model.LengthSpec)."""
MAX_LINE_BYTES = 4_096
YEARS = range(1970, 9000)
"""Of ISO times, so that a trace of a year ends before the calendar does."""
_GZIP = b"\x1f\x8b"
_SHOWN_CHARACTERS = 40


class TraceError(UserError):
    """A trace that cannot be read: file, line, column, value, and what is expected."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival, column by column.

    `arrivals` are seconds from the start of the trace; `starts_at` is that moment where the file
    gave times of day.
    """

    arrivals: Sequence[float]
    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    starts_at: datetime | None = None

    def __post_init__(self) -> None:
        if not len(self.arrivals) == len(self.prompt_tokens) == len(self.output_tokens):
            raise ValueError("the columns of a trace are equally long")
        if not len(self.arrivals):
            raise ValueError("a trace has at least one request")

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def seconds(self) -> float:
        """From the start of the trace to its last arrival."""
        return self.arrivals[-1]

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Of a prompt and of an answer."""
        return fmean(self.prompt_tokens), fmean(self.output_tokens)


def read_trace(source: Path | BinaryIO, name: str | None = None) -> Trace:
    """Read a CSV trace, line by line.

    The header names the columns arrival_seconds, prompt_tokens and output_tokens in any order;
    others are left alone. An arrival is seconds from the start of the trace, or an ISO 8601 time
    (`2026-03-02T08:00:00Z`, without an offset UTC), whose first one then is second 0.

    Raises TraceError with file, line, column and value for anything else: not UTF-8, a missing
    column, an arrival before the one above it, a negative or absurd figure, too many requests.
    """
    if not isinstance(source, Path):
        return _Reader(name or "standard input").read(source)
    try:
        with source.open("rb") as file:
            return _Reader(name or str(source)).read(file)
    except OSError as error:
        raise TraceError(
            f"{name or source}: {(error.strerror or 'cannot be read').lower()}; "
            "give a CSV file, or - for standard input"
        ) from None


def write_trace(trace: Trace, file: IO[str]) -> None:
    """Write a trace as `read_trace` reads it."""
    file.write(",".join(COLUMNS) + "\n")
    for row in zip(trace.arrivals, trace.prompt_tokens, trace.output_tokens, strict=True):
        file.write(f"{row[0]:.3f},{row[1]},{row[2]}\n")


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._line = 0
        self._first: datetime | None = None
        self._by_clock: bool | None = None

    def read(self, file: BinaryIO) -> Trace:
        rows = csv.reader(self._lines(file), strict=True)
        arrivals, prompts, outputs = array("d"), array("i"), array("i")
        try:
            places = self._header(next(rows, None))
            width = max(places) + 1
            at, prompt_at, output_at = places
            latest = 0.0
            for row in rows:
                if not row:
                    continue
                if len(row) < width:
                    self._fail(None, f"{len(row)} fields", f"{width}, as in the header")
                arrival = self._arrival(row[at], latest)
                latest = arrival
                arrivals.append(arrival)
                prompts.append(self._tokens(PROMPT, row[prompt_at]))
                outputs.append(self._tokens(OUTPUT, row[output_at]))
                if len(arrivals) > MAX_REQUESTS:
                    self._fail(None, "one request too many", f"at most {MAX_REQUESTS:,}")
        except csv.Error as error:
            self._fail(None, str(error), f"plain CSV, for example {EXAMPLE.split()[1]}")
        if not arrivals:
            self._fail(None, "no request", f"a line for each, for example {EXAMPLE.split()[1]}")
        return Trace(arrivals, prompts, outputs, self._first)

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        while line := file.readline(MAX_LINE_BYTES + 1):
            self._line += 1
            if len(line) > MAX_LINE_BYTES:
                self._fail(None, "a very long line", f"at most {MAX_LINE_BYTES} bytes a line")
            try:
                yield line.decode("utf-8-sig" if self._line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                if self._line == 1 and line.startswith(_GZIP):
                    self._fail(None, "gzip", "CSV text: zcat FILE | coldstart simulate --trace -")
                self._fail(None, f"byte {error.start + 1} is not UTF-8", "CSV text in UTF-8")

    def _header(self, row: list[str] | None) -> tuple[int, int, int]:
        if row is None:
            self._fail(None, "nothing", f"a header {','.join(COLUMNS)} and a line per request")
        names = [name.strip() for name in row]
        for separator, called in ((";", "semicolons"), ("\t", "tabs")):
            if len(names) == 1 and separator in names[0]:
                self._fail(None, f"columns separated by {called}", "commas between them")
        for column in COLUMNS:
            if names.count(column) != 1:
                what = "twice" if column in names else f"missing in {_shown(','.join(names))}"
                self._fail(column, what, f"a header with each of {','.join(COLUMNS)}")
        return names.index(ARRIVAL), names.index(PROMPT), names.index(OUTPUT)

    def _arrival(self, text: str, latest: float) -> float:
        try:
            seconds = self._clock(text) if self._by_clock else _number(text)
        except ValueError:
            seconds = None
            if self._by_clock is None:
                self._by_clock = True
                return self._arrival(text, latest)
        if seconds is None or not math.isfinite(seconds):
            expected = "seconds such as 12.5" if self._first is None else "a time like the first"
            self._fail(
                ARRIVAL,
                _shown(text),
                f"{expected}, or ISO times of the years {YEARS[0]} to {YEARS[-1]} throughout",
            )
        self._by_clock = bool(self._by_clock)
        if seconds < 0 and self._first is None:
            self._fail(ARRIVAL, _shown(text), "0 or more seconds from the start of the trace")
        if seconds < latest:
            self._fail(
                ARRIVAL,
                f"{_shown(text)} is {latest - seconds:g} s before the line above",
                "lines sorted by arrival",
            )
        if seconds > MAX_SECONDS:
            self._fail(
                ARRIVAL,
                _shown(text),
                f"at most {MAX_SECONDS} s (a year) from the start of the trace; of Unix times take "
                "the first one away, or write ISO times",
            )
        return seconds

    def _clock(self, text: str) -> float:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if moment.year not in YEARS:
            raise ValueError(text)
        if self._first is None:
            self._first = moment
        return (moment - self._first).total_seconds()

    def _tokens(self, column: str, text: str) -> int:
        try:
            if "_" in text:
                raise ValueError
            tokens = int(text)
        except ValueError:
            self._fail(column, _shown(text), "a whole number of tokens")
        if not 1 <= tokens <= MAX_TOKENS:
            self._fail(column, _shown(text), f"1 to {MAX_TOKENS} tokens")
        return tokens

    def _fail(self, column: str | None, value: str, expected: str) -> NoReturn:
        place = f"{self._name}:{max(1, self._line)}"
        if column:
            place += f": column {column}"
        raise TraceError(f"{place}: {value}; expected {expected}")


def _number(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
