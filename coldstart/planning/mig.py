"""The smallest slice of a GPU that holds a model (NVIDIA Multi-Instance GPU)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coldstart.capacity.memory import MIG_SLICE_LOSS_GIB, Adapters
from coldstart.catalog import Accelerator, MigProfile, Model
from coldstart.planning.decision import Rejection
from coldstart.planning.fit import UTILIZATION, fits
from coldstart.planning.fit_plan import FitPlan


@dataclass(frozen=True, slots=True)
class MigChoice:
    """A slice, how the model lies in it, why this one, and the smaller ones turned down."""

    profile: MigProfile
    fit: FitPlan
    reason: str
    rejected: tuple[Rejection[str], ...]


def slice_gib(accelerator: Accelerator, profile: MigProfile) -> float:
    """GiB of memory of one slice, as `nvidia-smi` shows it."""
    return accelerator.visible_gib * profile.memory_eighths / 8 - MIG_SLICE_LOSS_GIB


def smallest_slice(
    model: Model,
    accelerator: Accelerator,
    profiles: Iterable[MigProfile],
    *,
    precision: str | None = None,
    kv_cache: str = "bf16",
    concurrency: int = 32,
    context_tokens: int | None = None,
    adapters: Adapters | None = None,
    utilization: float = UTILIZATION,
) -> MigChoice | None:
    """The slice with the least memory, then the fewest compute slices, that serves the model.

    `profiles` are `catalog.mig_profiles[accelerator.key]`; None when none of them holds it. One
    slice is one GPU to vLLM: slices cannot work on one model together.
    """
    precision = precision or model.native_precision
    if precision not in model.weight_bytes or not accelerator.runs(precision):
        return None
    rejected: list[Rejection[str]] = []
    for profile in sorted(profiles, key=lambda p: (p.memory_eighths, p.compute_slices)):
        memory_gib = slice_gib(accelerator, profile)
        fit = fits(
            model,
            accelerator,
            precision=precision,
            kv_cache=kv_cache,
            concurrency=concurrency,
            context_tokens=context_tokens,
            adapters=adapters,
            utilization=utilization,
            visible_gib=memory_gib,
        )
        if fit.holds:
            return MigChoice(
                profile,
                fit,
                f"{memory_gib:.1f} GiB hold weights of {fit.weights_gib:.1f} GiB and "
                f"{fit.most_sequences} requests at once; one {accelerator.marketing_name} serves "
                f"{profile.instances} such replicas",
                tuple(rejected),
            )
        rejected.append(
            Rejection(
                profile.profile,
                f"of {memory_gib:.1f} GiB, weights take {fit.weights_gib:.1f} and "
                f"{fit.overhead_gib:.1f} go to activations and graphs; {fit.most_sequences} of "
                f"{concurrency} requests fit",
            )
        )
    return None
