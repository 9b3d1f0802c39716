"""What every entry of the catalog shares: frozen, closed, with the source of its facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Precision = Literal["bf16", "fp16", "fp8", "int8", "int4", "mxfp4"]
INT4_GROUP_BITS = 20
"""What a group of 4-bit values shares: a scale of 16 bit and a zero point of 4 (AWQ, GPTQ)."""
BITS: Mapping[str, float] = {
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "int4": 4 + INT4_GROUP_BITS / 128,
    "mxfp4": 4 + 8 / 32,
}
"""Bits of a stored weight with its part of what a group shares: of 128 values where the checkpoint
does not say, a scale of 8 bit for 32 in MXFP4 (OCP Microscaling Formats)."""
Platform = Literal["aws"]
NodeOs = Literal["al2023", "bottlerocket"]
Phase = Literal[
    "signal",
    "node",
    "driver",
    "image",
    "weights",
    "process",
    "load",
    "compile",
    "graphs",
    "engine",
    "warmup",
]

_LOCAL_PATH = re.compile(r"(^|[\s(])(/|\./|\.\./|file:)\w")


def _citation(value: str) -> str:
    if _LOCAL_PATH.search(value):
        raise ValueError("a source is a public citation or URL, not a path of some machine")
    return value


Source = Annotated[str, StringConstraints(min_length=8), AfterValidator(_citation)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
AddonVersion = Annotated[str, StringConstraints(pattern=r"^v\d+\.\d+\.\d+-eksbuild\.\d+$")]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]


class Entry(BaseModel):
    """A frozen catalog entry; unknown fields are refused and `source` says where it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
