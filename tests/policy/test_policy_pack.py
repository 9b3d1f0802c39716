"""The pack inside the process of the SDK: what it reads, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pulumi_policy.policy as sdk
import pytest
from google.protobuf import json_format, struct_pb2

from policies import pack

STEPS = ("deserialize_properties", "unknown_checking_proxy", "json_format")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the SDK turned into a tree, one entry each time; its own steps are put back after."""
    seen: list[Any] = []

    def to_dict(message: Any) -> Any:
        seen.append(message)
        return json_format.MessageToDict(message)

    for step in STEPS:
        monkeypatch.setattr(sdk, step, getattr(sdk, step))
    monkeypatch.setattr(sdk, "json_format", SimpleNamespace(MessageToDict=to_dict))
    pack.read_each_resource_once()
    return seen


def tree(message: struct_pb2.Struct) -> Any:
    """The SDK's way from a message to what a policy sees, pulumi_policy.policy Analyze."""
    deserialize, proxy, messages = (getattr(sdk, step) for step in STEPS)
    return proxy(deserialize(messages.MessageToDict(message)))


def test_a_resource_is_read_once_however_many_rules_there_are(reads: list[Any]):
    message = struct_pb2.Struct()
    message.update({"spec": {"replicas": 2}})
    first = tree(message)
    assert first["spec"]["replicas"] == 2
    assert all(tree(message) is first for _ in range(70))
    assert len(reads) == 1


def test_an_equal_resource_is_another_one(reads: list[Any]):
    messages = [struct_pb2.Struct() for _ in range(2)]
    for message in messages:
        message.update({"spec": {"replicas": 2}})
    assert tree(messages[0]) is not tree(messages[1])
    assert len(reads) == 2


def test_more_resources_than_are_kept_are_still_read_right(reads: list[Any], monkeypatch):
    monkeypatch.setattr(pack, "_KEPT_READINGS", 3)
    for number in range(10):
        message = struct_pb2.Struct()
        message.update({"number": number})
        assert tree(message)["number"] == number


def test_an_sdk_with_other_steps_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    for step in STEPS:
        monkeypatch.delattr(sdk, step)
    pack.read_each_resource_once()
    assert not any(hasattr(sdk, step) for step in STEPS)


def test_stack_rules_see_the_resources_of_every_cloud_and_no_others():
    tokens = ("gcp:container/nodePool:NodePool", "azure-native:containerservice:AgentPool")
    tokens += ("digitalocean:index/kubernetesNodePool:KubernetesNodePool", "aws:sqs/queue:Queue")
    assert all(token.startswith(pack.JUDGED_PROVIDERS) for token in tokens)
    assert not "random:index/randomPassword:RandomPassword".startswith(pack.JUDGED_PROVIDERS)
