"""Objects between the engine and a real API server: what is tried, refused, found and repaired."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coldstart.controlplane import Client, ControlPlane
from coldstart.engine import ClusterAccess, Result, Toolchain, ensure
from coldstart.engine.result import UNKNOWN
from tests.cluster.conftest import say
from tests.cluster.stack_cluster import access_to
from tests.cluster.stack_given import Given, Item, item, release

SOMEBODY = "somebody-else"
GROUP = "given.coldstart.dev"

pytestmark = pytest.mark.proof("API server")


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure(say)


@pytest.fixture(scope="module")
def access(plane: ControlPlane) -> ClusterAccess:
    return access_to(plane)


@pytest.fixture
def given(tmp_path: Path, toolchain: Toolchain, access: ClusterAccess) -> Iterator[Given]:
    """A program of the test's own; what it made is destroyed afterwards."""
    program = Given(tmp_path, toolchain, access)
    yield program
    ended = program.rehearsal.destroy("one")
    assert ended.ok, ended.errors


def deployment(name: str, namespace: str, image: str = "busybox:1", **container: Any) -> Item:
    labels = {"app": name}
    main = {"name": "main", "image": image, **container}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [main]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return item("Deployment", name, "apps/v1", namespace=namespace, spec=spec)


def quota(namespace: str, **hard: str) -> Item:
    return item("ResourceQuota", "q", namespace=namespace, spec={"hard": hard})


def job(name: str, namespace: str, argument: str) -> Item:
    container = {"name": "main", "image": "busybox:1", "args": [argument]}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return item("Job", name, "batch/v1", namespace=namespace, spec={"template": template})


def widget_definition(plural: str = "widgets", kind: str = "Widget") -> Item:
    size = {"type": "object", "properties": {"size": {"type": "integer", "maximum": 9}}}
    schema = {"type": "object", "properties": {"spec": size}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {
        "group": GROUP,
        "names": {"plural": plural, "kind": kind},
        "scope": "Namespaced",
        "versions": [version],
    }
    name = f"{plural}.{GROUP}"
    return item("CustomResourceDefinition", name, "apiextensions.k8s.io/v1", spec=spec)


def changes(result: Result) -> set[tuple[str, str]]:
    return {(s.op, s.inputs["metadata"]["name"]) for s in result.changed if "metadata" in s.inputs}


def test_a_preview_is_refused_in_the_servers_own_words(given: Given, namespace: str) -> None:
    wrong = item("ConfigMap", "c", namespace=namespace, metadata={"labels": {"a": "not a value!"}})
    refused = given.preview([wrong])
    assert not refused.ok
    assert 'metadata.labels: Invalid value: "not a value!"' in "\n".join(refused.errors)


def test_a_field_that_no_schema_has_is_refused_in_a_preview(given: Given, namespace: str) -> None:
    assert given.up([widget_definition()]).ok
    widget = item("Widget", "w", f"{GROUP}/v1", namespace=namespace, spec={"sise": 1})
    refused = given.preview([widget_definition(), widget])
    assert ".spec.sise: field not declared in schema" in "\n".join(refused.errors)
    large = item("Widget", "w", f"{GROUP}/v1", namespace=namespace, spec={"size": 10})
    refused = given.preview([widget_definition(), large])
    assert "should be less than or equal to 9" in "\n".join(refused.errors)


def test_what_a_preview_cannot_know_is_judged_by_the_up(given: Given, namespace: str) -> None:
    label = {"unknown": "not a value!"}
    wrong = item("ConfigMap", "c", namespace=namespace, metadata={"labels": {"a": label}})
    preview = given.preview([wrong])
    assert preview.ok, preview.errors
    assert "Invalid value" in "\n".join(given.up([wrong]).errors)


def test_a_dry_run_shows_what_the_server_would_add_and_makes_nothing(
    given: Given, admin: Client, namespace: str
) -> None:
    (step,) = [
        s for s in given.preview([deployment("d", namespace)]).resources if ":apps" in s.type
    ]
    assert step.outputs["spec"]["progressDeadlineSeconds"] == 600
    assert step.outputs["metadata"]["uid"] == UNKNOWN
    assert admin.list("apps/v1", "Deployment", namespace) == []


def test_a_namespace_and_a_definition_may_come_with_what_is_in_them(
    given: Given, admin: Client
) -> None:
    objects = [
        item("Namespace", "given-together"),
        widget_definition("gadgets", "Gadget"),
        item(
            "Gadget", "g", f"{GROUP}/v1", namespace="given-together", spec={"size": 1},
            after=["Namespace-given-together", f"CustomResourceDefinition-gadgets.{GROUP}"],
        ),
    ]  # fmt: skip
    preview = given.preview(objects)
    assert preview.ok, preview.errors
    up = given.up(objects)
    assert up.ok, up.errors
    assert admin.get(f"{GROUP}/v1", "Gadget", "g", "given-together")


@pytest.mark.proof("API server", "A custom resource before the chart of its definition is refused")
def test_a_custom_resource_before_its_chart_is_refused(
    given: Given, admin: Client, namespace: str
) -> None:
    scaled = item(
        "ScaledObject", "s", "keda.sh/v1alpha1", namespace=namespace,
        spec={"scaleTargetRef": {"name": "d"}, "triggers": [{"type": "cpu", "metadata": {}}]},
        after=["keda"],
    )  # fmt: skip
    early = given.up([{**scaled, "after": []}])
    assert 'no matches for kind "ScaledObject" in version "keda.sh/v1alpha1"' in str(early.errors)
    keda = release("keda", "keda", "2.20.2", namespace, values={"operator": {"replicaCount": 2}})
    up = given.up([keda, scaled])
    assert up.ok, up.errors
    assert admin.get("keda.sh/v1alpha1", "ScaledObject", "s", namespace)


def test_a_misspelt_chart_value_is_refused_with_its_path(given: Given, namespace: str) -> None:
    keda = release("keda", "keda", "2.20.2", namespace, values={"operator": {"replicaCont": 2}})
    told = "\n".join(given.preview([keda]).errors)
    assert (
        'values.operator.replicaCont: the chart has no such value; did you mean "replicaCount"'
        in (told)
    )


def test_a_field_that_the_program_drops_vanishes_and_others_stay(
    given: Given, admin: Client, namespace: str
) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    first = [quota(namespace, pods="1", services="2"), deployment("d", namespace, env=env)]
    assert given.up(first).ok
    patch = {"metadata": {"labels": {"theirs": "x"}}, "spec": {"hard": {"secrets": "3"}}}
    admin.patch("v1", "ResourceQuota", "q", patch, namespace, owner=SOMEBODY)
    assert given.rehearsal.refresh("one").changed == ()
    second = [quota(namespace, pods="1"), deployment("d", namespace, env=env[:1])]
    assert changes(given.up(second)) == {("update", "q"), ("update", "d")}
    live = admin.get("v1", "ResourceQuota", "q", namespace) or {}
    assert live["spec"]["hard"] == {"pods": "1", "secrets": "3"}
    assert live["metadata"]["labels"] == {"theirs": "x"}
    live = admin.get("apps/v1", "Deployment", "d", namespace) or {}
    (container,) = live["spec"]["template"]["spec"]["containers"]
    assert container["env"] == env[:1]


def test_drift_at_any_depth_is_found_and_repaired_and_the_servers_own_forms_are_none(
    given: Given, admin: Client, namespace: str
) -> None:
    quantities = {"requests": {"cpu": "1000m", "memory": "1024Mi"}}
    objects = [
        quota(namespace, pods="1"),
        item("Secret", "s", namespace=namespace, stringData={"k": {"secret": "known-to-few"}}),
        deployment("d", namespace, resources=quantities, env=[]),
    ]
    assert given.up(objects).ok
    assert given.rehearsal.refresh("one").changed == ()
    patch = {"spec": {"hard": {"pods": "2"}}}
    admin.patch("v1", "ResourceQuota", "q", patch, namespace, owner=SOMEBODY)
    stolen = base64.b64encode(b"stolen").decode()
    admin.patch("v1", "Secret", "s", {"data": {"k": stolen}}, namespace, owner=SOMEBODY)
    container = {"name": "main", "image": "evil:1"}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    admin.patch("apps/v1", "Deployment", "d", patch, namespace, owner=SOMEBODY)

    assert changes(given.rehearsal.refresh("one")) == {("update", name) for name in "qsd"}
    mended = changes(given.up(objects))
    # Other data of a Secret is another Secret: the real provider replaces it too.
    assert {change for change in mended if change[1] != "s"} == {("update", "q"), ("update", "d")}
    assert ("replace", "s") in mended
    live = admin.get("v1", "ResourceQuota", "q", namespace) or {}
    assert live["spec"]["hard"] == {"pods": "1"}
    secret = admin.get("v1", "Secret", "s", namespace) or {}
    assert base64.b64decode(secret["data"]["k"]) == b"known-to-few"
    live = admin.get("apps/v1", "Deployment", "d", namespace) or {}
    (container,) = live["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["resources"]["requests"]["cpu"]) == ("busybox:1", "1")
    assert given.up(objects).changed == ()


def test_what_was_deleted_by_hand_is_found_and_made_again(
    given: Given, admin: Client, namespace: str
) -> None:
    objects = [item("ConfigMap", "c", namespace=namespace, data={"a": "1"})]
    assert given.up(objects).ok
    admin.delete("v1", "ConfigMap", "c", namespace)
    assert changes(given.rehearsal.refresh("one")) == {("delete", "c")}
    assert changes(given.up(objects)) == {("create", "c")}


def test_secrets_are_in_no_state_no_result_and_no_message(given: Given, namespace: str) -> None:
    text = "a-secret of many words"
    objects = [item("Secret", "s", namespace=namespace, stringData={"k": {"secret": text}})]
    up = given.up(objects)
    assert up.ok, up.errors
    encoded = base64.b64encode(text.encode()).decode()
    for place in (json.dumps(given.rehearsal.export("one")), str(up.resources), up.stdout):
        assert text not in place
        assert encoded not in place
    labels = {"a": {"secret": text}}
    refused = given.up([item("ConfigMap", "c", namespace=namespace, metadata={"labels": labels})])
    told = "\n".join(refused.errors) + refused.stdout
    assert 'Invalid value: "[secret]"' in told
    assert text not in told


def test_a_warning_of_admission_is_told_with_its_resource(given: Given) -> None:
    name = "given-warned"
    labels = {"pod-security.kubernetes.io/warn": "restricted"}
    objects = [
        item("Namespace", name, metadata={"labels": labels}),
        {**deployment("d", name), "after": [f"Namespace-{name}"]},
    ]
    up = given.up(objects)
    assert up.ok, up.errors
    (warning,) = up.warnings
    assert warning.startswith("Deployment-d: would violate PodSecurity")
    assert "allowPrivilegeEscalation != false" in warning


def test_what_cannot_change_in_place_is_replaced_and_its_preview_is_clean(
    given: Given, admin: Client, namespace: str
) -> None:
    assert given.up([job("j", namespace, "one")]).ok
    before = admin.get("batch/v1", "Job", "j", namespace) or {}
    changed = [job("j", namespace, "two")]
    preview = given.preview(changed)
    assert preview.ok, preview.errors
    up = given.up(changed)
    assert up.ok, up.errors
    after = admin.get("batch/v1", "Job", "j", namespace) or {}
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert after["spec"]["template"]["spec"]["containers"][0]["args"] == ["two"]


def test_an_object_that_somebody_else_made_is_not_taken_over(
    given: Given, admin: Client, namespace: str
) -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "theirs"}}
    admin.create({**theirs, "metadata": {"name": "c", "namespace": namespace}}, owner=SOMEBODY)
    refused = given.up([item("ConfigMap", "c", namespace=namespace, data={"a": "ours"})])
    assert f"already exists; its fields belong to {SOMEBODY}" in "\n".join(refused.errors)


def test_a_destroy_waits_until_the_object_is_gone(
    given: Given, admin: Client, namespace: str
) -> None:
    metadata = {"finalizers": [f"{GROUP}/held"]}
    assert given.up([item("ConfigMap", "c", namespace=namespace, metadata=metadata)]).ok

    def release_it(_: str) -> None:
        held = admin.get("v1", "ConfigMap", "c", namespace)
        if held and held["metadata"].get("deletionTimestamp"):
            admin.patch("v1", "ConfigMap", "c", {"metadata": {"finalizers": None}}, namespace)

    watched = watching(given, release_it)
    ended = watched.destroy("one")
    assert ended.ok, ended.errors
    assert admin.get("v1", "ConfigMap", "c", namespace) is None


def watching(given: Given, look: Callable[[str], None]) -> Any:
    """The same rehearsal; `look` is called every two seconds while the engine runs."""
    given.rehearsal._progress = look
    return given.rehearsal


@pytest.mark.proof(
    "Helm", "A chart at hand is installed, upgraded, found missing and removed by Helm"
)
def test_a_chart_at_hand_is_a_real_release(given: Given, admin: Client, namespace: str) -> None:
    def karpenter(replicas: int) -> list[Item]:
        values = {"replicas": replicas, "settings": {"clusterName": "given"}}
        chart = "oci://public.ecr.aws/karpenter/karpenter"
        more = {"values": values, "skipCrds": True}
        return [release("karpenter", chart, "1.14.1", namespace, **more)]

    def replicas() -> int:
        live = admin.get("apps/v1", "Deployment", "karpenter", namespace) or {}
        return live["spec"]["replicas"]

    preview = given.preview(karpenter(1))
    assert preview.ok, preview.errors
    assert admin.get("apps/v1", "Deployment", "karpenter", namespace) is None
    up = given.up(karpenter(1))
    assert up.ok, up.errors
    assert replicas() == 1
    assert given.up(karpenter(1)).changed == ()
    assert given.up(karpenter(2)).ok
    assert replicas() == 2
    metadata = [s.outputs["status"] for s in given.rehearsal.refresh("one").resources
                if s.name == "karpenter"]  # fmt: skip
    assert metadata[-1]["revision"] == 2
    for secret in admin.list("v1", "Secret", namespace, labels={"owner": "helm"}):
        admin.delete("v1", "Secret", secret["metadata"]["name"], namespace)
    assert [s.op for s in given.rehearsal.refresh("one").changed] == ["delete"]
    assert given.up(karpenter(1)).ok
    assert replicas() == 1
    assert given.rehearsal.destroy("one").ok
    assert admin.get("apps/v1", "Deployment", "karpenter", namespace) is None
