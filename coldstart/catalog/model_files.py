"""Values of a model's JSON files, checked one by one: an error names file, key and value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldstart.catalog.loader import CatalogError

MOST = 10**8
"""Above any width, count or context of a published model; more is a slip."""


class ModelFileError(CatalogError):
    """A model's own files cannot be used: one line with file, key, value and what is expected."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object of `file`, `path` inside it for messages."""

    values: Mapping[str, Any]
    file: str
    path: str = ""

    def fail(self, key: str, value: Any, expected: str) -> ModelFileError:
        """The error for one value; the caller raises it."""
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return ModelFileError(f"{self.file}: {self.path}{key}: {shown}: expected {expected}")

    def missing(self, *keys: str) -> ModelFileError:
        """The error for a key that none of the known names has; the caller raises it."""
        return ModelFileError(
            f"{self.file}: {self.path}{keys[0]}: missing: expected the key"
            f"{' (or ' + ', '.join(keys[1:]) + ')' if len(keys) > 1 else ''} with a whole number"
        )

    def get(self, key: str) -> Any:
        """The value as it stands, None where there is none."""
        return self.values.get(key)

    def found(self, *keys: str, least: int = 1) -> int | None:
        """The whole number under the first of `keys` that is set, None where none is."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
                raise self.fail(key, value, f"a whole number from {least} to {MOST}")
            return value
        return None

    def count(self, *keys: str) -> int:
        """Like `found`, but missing is an error."""
        value = self.found(*keys)
        if value is None:
            raise self.missing(*keys)
        return value

    def text(self, key: str, default: str = "") -> str:
        """The text under `key`."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fail(key, value, "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """The truth value under `key`."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, value, "true or false")
        return value

    def texts(self, key: str) -> list[str] | None:
        """The list of texts under `key`, None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(key, value, "a list of texts")
        return value

    def numbers(self, key: str) -> list[int]:
        """The list of whole numbers under `key`, empty where there is none."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.fail(key, value, "a list of whole numbers")
        return value

    def inner(self, key: str) -> Fields | None:
        """The object under `key`, None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.fail(key, value, "an object")
        return Fields(value, self.file, f"{self.path}{key}.")


def read_json(path: Path, shown: str, most_bytes: int) -> Fields:
    """The JSON object in `path`; `shown` is how messages name the file."""
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise ModelFileError(
                f"{shown}: has {size} bytes: expected at most {most_bytes}; give the config.json "
                "of the repository, not its weights"
            )
        found = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ModelFileError(
            f"{shown}: there is no such file: expected the config.json of a Hugging Face repository"
        ) from None
    except OSError as error:
        raise ModelFileError(f"{shown}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{shown}: is not JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise ModelFileError(f"{shown}: expected a JSON object, found {type(found).__name__}")
    return Fields(found, shown)
