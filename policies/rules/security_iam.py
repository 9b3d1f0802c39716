"""What identities may do: on AWS by IAM policies, in the cluster by roles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.iam_policies import (
    documents_of,
    holds_identity_policies,
    one_or_many,
    statements_of,
)
from policies.reading.values import Resource, at, judge_each, known, list_at, texts
from policies.rule import Option, ResourceRule, Settings

_WHOLE_SERVICE = re.compile(r"\*|[A-Za-z0-9-]+:\*+|\*:\*")
_EVERY_RESOURCE = re.compile(r"\*|arn:\*|arn:[^:]*:[^:]*:[^:]*:[^:]*:\*+")
# The core group holds Secrets and Pods, the other one the roles themselves.
_POWERFUL_GROUPS = frozenset({"*", "", "rbac.authorization.k8s.io"})
_ROLE_KINDS = frozenset({"Role", "ClusterRole"})
_BOOTSTRAP = "kubernetes.io/bootstrapping"


def _judge_policies(resource: Resource, _: Settings) -> Iterator[str]:
    def judge(document: tuple[str, Any]) -> Iterator[str]:
        field, content = document
        yield from judge_each(statements_of(content), lambda item: _judge_statement(field, *item))

    yield from judge_each(documents_of(resource), judge)


def _judge_statement(field: str, name: str, statement: Mapping[str, Any]) -> Iterator[str]:
    # A condition narrows a statement in ways that only AWS can judge.
    if at(statement, "Condition"):
        return
    resources = [item for item in one_or_many(statement, "Resource") if _is_everything(item)]
    if not resources:
        return
    wide = [item for item in one_or_many(statement, "Action") if _WHOLE_SERVICE.fullmatch(item)]
    excepted = one_or_many(statement, "NotAction")
    what = f"Action {', '.join(wide)}" if wide else f"all but NotAction {', '.join(excepted)}"
    if wide or excepted:
        yield (
            f"{field}: statement {name!r} allows {what} on Resource {', '.join(resources)}. Who "
            "takes over a pod with this identity takes over everything of that kind in the "
            "account. List the actions that are needed, and the ARNs of this stack's own bucket, "
            "key or queue."
        )


def _is_everything(resource: str) -> bool:
    return _EVERY_RESOURCE.fullmatch(resource) is not None


def _reads_roles(resource_type: str) -> bool:
    return (
        resource_type.startswith("kubernetes:rbac.authorization.k8s.io/")
        and resource_type.rsplit(":", 1)[-1].removesuffix("Patch") in _ROLE_KINDS
    )


def _judge_roles(resource: Resource, settings: Settings) -> Iterator[str]:
    if resource.object_name in settings["allowedRoles"] or _is_built_in(resource):
        return

    def judge(numbered: tuple[int, Any]) -> Iterator[str]:
        index, rule = numbered
        if not isinstance(known(rule), Mapping):
            return
        verbs, kinds = texts(list_at(rule, "verbs")), texts(list_at(rule, "resources"))
        groups = [item for item in texts(list_at(rule, "apiGroups")) if item in _POWERFUL_GROUPS]
        if "*" in verbs and "*" in kinds and groups:
            group = "every API group" if "*" in groups else f"the API group {groups[0]!r}"
            yield (
                f"rules[{index}] of {resource.kind} {resource.object_name} allows every verb on "
                f"every resource of {group}. Who holds it reads all Secrets and gives itself any "
                "other right. List the resources and verbs that are needed."
            )

    yield from judge_each(enumerate(list_at(resource.properties, "rules")), judge)


def _is_built_in(resource: Resource) -> bool:
    label = at(resource.properties, "metadata", "labels", _BOOTSTRAP)
    return label is not None or resource.object_name.startswith("system:")


FORBID_POLICY_WILDCARDS = ResourceRule(
    code="CS714",
    name="aws-policy-forbid-wildcards",
    concern="security",
    title="No IAM policy allows a whole service on every resource",
    description="An IAM policy of a role, user or group must not allow `*` or `service:*` on every "
    "resource without a condition.",
    severity="high",
    tags=("aws", "security", "iam"),
    remediation="Replace the wildcard by the actions the workload calls, and Resource by the ARNs "
    "it calls them on; for a model server that is s3:GetObject on its own prefix.",
    reason="A model server runs files that others made; what its identity may do is what an "
    "attacker may do.",
    links=(
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html",
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html",
    ),
    reads=holds_identity_policies,
    judge=_judge_policies,
)

FORBID_ROLE_WILDCARDS = ResourceRule(
    code="CS722",
    name="kubernetes-role-forbid-wildcards",
    concern="security",
    title="No role allows everything on everything",
    description="A Role or ClusterRole must not allow every verb on every resource of the core "
    "group, of the roles' own group, or of all groups.",
    severity="high",
    tags=("kubernetes", "security", "rbac"),
    remediation="List the resources and the verbs that the controller needs; name the role in "
    "allowedRoles where it truly is the cluster's administrator.",
    reason="The token of one pod with such a role is the key to the whole cluster.",
    links=(
        "https://kubernetes.io/docs/concepts/security/rbac-good-practices/",
        "https://kubernetes.io/docs/reference/access-authn-authz/rbac/",
    ),
    frameworks=("CIS EKS 1.7.0 4.1.3", "CIS GKE 1.8.0 4.1.3", "CIS AKS 1.7.0 4.1.3"),
    options=(
        Option(
            "allowedRoles",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Names of roles that are meant to be an administrator's.",
        ),
    ),
    level="advisory",
    development="advisory",
    reads=_reads_roles,
    judge=_judge_roles,
)
