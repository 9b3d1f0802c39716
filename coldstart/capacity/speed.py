"""How fast one replica answers, as three numbers a queue or a simulator can work with."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """One replica: prompts are read at a rate, every running sequence gets a token each step.

    A step takes `step_seconds` plus `step_seconds_per_sequence` for each sequence in the batch.
    """

    prefill_tokens_per_second: float
    step_seconds: float
    step_seconds_per_sequence: float

    def __post_init__(self) -> None:
        for figure in (self.prefill_tokens_per_second, self.step_seconds):
            if not (math.isfinite(figure) and figure > 0):
                raise ValueError("a replica reads at a positive rate and a step takes time")
        if not (
            math.isfinite(self.step_seconds_per_sequence) and self.step_seconds_per_sequence >= 0
        ):
            raise ValueError("a sequence cannot shorten a step")

    def prefill_seconds(self, prompt_tokens: float) -> float:
        """Seconds to read a prompt with the replica to itself."""
        return prompt_tokens / self.prefill_tokens_per_second

    def tpot_seconds(self, running: float) -> float:
        """Seconds per output token with `running` sequences in the batch."""
        return self.step_seconds + self.step_seconds_per_sequence * running
