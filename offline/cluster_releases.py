"""Helm releases on a real API server.

A chart whose folder is at hand is installed by Helm itself. Any other is recorded: a Secret, as
Helm keeps one, and the definitions the chart brings, so that its custom resources are judged from
then on and not before. The values of both are checked against `offline/charts` first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coldstart.controlplane.client import Client
from coldstart.controlplane.definitions import DEFINITION, await_served, name_of
from coldstart.controlplane.errors import Refused
from offline.chart_values import wrong_values
from offline.cluster_client import Connection
from offline.cluster_helm import Helm
from offline.kubernetes import chart_of, release_outputs
from offline.package import RefusalError
from offline.plugin import without_private
from offline.wire import Properties, all_unknown, fill_in, look_up, plain
from offline.world import AlreadyExistsError

RECORD_TYPE = "coldstart.dev/release"
OWNER_LABEL = "coldstart.dev/resource"

# Helm installs what lies in a chart's folder `crds` once and never touches it again; a definition
# among a chart's templates goes with the release.
DEFINITIONS_STAY = frozenset({"karpenter", "kube-prometheus-stack"})


@dataclass(frozen=True, slots=True)
class Done:
    """What writing a release gave."""

    outputs: Properties
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A release as the cluster has it."""

    owner: str
    values: Properties
    recorded: bool
    """Whether it is ours to remove, and not Helm's."""


class Releases:
    """Helm releases of one cluster; ids are `namespace/name`."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self._client = client
        self._charts = Path(connection.charts) if connection.charts else None
        helm = Path(connection.helm) if connection.helm else None
        kubeconfig, patience = Path(connection.kubeconfig), connection.patience_seconds
        self._helm = Helm(helm, kubeconfig, patience) if helm else None

    def find(self, id_: str) -> Found | None:
        """The release, or None when there is none."""
        namespace, _, name = id_.rpartition("/")
        secret = self._client.get("v1", "Secret", _record_name(name), namespace)
        if secret is not None:
            kept = json.loads(base64.b64decode(secret["data"]["release"]))
            return Found(look_up(secret, "metadata.labels")[OWNER_LABEL], kept["values"], True)
        metadata = self._helm.metadata(name, namespace) if self._helm else None
        if self._helm is None or metadata is None:
            return None
        owner = (metadata.get("labels") or {}).get(OWNER_LABEL, "somebody else")
        return Found(owner, self._helm.values(name, namespace), False)

    def install(self, id_: str, inputs: Properties, owner: str, *, preview: bool) -> Done:
        """A release that is not there yet; one that `owner` left half made is finished.

        Raises RefusalError for wrong values, AlreadyExistsError for another's release.
        """
        _judge(inputs)
        found = None if preview else self.find(id_)
        if found is not None and found.owner != owner:
            # As Helm has it: the name is still in use.
            raise AlreadyExistsError(f"release {id_} already exists and belongs to {found.owner}")
        return self._write(inputs, owner, 1, preview=preview)

    def upgrade(self, inputs: Properties, state: Properties, owner: str, *, preview: bool) -> Done:
        """Change a release in place. Raises RefusalError for wrong values."""
        _judge(inputs)
        revision = int(look_up(state, "status.revision") or 1) + 1
        return self._write(inputs, owner, revision, preview=preview)

    def uninstall(self, id_: str, state: Properties) -> None:
        """Remove a release and what Helm would remove with it; one that is gone is no error."""
        namespace, _, name = id_.rpartition("/")
        found = self.find(id_)
        if found is None:
            return
        if not found.recorded:
            assert self._helm is not None  # noqa: S101 - it has just found the release
            self._helm.uninstall(name, namespace)
            return
        chart = chart_of(plain(state))
        if chart not in DEFINITIONS_STAY:
            for definition in self._definitions(chart):
                self._client.delete(*DEFINITION, name_of(definition))
        self._client.delete("v1", "Secret", _record_name(name), namespace)

    def _write(self, inputs: Properties, owner: str, revision: int, *, preview: bool) -> Done:
        wanted, warnings = plain(inputs), ()
        computed = release_outputs(wanted, revision)
        folder = self._folder(wanted)
        if folder is not None and self._helm is not None:
            rendered = self._helm.render(wanted, folder)
            warnings = self._try(rendered or (), str(wanted["namespace"]))
            if not preview:
                self._helm.install(wanted, folder, {OWNER_LABEL: owner})
                await_served(
                    self._client, [o for o in rendered or () if o["kind"] == DEFINITION[1]]
                )
        elif not preview:
            self._record(wanted, owner, revision)
        outputs = fill_in(without_private(inputs), all_unknown(computed) if preview else computed)
        return Done(outputs, warnings)

    def _record(self, wanted: Properties, owner: str, revision: int) -> None:
        chart = chart_of(wanted)
        kept = {"chart": chart, "version": wanted.get("version"), "revision": revision}
        text = json.dumps({**kept, "values": wanted.get("values") or {}})
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": RECORD_TYPE,
            "metadata": {
                "name": _record_name(str(wanted["name"])),
                "namespace": wanted["namespace"],
                "labels": {OWNER_LABEL: owner},
            },
            "data": {"release": base64.b64encode(text.encode()).decode()},
        }
        self._client.apply(secret, owner=owner, force=True)
        if wanted.get("skipCrds"):
            return
        brought = self._definitions(chart)
        if chart in DEFINITIONS_STAY:
            brought = [d for d in brought if self._client.get(*DEFINITION, name_of(d)) is None]
        for definition in brought:
            self._client.apply(definition, owner="helm", force=True)
        await_served(self._client, brought)

    def _try(self, objects: Iterable[Properties], namespace: str) -> tuple[str, ...]:
        """Dry runs of what Helm would send, judged more strictly than by Helm; gives warnings."""
        warnings: list[str] = []
        for wanted in objects:
            metadata = wanted["metadata"]
            try:
                kind = self._client.resource(wanted["apiVersion"], wanted["kind"])
                if kind.namespaced and not metadata.get("namespace"):
                    wanted = {**wanted, "metadata": {**metadata, "namespace": namespace}}
                applied = self._client.apply(wanted, dry_run=True, owner="helm", force=True)
            except Refused as refused:
                if refused.status == 404:
                    continue
                raise RefusalError(
                    f"the chart's {wanted['kind']} {metadata['name']}: {refused.message}"
                ) from None
            warnings += [f"{wanted['kind']} {metadata['name']}: {w}" for w in applied.warnings]
        return tuple(warnings)

    def _folder(self, wanted: Properties) -> Path | None:
        """The folder of this very version of the chart, where it is at hand."""
        if self._charts is None:
            return None
        folder = self._charts / f"{chart_of(wanted)}-{wanted.get('version')}"
        return folder if (folder / "Chart.yaml").is_file() else None

    def _definitions(self, chart: str) -> list[Properties]:
        file = self._charts / f"{chart}.definitions.json" if self._charts else None
        if file is None or not file.is_file():
            return []
        return json.loads(file.read_text(encoding="utf-8"))


def values_as_found(inputs: Properties, found: Found) -> Properties:
    """`inputs` as a refresh reports them: as written while the cluster has the same values."""
    same = json.dumps(plain(inputs.get("values") or {}), sort_keys=True) == json.dumps(
        found.values, sort_keys=True
    )
    return inputs if same else {**inputs, "values": found.values}


def _judge(inputs: Properties) -> None:
    wrong = wrong_values(chart_of(plain(inputs)), plain(inputs.get("values") or {}))
    if wrong:
        title = f"{chart_of(plain(inputs))} {inputs.get('version')}"
        raise RefusalError(f"values of chart {title}: " + "; ".join(wrong))


def _record_name(release: str) -> str:
    return f"coldstart-release-{release}"
