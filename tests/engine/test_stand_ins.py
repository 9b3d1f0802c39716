"""The stand-in providers, asked directly: names, refusals, differences, replacements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2

from coldstart.engine.workspace import STAND_INS
from offline.difference import compare
from offline.provider import PACKAGES, StandIn
from offline.strict import UnknownTypeError, unknown_properties, unknown_with_suggestions
from offline.wire import UNKNOWN, from_struct, secret, to_struct
from offline.world import World, create_world

VPC = "aws:ec2/vpc:Vpc"
QUEUE = "aws:sqs/queue:Queue"
JOB = "kubernetes:batch/v1:Job"
NODE_POOL = "kubernetes:karpenter.sh/v1:NodePool"


class AbortedError(Exception):
    """What grpc does with a refused call."""


class Call:
    """The part of a gRPC context that the stand-ins use."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    def abort(self, code: grpc.StatusCode, message: str) -> None:
        self.code = code
        raise AbortedError(message)


@pytest.fixture
def world(tmp_path: Path) -> World:
    create_world(tmp_path / "world.sqlite")
    return World(tmp_path / "world.sqlite")


@pytest.fixture
def aws(world: World) -> StandIn:
    stand_in = StandIn("aws", PACKAGES["aws"](), world, "7.0.0")
    _configure(stand_in, {"region": "us-west-2"})
    return stand_in


@pytest.fixture
def kubernetes(world: World) -> StandIn:
    stand_in = StandIn("kubernetes", PACKAGES["kubernetes"](), world, "4.0.0")
    _configure(stand_in, {"kubeconfig": "server: https://one"})
    return stand_in


def _configure(stand_in: StandIn, settings: dict[str, Any]) -> None:
    stand_in.Configure(provider_pb2.ConfigureRequest(args=to_struct(settings)), Call())


def _urn(type_token: str, name: str = "thing") -> str:
    return f"urn:pulumi:s::p::coldstart:aws:Network${type_token}::{name}"


def _check(
    stand_in: StandIn, type_token: str, news: dict[str, Any], olds: dict[str, Any] | None = None
) -> provider_pb2.CheckResponse:
    request = provider_pb2.CheckRequest(
        urn=_urn(type_token), news=to_struct(news), olds=to_struct(olds or {}), randomSeed=b"seed"
    )
    return stand_in.Check(request, Call())


def _create(
    stand_in: StandIn,
    type_token: str,
    inputs: dict[str, Any],
    *,
    name: str = "thing",
    preview: bool = False,
) -> provider_pb2.CreateResponse:
    request = provider_pb2.CreateRequest(
        urn=_urn(type_token, name), properties=to_struct(inputs), preview=preview
    )
    return stand_in.Create(request, Call())


def _diff(
    stand_in: StandIn, type_token: str, old: dict[str, Any], new: dict[str, Any]
) -> provider_pb2.DiffResponse:
    request = provider_pb2.DiffRequest(
        id="id", urn=_urn(type_token), old_inputs=to_struct(old), news=to_struct(new)
    )
    return stand_in.Diff(request, Call())


def _object(kind: str, version: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def test_each_package_the_engine_installs_has_a_stand_in() -> None:
    assert set(STAND_INS) == set(PACKAGES)


def test_a_misspelt_name_is_found_at_any_depth_and_in_lists() -> None:
    containers = [{"name": "a", "imagePullPolcy": "Always"}]
    spec = {"template": {"spec": {"containers": containers, "nodeSelector": {"any": "thing"}}}}
    found = unknown_with_suggestions(JOB, {"spec": spec})
    place = "spec.template.spec.containers[0].imagePullPolcy"
    assert found == [(place, "imagePullPolicy")]


def test_a_misspelt_name_inside_a_secret_is_found() -> None:
    inputs = {"vpcConfig": secret({"subnetIdz": []})}
    assert unknown_properties("aws:eks/cluster:Cluster", inputs) == ["vpcConfig.subnetIdz"]


def test_free_form_places_are_not_looked_into() -> None:
    release = "kubernetes:helm.sh/v3:Release"
    assert unknown_properties(release, {"values": {"anything": {"goes": 1}}}) == []
    assert unknown_properties(VPC, {"tags": {"anything": "goes"}}) == []
    pool = {"spec": {"anything": 1}, "metadata": {"labels": {"any": "thing"}}}
    assert unknown_properties(NODE_POOL, pool) == []


def test_a_custom_resource_still_has_its_metadata_checked() -> None:
    assert unknown_properties(NODE_POOL, {"metadata": {"nmae": "gpu"}}) == ["metadata.nmae"]


def test_a_type_that_the_sdk_lacks_is_refused() -> None:
    with pytest.raises(UnknownTypeError, match="no resource type aws:ec2/vcp:Vcp"):
        unknown_properties("aws:ec2/vcp:Vcp", {})


def test_a_name_is_invented_kept_and_invented_anew_for_a_replacement(aws: StandIn) -> None:
    first = from_struct(_check(aws, QUEUE, {}).inputs)
    assert first["name"].startswith("thing-")
    assert from_struct(_check(aws, QUEUE, {}, first).inputs)["name"] == first["name"]
    given = from_struct(_check(aws, QUEUE, {"name": "mine"}, first).inputs)
    assert given["name"] == "mine"
    assert from_struct(_check(aws, QUEUE, {}, given).inputs)["name"] != "mine"


def test_a_preview_passes_inputs_on_and_knows_no_computed_output(aws: StandIn) -> None:
    inputs = {"roleArn": UNKNOWN, "name": "c", "vpcConfig": {"subnetIds": ["subnet-1"]}}
    made = _create(aws, "aws:eks/cluster:Cluster", inputs, preview=True)
    outputs = from_struct(made.properties)
    assert made.id == ""
    assert outputs["vpcConfig"]["subnetIds"] == ["subnet-1"]
    assert outputs["vpcConfig"]["clusterSecurityGroupId"] == UNKNOWN
    assert outputs["endpoint"] == UNKNOWN
    assert outputs["roleArn"] == UNKNOWN
    assert outputs["region"] == "us-west-2"


def test_a_second_object_of_the_same_natural_name_is_refused(aws: StandIn) -> None:
    _create(aws, QUEUE, {"name": "interruptions"})
    with pytest.raises(AbortedError, match="already exists"):
        _create(aws, QUEUE, {"name": "interruptions"}, name="other")


def test_the_same_name_in_another_cluster_is_another_object(
    kubernetes: StandIn, world: World
) -> None:
    namespace = _object("Namespace", "v1", "serving")
    _create(kubernetes, "kubernetes:core/v1:Namespace", namespace)
    other = StandIn("kubernetes", PACKAGES["kubernetes"](), world, "4.0.0")
    _configure(other, {"kubeconfig": "server: https://two"})
    _create(other, "kubernetes:core/v1:Namespace", namespace, name="second")
    assert len(world.objects()) == 2


def test_an_object_before_its_namespace_is_refused_as_by_an_api_server(
    kubernetes: StandIn,
) -> None:
    job = _object("Job", "batch/v1", "download", "serving")
    with pytest.raises(AbortedError, match='namespaces "serving" not found'):
        _create(kubernetes, JOB, job)
    _create(kubernetes, "kubernetes:core/v1:Namespace", _object("Namespace", "v1", "serving"))
    assert _create(kubernetes, JOB, job).id == "serving/download"


def test_a_custom_resource_before_the_release_of_its_chart_is_refused(
    kubernetes: StandIn,
) -> None:
    pool = _object("NodePool", "karpenter.sh/v1", "gpu")
    with pytest.raises(AbortedError, match="no Helm release of karpenter or karpenter-crd"):
        _create(kubernetes, NODE_POOL, pool)
    release = {"name": "k", "namespace": "kube-system", "chart": "oci://x/karpenter"}
    _create(kubernetes, "kubernetes:helm.sh/v3:Release", release)
    assert _create(kubernetes, NODE_POOL, pool).id == "gpu"


@pytest.mark.parametrize(
    ("type_token", "old", "new", "replaces"),
    [
        (VPC, {"cidrBlock": "10.0.0.0/16"}, {"cidrBlock": "10.1.0.0/16"}, ["cidrBlock"]),
        (VPC, {"cidrBlock": "a", "tags": {"x": "1"}}, {"cidrBlock": "a", "tags": {}}, []),
        (
            JOB,
            {"kind": "Job", "spec": {"template": {"spec": {"a": 1}}}},
            {"kind": "Job", "spec": {"template": {"spec": {"a": 2}}}},
            ["spec"],
        ),
        (
            JOB,
            {"kind": "Job", "spec": {"suspend": True}},
            {"kind": "Job", "spec": {"suspend": False}},
            [],
        ),
        (NODE_POOL, {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}, ["metadata"]),
        (
            NODE_POOL,
            {"metadata": {"name": "a"}, "spec": {"x": 1}},
            {"metadata": {"name": "a"}, "spec": {"x": 2}},
            [],
        ),
    ],
)
def test_only_what_cannot_change_in_place_is_replaced(
    type_token: str, old: dict[str, Any], new: dict[str, Any], replaces: list[str], world: World
) -> None:
    package = type_token.split(":")[0]
    stand_in = StandIn(package, PACKAGES[package](), world, "1.0.0")
    assert list(_diff(stand_in, type_token, old, new).replaces) == replaces


def test_a_replaced_object_of_fixed_name_is_deleted_first(kubernetes: StandIn) -> None:
    old = {**_object("Job", "batch/v1", "download", "a"), "spec": {"template": {"x": 1}}}
    new = {**_object("Job", "batch/v1", "download", "a"), "spec": {"template": {"x": 2}}}
    assert _diff(kubernetes, JOB, old, new).deleteBeforeReplace
    renamed = {**_object("Job", "batch/v1", "fetch", "a"), "spec": {"template": {"x": 2}}}
    assert not _diff(kubernetes, JOB, old, renamed).deleteBeforeReplace


def test_an_update_keeps_what_was_computed_and_moves_versions_on(
    aws: StandIn, world: World
) -> None:
    token = "aws:ec2/launchTemplate:LaunchTemplate"
    old = {"name": "gpu", "userData": "a", "imageId": "ami-1"}
    made = _create(aws, token, old)
    request = provider_pb2.UpdateRequest(
        id=made.id,
        urn=_urn(token),
        olds=made.properties,
        old_inputs=to_struct(old),
        news=to_struct({"name": "gpu", "userData": "b"}),
    )
    outputs = from_struct(aws.Update(request, Call()).properties)
    assert (outputs["userData"], outputs["latestVersion"]) == ("b", 2)
    assert outputs["arn"] == from_struct(made.properties)["arn"]
    assert "imageId" not in outputs
    assert world.objects()[0].properties == outputs


def test_differences_are_told_by_path_and_a_secret_is_compared_by_its_value() -> None:
    old = {"a": {"b": [1, 2], "x.y/z": 1}, "s": secret("k"), "__defaults": ["a"]}
    new = {"a": {"b": [1, 3, 4], "x.y/z": 2}, "s": "k", "__defaults": []}
    found = {(change.path, change.kind) for change in compare(old, new)}
    assert found == {("a.b[1]", "update"), ("a.b[2]", "add"), ('a["x.y/z"]', "update")}


def test_an_aws_provider_without_a_region_is_refused(world: World) -> None:
    stand_in = StandIn("aws", PACKAGES["aws"](), world, "7.0.0")
    with pytest.raises(AbortedError, match="no region is configured"):
        _configure(stand_in, {})


def test_data_sources_answer_from_a_table_and_an_unknown_one_says_so(aws: StandIn) -> None:
    def ask(token: str) -> dict[str, Any]:
        answer = aws.Invoke(provider_pb2.InvokeRequest(tok=token), Call())
        return from_struct(getattr(answer, "return"))

    identity = ask("aws:index/getCallerIdentity:getCallerIdentity")
    assert identity["accountId"] == "111122223333"
    zones = ask("aws:index/getAvailabilityZones:getAvailabilityZones")
    assert zones["names"] == ["us-west-2a", "us-west-2b", "us-west-2c", "us-west-2d"]
    assert zones["zoneIds"][0] == "usw2-az1"
    with pytest.raises(AbortedError, match="no answer for aws:ec2/getAmi:getAmi"):
        ask("aws:ec2/getAmi:getAmi")
