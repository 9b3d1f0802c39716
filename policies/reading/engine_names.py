"""Flags, variables and metrics that vLLM no longer has, from the table beside the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

_TABLE = Path(__file__).resolve().parent.parent / "data" / "vllm_removed.yaml"


@dataclass(frozen=True)
class Removed:
    """A name that is gone: the first version without it, and what to write instead."""

    name: str
    gone: tuple[int, int]
    instead: str

    @property
    def version(self) -> str:
        return ".".join(map(str, self.gone))


@cache
def removed(kind: str) -> Mapping[str, Removed]:
    """The removed `flags`, `variables` or `metrics`. Raises KeyError for another kind."""
    table = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))[kind]
    return {
        name: Removed(name, _version(entry["gone"]), entry["instead"])
        for name, entry in table.items()
    }


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
