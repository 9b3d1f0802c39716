"""What each rule accepts and refuses, as data: shown in its documentation and run as tests.

A file `examples/<rule name>.yaml` holds

    passing:                      resources that pass; Kubernetes objects as they are, others as
      - type: aws:...             {type, name, properties}
        name: ...
        properties: {...}
    violations:                   each is one edit of the passing resources
      - set: {0/spec/replicas: 3}     paths begin with the number of the resource;
                                    a number alone is the whole resource, ~1 is a slash
        says: part of the message
      - remove: [0/spec/limits]
        says: ...
        unknown: false            only where an unknown value at that path decides nothing
    accepted:                     edits that still pass
      - remove: [0/metadata/labels]
        options: {...}            configuration of the rule, in violations too
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from policies.manifests import is_object, resource_of
from policies.reading.values import Resource, Unknown

FOLDER = Path(__file__).with_name("examples")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A change of the passing resources; `says` is empty where the result still passes."""

    values: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    unknown: bool = True

    @property
    def paths(self) -> tuple[str, ...]:
        return (*self.values, *self.removed)


@dataclass(frozen=True)
class Examples:
    """The examples of one rule; `documents` are the passing resources as written."""

    documents: tuple[Mapping[str, Any], ...]
    violations: tuple[Edit, ...]
    accepted: tuple[Edit, ...]

    @property
    def passing(self) -> list[Resource]:
        return [resource_from(document) for document in self.documents]

    def documents_after(self, edit: Edit) -> list[dict[str, Any]]:
        """Copies of the passing documents with `edit` applied."""
        changed = [dict(copy.deepcopy(document)) for document in self.documents]
        for path, value in edit.values.items():
            _apply(changed, path, value)
        # From the end, so that no removal moves what another one names.
        for path in sorted(edit.removed, key=_place, reverse=True):
            _apply(changed, path, ...)
        return changed

    def after(self, edit: Edit) -> list[Resource]:
        """The passing resources with `edit` applied."""
        return [resource_from(document) for document in self.documents_after(edit)]

    def with_unknown(self, edit: Edit) -> list[Resource]:
        """The passing resources where each value that `edit` touches is not known yet.

        What a resource is, its kind and API version, is always known.
        """
        changed = [dict(copy.deepcopy(document)) for document in self.documents]
        for path in edit.paths:
            if "/" not in path or path.split("/", 1)[1] in ("apiVersion", "kind"):
                if path in edit.values:
                    _apply(changed, path, edit.values[path])
                continue
            _apply(changed, path, Unknown(tuple(path.split("/")[1:])))
        return [resource_from(document) for document in changed]


@cache
def examples_of(rule_name: str) -> Examples:
    """The examples of a rule. Raises FileNotFoundError for a rule without any."""
    text = (FOLDER / f"{rule_name}.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    return Examples(
        tuple(content["passing"]),
        tuple(_edit(item) for item in content["violations"]),
        tuple(_edit(item) for item in content.get("accepted", [])),
    )


def _edit(item: Mapping[str, Any]) -> Edit:
    return Edit(
        values={str(path): value for path, value in item.get("set", {}).items()},
        removed=tuple(map(str, item.get("remove", ()))),
        options=item.get("options", {}),
        says=item.get("says", ""),
        unknown=item.get("unknown", True),
    )


def resource_from(document: Mapping[str, Any]) -> Resource:
    """One example document as a resource. Raises KeyError for one that is neither form."""
    if is_object(document):
        return resource_of(document)
    return Resource(document["type"], document.get("name", "example"), document["properties"])


def _place(path: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(key), "") if key.isdigit() else (-1, key) for key in path.split("/"))


def _apply(documents: list[Any], path: str, value: Any) -> None:
    keys = path.split("/")
    if len(keys) > 1:
        document = documents[int(keys[0])]
        if "properties" in document and not is_object(document):
            keys.insert(1, "properties")
    tree: Any = documents
    for key in keys[:-1]:
        tree = tree[int(key)] if isinstance(tree, list) else tree.setdefault(_plain(key), {})
    last = keys[-1]
    if isinstance(tree, list):
        # The place behind the last one takes a new item.
        tree[int(last) : int(last) + 1] = [] if value is ... else [copy.deepcopy(value)]
    elif value is ...:
        del tree[_plain(last)]
    else:
        tree[_plain(last)] = copy.deepcopy(value)


def _plain(key: str) -> str:
    return key.replace("~1", "/")
