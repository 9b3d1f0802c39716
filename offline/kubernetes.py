"""The stand-in for a Kubernetes cluster, with its Helm releases."""

from __future__ import annotations

import re
from typing import Any

from offline.kubernetes_shapes import (
    CHARTS_BY_GROUP,
    CLUSTER_KINDS,
    INITIAL_NAMESPACES,
    RELEASE,
    replaces_of,
)
from offline.package import CheckContext, Existing, MakeContext, RefusalError
from offline.wire import Properties, digest, is_unknown, look_up, plain

_NAME_SUFFIX_LENGTH = 8
_AUTONAMED = "pulumi.com/autonamed"
_NAMESPACE = "kubernetes:core/v1:Namespace"


class KubernetesPackage:
    """Holds objects as an API server would: by apiVersion, kind, namespace and name."""

    known_in_preview = frozenset[str]()

    def __init__(self) -> None:
        self._scope = ""
        self._namespace = "default"

    def configure(self, settings: Properties) -> None:
        """Remember which cluster this is; the kubeconfig names it."""
        self._scope = _cluster_of(settings)
        self._namespace = settings.get("namespace") or "default"

    def replaced_with(self, old: Properties, new: Properties) -> list[str]:
        """Another API server is another cluster; new credentials are not."""
        if is_unknown(new.get("kubeconfig")) or _cluster_of(old) == _cluster_of(new):
            return []
        return ["kubeconfig"]

    def scope(self) -> str:
        """Names are unique per cluster."""
        return self._scope

    def check(self, context: CheckContext) -> Properties:
        """Inputs with a name, invented as the real provider does where none is given."""
        inputs = dict(context.news)
        invented = f"{context.name}-{context.random(_NAME_SUFFIX_LENGTH)}"
        if context.type == RELEASE:
            if inputs.get("name") is None:
                inputs["name"] = context.olds.get("name") or invented
            inputs.setdefault("namespace", self._namespace)
            return inputs
        metadata = inputs.get("metadata") or {}
        if not isinstance(metadata, dict) or metadata.get("name") or metadata.get("generateName"):
            return inputs
        old_metadata = context.olds.get("metadata") or {}
        was_invented = _AUTONAMED in (old_metadata.get("annotations") or {})
        annotations = {**(metadata.get("annotations") or {}), _AUTONAMED: "true"}
        name = old_metadata["name"] if was_invented else invented
        inputs["metadata"] = {**metadata, "name": name, "annotations": annotations}
        return inputs

    def replaces(self, type_token: str, inputs: Properties) -> tuple[str, ...]:
        """Input paths that cannot change in place."""
        return replaces_of(type_token, str(inputs.get("kind", "")))

    def identity(self, type_token: str, inputs: Properties, id_: str) -> str:
        """Namespace and name; the type already holds apiVersion and kind."""
        if type_token == RELEASE:
            return f"{inputs.get('namespace') or self._namespace}/{inputs.get('name')}"
        return self._object_id(inputs) or id_

    def make(self, context: MakeContext) -> tuple[str, Properties]:
        """The id and what an API server adds to an object."""
        inputs = plain(context.inputs)
        if context.type == RELEASE:
            return self.identity(context.type, inputs, ""), release_outputs(inputs)
        metadata: Properties = {
            "uid": _uuid(context.seed),
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        if _is_namespaced(inputs):
            metadata["namespace"] = self._namespace
        outputs: Properties = {"metadata": metadata}
        if inputs.get("kind") == "Service":
            outputs["spec"] = {"clusterIP": "172.20.0.10", "type": "ClusterIP"}
        if inputs.get("kind") == "Namespace":
            outputs["status"] = {"phase": "Active"}
        return self._object_id(inputs), outputs

    def refuse(self, context: MakeContext, existing: Existing) -> None:
        """Say no where a real API server would: no such namespace, no such kind."""
        inputs = plain(context.inputs)
        group = str(inputs.get("apiVersion", "")).partition("/")[0]
        charts = CHARTS_BY_GROUP.get(group)
        if charts and not charts & _installed_charts(existing):
            raise RefusalError(
                f'no matches for kind "{inputs.get("kind")}" in version'
                f' "{inputs.get("apiVersion")}": no Helm release of'
                f" {' or '.join(sorted(charts))} has been installed yet"
            )
        namespace = self._wanted_namespace(context.type, inputs)
        if namespace and namespace not in _namespaces(existing):
            raise RefusalError(f'namespaces "{namespace}" not found')

    def remake(self, context: MakeContext, old: Properties) -> Properties:
        """An update moves the resource version on; a release gets its new status."""
        if context.type == RELEASE:
            revision = int(look_up(old, "status.revision") or 1) + 1
            return release_outputs(plain(context.inputs), revision)
        version = int(look_up(old, "metadata.resourceVersion") or 1) + 1
        return {"metadata": {"resourceVersion": str(version)}}

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """No data source of a cluster is used; each one is refused."""
        raise RefusalError(f"the Kubernetes stand-in has no answer for {token}")

    def _object_id(self, inputs: Properties) -> str:
        name = look_up(inputs, "metadata.name") or ""
        namespace = look_up(inputs, "metadata.namespace")
        if namespace is None and _is_namespaced(inputs):
            namespace = self._namespace
        return f"{namespace}/{name}" if namespace else name

    def _wanted_namespace(self, type_token: str, inputs: Properties) -> str | None:
        if type_token == RELEASE:
            return None if inputs.get("createNamespace") else inputs.get("namespace")
        return look_up(inputs, "metadata.namespace")


def _installed_charts(existing: Existing) -> set[str]:
    return {chart_of(release) for release in existing(RELEASE)}


def _namespaces(existing: Existing) -> set[str]:
    by_release = {
        str(release.get("namespace"))
        for release in existing(RELEASE)
        if release.get("createNamespace")
    }
    stated = {str(look_up(namespace, "metadata.name")) for namespace in existing(_NAMESPACE)}
    return {*INITIAL_NAMESPACES, *by_release, *stated}


def _is_namespaced(inputs: Properties) -> bool:
    return inputs.get("kind") not in CLUSTER_KINDS and not _is_custom(inputs)


def _is_custom(inputs: Properties) -> bool:
    """Groups with a dot outside k8s.io belong to custom resources."""
    group = str(inputs.get("apiVersion", "")).partition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def chart_of(release: Properties) -> str:
    """The chart's own name; `chart` may be a whole address."""
    return str(release.get("chart", "")).rsplit("/", 1)[-1]


def release_outputs(inputs: Properties, revision: int = 1) -> Properties:
    """What Helm adds to the inputs of a release."""
    return {
        "status": {
            "status": "deployed",
            "name": inputs.get("name"),
            "namespace": inputs.get("namespace"),
            "chart": chart_of(inputs),
            "version": inputs.get("version"),
            "revision": revision,
        },
        "resourceNames": {},
    }


def _cluster_of(settings: Properties) -> str:
    """The API server in a kubeconfig (YAML or JSON text), or what else tells clusters apart."""
    kubeconfig = settings.get("kubeconfig")
    text = kubeconfig if isinstance(kubeconfig, str) else str(kubeconfig or "")
    server = re.search(r'server"?\s*:\s*"?([^\s",}]+)', text)
    if server:
        return server.group(1)
    return str(settings.get("context") or settings.get("clusterIdentifier") or "local")


def _uuid(seed: Any) -> str:
    digits = digest(seed, "uid", length=32)
    return re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", digits)
