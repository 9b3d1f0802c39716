"""From paths to resources: files, folders, standard input; manifests and Pulumi's JSON."""

from __future__ import annotations

import codecs
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from policies.lint import placeholders
from policies.lint.kustomizations import NAMES as KUSTOMIZATION_NAMES
from policies.lint.kustomizations import patches_of
from policies.lint.pulumi_json import is_pulumi, resources_of
from policies.lint.yaml_documents import (
    MAX_FILE_BYTES,
    Document,
    DocumentError,
    decoded,
    documents,
)
from policies.manifests import is_object, resource_of
from policies.reading.values import Resource

STANDARD_INPUT = "-"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
# A folder of folders that ends in itself through a link is left after this many.
_MAX_FILES = 100_000
# Every Kubernetes object has the first, Pulumi's JSON one of the others; a key written with escapes
# may be any of them. Other files of a folder (settings of tools, data) are not for this reader.
_MARKS = (b"apiVersion", b'"steps"', b'"deployment"', b"\\u00", b"\\x")
# Text of two or four bytes a character hides every mark; reading it says that it is not UTF-8.
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be read, or not to its end."""

    path: str
    line: int
    message: str


@dataclass(frozen=True)
class Place:
    """Where a resource is written."""

    path: str
    line: int


@dataclass
class Stack:
    """What one path holds; its resources are judged together."""

    path: str
    resources: list[Resource] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    """Where each resource is written, by `id` of the resource."""
    problems: list[Problem] = field(default_factory=list)
    files: int = 0

    def place_of(self, resource: Resource) -> Place:
        return self.places.get(id(resource), Place(self.path, 1))

    def add(self, resource: Resource, path: str, line: int) -> None:
        """Take a resource in."""
        self.resources.append(resource)
        self.places[id(resource)] = Place(path, line)


def read(paths: Sequence[str], standard_input: BinaryIO) -> list[Stack]:
    """One stack per path; what cannot be read becomes a problem of its stack."""
    return [_stack(path, standard_input) for path in paths]


def _stack(path: str, standard_input: BinaryIO) -> Stack:
    stack = Stack(path)
    if path == STANDARD_INPUT:
        _take(stack, "<stdin>", lambda: standard_input.read(MAX_FILE_BYTES + 1))
        return stack
    given = Path(path)
    # An unset variable of a script would have the working folder judged in its place.
    if not path or not given.exists():
        stack.problems.append(Problem(path, 1, "there is no such file or folder"))
        return stack
    if not given.is_dir():
        _take(stack, given.as_posix(), lambda: _bytes(given))
        return stack
    _take_folder(stack, given)
    if not stack.files and not stack.problems:
        message = "no .yaml, .yml or .json file with an object in it"
        stack.problems.append(Problem(path, 1, message))
    return stack


def _take_folder(stack: Stack, given: Path) -> None:
    files = list(itertools.islice(_files(given), _MAX_FILES + 1))
    if len(files) > _MAX_FILES:
        message = f"more than {_MAX_FILES:,} files; name the folders to check"
        stack.problems.append(Problem(stack.path, 1, message))
    patches = patches_of(file for file in files if file.name in KUSTOMIZATION_NAMES)
    for file in files[:_MAX_FILES]:
        if file.suffix in _SUFFIXES and os.path.normpath(file) not in patches:
            _take(stack, file.as_posix(), lambda file=file: _bytes(file), marked=True)


def _files(given: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(given):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            # Whoever opens a pipe waits for somebody to write.
            if (file.suffix in _SUFFIXES or name in KUSTOMIZATION_NAMES) and not file.is_fifo():
                yield file


def _bytes(file: Path) -> bytes:
    with file.open("rb") as handle:
        return handle.read(MAX_FILE_BYTES + 1)


def _take(
    stack: Stack, path: str, read_bytes: Callable[[], bytes], *, marked: bool = False
) -> None:
    """Read one file; with `marked` only if a word in it says that it can hold a resource."""
    text = ""
    try:
        raw = read_bytes()
        if marked and not (raw.startswith(_OTHER_ENCODINGS) or any(mark in raw for mark in _MARKS)):
            return
        stack.files += 1
        text = decoded(raw)
        if not marked and not text.strip():
            # What a command before a pipe leaves when it fails.
            stack.problems.append(Problem(path, 1, "empty; see what was to write it"))
        has_placeholders = placeholders.may_be_in(text)
        for document in documents(text):
            for resource in _resources(document, has_placeholders=has_placeholders):
                stack.add(resource, path, document.line)
    except OSError as error:
        stack.problems.append(Problem(path, 1, f"cannot be read: {error.strerror}"))
    except DocumentError as error:
        # A template is no YAML before it is rendered, and the parser's words do not say so.
        message = str(error)
        if "{{" in text:
            message += "; this looks like a Helm template: check what `helm template` prints"
        stack.problems.append(Problem(path, error.line, message))


def _resources(document: Document, *, has_placeholders: bool) -> Iterator[Resource]:
    content = placeholders.marked(document.content) if has_placeholders else document.content
    if is_pulumi(content):
        yield from resources_of(content)
    else:
        yield from _objects([content])


def _objects(contents: Iterable[Any]) -> Iterator[Resource]:
    for content in contents:
        if not is_object(content):
            continue
        items = content.get("items")
        if str(content["kind"]).endswith("List") and isinstance(items, list):
            yield from _objects(_with_kind(content, item) for item in items)
        else:
            yield resource_of(content)


def _with_kind(container: Mapping[str, Any], item: Any) -> Any:
    """Items of a typed list, such as a DeploymentList, need not repeat what they are."""
    kind = str(container["kind"]).removesuffix("List")
    if not isinstance(item, Mapping) or not kind:
        return item
    return {"apiVersion": container["apiVersion"], "kind": kind, **item}
