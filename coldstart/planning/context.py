"""What every decision of one stack may look at."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.catalog import Catalog, EngineVersion
from coldstart.spec.model import StackSpec

IMAGE_ARCHITECTURE = "amd64"
"""The manifest that the catalog's engine image is pinned and measured by."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The engine image as nodes pull it: registry, digest, compressed and unpacked bytes."""

    registry: str
    digest: str
    compressed_bytes: int
    unpacked_bytes: int


@dataclass(frozen=True, slots=True)
class Context:
    """The stack file, the catalog, the engine to run, and whether a shared file system exists."""

    spec: StackSpec
    catalog: Catalog
    engine: EngineVersion
    image: ImageFacts
    shared_file_system: bool
