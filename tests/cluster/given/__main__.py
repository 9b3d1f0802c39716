"""Makes the objects that the file named by GIVEN_OBJECTS lists.

Each is `{"type", "name", "inputs", "after": [names]}`; `{"secret": value}` and `{"unknown": value}`
in the inputs stand for a secret and for what only an up can know.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import pulumi

VERSION = importlib.metadata.version("pulumi-kubernetes")


def meant(value: Any) -> Any:
    """`value` with the two marks replaced."""
    if isinstance(value, list):
        return [meant(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"secret"}:
        return pulumi.Output.secret(value["secret"])
    if set(value) == {"unknown"}:
        return unknown() if pulumi.runtime.is_dry_run() else value["unknown"]
    return {key: meant(item) for key, item in value.items()}


def unknown() -> pulumi.Output[Any]:
    """An output that nobody knows."""

    def done(result: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.Future()
        future.set_result(result)
        return future

    return pulumi.Output(done(set()), done(None), done(False))


made: dict[str, pulumi.Resource] = {}
for item in json.loads(Path(os.environ["GIVEN_OBJECTS"]).read_text(encoding="utf-8")):
    options = pulumi.ResourceOptions(
        version=VERSION, depends_on=[made[name] for name in item.get("after", ())]
    )
    resource = pulumi.CustomResource(item["type"], item["name"], meant(item["inputs"]), options)
    made[item["name"]] = resource
