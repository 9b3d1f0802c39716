"""A Kubernetes client for tests and tools: server-side apply first, the server's words kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from coldstart.controlplane.errors import DeadlineError, Refused, Unreachable
from coldstart.controlplane.http import Answer, Transport, refusal

T = TypeVar("T")
Object = dict[str, Any]

POLL_SECONDS = 0.1
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
# Not there yet, in conflict with a controller's write, too many requests, a server just starting.
_PASSING = frozenset({404, 409, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Applied:
    """The object as the server now has it (or would, in a dry run), and what it warned of."""

    object: Object
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind is reached: its plural and whether it lives in a namespace."""

    plural: str
    namespaced: bool


class Client:
    """One identity at one API server.

    Every method raises Refused with the server's own message, and Unreachable without an answer.
    """

    def __init__(
        self, url: str, ca_file: Path, token: str | None, transport: Transport | None = None
    ) -> None:
        self.url = url
        self._transport = transport or Transport(url, ca_file, token)
        self._kinds: dict[str, dict[str, Resource]] = {}
        self._asked: dict[str, Future[dict[str, Resource]]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        self._transport.close()

    def apply(
        self,
        obj: Mapping[str, Any],
        *,
        dry_run: bool = False,
        owner: str = "coldstart",
        force: bool = False,
        strict: bool = True,
    ) -> Applied:
        """Server-side apply as `owner`; a conflict without `force` is Refused(409)."""
        query = _write_query(dry_run, owner, strict)
        query["force"] = "true" if force else "false"
        answer = self._send(
            "PATCH", self._path_of(obj), dict(obj), query, content_type=_APPLY, idempotent=True
        )
        return Applied(answer.body, answer.warnings)

    def create(
        self,
        obj: Mapping[str, Any],
        *,
        dry_run: bool = False,
        owner: str = "coldstart",
        strict: bool = True,
    ) -> Applied:
        metadata = obj.get("metadata", {})
        path = self.path(obj["apiVersion"], obj["kind"], None, metadata.get("namespace"))
        answer = self._send("POST", path, dict(obj), _write_query(dry_run, owner, strict))
        return Applied(answer.body, answer.warnings)

    def replace(
        self,
        obj: Mapping[str, Any],
        *,
        dry_run: bool = False,
        owner: str = "coldstart",
        strict: bool = True,
    ) -> Applied:
        """PUT; with a `metadata.resourceVersion` it is refused when somebody wrote since."""
        query = _write_query(dry_run, owner, strict)
        answer = self._send("PUT", self._path_of(obj), dict(obj), query)
        return Applied(answer.body, answer.warnings)

    def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> Object | None:
        """The object, or None when there is none of that name."""
        path = self.path(api_version, kind, name, namespace)
        answer = self.request("GET", path)
        if answer.status == 404:
            return None
        return _accepted(answer).body

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        """All objects of a kind, of every namespace when none is named.

        `labels` is a mapping or a selector as text, `fields` a field selector as text.
        """
        resource = self.resource(api_version, kind)
        query = {}
        if labels:
            pairs = (
                labels
                if isinstance(labels, str)
                else ",".join(f"{k}={v}" for k, v in labels.items())
            )
            query["labelSelector"] = pairs
        if fields:
            query["fieldSelector"] = fields
        inside = f"/namespaces/{_segment(namespace)}" if namespace and resource.namespaced else ""
        path = f"{_base(api_version)}{inside}/{resource.plural}"
        items = self._send("GET", path, query=query, idempotent=True).body["items"]
        # The server leaves these out in the items of its own kinds.
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Mapping[str, Any],
        namespace: str | None = None,
        subresource: str | None = None,
        *,
        dry_run: bool = False,
        owner: str = "coldstart",
    ) -> Object:
        """A JSON merge patch: null removes, lists are replaced whole."""
        path = self.path(api_version, kind, name, namespace, subresource)
        query = _write_query(dry_run, owner, True)
        return self._send("PATCH", path, dict(patch), query, content_type=_MERGE).body

    def update_status(self, obj: Mapping[str, Any]) -> Object:
        """Put `obj["status"]` over the object's status, as a controller or kubelet would."""
        metadata = obj["metadata"]
        return self.patch(
            obj["apiVersion"],
            obj["kind"],
            metadata["name"],
            {"status": obj["status"]},
            metadata.get("namespace"),
            "status",
        )

    def scale(
        self, api_version: str, kind: str, name: str, replicas: int, namespace: str | None = None
    ) -> Object:
        """Set the replicas through the scale subresource, as an autoscaler does."""
        wanted = {"spec": {"replicas": replicas}}
        return self.patch(api_version, kind, name, wanted, namespace, "scale")

    def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None = None,
        wait: bool = True,
        deadline_seconds: float = 60,
        *,
        propagation: str = "Background",
        grace_seconds: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Delete, and with `wait` poll until it is gone; a new object of the name is another.

        Nothing of that name is fine. Raises DeadlineError naming finalizers when it stays.
        """
        path = self.path(api_version, kind, name, namespace)
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        body["propagationPolicy"] = propagation
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if dry_run:
            body["dryRun"] = ["All"]
        before = self.get(api_version, kind, name, namespace) if wait else None
        answer = self.request("DELETE", path, body)
        if answer.status == 404:
            return
        _accepted(answer)
        if wait and not dry_run and before is not None:
            uid = before["metadata"]["uid"]
            self.wait_for(
                lambda: self._gone(path, uid), f"{kind} {name} to be gone", deadline_seconds
            )

    def token(self, namespace: str, service_account: str, seconds: int = 3600) -> str:
        """A token of a service account, through TokenRequest."""
        path = self.path("v1", "ServiceAccount", service_account, namespace, "token")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return self._send("POST", path, body).body["status"]["token"]

    def can_i(
        self,
        verb: str,
        resource: str,
        group: str = "",
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
    ) -> bool:
        """Whether this client's own identity may do `verb` on `resource` (a plural)."""
        asked = {"verb": verb, "resource": resource, "group": group, "namespace": namespace}
        asked |= {"name": name, "subresource": subresource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {k: v for k, v in asked.items() if v}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self._send("POST", path, body, idempotent=True).body["status"]["allowed"])

    def wait_for(self, probe: Callable[[], T | None], what: str, deadline_seconds: float) -> T:
        """Poll until `probe` gives something true, and give that.

        An answer that may pass (404, 409, 429, 5xx, none at all) counts as not yet; any other
        refusal is raised at once. Raises DeadlineError with what was awaited and last seen.
        """
        deadline = time.monotonic() + deadline_seconds
        while True:
            said = ""
            try:
                found = probe()
            except Unreachable as error:
                found, said = None, str(error)
            except Refused as error:
                if error.status not in _PASSING:
                    raise
                found, said = None, str(error)
            if found:
                return found
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"waited {deadline_seconds:g} s for {what};"
                    f" last seen: {said or self._transport.last}"
                )
            time.sleep(POLL_SECONDS)

    def request(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request; the answer is given whatever its status."""
        idempotent = method in ("GET", "HEAD", "DELETE")
        return self._transport.send(method, path, body, query, idempotent=idempotent)

    def path(
        self,
        api_version: str,
        kind: str,
        name: str | None = None,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> str:
        """The path of an object, or of its collection when `name` is None."""
        resource = self.resource(api_version, kind)
        parts = [_base(api_version)]
        if resource.namespaced:
            if not namespace:
                raise ValueError(f"{kind} {name or ''} lives in a namespace, and none is named")
            parts += ["namespaces", _segment(namespace)]
        parts.append(resource.plural)
        if name is not None:
            parts.append(_segment(name))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)

    def resource(self, api_version: str, kind: str) -> Resource:
        """How `kind` is reached; asked again on a miss, because definitions come later.

        Raises Refused(404, "NoSuchKind") when the server knows no such kind.
        """
        known = self._kinds.get(api_version, {}).get(kind)
        if known is None:
            known = self._discovered(api_version, kind)
        if known is None:
            raise Refused(
                404,
                "NoSuchKind",
                f"the server has no kind {kind} in {api_version}: is its definition installed?",
            )
        return known

    def _discovered(self, api_version: str, kind: str) -> Resource | None:
        found, mine = self._discover_together(api_version)
        if kind not in found and not mine:
            # The shared answer may be older than the kind; the next one cannot be.
            found, _ = self._discover_together(api_version)
        return found.get(kind)

    def _discover_together(self, api_version: str) -> tuple[dict[str, Resource], bool]:
        """One question however many threads have it, its error included; whether it was ours."""
        with self._lock:
            mine = api_version not in self._asked or self._asked[api_version].done()
            if mine:
                self._asked[api_version] = Future()
            asked = self._asked[api_version]
        if mine:
            try:
                asked.set_result(self._discover(api_version))
            except BaseException as error:
                asked.set_exception(error)
        return asked.result(), mine

    def _discover(self, api_version: str) -> dict[str, Resource]:
        answer = self.request("GET", _base(api_version))
        if answer.status == 404:
            return {}
        kinds = {
            entry["kind"]: Resource(entry["name"], entry["namespaced"])
            for entry in _accepted(answer).body["resources"] or ()
            if "/" not in entry["name"]
        }
        self._kinds[api_version] = kinds
        return kinds

    def _gone(self, path: str, uid: str) -> bool:
        answer = self.request("GET", path)
        return answer.status == 404 or _accepted(answer).body["metadata"]["uid"] != uid

    def _path_of(self, obj: Mapping[str, Any]) -> str:
        metadata = obj["metadata"]
        return self.path(
            obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace")
        )

    def _send(
        self, method: str, path: str, body: Any = None, query: Any = None, **how: Any
    ) -> Answer:
        return _accepted(self._transport.send(method, path, body, query, **how))


def _accepted(answer: Answer) -> Answer:
    if answer.status >= 400:
        raise refusal(answer)
    return answer


def _write_query(dry_run: bool, owner: str, strict: bool) -> dict[str, str]:
    query = {"fieldManager": owner, "fieldValidation": "Strict" if strict else "Warn"}
    if dry_run:
        query["dryRun"] = "All"
    return query


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _segment(text: str) -> str:
    return quote(text, safe=":")
