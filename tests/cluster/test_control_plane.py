"""The control plane itself: real components, real admission, and what comes back after a kill."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from coldstart.controlplane import (
    Answer,
    Client,
    ControlPlane,
    ControlPlaneError,
    DeadlineError,
    Refused,
)
from coldstart.controlplane.supervisor import identity
from tests.cluster.controllers import refused_in_time
from tests.waiting import until

pytestmark = pytest.mark.proof("API server")

DEADLINE_SECONDS = 60
CONTROLLERS = pytest.mark.proof("controller-manager")


def config_map(namespace: str, name: str = "settings", **data: str) -> dict:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(namespace: str, name: str = "pod", **spec: object) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "registry.invalid/c:1"}], **spec},
    }


def deployment(namespace: str) -> dict:
    labels = {"app": "d"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod("")["spec"]},
        },
    }


def test_every_component_is_of_the_pinned_release(plane: ControlPlane) -> None:
    assert plane.admin.request("GET", "/version").body["gitVersion"] == "v1.36.3"
    for name in ("kube-controller-manager", "kube-scheduler"):
        assert 'version="v1.36.3"' in plane.log(name), name


def test_no_secret_is_in_an_argument_or_a_file_for_others(plane: ControlPlane) -> None:
    tokens = [row.split(",")[0] for row in (plane.folder / "keys" / "tokens.csv").open()]
    assert len(tokens) == 3
    for name in plane.components:
        arguments = Path(f"/proc/{plane.pid(name)}/cmdline").read_text()
        environment = Path(f"/proc/{plane.pid(name)}/environ").read_text()
        assert not [token for token in tokens if token in arguments + environment]
    assert stat.S_IMODE(plane.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(plane.kubeconfig.stat().st_mode) == 0o600


def test_the_api_server_is_known_by_its_authority_alone(plane: ControlPlane) -> None:
    context = ssl.create_default_context()
    port = int(plane.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(connection, server_hostname="127.0.0.1")
    context.load_verify_locations(plane.ca_file)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_a_service_account_may_do_nothing_until_a_role_says_so(
    plane: ControlPlane, admin: Client, namespace: str
) -> None:
    client = plane.client(admin.token(namespace, "default"))
    with pytest.raises(Refused, match='cannot list resource "configmaps"') as refused:
        client.list("v1", "ConfigMap", namespace)
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    assert not client.can_i("list", "configmaps", namespace=namespace)
    rbac = "rbac.authorization.k8s.io"
    about = {"apiVersion": f"{rbac}/v1", "metadata": {"name": "reader", "namespace": namespace}}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    admin.apply({**about, "kind": "Role", "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    role = {"apiGroup": rbac, "kind": "Role", "name": "reader"}
    admin.apply({**about, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]})
    allowed = client.wait_for(
        lambda: client.can_i("list", "configmaps", namespace=namespace), "the right to list", 30
    )
    assert allowed
    assert [found["metadata"]["name"] for found in client.list("v1", "ConfigMap", namespace)]
    assert not client.can_i("delete", "configmaps", namespace=namespace)


def test_an_unknown_token_is_nobody(plane: ControlPlane) -> None:
    with pytest.raises(Refused, match="401 Unauthorized"):
        plane.client("guessed").list("v1", "Namespace")


def test_a_pod_is_given_a_projected_token_of_its_service_account(
    admin: Client, namespace: str
) -> None:
    made = admin.create(pod(namespace)).object
    sources = [volume.get("projected", {}).get("sources", []) for volume in made["spec"]["volumes"]]
    assert any("serviceAccountToken" in source for group in sources for source in group)
    with pytest.raises(Refused, match='serviceaccount "nobody" not found'):
        admin.create(pod(namespace, "other", serviceAccountName="nobody"))


def test_pod_security_refuses_a_pod_and_warns_of_a_deployment(
    admin: Client, namespace: str
) -> None:
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    admin.patch("v1", "Namespace", namespace, {"metadata": {"labels": levels}})
    refusal = refused_in_time(admin, lambda: admin.create(pod(namespace), dry_run=True))
    assert 'violates PodSecurity "restricted:latest"' in str(refusal)
    (warning,) = admin.apply(deployment(namespace), dry_run=True).warnings
    assert warning.startswith('would violate PodSecurity "restricted:latest": allowPrivilege')
    assert '(container "c" must set securityContext.allowPrivilegeEscalation=false)' in warning


@CONTROLLERS
def test_a_quota_is_counted_and_refuses_what_goes_beyond(admin: Client, namespace: str) -> None:
    about = {"name": "one", "namespace": namespace}
    hard = {"hard": {"count/configmaps": "2"}}
    admin.create(config_map(namespace, "first"))
    # What every namespace has of its own.
    admin.wait_for(
        lambda: admin.get("v1", "ConfigMap", "kube-root-ca.crt", namespace), "the authority", 60
    )
    admin.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": about, "spec": hard})

    def counted() -> bool:
        quota = admin.get("v1", "ResourceQuota", "one", namespace) or {}
        return quota.get("status", {}).get("used") == {"count/configmaps": "2"}

    admin.wait_for(counted, "the quota to be counted", 60)
    second = config_map(namespace, "second")
    refusal = refused_in_time(admin, lambda: admin.create(second, dry_run=True))
    assert "exceeded quota: one, requested: count/configmaps=1, used: count/configmaps=2" in str(
        refusal
    )


def test_unknown_fields_are_refused_and_a_dry_run_leaves_nothing(
    admin: Client, namespace: str
) -> None:
    wrong = deployment(namespace)
    wrong["spec"]["replica"] = 1
    with pytest.raises(Refused, match=r'strict decoding error: unknown field "spec\.replica"'):
        admin.create(wrong)
    with pytest.raises(Refused, match=r"\.spec\.replica: field not declared in schema"):
        admin.apply(wrong)
    shown = admin.apply(deployment(namespace), dry_run=True).object
    assert shown["spec"]["strategy"]["type"] == "RollingUpdate"
    assert admin.get("apps/v1", "Deployment", "d", namespace) is None


def test_a_field_of_another_owner_is_a_conflict_until_it_is_forced(
    admin: Client, namespace: str
) -> None:
    admin.apply(config_map(namespace, key="ours"))
    with pytest.raises(Refused, match=r'conflict with "coldstart": \.data\.key') as refused:
        admin.apply(config_map(namespace, key="theirs"), owner="somebody")
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    forced = admin.apply(config_map(namespace, key="theirs"), owner="somebody", force=True).object
    assert forced["data"] == {"key": "theirs"}
    stale = {**forced, "metadata": {**forced["metadata"], "resourceVersion": "1"}}
    with pytest.raises(Refused, match="the object has been modified"):
        admin.replace(stale)
    patched = admin.patch("v1", "ConfigMap", "settings", {"data": {"key": None}}, namespace)
    assert "data" not in patched


def test_a_definition_installed_later_is_found_by_the_same_client(admin: Client) -> None:
    name = "engines.test.coldstart.dev"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": schema}
    names = {"plural": "engines", "singular": "engine", "kind": "Engine"}
    spec = {"group": "test.coldstart.dev", "scope": "Cluster", "names": names}
    spec["versions"] = [version]
    about = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    engine = {"apiVersion": "test.coldstart.dev/v1", "kind": "Engine", "metadata": {"name": "e"}}
    with pytest.raises(Refused, match="404 NoSuchKind"):
        admin.apply(engine)
    admin.apply({**about, "metadata": {"name": name}, "spec": spec})
    try:
        admin.wait_for(lambda: admin.apply(engine), "the kind to be served", 30)
        assert [
            found["metadata"]["name"] for found in admin.list("test.coldstart.dev/v1", "Engine")
        ]
    finally:
        admin.delete(about["apiVersion"], about["kind"], name)
    refused_in_time(admin, lambda: admin.list("test.coldstart.dev/v1", "Engine"))


def test_a_deletion_that_hangs_names_what_holds_it(admin: Client, namespace: str) -> None:
    held = config_map(namespace)
    held["metadata"]["finalizers"] = ["coldstart.dev/held"]
    admin.create(held)
    with pytest.raises(DeadlineError, match="waited 0 s for ConfigMap settings to be gone") as late:
        admin.delete("v1", "ConfigMap", "settings", namespace, deadline_seconds=0)
    assert "coldstart.dev/held" in str(late.value)
    admin.patch("v1", "ConfigMap", "settings", {"metadata": {"finalizers": None}}, namespace)
    admin.delete("v1", "ConfigMap", "settings", namespace)
    assert admin.get("v1", "ConfigMap", "settings", namespace) is None


@CONTROLLERS
def test_a_deleted_namespace_goes_with_all_that_is_in_it(admin: Client) -> None:
    name = f"short-lived-{os.getpid()}"
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    admin.create(config_map(name))
    admin.delete("v1", "Namespace", name, deadline_seconds=DEADLINE_SECONDS)
    assert admin.get("v1", "Namespace", name) is None
    assert admin.list("v1", "ConfigMap", name) == []


@CONTROLLERS
def test_a_deployment_is_scaled_through_its_scale_and_makes_its_pods(
    admin: Client, namespace: str
) -> None:
    admin.apply(deployment(namespace))
    for replicas in (2, 0):
        admin.scale("apps/v1", "Deployment", "d", replicas, namespace)
        admin.wait_for(
            lambda count=replicas: len(admin.list("v1", "Pod", namespace, {"app": "d"})) == count,
            f"{replicas} pods",
            DEADLINE_SECONDS,
        )


@CONTROLLERS
def test_a_status_written_by_a_client_is_kept(admin: Client, namespace: str) -> None:
    made = admin.create(pod(namespace)).object
    status = {"status": {"phase": "Running"}}
    assert admin.update_status({**made, **status})["status"]["phase"] == "Running"


def test_extension_servers_are_told_whom_to_trust(plane: ControlPlane, admin: Client) -> None:
    told = admin.get("v1", "ConfigMap", "extension-apiserver-authentication", "kube-system")
    assert told is not None
    assert json.loads(told["data"]["requestheader-allowed-names"]) == ["front-proxy-client"]
    proxy = (plane.folder / "keys" / "front-proxy-ca.crt").read_text()
    assert told["data"]["requestheader-client-ca-file"].strip() == proxy.strip()
    assert told["data"]["client-ca-file"].strip() == plane.ca_file.read_text().strip()


GROUP = "external.metrics.k8s.io"


class Extension(BaseHTTPRequestHandler):
    """The discovery of one group, and the user it was asked by."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        about = {"groupVersion": f"{GROUP}/v1beta1", "resources": []}
        user = self.headers.get("X-Remote-User")
        body = {"kind": "APIResourceList", "apiVersion": "v1", **about, "user": user}
        known = self.path.startswith(f"/apis/{GROUP}/v1beta1")
        content = json.dumps(body).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests print nothing."""


@contextmanager
def extension_server(keys: Path) -> Iterator[int]:
    """An extension API server that takes only the aggregator's own certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Extension)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "serving.crt", keys / "serving.key")
    context.load_verify_locations(keys / "front-proxy-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_an_api_service_on_localhost_is_served_through_the_aggregator(
    plane: ControlPlane, admin: Client, namespace: str
) -> None:
    about = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService"}
    name = f"v1beta1.{GROUP}"

    def served() -> Answer | None:
        answer = admin.request("GET", f"/apis/{GROUP}/v1beta1")
        return answer if answer.status == 200 else None

    with extension_server(plane.folder / "keys") as port:
        service = {"name": "extension", "namespace": namespace}
        outside = {"type": "ExternalName", "externalName": "localhost"}
        admin.apply({"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": outside})
        spec = {"group": GROUP, "version": "v1beta1", "insecureSkipTLSVerify": True}
        spec |= {"groupPriorityMinimum": 100, "versionPriority": 100}
        spec["service"] = {**service, "port": port}
        admin.apply({**about, "metadata": {"name": name}, "spec": spec})
        try:
            answer = admin.wait_for(served, "the aggregated group", DEADLINE_SECONDS)
            assert answer.body["user"] == "admin"
        finally:
            admin.delete(about["apiVersion"], about["kind"], name)


def test_a_killed_api_server_comes_back_where_it_was(
    plane: ControlPlane, admin: Client, namespace: str
) -> None:
    admin.apply(config_map(namespace, key="kept"))
    plane.kill("kube-apiserver")
    assert plane.pid("kube-apiserver") is None
    plane.start("kube-apiserver")
    found = admin.get("v1", "ConfigMap", "settings", namespace)
    assert found is not None
    assert found["data"] == {"key": "kept"}


def test_a_stopped_api_server_does_not_wait_for_its_watchers(plane: ControlPlane) -> None:
    plane.stop("kube-apiserver")
    assert plane.pid("kube-apiserver") is None
    plane.start("kube-apiserver")


def test_a_killed_etcd_keeps_what_was_written(
    plane: ControlPlane, admin: Client, namespace: str
) -> None:
    admin.apply(config_map(namespace, key="kept"))
    plane.kill("etcd")
    # The API server asks etcd now and then, and gives its last answer in between.
    until(
        lambda: admin.request("GET", "/readyz").status == 500,
        "the API server to miss etcd",
        DEADLINE_SECONDS,
    )
    plane.start("etcd")
    found = admin.wait_for(
        lambda: admin.get("v1", "ConfigMap", "settings", namespace), "it to be read again", 60
    )
    assert found["data"] == {"key": "kept"}
    admin.wait_for(
        lambda: admin.request("GET", "/readyz").status == 200, "the API server to be ready", 60
    )


def test_a_program_run_beside_it_is_told_apart_and_ended(plane: ControlPlane) -> None:
    pid = plane.run("guest", ["/bin/sh", "-c", "echo $WHO; exec sleep 600"], {"WHO": "me"})
    until(lambda: plane.log("guest") == "me\n", "the guest to speak", DEADLINE_SECONDS)
    with pytest.raises(ControlPlaneError, match="guest is already running"):
        plane.run("guest", ["/bin/true"])
    with pytest.raises(ControlPlaneError, match="guest is not one of etcd, kube-apiserver"):
        plane.start("guest")
    assert plane.pid("guest") == pid
    with pytest.raises(ControlPlaneError, match="guset was never started; these were: etcd"):
        plane.kill("guset")
    plane.kill("guest")
    assert (plane.pid("guest"), identity(pid)) == (None, None)
