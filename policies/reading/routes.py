"""Routes from the outside to services: Ingress and HTTPRoute, with the paths they let through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reading.values import Resource, at, known, list_at, mapping_at, text_at

_POOL_GROUPS = frozenset({"inference.networking.k8s.io", "inference.networking.x-k8s.io"})
_EVERYTHING = re.compile(r"\^?/?[(\[]?(?:\.\*|\.\+|/\.\*)[)\]]?\$?|\^?/\(?\.\*\)?\$?")
# Annotations by which an Ingress asks another service, a login or a certificate for everything.
_AUTHENTICATION = re.compile(r".*/(?:auth-url|auth-type|auth-signin|auth-tls-secret|auth-realm)")


@dataclass(frozen=True)
class Path:
    """A path that a route lets through: one alone, everything below it, or a pattern."""

    field: str
    text: str
    is_exact: bool = False
    is_pattern: bool = False

    def lets_through(self, path: str) -> bool:
        """Whether a request for `path` is let through. Only patterns for everything count."""
        if self.is_pattern:
            return _EVERYTHING.fullmatch(self.text) is not None
        if self.is_exact:
            return self.text == path
        return path == self.text or path.startswith(self.text.rstrip("/") + "/")


@dataclass(frozen=True)
class Backend:
    """What a route leads to."""

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def is_model_pool(self) -> bool:
        """An InferencePool, whose pods are model servers by definition."""
        return self.kind == "InferencePool" and self.group in _POOL_GROUPS


def ways_of(resource: Resource) -> Iterator[tuple[Path, Backend]]:
    """Every path of a route with each backend it leads to; nothing for other resources.

    Raises NotYetKnown for a value that decides it and is not known yet.
    """
    if resource.kind == "HTTPRoute" and resource.group == "gateway.networking.k8s.io":
        for index, rule in enumerate(map(known, list_at(resource.properties, "spec", "rules"))):
            if isinstance(rule, Mapping):
                yield from _ways_of_rule(resource, f"spec.rules[{index}]", rule)
    elif resource.kind == "Ingress" and resource.group in ("networking.k8s.io", "extensions"):
        annotations = mapping_at(resource.properties, "metadata", "annotations")
        if not any(map(_AUTHENTICATION.fullmatch, annotations)):
            yield from _ways_of_ingress(resource)


def _ways_of_rule(
    route: Resource, field: str, rule: Mapping[str, Any]
) -> Iterator[tuple[Path, Backend]]:
    paths = [
        _path_of_match(f"{field}.matches[{index}].path", match)
        for index, match in enumerate(list_at(rule, "matches"))
    ]
    for reference in map(known, list_at(rule, "backendRefs")):
        backend = Backend(
            text_at(reference, "group"),
            text_at(reference, "kind", default="Service"),
            text_at(reference, "namespace", default=route.namespace),
            text_at(reference, "name"),
        )
        # A rule without matches takes every path.
        for path in paths or [Path(field, "/")]:
            yield path, backend


def _path_of_match(field: str, match: Any) -> Path:
    kind = text_at(match, "path", "type", default="PathPrefix")
    value = text_at(match, "path", "value", default="/")
    return Path(field, value, kind == "Exact", kind == "RegularExpression")


def _ways_of_ingress(ingress: Resource) -> Iterator[tuple[Path, Backend]]:
    spec = mapping_at(ingress.properties, "spec")
    default = text_at(spec, "defaultBackend", "service", "name")
    if default:
        yield Path("spec.defaultBackend", "/"), _service(ingress, default)
    for rule_index, rule in enumerate(list_at(spec, "rules")):
        for index, item in enumerate(list_at(rule, "http", "paths")):
            name = text_at(item, "backend", "service", "name")
            text = text_at(item, "path", default="/")
            if name:
                yield (
                    Path(
                        f"spec.rules[{rule_index}].http.paths[{index}].path",
                        text,
                        text_at(item, "pathType") == "Exact",
                        at(item, "pathType") is not None and "*" in text,
                    ),
                    _service(ingress, name),
                )


def _service(ingress: Resource, name: str) -> Backend:
    return Backend("", "Service", ingress.namespace, name)
