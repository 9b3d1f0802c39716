"""Resources as plain trees, with values that are not known before the deployment marked as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

Item = TypeVar("Item")
Said = TypeVar("Said")


@dataclass(frozen=True)
class Unknown:
    """Stands in a tree where the value depends on something not deployed yet."""

    path: tuple[str, ...]


class NotYetKnown(Exception):  # noqa: N818 - a state of the preview, not a mistake
    """A rule needed values that only the deployment will tell; `paths` names the fields."""

    def __init__(self, *paths: tuple[str, ...]) -> None:
        super().__init__(", ".join(".".join(path) for path in paths))
        self.paths = paths


@dataclass(frozen=True)
class Resource:
    """One resource: Pulumi type token, name, URN and wire properties as a plain tree."""

    type: str
    name: str
    properties: Mapping[str, Any]
    urn: str = ""

    @cached_property
    def kind(self) -> str:
        """Kubernetes kind (`Deployment`), or the last part of any other type token."""
        declared = self.properties.get("kind")
        if self.is_kubernetes and isinstance(declared, str):
            return declared
        return self.type.rsplit(":", 1)[-1].removesuffix("Patch")

    @cached_property
    def group(self) -> str:
        """Kubernetes API group (`apps`, `karpenter.sh`; empty for core), or the empty string."""
        if not self.is_kubernetes:
            return ""
        declared = self.properties.get("apiVersion")
        version = declared if isinstance(declared, str) else self.type.split(":")[1]
        group = version.split("/")[0] if "/" in version else ""
        return "" if group == "core" else group

    @property
    def is_kubernetes(self) -> bool:
        return self.type.startswith("kubernetes:") and self.type.count(":") == 2

    @cached_property
    def namespace(self) -> str:
        return text_at(self.properties, "metadata", "namespace", default="default")

    @cached_property
    def object_name(self) -> str:
        """`metadata.name`, which is what other objects refer to; the Pulumi name without one."""
        return text_at(self.properties, "metadata", "name", default=self.name)


def at(tree: Any, *keys: str | int, default: Any = None) -> Any:
    """The value at a path, `default` where the path ends early.

    Raises NotYetKnown when the value, or anything on the way to it, is not known yet.
    """
    for key in keys:
        if isinstance(tree, Unknown):
            raise NotYetKnown(tree.path)
        if isinstance(tree, Mapping):
            tree = tree.get(key)
        elif isinstance(tree, list) and isinstance(key, int) and key < len(tree):
            tree = tree[key]
        else:
            return default
    if isinstance(tree, Unknown):
        raise NotYetKnown(tree.path)
    return default if tree is None else tree


def text_at(tree: Any, *keys: str | int, default: str = "") -> str:
    """The text at a path; `default` where there is none, or something else than text."""
    found = at(tree, *keys, default=default)
    return found if isinstance(found, str) else default


def mapping_at(tree: Any, *keys: str | int) -> Mapping[str, Any]:
    """The mapping at a path; an empty one where there is none."""
    found = at(tree, *keys)
    return found if isinstance(found, Mapping) else {}


def list_at(tree: Any, *keys: str | int) -> list[Any]:
    """The list at a path; an empty one where there is none. Its items may still be unknown."""
    found = at(tree, *keys)
    return found if isinstance(found, list) else []


def known(value: Any) -> Any:
    """The value itself. Raises NotYetKnown for one that only the deployment will tell."""
    if isinstance(value, Unknown):
        raise NotYetKnown(value.path)
    return value


def judge_each(items: Iterable[Item], judge: Callable[[Item], Iterable[Said]]) -> Iterator[Said]:
    """What `judge` says about every item, so that one unknown value hides nothing else.

    Raises NotYetKnown at the end when some item could not be judged completely.
    """
    undecided: list[tuple[str, ...]] = []
    for item in items:
        try:
            yield from judge(item)
        except NotYetKnown as unknown:
            undecided.extend(unknown.paths)
    if undecided:
        raise NotYetKnown(*undecided)


def gather(
    items: Iterable[Item], find: Callable[[Item], Iterable[Said]]
) -> tuple[list[Said], tuple[tuple[str, ...], ...]]:
    """What `find` finds in every item, and the fields that were not known yet on the way."""
    found: list[Said] = []
    try:
        found.extend(judge_each(items, find))
    except NotYetKnown as unknown:
        return found, unknown.paths
    return found, ()


def texts(items: Iterable[Any]) -> list[str]:
    """The items that are text, in order. Raises NotYetKnown on an item not known yet."""
    return [item for item in map(known, items) if isinstance(item, str)]


def whole(value: Any, default: int) -> int:
    """A whole number from a wire value (numbers arrive as floats, some fields as text)."""
    if isinstance(value, bool) or value is None:
        return default
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return default


def is_true(value: Any) -> bool:
    """Booleans of providers come as true and as "true"."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def first_mapping(value: Any) -> Mapping[str, Any]:
    """A nested block, which some SDK versions send as a list of one."""
    value = known(value)
    if isinstance(value, list) and value:
        value = known(value[0])
    return value if isinstance(value, Mapping) else {}
