"""The stand-in for AWS: names, ids, outputs and data sources."""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from offline.aws_shapes import (
    ACCOUNT_ID,
    NAME_PREFIXES,
    NAME_PROPERTIES,
    PARTITION,
    ZONE_LETTERS,
    shape_of,
)
from offline.package import (
    CLUSTER_VARIABLE,
    CheckContext,
    Existing,
    MakeContext,
    RefusalError,
)
from offline.strict import has_input
from offline.wire import Properties, digest, plain

# The suffix the real provider adds to a name it invents.
_NAME_SUFFIX_LENGTH = 7
_DEFAULTS_KEY = "__defaults"

# Services whose ARNs carry no region of their own would need a row; this is for unlisted types.
_SERVICE_ALIASES = {"lb": "elasticloadbalancing", "efs": "elasticfilesystem", "vpc": "ec2"}


class AwsPackage:
    """Makes AWS resources as `offline.aws_shapes` describes them."""

    def __init__(self) -> None:
        self.known_in_preview = frozenset({"region", "tagsAll"})
        if os.environ.get(CLUSTER_VARIABLE):
            # The cluster is there before its stand-in is made, so its objects can be tried in a
            # first preview; with an address that is not known the engine would ask nobody.
            self.known_in_preview |= {"endpoint", "certificateAuthority"}
        self._region = ""
        self._default_tags: Mapping[str, str] = {}

    def configure(self, settings: Properties) -> None:
        """Take the provider's inputs. Raises RefusalError without a region, as the real does."""
        region = settings.get("region")
        if not region:
            raise RefusalError(
                "aws: no region is configured; set aws:region in the stack file"
                " or give the provider one"
            )
        self._region = region
        tags = settings.get("defaultTags") or {}
        decoded = json.loads(tags) if isinstance(tags, str) else tags
        self._default_tags = decoded.get("tags") or {}

    def replaced_with(self, old: Properties, new: Properties) -> list[str]:
        """Provider inputs whose change replaces everything: another region or account."""
        return [key for key in ("region", "accessKey") if old.get(key) != new.get(key)]

    def scope(self) -> str:
        """Natural names are unique per account and region."""
        return f"{ACCOUNT_ID}/{self._region}"

    def check(self, context: CheckContext) -> Properties:
        """Inputs with a name invented where the service needs one and none is given."""
        inputs = dict(context.news)
        name_property = NAME_PROPERTIES.get(context.type, "name")
        prefix_property = f"{name_property}Prefix"
        if inputs.get(name_property) is not None or inputs.get(prefix_property) is not None:
            return inputs
        if not has_input(context.type, name_property):
            return inputs
        kept = context.olds.get(name_property)
        if kept is not None and name_property in context.olds.get(_DEFAULTS_KEY, []):
            inputs[name_property] = kept
        else:
            prefix = NAME_PREFIXES.get(context.type, "")
            inputs[name_property] = f"{prefix}{context.name}-{context.random(_NAME_SUFFIX_LENGTH)}"
        inputs[_DEFAULTS_KEY] = [name_property]
        return inputs

    def replaces(self, type_token: str, inputs: Properties) -> tuple[str, ...]:
        """Input paths that cannot change in place; another region always means a new one."""
        return (*shape_of(type_token).replaces, "region")

    def identity(self, type_token: str, inputs: Properties, id_: str) -> str:
        """The name AWS keeps unique for this type."""
        values = self._values(type_token, inputs, digits_from=id_)
        values["id"] = id_
        return _render(shape_of(type_token).identity, values)

    def make(self, context: MakeContext) -> tuple[str, Properties]:
        """The id and the outputs AWS would add to the inputs of a new resource."""
        shape = shape_of(context.type)
        inputs = plain(context.inputs)
        values = self._values(context.type, inputs, digits_from=context.seed)
        values["path"] = inputs.get("path") or "/"
        id_ = _render(shape.id, values)
        values["id"] = id_
        outputs = _render(shape.outputs, values)
        outputs.setdefault("region", self._region)
        outputs.update(self._derived(context.type, inputs))
        return id_, outputs

    def refuse(self, context: MakeContext, existing: Existing) -> None:
        """AWS has no condition beyond unique names that the stand-in knows of."""

    def remake(self, context: MakeContext, old: Properties) -> Properties:
        """Outputs after an update: the old ones, counters moved on, tags merged again."""
        counters = shape_of(context.type).counts_updates
        moved = {key: int(old.get(key) or 1) + 1 for key in counters}
        return {**moved, **self._derived(context.type, plain(context.inputs))}

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Answer a data source. Raises RefusalError for one without an answer."""
        answer = _INVOKES.get(token)
        if answer is None:
            known = ", ".join(sorted(_INVOKES))
            raise RefusalError(f"the AWS stand-in has no answer for {token}; it knows {known}")
        return answer(self._region, arguments)

    def _derived(self, type_token: str, inputs: Properties) -> Properties:
        if not has_input(type_token, "tags"):
            return {}
        tags = {**self._default_tags, **(inputs.get("tags") or {})}
        return {"tagsAll": tags}

    def _values(self, type_token: str, inputs: Properties, digits_from: str) -> dict[str, Any]:
        _, module, name = type_token.split(":")
        service = module.split("/")[0]
        hexadecimal = _Digits(digits_from, "0123456789abcdef")
        return {
            **{key: _as_text(value) for key, value in inputs.items()},
            "region": inputs.get("region") or self._region,
            "account": ACCOUNT_ID,
            "partition": PARTITION,
            "service": _SERVICE_ALIASES.get(service, service),
            "type_name": name[0].lower() + name[1:],
            "hex": hexadecimal,
            "HEX": _Digits(digits_from, "0123456789ABCDEF"),
            "digits": _Digits(digits_from, string.digits),
            "octet": str(int(digest(digits_from, length=2), 16) % 250 + 2),
            "uuid": re.sub(
                r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", f"{hexadecimal:32}"
            ),
        }


class _Digits:
    """Formats as the number of digits asked for: `{hex:17}`."""

    def __init__(self, seed: str, alphabet: str) -> None:
        self._seed = seed
        self._alphabet = alphabet

    def __format__(self, spec: str) -> str:
        wide = digest(self._seed, length=64)
        return "".join(
            self._alphabet[int(character, 16) % len(self._alphabet)]
            for character in wide[: int(spec or 8)]
        )


class _Blank(dict[str, Any]):
    """An optional input that was not given leaves nothing in the text."""

    def __missing__(self, key: str) -> str:
        return ""


def _render(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        return template.format_map(_Blank(values))
    if isinstance(template, Mapping):
        return {key: _render(item, values) for key, item in template.items()}
    if isinstance(template, list):
        return [_render(item, values) for item in template]
    return template


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _caller_identity(region: str, arguments: Properties) -> Properties:
    return {
        "id": ACCOUNT_ID,
        "accountId": ACCOUNT_ID,
        "arn": f"arn:{PARTITION}:iam::{ACCOUNT_ID}:user/offline",
        "userId": "AIDAOFFLINEOFFLINE000",
    }


def _region(region: str, arguments: Properties) -> Properties:
    name = arguments.get("region") or arguments.get("name") or region
    return {
        "id": name,
        "name": name,
        "region": name,
        "description": name,
        "endpoint": f"ec2.{name}.amazonaws.com",
    }


def _partition(region: str, arguments: Properties) -> Properties:
    return {
        "id": PARTITION,
        "partition": PARTITION,
        "dnsSuffix": "amazonaws.com",
        "reverseDnsPrefix": "com.amazonaws",
    }


def _availability_zones(region: str, arguments: Properties) -> Properties:
    names = [f"{region}{letter}" for letter in ZONE_LETTERS]
    return {
        "id": region,
        "region": region,
        "names": names,
        "zoneIds": [f"{_zone_id_prefix(region)}-az{n}" for n in range(1, len(names) + 1)],
        "groupNames": [region],
        **{key: arguments[key] for key in ("state", "filters") if key in arguments},
    }


def _zone_id_prefix(region: str) -> str:
    """`us-west-2` names its zone ids `usw2-az1` and so on."""
    continent, direction, number = region.rsplit("-", 2)
    return f"{continent.replace('-', '')}{direction[0]}{number}"


def _parameter(region: str, arguments: Properties) -> Properties:
    name = arguments["name"]
    value = f"ami-{digest(region, name, length=17)}" if "image_id" in name else f"value of {name}"
    return {
        "id": name,
        "name": name,
        "arn": f"arn:{PARTITION}:ssm:{region}:{ACCOUNT_ID}:parameter{name}",
        "type": "String",
        "value": value,
        "insecureValue": value,
        "version": 1,
        "withDecryption": arguments.get("withDecryption", True),
    }


def _cluster_auth(region: str, arguments: Properties) -> Properties:
    return {
        "id": arguments["name"],
        "name": arguments["name"],
        "region": region,
        "token": f"k8s-aws-v1.{digest(region, arguments['name'], length=32)}",
    }


def _policy_document(region: str, arguments: Properties) -> Properties:
    text = json.dumps({"Version": "2012-10-17", "Statement": arguments.get("statements", [])})
    return {"id": digest(text, length=10), "json": text, "minifiedJson": text}


def _session_context(_region: str, arguments: Properties) -> Properties:
    """The role behind a session; any other identity is its own issuer."""
    arn = str(arguments.get("arn", ""))
    session = re.fullmatch(r"(arn:[\w-]+):sts::(\d+):assumed-role/([^/]+)/([^/]+)", arn)
    issuer = f"{session[1]}:iam::{session[2]}:role/{session[3]}" if session else arn
    return {
        "arn": arn,
        "id": arn,
        "issuerArn": issuer,
        "issuerId": "AROAEXAMPLEID",
        "issuerName": session[3] if session else "",
        "sessionName": session[4] if session else "",
    }


_INVOKES: Mapping[str, Callable[[str, Properties], Properties]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": _caller_identity,
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _availability_zones,
    "aws:ssm/getParameter:getParameter": _parameter,
    "aws:eks/getClusterAuth:getClusterAuth": _cluster_auth,
    "aws:iam/getPolicyDocument:getPolicyDocument": _policy_document,
    "aws:iam/getSessionContext:getSessionContext": _session_context,
}
