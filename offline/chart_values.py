"""Values of Helm charts against the schemas kept in `offline/charts`.

Most charts take any key and ignore one they do not know, so a misspelt value changes nothing and
nobody is told. The schemas are written from the values each chart publishes, closed at the levels
this project writes.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from offline.wire import contains_unknown

SCHEMAS = Path(__file__).with_name("charts")

# Below this likeness (difflib ratio, 0 to 1) a suggestion confuses more than it helps.
_LEAST_LIKENESS = 0.6


def wrong_values(chart: str, values: Any) -> list[str]:
    """What is wrong with `values`, each with its path; empty for a chart without a schema.

    What is only known after an up is left out of the judgement.
    """
    validator = _validator(chart)
    if validator is None:
        return []
    errors = sorted(validator.iter_errors(_known(values)), key=lambda error: error.json_path)
    return [line for error in errors for line in _told(error)]


def title_of(chart: str) -> str | None:
    """Chart and version whose values the schema describes, or None without one."""
    schema = _schema(chart)
    return schema["title"] if schema else None


def _told(error: Any) -> Iterator[str]:
    place = "values" + error.json_path.removeprefix("$")
    if error.validator != "additionalProperties" or error.validator_value is not False:
        yield f"{place}: {error.message}"
        return
    known = error.schema["properties"]
    for key in sorted(set(error.instance) - set(known)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=_LEAST_LIKENESS)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        yield f"{place}.{key}: the chart has no such value{hint}"


def _known(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: _known(v) for k, v in values.items() if not _is_unknown_leaf(v)}
    if isinstance(values, list):
        return [_known(item) for item in values if not _is_unknown_leaf(item)]
    return values


def _is_unknown_leaf(value: Any) -> bool:
    return not isinstance(value, dict | list) and contains_unknown(value)


@cache
def _schema(chart: str) -> dict[str, Any] | None:
    path = SCHEMAS / f"{chart}.schema.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@cache
def _validator(chart: str) -> Any:
    schema = _schema(chart)
    if schema is None:
        return None
    # Only here: the package takes a fifth of a second to load.
    import jsonschema

    return jsonschema.Draft202012Validator(schema)
