"""Files of a folder that a kustomization merges into objects, so that they are none themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from policies.lint.yaml_documents import MAX_FILE_BYTES, DocumentError, decoded, documents

NAMES = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})
_WITH_PATH = ("patches", "patchesJson6902")


def patches_of(kustomizations: Iterable[Path]) -> frozenset[str]:
    """Normal paths of the patch files that kustomizations name.

    A kustomization that cannot be read names none here: reading it for itself says why.
    """
    return frozenset(
        os.path.normpath(file.parent / name) for file in kustomizations for name in _named_by(file)
    )


def _named_by(file: Path) -> Iterator[str]:
    try:
        with file.open("rb") as handle:
            contents = [item.content for item in documents(decoded(handle.read(MAX_FILE_BYTES)))]
    except (OSError, DocumentError):
        return
    for content in contents:
        if not isinstance(content, Mapping):
            continue
        for field in _WITH_PATH:
            for patch in _list(content.get(field)):
                if isinstance(patch, Mapping) and isinstance(patch.get("path"), str):
                    yield patch["path"]
        # Items of this older field are paths or whole patches.
        yield from (
            patch
            for patch in _list(content.get("patchesStrategicMerge"))
            if isinstance(patch, str) and "\n" not in patch
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
