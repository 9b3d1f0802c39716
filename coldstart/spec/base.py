"""What every part of a stack file shares: frozen, closed, camel case in the file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]


class Spec(BaseModel):
    """One mapping of the stack file; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False, strict=False
    )
