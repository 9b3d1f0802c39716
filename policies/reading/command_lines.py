"""Commands that a container runs, also where they are text inside a shell's script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.values import at, known, list_at
from policies.reading.workloads import Container

# Words of commands that bring a model's files from somewhere else.
DOWNLOADS = re.compile(
    r"\bhf download\b|\bhuggingface-cli download\b|snapshot_download|hf_hub_download"
    r"|\baws s3 (?:cp|sync)\b|\bs5cmd\b|\bgsutil\b|\bgcloud storage\b|\brclone\b|\bazcopy\b"
)
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh"})
# A longer script is no start command; the bound keeps hostile input cheap.
_MAX_SCRIPT_CHARACTERS = 50_000
_KUBERNETES_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SHELL_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_COMMENT_LINE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_JOINED_LINES = re.compile(r"\\\r?\n")
# Where one command of a script ends: a new line or an operator outside of quotes.
_QUOTED_OR_END = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|(&&|\|\||[;\n|&])")


def commands_of(container: Container) -> Iterator[tuple[str, ...]]:
    """The words of every command that a container's `command` and `args` state.

    References to variables that the container sets itself are replaced; others stay as they are.
    Raises NotYetKnown for a part that only the deployment will tell.
    """
    variables = variables_of(container)
    words = [
        _expanded(_word(known(item)), _KUBERNETES_REFERENCE, variables)
        for part in ("command", "args")
        for item in list_at(container.spec, part)
    ]
    script = _script_in(words)
    if script is None:
        yield tuple(words)
        return
    # An apostrophe in a comment would pair with one in the code.
    text = _COMMENT_LINE.sub("", script[:_MAX_SCRIPT_CHARACTERS])
    text = _JOINED_LINES.sub(" ", text)
    for line in _split(_expanded(text, _SHELL_REFERENCE, variables)):
        try:
            yield tuple(shlex.split(line, comments=True))
        except ValueError:
            yield tuple(line.split())


def variables_of(container: Container) -> dict[str, Any]:
    """Environment variables with a value of their own. Values may still be unknown."""
    return {
        str(at(entry, "name", default="")): entry["value"]
        for entry in map(known, list_at(container.spec, "env"))
        if isinstance(entry, Mapping) and "value" in entry
    }


def variable(container: Container, name: str) -> str | None:
    """A variable's stated text; None where it is not stated, or comes from another object.

    Raises NotYetKnown for a value that only the deployment will tell.
    """
    value = known(variables_of(container).get(name))
    return None if value is None or isinstance(value, Mapping | list) else _word(value)


def takes_variables_from_elsewhere(container: Container) -> bool:
    """Whether a ConfigMap or Secret may add variables that nobody sees here."""
    return bool(list_at(container.spec, "envFrom"))


def is_open(value: str | None) -> bool:
    """Whether a word still holds a reference to a variable nobody states here."""
    return value is not None and ("$" in value or "{{" in value or "`" in value)


def _word(item: Any) -> str:
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, int | float):
        return f"{item:.15g}"
    return item if isinstance(item, str) else ""


def _script_in(words: list[str]) -> str | None:
    for place, word in enumerate(words):
        if word.rsplit("/", 1)[-1] not in _SHELLS:
            continue
        for behind, option in enumerate(words[place + 1 :], start=place + 1):
            if re.fullmatch(r"-[a-z]*c[a-z]*", option):
                return words[behind + 1] if behind + 1 < len(words) else None
            if not option.startswith(("-", "+")):
                return None
    return None


def _split(script: str) -> Iterator[str]:
    begin = 0
    for match in _QUOTED_OR_END.finditer(script):
        if match[1]:
            yield script[begin : match.start()]
            begin = match.end()
    yield script[begin:]


def _expanded(text: str, reference: re.Pattern[str], variables: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        stated = known(variables.get(match[match.lastindex or 0]))
        return match[0] if stated is None or not isinstance(stated, str) else stated

    if "$" not in text:
        return text
    # A variable of a megabyte, named a thousand times, fills the memory of any machine.
    if sum(len(value(match)) for match in reference.finditer(text)) > _MAX_SCRIPT_CHARACTERS:
        return text
    return reference.sub(value, text)
