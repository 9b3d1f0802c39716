"""The pack as the engine starts it: a process of its own, spoken to over gRPC."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from policy_examples import (
    UNKNOWN,
    Given,
    claim,
    cluster,
    disk_daemon_set,
    gpu_deployment,
    node_class,
    node_pool,
    spegel,
)
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from policies.rules import RULES

PACK = Path(__file__).resolve().parents[2] / "policies"
START_DEADLINE_SECONDS = 60
CALL_DEADLINE_SECONDS = 30
OPEN = "eks-cluster-forbid-open-endpoint"
REPLICAS = "kubernetes-volume-forbid-rwo-replicas"
PEER_SOCI = "karpenter-nodeclass-forbid-peer-mirror-with-soci"
MIXED = "karpenter-nodepool-forbid-mixed-cache-gpus"
DISKS = "kubernetes-daemonset-forbid-privileged-disk-setup"


def _first_line(stream: IO[bytes]) -> bytes:
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"no port from the pack in {START_DEADLINE_SECONDS} s")
            read = os.read(stream.fileno(), 64)
            if not read:
                raise RuntimeError("the pack ended before it named its port")
            line += read
    return line


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The pack alone, copied under another name, as a security owner would take it."""
    folder = tmp_path_factory.mktemp("elsewhere") / "taken-along"
    shutil.copytree(PACK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:0", str(folder)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(_first_line(process.stdout))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        process.kill()
        process.wait(timeout=CALL_DEADLINE_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def _struct(properties: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(json.loads(json.dumps(properties)))
    return struct


def _configure(analyzer: Any, **rules: tuple[str, dict[str, Any]]) -> None:
    """Set levels and options by rule; rules not named keep their own."""
    request = analyzer_pb2.ConfigureAnalyzerRequest()
    for name, (level, options) in rules.items():
        config = request.policyConfig[name.replace("_", "-")]
        config.enforcementLevel = analyzer_pb2.EnforcementLevel.Value(level)
        config.properties.update(options)
    analyzer.Configure(request, timeout=CALL_DEADLINE_SECONDS)


def _analyze(analyzer: Any, given: Given) -> Any:
    request = analyzer_pb2.AnalyzeRequest(
        type=given.type,
        properties=_struct(given.properties),
        urn=given.urn,
        name=given.name,
        options=analyzer_pb2.AnalyzerResourceOptions(),
    )
    return analyzer.Analyze(request, timeout=CALL_DEADLINE_SECONDS).diagnostics


def _analyze_stack(analyzer: Any, *stack: Given, outputs: bool = True) -> Any:
    resources = [
        analyzer_pb2.AnalyzerResource(
            type=given.type,
            properties=_struct(given.properties if outputs else {}),
            urn=given.urn,
            name=given.name,
            options=analyzer_pb2.AnalyzerResourceOptions(),
        )
        for given in stack
    ]
    request = analyzer_pb2.AnalyzeStackRequest(resources=resources)
    return analyzer.AnalyzeStack(request, timeout=CALL_DEADLINE_SECONDS).diagnostics


def _two_replicas(name: str) -> Given:
    return gpu_deployment(name).edited(("spec/replicas", 2.0))


def _of(rule: str, diagnostics: Any) -> list[Any]:
    """What one rule said: the examples keep only the rules that a test is about."""
    return [item for item in diagnostics if item.policyName == rule]


def test_the_pack_names_all_its_rules_with_their_levels(analyzer):
    info = analyzer.GetAnalyzerInfo(empty_pb2.Empty(), timeout=CALL_DEADLINE_SECONDS)
    levels = {
        policy.name: analyzer_pb2.EnforcementLevel.Name(policy.enforcementLevel).lower()
        for policy in info.policies
    }
    assert list(levels.items()) == [(rule.name, rule.level) for rule in RULES]
    assert info.supportsConfig and info.name == "coldstart"


def test_a_resource_is_refused_with_rule_severity_and_message(analyzer):
    _configure(analyzer)
    (diagnostic,) = _of(OPEN, _analyze(analyzer, cluster(endpointPublicAccess=True)))
    assert diagnostic.enforcementLevel == analyzer_pb2.MANDATORY
    assert diagnostic.severity == analyzer_pb2.POLICY_SEVERITY_CRITICAL
    assert "publicAccessCidrs is not set" in diagnostic.message
    assert not _of(OPEN, _analyze(analyzer, cluster(endpointPublicAccess=False)))


def test_a_rule_can_be_made_advisory_or_switched_off(analyzer):
    subject = cluster(endpointPublicAccess=True)
    _configure(analyzer, eks_cluster_forbid_open_endpoint=("ADVISORY", {}))
    (diagnostic,) = _of(OPEN, _analyze(analyzer, subject))
    assert diagnostic.enforcementLevel == analyzer_pb2.ADVISORY
    _configure(analyzer, eks_cluster_forbid_open_endpoint=("DISABLED", {}))
    assert not _of(OPEN, _analyze(analyzer, subject))


def test_an_option_arrives_in_its_rule(analyzer):
    _configure(analyzer)
    assert _of(DISKS, _analyze(analyzer, disk_daemon_set()))
    rule = DISKS.replace("-", "_")
    _configure(analyzer, **{rule: ("MANDATORY", {"environment": "dev"})})
    assert not _of(DISKS, _analyze(analyzer, disk_daemon_set()))


def test_an_unknown_value_becomes_an_advisory_that_names_it(analyzer):
    _configure(analyzer)
    (diagnostic,) = _of(OPEN, _analyze(analyzer, cluster(endpointPublicAccess=UNKNOWN)))
    assert diagnostic.enforcementLevel == analyzer_pb2.ADVISORY
    assert "cluster.vpcConfig.endpointPublicAccess can't be known" in diagnostic.message


def test_a_stack_is_judged_as_a_whole_and_the_violation_names_its_resource(analyzer):
    _configure(analyzer)
    workload = _two_replicas("whole")
    (diagnostic,) = _of(REPLICAS, _analyze_stack(analyzer, workload, claim(), node_pool()))
    assert diagnostic.urn == workload.urn
    shared = _analyze_stack(analyzer, workload, claim("ReadWriteMany"), node_pool())
    assert not _of(REPLICAS, shared)


def test_a_stack_whose_outputs_do_not_exist_yet_is_judged_by_its_inputs(analyzer):
    _configure(analyzer)
    volume = claim()
    stack = [_two_replicas("early"), Given(volume.type, volume.properties, "early-claim")]
    for given in stack:
        assert not _of(REPLICAS, _analyze(analyzer, given))
    assert _of(REPLICAS, _analyze_stack(analyzer, *stack, outputs=False))


def test_a_stack_never_seen_and_without_outputs_is_undecided(analyzer):
    _configure(analyzer)
    unseen = [
        Given(item.type, item.properties, f"unseen-{item.name}")
        for item in (node_class(), node_pool(), spegel(), claim(), gpu_deployment())
    ]
    found = _analyze_stack(analyzer, *unseen, outputs=False)
    assert {item.enforcementLevel for item in found} == {analyzer_pb2.ADVISORY}
    assert all("can't be known" in item.message for item in found)
    assert {REPLICAS, PEER_SOCI, MIXED} <= {item.policyName for item in found}
