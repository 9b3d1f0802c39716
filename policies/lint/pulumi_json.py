"""Resources in what `pulumi preview --json` and `pulumi stack export` print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.values import Resource, Unknown

# sdk/go/common/resource/plugin/rpc.go: how a value that only the deployment tells is written.
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# sdk/go/common/resource/sig/signatures.go: the key that marks a wrapped value, and a secret's.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a published constant
_GONE = frozenset({"delete", "delete-replaced", "discard", "discard-replaced"})


def is_pulumi(content: Any) -> bool:
    """Whether a JSON document is one of the two."""
    return isinstance(content, Mapping) and (
        isinstance(content.get("steps"), list) or isinstance(content.get("deployment"), Mapping)
    )


def resources_of(content: Mapping[str, Any]) -> Iterator[Resource]:
    """The resources that will be there: planned ones of a preview, existing ones of an export."""
    if isinstance(content.get("steps"), list):
        states = [
            step.get("newState")
            for step in content["steps"]
            if isinstance(step, Mapping) and step.get("op") not in _GONE
        ]
    else:
        states = content["deployment"].get("resources") or []
    seen: set[str] = set()
    for state in states:
        if not isinstance(state, Mapping) or state.get("delete") or "urn" not in state:
            continue
        urn = str(state["urn"])
        # A replacement appears as create and as replace.
        if urn in seen:
            continue
        seen.add(urn)
        name = urn.split("::", 3)[-1]
        inputs = state.get("inputs")
        properties = _known(inputs, (name,)) if isinstance(inputs, Mapping) else {}
        yield Resource(str(state.get("type", "")), name, properties, urn)


def _known(tree: Any, path: tuple[str, ...]) -> Any:
    if tree == _UNKNOWN:
        return Unknown(path)
    if isinstance(tree, Mapping):
        if tree.get(_SIGNATURE) == _SECRET:
            plain = tree.get("plaintext")
            # A secret's text is not for a report: what it holds stays undecided.
            return Unknown(path) if plain is None or isinstance(plain, str) else plain
        return {str(key): _known(value, (*path, str(key))) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_known(item, (*path, str(index))) for index, item in enumerate(tree)]
    return tree
