"""Levels and options of the rules for one run: a preset, then the user's file over it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from policies.lint.yaml_documents import DocumentError, decoded, documents
from policies.presets import PRESETS, levels
from policies.rule import Level, Rule
from policies.rules import RULES

_LEVELS = ("advisory", "mandatory", "disabled")
_LEVEL_KEY = "enforcementLevel"
_FOR_ALL = "all"


class SettingsError(Exception):
    """A configuration or baseline file is wrong; each line of the message is one mistake."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What each rule is asked with."""

    levels: Mapping[str, Level]
    options: Mapping[str, Mapping[str, Any]]


def settings_of(preset: str, file: Path | None) -> Settings:
    """The settings of a run; `file` has the form of Pulumi's policy configuration.

    Raises SettingsError with every mistake at once.
    """
    if preset not in PRESETS:
        raise SettingsError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    chosen: dict[str, Level] = dict(levels(preset))
    options: dict[str, Mapping[str, Any]] = {}
    if file is None:
        return Settings(chosen, options)
    rules = {rule.name: rule for rule in RULES}
    mistakes: list[str] = []
    content = content_of(file)
    if not isinstance(content, Mapping):
        raise SettingsError(f"{file}: a mapping from rule names to settings is expected")
    for name, stated in content.items():
        if name == _FOR_ALL:
            level, _, wrong = _level_and_options(f"{file}: {name}", stated, None)
            mistakes += wrong
            if level is not None:
                chosen = dict.fromkeys(chosen, level)
    for name, stated in content.items():
        if name == _FOR_ALL:
            continue
        if name not in rules:
            mistakes.append(f"{file}: {name}: there is no such rule{_nearest(name, rules)}")
            continue
        level, given, wrong = _level_and_options(f"{file}: {name}", stated, rules[name])
        chosen[name] = level or chosen[name]
        options[name] = given
        mistakes += wrong
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return Settings(chosen, options)


def content_of(file: Path) -> Any:
    """The one document of a YAML or JSON file. Raises SettingsError."""
    try:
        found = [document.content for document in documents(decoded(file.read_bytes()))]
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    except DocumentError as error:
        raise SettingsError(f"{file}:{error.line}: {error}") from None
    if len(found) != 1:
        raise SettingsError(f"{file}: one document is expected, there are {len(found)}")
    return found[0]


def _level_and_options(
    where: str, stated: Any, rule: Rule | None
) -> tuple[Level | None, dict[str, Any], list[str]]:
    if isinstance(stated, str):
        stated = {_LEVEL_KEY: stated}
    if not isinstance(stated, Mapping):
        return None, {}, [f"{where}: a level or a mapping is expected, not {stated!r}"]
    mistakes = []
    level = stated.get(_LEVEL_KEY)
    if level is not None and level not in _LEVELS:
        mistakes.append(f"{where}.{_LEVEL_KEY}: {level!r} is none of {', '.join(_LEVELS)}")
    declared = {option.name: option for option in rule.options} if rule else {}
    given = {key: value for key, value in stated.items() if key != _LEVEL_KEY}
    for key, value in given.items():
        if key not in declared:
            mistakes.append(f"{where}.{key}: there is no such option{_nearest(key, declared)}")
            continue
        found = jsonschema.Draft202012Validator(dict(declared[key].schema)).iter_errors(value)
        mistakes += [f"{where}.{key}: {error.message}" for error in found]
    return (None if mistakes else level), given, mistakes


def _nearest(name: Any, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none'}"
