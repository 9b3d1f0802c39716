"""Counts that a template fills in later, such as `replicas: ${replicas}` of envsubst or Terraform.

No rule may take them for the field's default: they are values not known yet.
"""

from __future__ import annotations

import re
from typing import Any

from policies.reading.values import Unknown

# Fields of whole numbers or percentages, whatever object they stand in.
_COUNTS = (
    "replicas",
    "minReplicas",
    "maxReplicas",
    "minReplicaCount",
    "maxReplicaCount",
    "idleReplicaCount",
    "parallelism",
    "completions",
    "minAvailable",
    "maxUnavailable",
    "maxSurge",
    "initialDelaySeconds",
    "periodSeconds",
    "failureThreshold",
    "terminationGracePeriodSeconds",
)
_NUMBER = re.compile(r"\s*[+-]?[\d.]+(?:e\d+)?%?\s*")
_STATED_AS_TEXT = re.compile(rf"\b(?:{'|'.join(_COUNTS)})[\"']?\s*:\s*[\"']?[^\s\d\"'+.-]")


def may_be_in(text: str) -> bool:
    """Whether a file has such a field at all; cheap, for the first look."""
    return _STATED_AS_TEXT.search(text) is not None


def marked(tree: Any, path: tuple[str, ...] = ()) -> Any:
    """The tree with counts that are no numbers as unknown."""
    if isinstance(tree, dict):
        return {key: _value(key, value, (*path, key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [marked(item, (*path, str(index))) for index, item in enumerate(tree)]
    return tree


def _value(key: str, value: Any, path: tuple[str, ...]) -> Any:
    if key in _COUNTS and isinstance(value, str) and not _NUMBER.fullmatch(value):
        return Unknown(path)
    return marked(value, path)
