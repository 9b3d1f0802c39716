"""Acts of a rehearsal: the real engine, the whole program, no account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coldstart.cli.target import Progress, Target, stage
from coldstart.engine import Rehearsal, Result
from coldstart.spec import Environment, Layer, StackSpec
from policies import presets

POLICIES = "policies"
_PRESETS = {Environment.PROD: "production", Environment.DEV: "development"}
_DISK_SETUP = "kubernetes-daemonset-forbid-privileged-disk-setup"


@dataclass(frozen=True, slots=True)
class Act:
    """One run of the engine and what it had to show."""

    name: str
    expected: str
    ok: bool
    result: Result

    def data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "name": self.name,
            "expected": self.expected,
            "ok": self.ok,
            **outcome_data(self.result),
        }


def outcome_data(result: Result) -> dict[str, Any]:
    """A result without the inputs and outputs of every resource."""
    return {
        "ok": result.ok,
        "changes": dict(result.summary),
        "resources": [
            {"op": s.op, "type": s.type, "name": s.name, "urn": s.urn} for s in result.resources
        ],
        "violations": [asdict(violation) for violation in result.violations],
        "undecided": [asdict(item) for item in result.undecided],
        "policies": [asdict(policy) for policy in result.policy_results],
        "errors": list(result.errors),
        "warnings": list(result.warnings),
        "durationSeconds": round(result.duration_seconds, 2),
    }


def policy_config(spec: StackSpec) -> Mapping[str, Any]:
    """The preset of the stack's environment: what is allowed in dev is not in prod."""
    config = presets.policy_config(_PRESETS[spec.environment])
    config[_DISK_SETUP]["environment"] = str(spec.environment)
    return config


@dataclass(frozen=True, slots=True)
class Done:
    """How an up ended; `kubeconfig` reaches what stays of it, None when nothing does."""

    result: Result
    kubeconfig: Path | None


def preview_stack(
    root: Path,
    spec: StackSpec,
    progress: Progress,
    *,
    policies: bool,
    target: Target = Target.STAND_INS,
) -> Result:
    """Preview `spec`; a stack that refers to another finds that one up."""
    with stage(target, root, progress) as on:
        failed = _infra_up(on.rehearsal, spec, progress)
        if failed is not None:
            return failed
        progress(f"pulumi preview -s {spec.stack}")
        return on.rehearsal.preview(
            spec.stack,
            root / POLICIES if policies else None,
            policy_config(spec) if policies else None,
        )


def up_stack(root: Path, spec: StackSpec, progress: Progress, target: Target) -> Done:
    """Make `spec` so, after the stack that it refers to."""
    with stage(target, root, progress) as on:
        failed = _infra_up(on.rehearsal, spec, progress)
        if failed is not None:
            return Done(failed, on.kubeconfig)
        progress(f"pulumi up -s {spec.stack}")
        result = on.rehearsal.up(spec.stack, root / POLICIES, policy_config(spec))
        return Done(result, on.kubeconfig)


def rehearse_stack(
    root: Path, spec: StackSpec, progress: Progress, target: Target = Target.STAND_INS
) -> list[Act]:
    """Preview, up, up again, refresh, destroy; stops at the first act that fails."""
    acts: list[Act] = []
    with stage(target, root, progress) as on:
        rehearsal = on.rehearsal
        failed = _infra_up(rehearsal, spec, progress)
        if failed is not None:
            return [
                Act(f"up {spec.infra_stack}", "the cluster this stack refers to", False, failed)
            ]
        pack, config = root / POLICIES, policy_config(spec)
        script: list[tuple[str, str, Callable[[], Result], Callable[[Result], bool]]] = [
            (
                "preview",
                "every policy passes",
                lambda: rehearsal.preview(spec.stack, pack, config),
                lambda r: not r.violations,
            ),
            (
                "up",
                "everything is made",
                lambda: rehearsal.up(spec.stack, pack, config),
                lambda r: True,
            ),
            (
                "up again",
                "nothing changes",
                lambda: rehearsal.up(spec.stack),
                lambda r: not r.changed,
            ),
            ("refresh", "no drift", lambda: rehearsal.refresh(spec.stack), lambda r: not r.changed),
            (
                "destroy",
                "everything is removed",
                lambda: rehearsal.destroy(spec.stack),
                lambda r: True,
            ),
        ]
        for name, expected, run, holds in script:
            progress(f"{name} {spec.stack}")
            result = run()
            acts.append(Act(name, expected, result.ok and holds(result), result))
            if not acts[-1].ok:
                break
    return acts


def _infra_up(rehearsal: Rehearsal, spec: StackSpec, progress: Progress) -> Result | None:
    if Layer.INFRA in spec.layers or spec.infra_stack is None:
        return None
    progress(f"pulumi up -s {spec.infra_stack}, which {spec.stack} refers to")
    result = rehearsal.up(spec.infra_stack)
    return None if result.ok else result
