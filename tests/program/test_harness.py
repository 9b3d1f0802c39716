"""The recording monitor stands in for engine and providers: what it must get right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes
import pytest

from tests.program import harness
from tests.program.harness import MisspeltError, run_program
from tests.program.recording import UNKNOWN, Recorded, Secret, open_texts, secret_texts

CONFIG = {"aws:region": "eu-west-1"}
BUCKET = "aws:s3/bucket:Bucket"


def run(program: Any, **options: Any) -> Recorded:
    return run_program("test", config=options.pop("config", CONFIG), program=program, **options)


def test_inputs_arrive_as_plain_data_under_the_names_of_the_wire() -> None:
    def program() -> None:
        aws.ec2.Vpc("main", cidr_block="10.0.0.0/16", enable_dns_hostnames=True, tags={"a": "b"})

    vpc = run(program).one("aws:ec2/vpc:Vpc")
    assert vpc.inputs == {
        "cidrBlock": "10.0.0.0/16",
        "enableDnsHostnames": True,
        "tags": {"a": "b"},
    }


def test_after_an_up_computed_outputs_are_known_and_reach_what_depends_on_them() -> None:
    def program() -> None:
        vpc = aws.ec2.Vpc("main", cidr_block="10.0.0.0/16")
        aws.ec2.Subnet("a", vpc_id=vpc.id, cidr_block="10.0.0.0/24")

    recorded = run(program)
    subnet = recorded.one("aws:ec2/subnet:Subnet")
    vpc = recorded.one("aws:ec2/vpc:Vpc")
    assert subnet.inputs["vpcId"].startswith("vpc-")
    assert subnet.dependencies == (vpc.urn,)
    assert subnet.property_dependencies["vpcId"] == (vpc.urn,)


def test_in_a_preview_computed_outputs_are_unknown_and_no_apply_runs() -> None:
    applied: list[str] = []

    def program() -> None:
        bucket = aws.s3.Bucket("weights")
        bucket.arn.apply(applied.append)
        aws.iam.Policy("read", policy=bucket.arn)

    policy = run(program, preview=True).one("aws:iam/policy:Policy")
    assert policy.inputs["policy"] is UNKNOWN
    assert applied == []


def test_a_secret_stays_marked_through_every_resource() -> None:
    def program() -> None:
        key = pulumi.Config("coldstart").require_secret("apiKey")
        kubernetes.core.v1.Secret("key", string_data={"key": key})

    recorded = run(program, secrets={"coldstart:apiKey": "hunter2"})
    inputs = recorded.one("Secret").inputs
    assert list(secret_texts(inputs)) == ["hunter2"]
    assert "hunter2" not in list(open_texts(inputs))


def test_a_misspelt_nested_key_is_refused_with_the_right_one() -> None:
    def program() -> None:
        config: Any = {"subnet_ids": ["subnet-1"], "endpoint_private_acces": True}
        aws.eks.Cluster("main", role_arn="arn:aws:iam::123456789012:role/x", vpc_config=config)

    with pytest.raises(MisspeltError, match=r"vpcConfig\.endpoint_private_acces.*endpointPrivate"):
        run(program)
    assert run(program, strict=False).misspelt


def test_two_resources_of_one_name_and_type_are_refused_as_by_the_engine() -> None:
    def program() -> None:
        aws.s3.Bucket("same")
        aws.s3.Bucket("same")

    with pytest.raises(AssertionError, match="duplicate resource URN"):
        run(program)


def test_a_urn_names_every_component_around_the_resource() -> None:
    class Outer(pulumi.ComponentResource):
        def __init__(self) -> None:
            super().__init__("coldstart:test:Outer", "outer")
            inner = pulumi.ComponentResource(
                "coldstart:test:Inner", "inner", None, pulumi.ResourceOptions(parent=self)
            )
            aws.s3.Bucket("deep", opts=pulumi.ResourceOptions(parent=inner))
            self.register_outputs({"answer": 42})

    recorded = run(Outer)
    bucket = recorded.one(BUCKET)
    assert bucket.urn == (
        "urn:pulumi:test::coldstart::"
        "coldstart:test:Outer$coldstart:test:Inner$aws:s3/bucket:Bucket::deep"
    )
    assert [parent.name for parent in recorded.parents(bucket)] == ["inner", "outer"]
    assert recorded.component_outputs[recorded.one("coldstart:test:Outer").urn] == {"answer": 42}


def test_stack_outputs_are_recorded_with_their_secrets() -> None:
    def program() -> None:
        pulumi.export("plain", {"a": [1, 2]})
        pulumi.export("hidden", pulumi.Output.secret("x"))

    assert run(program).outputs == {"plain": {"a": [1, 2]}, "hidden": Secret("x")}


def test_one_run_hands_its_outputs_to_the_stack_reference_of_another() -> None:
    def infra() -> None:
        pulumi.export("contract", {"zones": ["a", "b"], "schemaVersion": 1})
        pulumi.export("kubeconfig", pulumi.Output.secret("{}"))

    def workload() -> None:
        other = pulumi.StackReference("organization/coldstart/infra")
        pulumi.export("zones", other.require_output("contract").apply(lambda found: found["zones"]))
        pulumi.export("kubeconfig", other.require_output("kubeconfig"))

    recorded = run(workload, stack_outputs={"infra": run(infra).exports()})
    assert recorded.outputs == {"zones": ["a", "b"], "kubeconfig": Secret("{}")}
    assert recorded.stack_references == ["organization/coldstart/infra"]


def test_an_unknown_stack_is_an_error_not_an_empty_answer() -> None:
    with pytest.raises(Exception, match="unknown stack 'organization/coldstart/nowhere'"):
        run(lambda: pulumi.StackReference("organization/coldstart/nowhere").get_output("x"))


def test_data_sources_answer_for_the_region_of_the_stack_and_are_recorded() -> None:
    def program() -> None:
        pulumi.export("zones", aws.get_availability_zones_output(state="available").names)

    recorded = run(program)
    assert recorded.outputs["zones"][0] == "eu-west-1a"
    assert [call.token for call in recorded.invokes] == [
        "aws:index/getAvailabilityZones:getAvailabilityZones"
    ]


def test_a_test_may_answer_a_data_source_itself() -> None:
    token = "aws:index/getAvailabilityZones:getAvailabilityZones"

    def program() -> None:
        pulumi.export("zones", aws.get_availability_zones_output().names)

    recorded = run(program, invokes={token: lambda _: {"id": "x", "names": ["moon-1a"]}})
    assert recorded.outputs["zones"] == ["moon-1a"]


def test_configuration_arrives_as_the_engine_sends_it() -> None:
    seen: dict[str, Any] = {}

    def program() -> None:
        seen.update(pulumi.runtime.config.CONFIG.get())

    config = {"coldstart:a": {"b": [1, True]}, "coldstart:c": 3, "coldstart:d": "x"}
    run(program, config={**config, "coldstart:e": {"secure": "v1:abc"}})
    assert json.loads(seen["coldstart:a"]) == {"b": [1, True]}
    assert (seen["coldstart:c"], seen["coldstart:d"]) == ("3", "x")
    assert seen["coldstart:e"] == "decrypted coldstart:e"


def test_options_of_a_resource_are_recorded() -> None:
    def program() -> None:
        provider = aws.Provider("east", region="us-east-1")
        aws.s3.Bucket(
            "kept",
            opts=pulumi.ResourceOptions(
                provider=provider,
                protect=True,
                ignore_changes=["tags"],
                custom_timeouts=pulumi.CustomTimeouts(create="30m"),
            ),
        )

    recorded = run(program)
    bucket = recorded.one(BUCKET)
    assert bucket.provider == recorded.one("pulumi:providers:aws").urn
    assert bucket.options.protect
    assert bucket.options.ignore_changes == ("tags",)
    assert bucket.options.timeouts == {"create": "30m"}
    assert bucket.outputs["region"] == "us-east-1"


def test_runs_do_not_see_each_other() -> None:
    def program() -> None:
        aws.s3.Bucket("weights")
        pulumi.export("n", 1)

    first, second = run(program), run(program)
    assert first.types() == second.types() == {BUCKET: 1}
    assert first.one(BUCKET) == second.one(BUCKET)


def test_an_exception_of_the_program_comes_through_and_harms_no_later_run() -> None:
    def broken() -> None:
        aws.s3.Bucket("weights")
        raise ValueError("no such pool")

    with pytest.raises(ValueError, match="no such pool"):
        run(broken)
    assert run(lambda: pulumi.export("n", 1)).outputs == {"n": 1}


def test_an_exception_inside_an_apply_comes_through() -> None:
    def refuse(arn: str) -> str:
        raise ValueError(f"cannot use {arn}")

    def program() -> None:
        pulumi.export("x", aws.s3.Bucket("weights").arn.apply(refuse))

    with pytest.raises(ValueError, match="cannot use arn:aws:s3"):
        run(program)


def test_a_value_nobody_gives_ends_in_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(harness, "DEADLINE_SECONDS", 0.2)

    def program() -> None:
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pulumi.export("x", pulumi.Output.from_input(never))

    with pytest.raises(TimeoutError):
        run(program)


def test_custom_objects_are_what_an_api_server_would_get() -> None:
    def program() -> None:
        kubernetes.apiextensions.CustomResource(
            "pool", api_version="karpenter.sh/v1", kind="NodePool", spec={"weight": 10}
        )
        kubernetes.core.v1.Namespace("models", metadata={"name": "models"})

    (pool,) = run(program).custom_objects()
    assert (pool["apiVersion"], pool["kind"], pool["spec"]) == (
        "karpenter.sh/v1",
        "NodePool",
        {"weight": 10},
    )
    assert pool["metadata"]["name"].startswith("pool-")


def test_a_program_file_runs_as_main(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(
        "import pulumi\n\nif __name__ == '__main__':\n"
        "    pulumi.export('stack', pulumi.get_stack())\n"
    )
    assert run(file).outputs == {"stack": "test"}
