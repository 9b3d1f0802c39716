"""What the examples of the security rules cannot say: open verdicts and shared readers."""

from __future__ import annotations

import pytest

from policies.examples import examples_of
from policies.reading.exposure import is_public
from policies.reading.networks import covers_everything
from policies.reading.routes import Path
from policies.reading.values import Resource, Unknown
from policies.rule import verdict
from policies.rules import RULES

BY_NAME = {rule.name: rule for rule in RULES}


def _pod(spec: dict, **metadata: object) -> Resource:
    properties = {"kind": "Pod", "metadata": {"name": "subject", **metadata}, "spec": spec}
    return Resource("kubernetes:core/v1:Pod", "subject", properties)


def test_an_unknown_container_hides_no_other_way_to_the_host():
    spec = {
        "containers": [Unknown(("spec", "containers", "0")), {"securityContext": {}}],
        "volumes": [Unknown(("spec", "volumes", "0")), {"hostPath": {"path": "/data"}}],
        "hostPID": True,
    }
    outcome = verdict(BY_NAME["kubernetes-pod-forbid-host-access"], [_pod(spec)])
    assert outcome.undecided
    assert any("hostPID" in finding.message for finding in outcome.findings)


def test_a_namespace_that_a_template_fills_in_later_decides_nothing():
    pod = _pod({"hostPID": True, "containers": []}, namespace="${namespace}")
    outcome = verdict(BY_NAME["kubernetes-pod-forbid-host-access"], [pod])
    assert (outcome.findings, outcome.undecided) == ((), (("metadata", "namespace"),))


@pytest.mark.parametrize(
    "name",
    [
        "kubernetes-pod-require-non-root",
        "kubernetes-pod-require-seccomp",
        "kubernetes-pod-forbid-privilege-escalation",
    ],
)
def test_a_patch_of_a_workload_is_not_asked_for_what_it_does_not_change(name: str):
    (document,) = examples_of(name).passing
    spec = {"template": {"spec": {"containers": [{"name": "vllm", "image": "example.com/a:1"}]}}}
    whole = Resource(document.type, "whole", {**document.properties, "spec": spec})
    patch = Resource("kubernetes:apps/v1:DeploymentPatch", "patch", whole.properties)
    assert verdict(BY_NAME[name], [whole]).findings
    assert not verdict(BY_NAME[name], [patch]).findings


def test_no_message_repeats_the_secret_it_is_about():
    rule = BY_NAME["kubernetes-pod-forbid-plain-secrets"]
    secret = "hf_" + "a1B2" * 9
    container = {
        "name": "vllm",
        "env": [{"name": "HF_TOKEN", "value": secret}],
        "args": ["--api-key", secret],
    }
    findings = verdict(rule, [_pod({"containers": [container]})]).findings
    assert len(findings) == 2
    assert not any(secret in finding.message for finding in findings)


def test_two_halves_of_the_internet_are_the_internet():
    assert covers_everything(["0.0.0.0/1", "128.0.0.0/1"])
    assert covers_everything(["2000::/3", "::/0"])
    assert not covers_everything(["0.0.0.0/1", "AzureCloud", ""])


def test_an_unknown_service_type_is_not_taken_for_a_private_one():
    properties = {"kind": "Service", "spec": {"type": Unknown(("spec", "type")), "ports": []}}
    service = Resource("kubernetes:core/v1:Service", "subject", properties)
    for name in ("kubernetes-service-require-source-ranges", "kubernetes-service-require-tls"):
        assert verdict(BY_NAME[name], [service]).undecided == (("spec", "type"),)


def test_a_node_port_is_no_public_load_balancer():
    properties = {"kind": "Service", "spec": {"type": "NodePort"}}
    assert not is_public(Resource("kubernetes:core/v1:Service", "subject", properties))


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        (Path("", "/"), True),
        (Path("", "/metrics"), True),
        (Path("", "/metrics/"), False),
        (Path("", "/met"), False),
        (Path("", "/", is_exact=True), False),
        (Path("", "/.*", is_pattern=True), True),
        (Path("", "/v1/.*", is_pattern=True), False),
    ],
)
def test_a_prefix_holds_whole_parts_of_a_path(path: Path, reached: bool):
    assert path.lets_through("/metrics") is reached
