"""A program whose objects a test gives, and rehearsals of it on a control plane."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldstart.engine import ClusterAccess, Rehearsal, Result, Toolchain
from coldstart.engine.run import STATE_AT_THE_END

GIVEN = Path(__file__).with_name("given")
STACK = "one"

Item = dict[str, Any]


class Given:
    """One program; `objects` may be set to something else between two operations."""

    def __init__(
        self, folder: Path, toolchain: Toolchain, access: ClusterAccess, **settings: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "objects.json"
        self.rehearsal = Rehearsal(
            GIVEN,
            toolchain,
            folder=folder / "rehearsal",
            cluster=access,
            # No engine is killed here, so none writes its state after every step.
            extra_environment={"GIVEN_OBJECTS": str(self._file), **STATE_AT_THE_END},
            **settings,
        )

    def preview(self, objects: Sequence[Item]) -> Result:
        """A preview of a program of these objects."""
        self.give(objects)
        return self.rehearsal.preview(STACK)

    def up(self, objects: Sequence[Item]) -> Result:
        """An up of a program of these objects."""
        self.give(objects)
        return self.rehearsal.up(STACK)

    def give(self, objects: Sequence[Item]) -> None:
        """Make it a program of these objects."""
        self._file.write_text(json.dumps(list(objects)), encoding="utf-8")


def item(
    kind: str, name: str, version: str = "v1", *, after: Sequence[str] = (), **fields: Any
) -> Item:
    """An object; `metadata` is filled from `name` and `namespace`."""
    namespace = fields.pop("namespace", None)
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata |= fields.pop("metadata", {})
    module = version if "/" in version else f"core/{version}"
    inputs = {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
    return {
        "type": f"kubernetes:{module}:{kind}",
        "name": f"{kind}-{name}",
        "inputs": inputs,
        "after": list(after),
    }


def release(name: str, chart: str, version: str, namespace: str, **fields: Any) -> Item:
    """A Helm release."""
    after = fields.pop("after", [])
    inputs = {"name": name, "chart": chart, "version": version, "namespace": namespace, **fields}
    return {"type": "kubernetes:helm.sh/v3:Release", "name": name, "inputs": inputs, "after": after}
