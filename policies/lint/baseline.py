"""Findings that are accepted for a while, each with a reason and a day on which that ends.

accepted:
  - rule: kubernetes-pod-require-seccomp
    resource: Deployment serving/model     # `*` matches any run of characters
    reason: the engine image is being rebuilt
    expires: 2027-03-31
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from policies.lint.evaluate import Violation
from policies.lint.settings import SettingsError, content_of
from policies.rules import RULES

_FIELDS = ("rule", "resource", "reason", "expires")


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted finding; `expires` is the last day on which it is accepted."""

    rule: str
    resource: str
    reason: str
    expires: datetime.date

    def covers(self, violation: Violation) -> bool:
        """Whether this entry is about a violation, expired or not."""
        return violation.rule.name == self.rule and fnmatchcase(violation.resource, self.resource)


@dataclass(frozen=True, slots=True)
class Split:
    """Violations after the baseline; `notes` tell of entries that no longer do anything."""

    open: tuple[Violation, ...]
    accepted: tuple[Violation, ...]
    notes: tuple[str, ...]


def read(file: Path) -> tuple[Accepted, ...]:
    """The entries of a baseline file. Raises SettingsError with every mistake at once."""
    content = content_of(file)
    entries = content.get("accepted") if isinstance(content, Mapping) else None
    if not isinstance(entries, list):
        raise SettingsError(f"{file}: a mapping with the list `accepted` is expected")
    mistakes = [f"{file}: {key}: there is no such field" for key in content if key != "accepted"]
    found = [_entry(f"{file}: accepted[{i}]", entry, mistakes) for i, entry in enumerate(entries)]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return tuple(entry for entry in found if entry)


def _entry(where: str, entry: Any, mistakes: list[str]) -> Accepted | None:
    if not isinstance(entry, Mapping):
        mistakes.append(f"{where}: a mapping with {', '.join(_FIELDS)} is expected")
        return None
    before = len(mistakes)
    for name in _FIELDS:
        if not isinstance(entry.get(name), str) or not str(entry[name]).strip():
            mistakes.append(f"{where}.{name}: text is expected, not {entry.get(name)!r}")
    mistakes += [f"{where}.{key}: there is no such field" for key in entry if key not in _FIELDS]
    if len(mistakes) > before:
        return None
    if entry["rule"] not in {rule.name for rule in RULES}:
        mistakes.append(f"{where}.rule: there is no rule {entry['rule']}")
    try:
        expires = datetime.date.fromisoformat(entry["expires"])
    except ValueError:
        mistakes.append(f"{where}.expires: {entry['expires']!r} is no day written as 2027-03-31")
        return None
    return Accepted(entry["rule"], entry["resource"], entry["reason"], expires)


def split(
    violations: Sequence[Violation], baseline: Sequence[Accepted], today: datetime.date
) -> Split:
    """Part what is still accepted from what is open on a day."""
    valid = [entry for entry in baseline if entry.expires >= today]
    left: list[Violation] = []
    accepted: list[Violation] = []
    for item in violations:
        (accepted if any(entry.covers(item) for entry in valid) else left).append(item)
    notes: list[str] = []
    for entry in baseline:
        if entry not in valid:
            notes.append(f"{entry.rule} of {entry.resource}: accepted until {entry.expires}, over")
        elif not any(entry.covers(item) for item in violations):
            notes.append(f"{entry.rule} of {entry.resource}: nothing to accept, remove the entry")
    return Split(tuple(left), tuple(accepted), tuple(notes))
