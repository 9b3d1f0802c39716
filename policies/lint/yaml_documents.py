"""YAML documents of anybody, read with bounded time and memory.

Every limit guards against input that is small on disk and huge in memory, or that never ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

# A rendered kube-prometheus-stack with its definitions, the largest common chart, is under 5 MB.
MAX_FILE_BYTES = 16 * 1024 * 1024
# Values of one file as it is written; the definitions above have about 200,000. A million take some
# 350 MB while they are read.
MAX_NODES = 1_000_000
# Values after every alias is written out, per written one and beside them: what is kept of a file
# stays in proportion to its text, however many files there are.
_UNFOLDED_PER_NODE = 20
_UNFOLDED_BESIDE = 1_000
# The deepest definition of a common operator nests 40 levels; the C parser ends the whole process
# somewhere beyond 10,000.
MAX_DEPTH = 200

_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc, valid-type]
    """Safe loading without dates and without `=`: the Kubernetes API has none, only text."""


# The definitions of prometheus-operator list `=` among the values of an enumeration.
_TEXT = frozenset({"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"})
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _TEXT]
    for first, found in _BASE.yaml_implicit_resolvers.items()
}


class DocumentError(Exception):
    """A file, or the rest of it, cannot be read; `line` is where, from 1."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document and the line it starts on, from 1."""

    content: Any
    line: int


def decoded(raw: bytes) -> str:
    """The text of a file. Raises DocumentError for one that is too large or not UTF-8."""
    if len(raw) > MAX_FILE_BYTES:
        raise DocumentError(
            f"larger than the limit of {MAX_FILE_BYTES // 2**20} MiB; split it into several files"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(
            f"byte {error.start} ({raw[error.start]:#04x}) is not UTF-8; save the file as UTF-8",
            line,
        ) from None


def documents(text: str) -> Iterator[Document]:
    """The documents of a YAML or JSON text, in order.

    Raises DocumentError at the first that cannot be read; those before it have been given.
    """
    loader = _Loader(text)
    line = 1
    try:
        sizes = _Sizes(_UNFOLDED_BESIDE + _UNFOLDED_PER_NODE * _written_nodes(text))
        while loader.check_node():
            node = loader.get_node()
            line = node.start_mark.line + 1
            sizes.take(node)
            yield Document(_plain(loader.construct_document(node)), line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(f"not valid YAML: {said}", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise DocumentError(
            f"not valid YAML: character U+{code:04X} is not allowed", line
        ) from None
    except (ValueError, OverflowError):
        # Python's own words speak of its settings.
        message = "a number, or a date, that nothing can hold; write it as text in quotes"
        raise DocumentError(message, line) from None
    finally:
        loader.dispose()


def _written_nodes(text: str) -> int:
    """Values of a text, aliases counted as one each.

    Raises DocumentError for more than can be held, and for nesting that would end the process
    while the tree is built.
    """
    depth = count = 0
    try:
        for event in yaml.parse(text, _Loader):
            count += isinstance(event, yaml.NodeEvent)
            if count > MAX_NODES:
                line = event.start_mark.line + 1
                raise DocumentError(
                    f"more than {MAX_NODES:,} values; split it into several files", line
                )
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    line = event.start_mark.line + 1
                    raise DocumentError(f"nested deeper than {MAX_DEPTH} levels", line)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        # Said, with its place, when the documents before it have been given.
        pass
    return count


class _Sizes:
    """Counts the nodes of a file with aliases written out, without writing them out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def take(self, document: yaml.Node) -> None:
        """Count a document in.

        Raises DocumentError over the limits of values and depth, and for an anchor inside itself.
        """
        # Nodes of the document before are gone, their identities may belong to others.
        self._known.clear()
        self._taken += self._of(document, 1)[0]
        self._refuse_over(self._taken, document)

    def _of(self, node: yaml.Node, level: int) -> tuple[int, int]:
        """Nodes and levels under `node`, itself included."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        key = id(node)
        if key in self._open:
            raise DocumentError("an anchor contains itself", node.start_mark.line + 1)
        if key not in self._known:
            self._open.add(key)
            below = [self._of(child, level + 1) for child in _children(node)]
            self._open.remove(key)
            self._known[key] = (
                1 + sum(nodes for nodes, _ in below),
                1 + max((levels for _, levels in below), default=0),
            )
        nodes, levels = self._known[key]
        self._refuse_over(nodes, node)
        if level + levels > MAX_DEPTH + 2:
            message = f"nested deeper than {MAX_DEPTH} levels by its aliases"
            raise DocumentError(message, node.start_mark.line + 1)
        return nodes, levels

    def _refuse_over(self, nodes: int, node: yaml.Node) -> None:
        if nodes > self._most:
            message = f"aliases unfold to more than {self._most:,} values"
            raise DocumentError(message, node.start_mark.line + 1)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _plain(tree: Any) -> Any:
    """The tree with text as keys, as the API server reads it."""
    if isinstance(tree, dict):
        return {key if isinstance(key, str) else str(key): _plain(tree[key]) for key in tree}
    if isinstance(tree, list):
        return [_plain(item) for item in tree]
    return tree
