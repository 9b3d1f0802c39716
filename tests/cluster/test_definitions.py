"""The API server takes and serves every definition, ours and published ones alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from coldstart.controlplane import Client, DeadlineError, Refused, definitions
from coldstart.controlplane.definitions import DEFINITION
from tests.cluster.refusal_examples import passing
from tests.cluster.refusal_rows import changed
from tests.cluster.rendered_objects import Object, dev_nodes, fleet, stack

VARIANTS = (None, definitions.PUBLISHED) if definitions.PUBLISHED.is_dir() else (None,)
SHORT_SECONDS = 2.0
INSIDE: dict[str, tuple[str | int, ...]] = {
    "AKSNodeClass": ("gpu",),
    "ComputeClass": ("priorities", 0),
    "EC2NodeClass": ("blockDeviceMappings", 0, "ebs"),
    "HTTPScaledObject": ("scaleTargetRef",),
    "InferencePool": ("targetPorts", 0),
    "InterceptorRoute": ("target",),
    "NodePool": ("template", "spec"),
    "PodMonitor": ("podMetricsEndpoints", 0),
    "PrometheusRule": ("groups", 0, "rules", 0),
    "ScaledObject": ("triggers", 0),
    "TriggerAuthentication": ("secretTargetRef", 0),
}
"""An object inside the specification of every kind there is a passing object of."""


def proof(statement: str) -> pytest.MarkDecorator:
    return pytest.mark.proof("API server", statement)


def variants(admin: Client) -> Iterator[str]:
    """Installs all definitions, of each variant in turn: our own, and published where at hand."""
    for published in VARIANTS:
        for definition in definitions.own_definitions():
            admin.delete(*DEFINITION, definitions.name_of(definition))
        definitions.install(admin, published=published)
        yield "published" if published else "own"


def custom(objects: list[Object]) -> list[Object]:
    groups = {item["spec"]["group"] for item in definitions.all_definitions(None)}
    return [item for item in objects if item["apiVersion"].split("/")[0] in groups]


@proof("Serves every definition the project uses, of our own and of upstream's making")
def test_every_definition_is_served_when_install_returns(admin: Client) -> None:
    for variant in variants(admin):
        for definition in definitions.all_definitions(None):
            spec = definition["spec"]
            for version in spec["versions"]:
                api_version = f"{spec['group']}/{version['name']}"
                assert admin.list(api_version, spec["names"]["kind"]) == [], variant


@proof("Takes definitions twice and changes nothing the second time")
def test_installing_again_changes_nothing(admin: Client) -> None:
    names = ["nodepools.karpenter.sh", "interceptorroutes.http.keda.sh"]

    def generations() -> list[int]:
        definitions.install(admin, names)
        found = [admin.get(*DEFINITION, name) or {} for name in names]
        return [item["metadata"]["generation"] for item in found]

    assert generations() == generations()


@proof("Takes every custom resource of every stack under either making of the definitions")
def test_every_custom_resource_of_the_project_is_taken(admin: Client) -> None:
    objects = [*fleet(), *dev_nodes(), *stack("eks-prod"), *stack("eks-dev")]
    for item in objects:
        if item["kind"] == "Namespace":
            admin.apply(item, force=True)
    found = custom(objects)
    assert {item["kind"] for item in found} >= {"EC2NodeClass", "NodePool", "ScaledObject"}
    for variant in variants(admin):
        for item in found:
            assert admin.apply(item, dry_run=True).warnings == (), variant


@proof("Refuses a field that a definition does not have, at its top and inside, in every kind")
def test_an_unknown_field_is_refused_in_every_kind(admin: Client) -> None:
    for _ in variants(admin):
        for kind, inside in INSIDE.items():
            good = passing(kind)
            if "namespace" in good["metadata"]:
                good["metadata"]["namespace"] = "default"
            admin.apply(good, dry_run=True)
            for place in (("spec",), ("spec", *inside)):
                wrong = changed(good, {(*place, "misspelt"): "yes"})
                with pytest.raises(Refused, match="misspelt: field not declared in schema"):
                    admin.apply(wrong, dry_run=True)
                with pytest.raises(Refused, match=r'unknown field "spec.*misspelt"'):
                    admin.create(wrong, dry_run=True)


@proof("Takes an object the moment after its definition was installed")
@pytest.mark.parametrize("attempt", range(5))
def test_a_kind_can_be_used_at_once_after_it_was_installed(admin: Client, attempt: int) -> None:
    name = "scaledobjects.keda.sh"
    admin.delete(*DEFINITION, name)
    definitions.install(admin, [name], published=None)
    good = passing("ScaledObject")
    good["metadata"]["namespace"] = "default"
    admin.create(good)
    admin.delete(good["apiVersion"], good["kind"], good["metadata"]["name"], "default")


@proof("Serves only the definitions that were asked for")
def test_only_what_is_named_is_installed(admin: Client) -> None:
    names = ["nodepools.karpenter.sh", "ec2nodeclasses.karpenter.k8s.aws"]
    for name in names:
        admin.delete(*DEFINITION, name)
    made = definitions.install(admin, names[:1])
    assert [definitions.name_of(item) for item in made] == names[:1]
    assert admin.get(*DEFINITION, names[0])
    assert admin.get(*DEFINITION, names[1]) is None
    definitions.install(admin, names[1:])


@proof("Refuses a definition whose rule names no field, in words that reach the user")
def test_a_definition_the_server_refuses_is_told_in_its_words(admin: Client) -> None:
    broken = copy.deepcopy(definitions.own_definitions()[0])
    schema = broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": "self.nothing > 1"}]
    with pytest.raises(Refused, match="undefined field 'nothing'"):
        definitions.apply(admin, [broken])


@proof("Never serves two definitions of one kind; the one that waits is named")
def test_a_definition_that_is_never_served_is_named(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two definitions of one kind: the second waits for ever for its name."""
    monkeypatch.setattr(definitions, "DEADLINE_SECONDS", SHORT_SECONDS)
    (first,) = definitions.install(admin, ["aksnodeclasses.karpenter.azure.com"], published=None)
    second = copy.deepcopy(first)
    second["metadata"]["name"] = "twins.karpenter.azure.com"
    second["spec"]["names"]["plural"] = "twins"
    try:
        with pytest.raises(DeadlineError, match=r"twins\.karpenter\.azure\.com to be served"):
            definitions.apply(admin, [second])
    finally:
        admin.delete(*DEFINITION, second["metadata"]["name"])
