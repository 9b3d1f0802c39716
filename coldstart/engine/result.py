"""What the engine did, read from its own event log and never from coloured text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNKNOWN = "<known after up>"
"""Stands in outputs and inputs for what a preview cannot know."""
SECRET = "<secret>"  # noqa: S105 - what is shown instead of one
"""Stands in outputs and inputs for a secret."""

# Default providers are the engine's own; its summary does not count them either.
_PROVIDER_TYPES = "pulumi:providers:"

STACK_TYPE = "pulumi:pulumi:Stack"

# How the engine writes special values (sdk/go/common/resource/properties.go, v3.259.0).
_SIGNATURE_KEY = "4dabf18193072939515e22adb298388d"
_SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a public constant
# What the policy SDK reports for a rule that met a value not known yet.
_NOT_KNOWN_YET = re.compile(r"value at \.?(?P<field>\S+) can't be known during preview")
_UNKNOWNS = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)

# The event log calls an advisory rule's level "warning" or "advisory", depending on the version.
_LEVELS = {"warning": "advisory"}


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on one resource."""

    op: str
    """create, update, delete, replace, create-replacement, delete-replaced, same, read, refresh."""
    urn: str
    type: str
    name: str
    parent: str
    """URN of the parent; empty for the stack itself."""
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    changed: tuple[str, ...]
    """Property paths that differ."""
    replaced_by: tuple[str, ...]
    """Properties that force a replacement."""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """One complaint of a policy about one resource, or about the whole stack."""

    policy: str
    pack: str
    level: str
    """mandatory, advisory or remediate."""
    severity: str
    """low, medium, high, critical, or empty when the policy states none."""
    urn: str
    message: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """A policy that met a value of which only the deployment will tell."""

    policy: str
    field: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message of the engine, a provider or the program."""

    severity: str
    """info, info#err, warning or error."""
    urn: str
    message: str


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """How often one policy passed and failed over the resources it saw."""

    policy: str
    pack: str
    passed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Result:
    """How one run of the engine ended."""

    exit_code: int
    summary: Mapping[str, int]
    """Number of resources per operation, as the engine counts them."""
    resources: tuple[Step, ...]
    violations: tuple[Violation, ...]
    undecided: tuple[Undecided, ...]
    policy_results: tuple[PolicyResult, ...]
    diagnostics: tuple[Diagnostic, ...]
    outputs: Mapping[str, Any]
    """The stack's outputs; UNKNOWN and SECRET stand for what cannot be shown."""
    duration_seconds: float
    stdout: str = ""
    """What the CLI wrote for people; for a log file, not for parsing."""
    stderr: str = ""

    @property
    def ok(self) -> bool:
        """Whether the engine ended without an error."""
        return self.exit_code == 0

    @property
    def changed(self) -> tuple[Step, ...]:
        """The steps that change something, so neither `same` nor a plain read or refresh."""
        return tuple(step for step in self.resources if step.op not in _UNCHANGED)

    @property
    def errors(self) -> tuple[str, ...]:
        """The engine's error messages; what the CLI wrote when it failed before any event."""
        messages = tuple(
            diagnostic.message.strip()
            for diagnostic in self.diagnostics
            if diagnostic.severity == "error"
        )
        if self.ok or messages:
            return messages
        return (self.stderr.strip() or self.stdout.strip(),)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the engine, a provider or an API server warned of, each with its resource."""
        return tuple(
            f"{diagnostic.urn.split('::', 3)[-1]}: {diagnostic.message.strip()}".removeprefix(": ")
            for diagnostic in self.diagnostics
            if diagnostic.severity == "warning"
        )


_UNCHANGED = frozenset({"same", "read", "refresh", "discard"})


@dataclass
class _Collected:
    steps: dict[tuple[str, str], Step] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    undecided: list[Undecided] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    policies: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    summary: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a log file; none when the engine ended before it wrote one.

    A last line that was cut off, because the engine was ended, is left out.
    """
    if not path.is_file():
        return []
    events: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


def result_from_events(
    events: Iterable[Mapping[str, Any]],
    *,
    exit_code: int,
    duration_seconds: float,
    stdout: str = "",
    stderr: str = "",
) -> Result:
    """Put an engine's events together to a Result."""
    collected = _Collected()
    for event in events:
        for kind, handle in _HANDLERS.items():
            if event.get(kind) is not None:
                handle(collected, event[kind])
    return Result(
        exit_code=exit_code,
        summary=collected.summary,
        resources=tuple(collected.steps.values()),
        violations=tuple(dict.fromkeys(collected.violations)),
        undecided=tuple(dict.fromkeys(collected.undecided)),
        policy_results=tuple(
            PolicyResult(policy, pack, passed, failed)
            for (pack, policy), (passed, failed) in sorted(collected.policies.items())
        ),
        diagnostics=tuple(collected.diagnostics),
        outputs=collected.outputs,
        duration_seconds=duration_seconds,
        stdout=stdout,
        stderr=stderr,
    )


def readable(value: Any) -> Any:
    """`value` with the engine's special values replaced by UNKNOWN and SECRET."""
    if isinstance(value, dict):
        if value.get(_SIGNATURE_KEY) == _SECRET_SIGNATURE:
            return SECRET
        return {key: readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [readable(item) for item in value]
    return UNKNOWN if isinstance(value, str) and value in _UNKNOWNS else value


def _on_step(collected: _Collected, event: Mapping[str, Any], *, failed: bool = False) -> None:
    metadata = event["metadata"]
    if metadata["type"].startswith(_PROVIDER_TYPES) and "::default" in metadata["urn"]:
        return
    state = metadata.get("new") or metadata.get("old") or {}
    step = Step(
        op=metadata["op"],
        urn=metadata["urn"],
        type=metadata["type"],
        name=metadata["urn"].split("::", 3)[-1],
        parent=state.get("parent") or "",
        inputs=readable(state.get("inputs") or {}),
        outputs=readable(state.get("outputs") or {}),
        changed=tuple(sorted(metadata.get("detailedDiff") or metadata.get("diffs") or ())),
        replaced_by=tuple(metadata.get("keys") or ()),
        failed=failed,
    )
    collected.steps[(step.urn, step.op)] = step


def _on_outputs(collected: _Collected, event: Mapping[str, Any]) -> None:
    _on_step(collected, event)
    metadata = event["metadata"]
    if metadata["type"] == STACK_TYPE:
        state = metadata.get("new") or {}
        collected.outputs = readable(state.get("outputs") or {})


def _on_failure(collected: _Collected, event: Mapping[str, Any]) -> None:
    _on_step(collected, event, failed=True)


def _on_violation(collected: _Collected, event: Mapping[str, Any]) -> None:
    level = str(event.get("enforcementLevel", ""))
    message = _plain_text(event.get("message", ""))
    unknown = _NOT_KNOWN_YET.search(message)
    if unknown:
        collected.undecided.append(Undecided(event["policyName"], unknown["field"]))
        return
    collected.violations.append(
        Violation(
            policy=event["policyName"],
            pack=event.get("policyPackName", ""),
            level=_LEVELS.get(level, level),
            severity=event.get("severity", ""),
            urn=event.get("resourceUrn", ""),
            message=message,
        )
    )


def _on_policy_summary(collected: _Collected, event: Mapping[str, Any]) -> None:
    pack = event.get("policyPackName", "")
    for index, key in enumerate(("passed", "failed")):
        for policy in event.get(key) or ():
            collected.policies.setdefault((pack, policy), [0, 0])[index] += 1


def _on_diagnostic(collected: _Collected, event: Mapping[str, Any]) -> None:
    message = _plain_text(event.get("message", ""))
    # "debug" is what the SDK tells about every call it makes.
    if event.get("ephemeral") or event.get("severity") == "debug" or not message.strip():
        return
    collected.diagnostics.append(
        Diagnostic(event.get("severity", ""), event.get("urn", ""), message)
    )


def _on_error(collected: _Collected, event: Mapping[str, Any]) -> None:
    collected.diagnostics.append(Diagnostic("error", "", event.get("error", "")))


def _on_summary(collected: _Collected, event: Mapping[str, Any]) -> None:
    collected.summary = dict(event.get("resourceChanges") or {})


def _plain_text(message: str) -> str:
    """`message` without the engine's colour directives (`<{%reset%}>`)."""
    parts = message.split("<{%")
    return parts[0] + "".join(part.partition("%}>")[2] for part in parts[1:])


_HANDLERS = {
    "resourcePreEvent": _on_step,
    "resOutputsEvent": _on_outputs,
    "resOpFailedEvent": _on_failure,
    "policyEvent": _on_violation,
    "policyAnalyzeSummaryEvent": _on_policy_summary,
    "policyAnalyzeStackSummaryEvent": _on_policy_summary,
    "diagnosticEvent": _on_diagnostic,
    "errorEvent": _on_error,
    "summaryEvent": _on_summary,
}
