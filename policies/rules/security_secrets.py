"""Secrets that stand as text where everybody who may read a pod can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.command_lines import commands_of
from policies.reading.values import Resource, judge_each, known, list_at, text_at
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import Option, ResourceRule, Settings

# The end of a name says what the value is: HF_TOKEN is one, TOKENIZERS_PARALLELISM, MAX_TOKENS,
# TOKEN_FILE and SECRET_NAME are not.
_SECRET_NAME = re.compile(
    r"(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|SECRET_?KEY|ACCESS_?KEY|PRIVATE_?KEY|"
    r"SIGNING_?KEY|ENCRYPTION_?KEY|MASTER_?KEY|(?:^|_)TOKEN|CREDENTIALS?|REDISCLI_AUTH)$"
)
# Tokens of a tokenizer, counts per token, switches, and etcd's name for a new cluster.
_MODEL_TOKEN = re.compile(
    r"(?:^|_)(?:BOS|EOS|PAD|MASK|SEP|CLS|UNK|STOP|START|END|IMAGE|AUDIO|VIDEO|SPECIAL|PER|OUTPUT|"
    r"INPUT|MAX|MIN|IMPLICIT|USE|ENABLE|DISABLE|INITIAL_CLUSTER)_TOKEN$"
)
# Formats that issuers give their secrets, whatever the variable is called.
_SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|nvapi-[\w-]{20,}|ghp_[A-Za-z0-9]{36}|"
    r"github_pat_\w{22,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_PASSWORD_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@", re.IGNORECASE)
# A name of a secret elsewhere, or of a file, an agent puts the value in its place; or a place
# holder that is filled in before the object reaches the cluster.
_ELSEWHERE = re.compile(
    r"/|\./|~/|file:|(?:arn|vault|ssm|awssm|awsps|gcpsm|azkv|sm|op|secretref|secretsmanager|keyvault|"
    r"ref\+\w+|k8s):|projects/|.*(?:\$\(|\$\{|\{\{|<)|\$[A-Za-z_]",
    re.IGNORECASE,
)
# What clients ask for where a server needs no key (`OPENAI_API_KEY=EMPTY`), and switches.
_NO_SECRET = re.compile(
    r"(?:empty|none|null|nil|dummy|fake|unused|ignored|no[-_ ]?(?:key|auth|token|password)|n/?a|"
    r"not[-_ ]?(?:needed|used|required|set)|disabled|optional|your[-_ ].*|x+|true|false|yes|no|on|"
    r"off|0|1)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[\d.]+")
# Controllers are told by `TLS_SECRET=webhook-certs` which object to read.
_MAY_BE_OBJECT = re.compile(r"(?:SECRET|CREDENTIALS?)$")
# `HF_TOKEN: HF_TOKEN` in a guide: words in capitals that the reader replaces.
_PLACE_HOLDER = re.compile(r"[A-Z]+(?:_[A-Z]+)+")
_OBJECT_NAME = re.compile(r"[a-z]{2,}(?:[-.](?:[a-z]{2,}|\d{1,3}))+")
_SECRET_FLAGS = frozenset({"--api-key", "--hf-token", "--token", "--password", "--admin-api-key"})


def _judge(resource: Resource, settings: Settings) -> Iterator[str]:
    def judge_pod(pod: Pod) -> Iterator[str]:
        yield from judge_each(pod.containers(with_init=True), judge_container)

    def judge_container(container: Container) -> Iterator[str]:
        entries = enumerate(list_at(container.spec, "env"))
        yield from judge_each(entries, lambda entry: judge_variable(container, *entry))
        yield from _judge_commands(container)

    def judge_variable(container: Container, index: int, entry: Any) -> Iterator[str]:
        if not isinstance(known(entry), Mapping) or entry.get("value") is None:
            return
        name = text_at(entry, "name")
        if name not in settings["allowedVariables"] and _is_secret(name, entry["value"]):
            yield _told(f"{container.field}.env[{index}]", f"sets {name} to a text of its own")

    yield from judge_each(pods_of(resource), judge_pod)


def _is_secret(name: str, stated: Any) -> bool:
    """Raises NotYetKnown where the name is a secret's and the value is not known yet."""
    by_name = _names_a_secret(name)
    value = known(stated) if by_name else stated
    if not isinstance(value, str):
        return False
    if _SECRET_VALUE.match(value) or _has_password(value):
        return True
    if not by_name or _stands_for_another(value):
        return False
    if _MAY_BE_OBJECT.search(name.upper()) and _OBJECT_NAME.fullmatch(value):
        return False
    return "PASS" in name.upper() or not _NUMBER.fullmatch(value)


def _stands_for_another(value: str) -> bool:
    return bool(
        _ELSEWHERE.match(value)
        or _NO_SECRET.fullmatch(value.strip())
        or _PLACE_HOLDER.fullmatch(value.strip())
    )


def _names_a_secret(name: str) -> bool:
    upper = re.sub(r"[-.]", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).upper()
    return bool(_SECRET_NAME.search(upper)) and not _MODEL_TOKEN.search(upper)


def _has_password(value: Any) -> bool:
    match = _PASSWORD_IN_URL.match(value) if isinstance(value, str) else None
    return (
        match is not None and not _ELSEWHERE.match(match[1]) and not _NO_SECRET.fullmatch(match[1])
    )


def _judge_commands(container: Container) -> Iterator[str]:
    # The words as written: a reference to a variable is no secret, even where its value is one.
    written = {
        word
        for part in ("command", "args")
        for item in list_at(container.spec, part)
        if isinstance(known(item), str)
        for word in re.split(r"[\s=\"']+", item)
    }
    for words in commands_of(container):
        for flag, value in _flags(words):
            if value in written and not value.startswith("-") and not _stands_for_another(value):
                yield _told(container.field, f"passes {flag} as a text on the command line")


def _flags(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in _SECRET_FLAGS:
            following = words[place + 1] if place + 1 < len(words) else ""
            yield flag, value if equals else following


def _told(field: str, found: str) -> str:
    return (
        f"{field} {found}. Everybody who may read pods, manifests or the deployment's state reads "
        "it too, and it stays in their history. Put it into a Secret, name it by "
        "valueFrom.secretKeyRef or mount it as a file, and replace the value that was shown."
    )


FORBID_PLAIN_SECRETS = ResourceRule(
    code="CS713",
    name="kubernetes-pod-forbid-plain-secrets",
    concern="security",
    title="No secret stands as text in a pod",
    description="Variables and command lines of containers must name secrets, not hold them.",
    severity="high",
    tags=("kubernetes", "security", "secrets"),
    remediation="Move the value into a Secret, or into the cloud's secret store, and name it by "
    "valueFrom.secretKeyRef or a mounted file; then issue a new one, for the old one is known.",
    reason="The text of a pod is shown by kubectl, dashboards, GitOps diffs and Pulumi's state, "
    "none of which keep secrets.",
    links=(
        "https://kubernetes.io/docs/concepts/configuration/secret/",
        "https://kubernetes.io/docs/concepts/security/secrets-good-practices/",
    ),
    options=(
        Option(
            "allowedVariables",
            {"type": "array", "items": {"type": "string"}, "default": []},
            [],
            "Names of variables that only look like secrets.",
        ),
    ),
    reads=carries_pods,
    judge=_judge,
)
