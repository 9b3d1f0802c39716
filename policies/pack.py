"""Puts the rules into a Pulumi policy pack. All that knows pulumi_policy is here."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pulumi_policy.policy as sdk
from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError

from policies.reading.values import Resource, Unknown
from policies.rule import Outcome, ResourceRule, Rule, StackRule
from policies.rules import RULES

PACK_NAME = "coldstart"
JUDGED_PROVIDERS = (
    "kubernetes:",
    "aws:",
    "aws-native:",
    "azure-native:",
    "azure-native_",
    "azure:",
    "gcp:",
    "digitalocean:",
)


# Resources of the largest stack whose readings are kept at a time.
_KEPT_READINGS = 4096
# Python's own is 700, with which a third of a stack's judgement is collection.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


class _OncePerObject:
    """A function of one object, computed once per object (not per equal one) while it is kept."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._kept: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def __call__(self, subject: Any, *more: Any) -> Any:
        key = (id(subject), *more)
        found = self._kept.get(key)
        # Whoever is kept is alive, so its identity belongs to nobody else.
        if found is None:
            if len(self._kept) >= _KEPT_READINGS:
                self._kept.clear()
            found = self._kept[key] = (subject, self._function(subject, *more))
        return found[1]


def read_each_resource_once() -> None:
    """Let the SDK read a resource once instead of once per rule, which costs seconds per preview.

    The SDK turns a resource's message into a checked tree anew for each policy, and no rule changes
    what it reads. An SDK without these three steps is left as it is: slower, never wrong.
    """
    for name in ("deserialize_properties", "unknown_checking_proxy"):
        step = getattr(sdk, name, None)
        if callable(step) and not isinstance(step, _OncePerObject):
            setattr(sdk, name, _OncePerObject(step))
    messages = getattr(sdk, "json_format", None)
    to_dict = getattr(messages, "MessageToDict", None)
    if callable(to_dict) and not isinstance(to_dict, _OncePerObject):
        once = {**vars(messages), "MessageToDict": _OncePerObject(to_dict)}
        setattr(sdk, "json_format", SimpleNamespace(**once))  # noqa: B010 - not for type checkers


class Inputs:
    """What the program asked for, by URN, as seen while resources were registered.

    The engine gives stack policies outputs, and those are empty in a preview whose cluster does
    not exist yet: the inputs seen just before are what can be judged then.
    """

    def __init__(self) -> None:
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._kept: dict[str, tuple[Mapping[str, Any], Resource]] = {}

    def remember(self, urn: str, properties: Mapping[str, Any]) -> None:
        self._raw[urn] = properties

    def resource(self, token: str, name: str, urn: str, outputs: Mapping[str, Any]) -> Resource:
        """A resource with its inputs as a plain tree; its outputs where no inputs were seen.

        The same object for every rule, so that what one rule read of it, the next has at hand.
        """
        properties = self._raw.get(urn, outputs)
        kept = self._kept.get(urn)
        if kept is None or kept[0] is not properties:
            resource = Resource(token, name, plain(properties, (name,)), urn)
            kept = self._kept[urn] = (properties, resource)
        return kept[1]


def policies(rules: Sequence[Rule] = RULES) -> list[Policy]:
    """One pulumi_policy object per rule; they share what the program asked for."""
    inputs = Inputs()
    return [_policy(rule, inputs) for rule in rules]


def serve() -> None:
    """Start the pack's server. Never returns: the engine ends the process."""
    read_each_resource_once()
    found = policies()
    # Readings are kept to the end, so looking for rubbish among them costs time and finds none.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    PolicyPack(
        name=PACK_NAME,
        enforcement_level=EnforcementLevel.MANDATORY,
        policies=found,
        description="Refuses what cancels a cold-start mechanism or opens a GPU serving stack.",
    )


def plain(value: Any, path: tuple[str, ...] = ()) -> Any:
    """A tree of dicts and lists from the SDK's proxies, with Unknown where access is refused."""
    if isinstance(value, Mapping):
        return {str(key): _item(value, key, path) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_item(value, index, path) for index in range(len(value))]
    return value


def _item(container: Any, key: Any, path: tuple[str, ...]) -> Any:
    below = (*path, str(key))
    try:
        return plain(container[key], below)
    except UnknownValueError:
        return Unknown(below)


def _policy(rule: Rule, inputs: Inputs) -> Policy:
    shared: dict[str, Any] = {
        "name": rule.name,
        "description": rule.description,
        "display_name": rule.title,
        "enforcement_level": EnforcementLevel(rule.level),
        "severity": Severity(rule.severity),
        "tags": list(rule.tags),
        "remediation_steps": rule.remediation,
        "config_schema": _schema(rule),
    }
    if isinstance(rule, ResourceRule):
        return ResourceValidationPolicy(validate=_resource_validation(rule, inputs), **shared)
    if isinstance(rule, StackRule):
        return StackValidationPolicy(validate=_stack_validation(rule, inputs), **shared)
    raise TypeError(f"rule {rule.name} is neither a ResourceRule nor a StackRule")


def _schema(rule: Rule) -> PolicyConfigSchema | None:
    if not rule.options:
        return None
    return PolicyConfigSchema({option.name: dict(option.schema) for option in rule.options})


def _resource_validation(rule: ResourceRule, inputs: Inputs) -> Any:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        inputs.remember(args.urn, args.props)
        if rule.reads(args.resource_type):
            resource = inputs.resource(args.resource_type, args.name, args.urn, args.props)
            _report(rule.run(resource, args.get_config()), report)

    return validate


def _stack_validation(rule: StackRule, inputs: Inputs) -> Any:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = [
            _judged(inputs, item)
            for item in args.resources
            if item.resource_type.startswith(JUDGED_PROVIDERS)
        ]
        _report(rule.run(resources, args.get_config()), report)

    return validate


def _judged(inputs: Inputs, item: Any) -> Resource:
    resource = inputs.resource(item.resource_type, item.name, item.urn, item.props)
    if resource.properties or not item.resource_type.startswith("kubernetes:"):
        return resource
    # Neither inputs nor outputs were seen: nothing about this object is decidable yet.
    return replace(
        resource, properties={key: Unknown((item.name, key)) for key in ("metadata", "spec")}
    )


def _report(outcome: Outcome, report: ReportViolation) -> None:
    """Violations first, then the advisory the engine prints for values not known yet."""
    for finding in outcome.findings:
        report(finding.message, finding.resource.urn or None)
    if outcome.undecided:
        raise UnknownValueError(UNKNOWN_STRING_VALUE, list(outcome.undecided[0]))
