"""Reports as text, JSON, SARIF 2.1.0 and GitHub annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from policies.lint.baseline import Split
from policies.lint.evaluate import Report, Undecided, Violation
from policies.rule import Rule
from policies.rules import RULES

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_WORDS = {"mandatory": "error", "advisory": "warning"}


def text(report: Report, split: Split) -> str:
    """For a terminal: one block per finding, then one line of sums."""
    lines: list[str] = []
    for item in split.open:
        word = _WORDS[item.level]
        lines += [
            f"{item.place.path}:{item.place.line}: {word}: {item.resource}"
            f" [{item.rule.code} {item.rule.name}]",
            f"    {item.message}",
        ]
    lines += [
        f"{item.place.path}:{item.place.line}: undecided: {_open(item)}"
        f" [{item.rule.code} {item.rule.name}]"
        for item in report.undecided
    ]
    lines += [
        f"{item.path}:{item.line}: cannot be checked: {item.message}" for item in report.problems
    ]
    lines += [f"baseline: {note}" for note in split.notes]
    lines.append(_sums(report, split))
    return "\n".join(map(_printable, lines)) + "\n"


def as_json(report: Report, split: Split) -> str:
    """For machines: everything, accepted findings too."""
    content = {
        "violations": [_violation(item) for item in split.open],
        "accepted": [_violation(item) for item in split.accepted],
        "undecided": [
            {"rule": item.rule.name, "path": item.place.path, "field": item.field}
            for item in report.undecided
        ],
        "problems": [
            {"path": item.path, "line": item.line, "message": item.message}
            for item in report.problems
        ],
        "notes": list(split.notes),
        "files": report.files,
        "resources": report.resources,
        "rules": report.rules,
    }
    return json.dumps(content, indent=2) + "\n"


def sarif(report: Report, split: Split) -> str:
    """For code scanning; accepted findings are suppressed results."""
    results = [_result(item, None) for item in split.open]
    results += [_result(item, "external") for item in split.accepted]
    notifications = [
        {
            "level": "error",
            "message": {"text": item.message},
            "locations": [_location(item.path, item.line)],
        }
        for item in report.problems
    ]
    # Not results: code scanning would show each as an alert.
    notifications += [
        {
            "level": "note",
            "message": {"text": _open(item)},
            "associatedRule": {"id": item.rule.code},
            "locations": [_location(item.place.path, item.place.line)],
        }
        for item in report.undecided
    ]
    notifications += [{"level": "note", "message": {"text": note}} for note in split.notes]
    run = {
        "tool": {"driver": {"name": "coldstart", "rules": [_sarif_rule(rule) for rule in RULES]}},
        "results": results,
        "invocations": [
            {
                "executionSuccessful": not report.problems,
                "toolExecutionNotifications": notifications,
            }
        ],
    }
    content = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(content, indent=2) + "\n"


def github(report: Report, split: Split) -> str:
    """Workflow commands that mark lines of a pull request."""
    lines = [
        _annotation(
            _WORDS[item.level],
            item.place.path,
            item.place.line,
            f"{item.rule.code} {item.rule.title}",
            f"{item.resource}: {item.message}",
        )
        for item in split.open
    ]
    lines += [
        _annotation(
            "notice", item.place.path, item.place.line, f"{item.rule.code} undecided", _open(item)
        )
        for item in report.undecided
    ]
    lines += [
        _annotation("error", item.path, item.line, "cannot be checked", item.message)
        for item in report.problems
    ]
    lines += [f"::notice title=baseline::{_escaped(note)}" for note in split.notes]
    return "\n".join([*lines, _sums(report, split)]) + "\n"


FORMATS: Mapping[str, Callable[[Report, Split], str]] = {
    "text": text,
    "json": as_json,
    "sarif": sarif,
    "github": github,
}


def _sums(report: Report, split: Split) -> str:
    errors = sum(item.level == "mandatory" for item in split.open)
    parts = [
        f"{errors} errors",
        f"{len(split.open) - errors} warnings",
        f"{len(report.undecided)} undecided",
        f"{len(split.accepted)} accepted by the baseline",
    ]
    if report.problems:
        parts.append(f"{len(report.problems)} not checked")
    return (
        f"{report.files} files, {report.resources} resources, {report.rules} rules:"
        f" {', '.join(parts)}"
    )


def _violation(item: Violation) -> dict[str, Any]:
    return {
        "rule": item.rule.name,
        "code": item.rule.code,
        "level": item.level,
        "severity": item.rule.severity,
        "resource": item.resource,
        "path": item.place.path,
        "line": item.place.line,
        "message": item.message,
        "remediation": item.rule.remediation,
        "links": list(item.rule.links),
    }


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.description},
        "help": {"text": f"{rule.reason} {rule.remediation}"},
        "helpUri": rule.links[0],
        "defaultConfiguration": {"level": _WORDS.get(rule.level, "none")},
        "properties": {"tags": [*dict.fromkeys((rule.concern, *rule.tags, *rule.frameworks))]},
    }


def _result(item: Violation, suppression: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": item.rule.code,
        "level": _WORDS[item.level],
        "message": {"text": f"{item.resource}: {item.message}"},
        "locations": [_location(item.place.path, item.place.line)],
    }
    if suppression:
        result["suppressions"] = [{"kind": suppression}]
    return result


def _location(path: str, line: int) -> dict[str, Any]:
    file, here = Path(path), Path.cwd()
    # What lies in the working folder is named from there, as a repository's files are.
    inside = file.relative_to(here).as_posix() if file.is_relative_to(here) else path
    uri = file.as_uri() if Path(inside).is_absolute() else quote(inside)
    return {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}},
    }


def _open(item: Undecided) -> str:
    return f"{item.field} is known only after deployment"


def _printable(line: str) -> str:
    """One line, in which names from a manifest neither start another nor steer a terminal."""
    if line.isprintable():
        return line
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in line
    )


def _annotation(word: str, path: str, line: int, title: str, message: str) -> str:
    place = f"file={_escaped(path, ':,')},line={line},title={_escaped(title, ':,')}"
    return f"::{word} {place}::{_escaped(message)}"


def _escaped(value: str, also: str = "") -> str:
    value = value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for character in also:
        value = value.replace(character, f"%{ord(character):02X}")
    return value
