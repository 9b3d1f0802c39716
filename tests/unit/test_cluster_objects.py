"""What a refresh reports of a live object, and what of it stays secret."""

from __future__ import annotations

from typing import Any

import pytest

from offline.cluster_objects import live_inputs, manifest, outputs_of, preview_outputs, redacted
from offline.wire import UNKNOWN, is_secret, secret


@pytest.mark.parametrize(
    ("given", "applied", "live", "seen"),
    [
        pytest.param({"a": "1000m"}, {"a": "1"}, {"a": "1"}, {"a": "1000m"}, id="own form"),
        pytest.param({"a": "1000m"}, {"a": "1"}, {"a": "2"}, {"a": "2"}, id="drift"),
        pytest.param({"a": 1}, {"a": 1}, {"a": 1, "b": 2}, {"a": 1}, id="another's field"),
        pytest.param({"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": 1}, {"a": 1}, id="taken away"),
        pytest.param({"a": {}}, {}, {}, {"a": {}}, id="empty is not kept"),
        pytest.param({"a": {}}, {}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="empty was filled"),
        pytest.param({"a": [1]}, {"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}, id="atomic list"),
    ],
)
def test_only_what_the_program_wrote_and_somebody_changed_is_drift(
    given: dict[str, Any], applied: dict[str, Any], live: dict[str, Any], seen: dict[str, Any]
) -> None:
    assert live_inputs({"spec": given}, {"spec": applied}, {"spec": live}) == {"spec": seen}


def test_items_of_a_list_are_told_apart_by_their_name() -> None:
    def with_env(*pairs: tuple[str, str]) -> dict[str, Any]:
        return {"env": [{"name": name, "value": value} for name, value in pairs]}

    given, live = with_env(("A", "1"), ("B", "2")), with_env(("X", "0"), ("B", "2"), ("A", "1"))
    assert live_inputs(given, given, live) == given
    changed = with_env(("B", "9"), ("A", "1"))
    assert live_inputs(given, given, changed) == with_env(("A", "1"), ("B", "9"))
    assert live_inputs(given, given, with_env(("B", "2"))) == with_env(("B", "2"))


def test_a_secret_text_is_sent_as_stored_and_read_back_as_written() -> None:
    inputs = {"kind": "Secret", "stringData": {"k": secret("text")}}
    sent = manifest(inputs)
    assert sent == {"kind": "Secret", "data": {"k": "dGV4dA=="}}
    assert live_inputs(inputs, sent, sent) == inputs
    stolen = live_inputs(inputs, sent, {**sent, "data": {"k": "c3RvbGVu"}})
    assert stolen["stringData"] == {"k": secret("stolen")}


def test_secrets_of_the_inputs_are_secrets_of_the_outputs() -> None:
    env = {"name": "TOKEN", "value": secret("hidden-value")}
    inputs = {"kind": "Deployment", "spec": {"env": [env], "replicas": 1}}
    live = {
        "kind": "Deployment",
        "spec": {"env": [{**env, "value": "hidden-value"}], "replicas": 1},
    }
    outputs = outputs_of({**live, "metadata": {"managedFields": []}}, inputs, "m")
    assert is_secret(outputs["spec"]["env"][0]["value"])
    assert outputs["spec"]["replicas"] == 1
    assert outputs["metadata"] == {}
    more = {"kind": "Deployment", "spec": {"env": [{}, {}, {}], "replicas": 1}, "metadata": {}}
    assert is_secret(outputs_of(more, inputs, "m")["spec"]["env"])
    kept = outputs_of({"kind": "Secret", "data": {"k": "eA=="}, "metadata": {}}, {}, "m")
    assert is_secret(kept["data"])


def test_a_dry_run_invents_what_a_preview_must_not_take_for_known() -> None:
    live = {
        "kind": "Service",
        "metadata": {"name": "s", "uid": "u", "resourceVersion": "1", "creationTimestamp": "t"},
        "spec": {"clusterIP": "10.96.0.1", "type": "ClusterIP"},
        "status": {"loadBalancer": {}},
    }
    outputs = preview_outputs(live, {}, "m")
    assert outputs["metadata"]["uid"] == outputs["spec"]["clusterIP"] == UNKNOWN
    assert outputs["spec"]["type"] == "ClusterIP"
    assert "status" not in outputs


def test_a_servers_message_repeats_no_secret() -> None:
    inputs = {"labels": {"a": secret("not a value!"), "b": "plain-text"}}
    told = redacted('Invalid value: "not a value!" or "bm90IGEgdmFsdWUh" in plain-text', inputs)
    assert told == 'Invalid value: "[secret]" or "[secret]" in plain-text'
