"""IAM policy documents of AWS, wherever a resource carries one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.values import Resource, at, known, list_at, text_at

# Identity policies: what a role, user or group may do. A resource's own policy is none.
_HOLDERS = {
    "aws:iam/policy:Policy": "policy",
    "aws:iam/rolePolicy:RolePolicy": "policy",
    "aws:iam/userPolicy:UserPolicy": "policy",
    "aws:iam/groupPolicy:GroupPolicy": "policy",
    "aws-native:iam:ManagedPolicy": "policyDocument",
    "aws-native:iam:RolePolicy": "policyDocument",
    "aws-native:iam:UserPolicy": "policyDocument",
    "aws-native:iam:GroupPolicy": "policyDocument",
}
_ROLES = {
    "aws:iam/role:Role": ("inlinePolicies", "policy"),
    "aws-native:iam:Role": ("policies", "policyDocument"),
}
# A policy of IAM has at most 6,144 characters, of a role inline 10,240 (IAM quotas).
_MAX_CHARACTERS = 100_000


def holds_identity_policies(resource_type: str) -> bool:
    """Whether a type token can carry a policy that says what an identity may do."""
    return resource_type in _HOLDERS or resource_type in _ROLES


def documents_of(resource: Resource) -> Iterator[tuple[str, Any]]:
    """Each policy with its field: text or tree, as stated, which may be unknown."""
    if resource.type in _HOLDERS:
        field = _HOLDERS[resource.type]
        yield field, resource.properties.get(field)
    elif resource.type in _ROLES:
        list_field, field = _ROLES[resource.type]
        for index, item in enumerate(list_at(resource.properties, list_field)):
            yield f"{list_field}[{index}].{field}", at(item, field)


def statements_of(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Statements that allow something, each with its Sid or its place.

    Raises NotYetKnown for a document not known yet. Text that is no policy says nothing.
    """
    tree = known(document)
    if isinstance(tree, str) and len(tree) <= _MAX_CHARACTERS:
        try:
            tree = json.loads(tree)
        except (ValueError, RecursionError):
            return
    found = at(tree, "Statement")
    for index, item in enumerate(found if isinstance(found, list) else [found]):
        if isinstance(known(item), Mapping) and text_at(item, "Effect") == "Allow":
            yield text_at(item, "Sid", default=f"number {index + 1}"), item


def one_or_many(statement: Mapping[str, Any], key: str) -> list[str]:
    """Texts of a field that holds one or a list. Raises NotYetKnown for one not known yet."""
    stated = at(statement, key)
    items = stated if isinstance(stated, list) else [stated]
    return [item for item in map(known, items) if isinstance(item, str)]
