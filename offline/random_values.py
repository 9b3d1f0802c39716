"""The stand-in for the `random` package: values that do not change once made."""

from __future__ import annotations

import string

from offline.package import CheckContext, Existing, MakeContext, RefusalError
from offline.wire import Properties, digest, plain, secret

_PASSWORD = "random:index/randomPassword:RandomPassword"  # noqa: S105 - a type token
_STRING = "random:index/randomString:RandomString"
_ID = "random:index/randomId:RandomId"
_UUID = "random:index/randomUuid:RandomUuid"
_PET = "random:index/randomPet:RandomPet"

_LETTERS = string.ascii_letters + string.digits


class RandomPackage:
    """Makes values from the URN, so that a rehearsal gives the same ones each time."""

    known_in_preview = frozenset[str]()

    def configure(self, settings: Properties) -> None:
        """There is nothing to configure."""

    def replaced_with(self, old: Properties, new: Properties) -> list[str]:
        """There is no account or cluster behind it."""
        return []

    def scope(self) -> str:
        """Random values live nowhere."""
        return "random"

    def check(self, context: CheckContext) -> Properties:
        """Inputs are taken as they are."""
        return dict(context.news)

    def replaces(self, type_token: str, inputs: Properties) -> tuple[str, ...]:
        """Any change means a new value."""
        return ("",)

    def identity(self, type_token: str, inputs: Properties, id_: str) -> str:
        """Nothing but the id tells them apart."""
        return id_

    def make(self, context: MakeContext) -> tuple[str, Properties]:
        """The value, as a secret where the package says so."""
        inputs = plain(context.inputs)
        value = _characters(context.seed, int(inputs.get("length") or 16))
        if context.type == _PASSWORD:
            hashed = secret(f"$2a$10${_characters(context.seed + 'hash', 53)}")
            return f"none-{digest(context.urn, length=8)}-{digest(context.seed, length=8)}", {
                "result": secret(value),
                "bcryptHash": hashed,
            }
        if context.type == _STRING:
            return value, {"result": value}
        if context.type == _ID:
            digits = digest(context.seed, length=int(inputs.get("byteLength") or 8) * 2)
            return digits, {"hex": digits, "dec": str(int(digits, 16)), "b64Url": digits}
        if context.type in (_UUID, _PET):
            result = digest(context.seed, length=32)
            return result, {"result": result}
        raise RefusalError(f"the stand-in for random does not make {context.type}")

    def refuse(self, context: MakeContext, existing: Existing) -> None:
        """A random value can always be made."""

    def remake(self, context: MakeContext, old: Properties) -> Properties:
        """Values do not change in place."""
        return {}

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """The package has no data source."""
        raise RefusalError(f"the stand-in for random has no answer for {token}")


def _characters(seed: str, length: int) -> str:
    digits = "".join(digest(seed, block, length=64) for block in range(length // 32 + 1))
    pairs = (int(digits[index * 2 : index * 2 + 2], 16) for index in range(length))
    return "".join(_LETTERS[pair % len(_LETTERS)] for pair in pairs)
