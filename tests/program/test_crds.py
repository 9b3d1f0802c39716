"""The checker refuses what a cluster would refuse, and lets through what it would take."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.program import crds

UPSTREAM_POD_MONITOR = (
    crds.ROOT.parent / "shared" / "crds" / "monitoring.coreos.com_podmonitor_v1.schema.json"
)

NODE_CLASS: dict[str, Any] = {
    "apiVersion": "karpenter.k8s.aws/v1",
    "kind": "EC2NodeClass",
    "metadata": {"name": "a100"},
    "spec": {
        "amiSelectorTerms": [{"alias": "bottlerocket@v1.64.0"}],
        "role": "node",
        "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "prod"}}],
        "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": "prod"}}],
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvdb",
                "ebs": {
                    "encrypted": True,
                    "snapshotID": "snap-0123456789abcdef0",
                    "volumeInitializationRate": 300,
                    "volumeType": "gp3",
                },
            }
        ],
    },
}
NODE_POOL: dict[str, Any] = {
    "apiVersion": "karpenter.sh/v1",
    "kind": "NodePool",
    "metadata": {"name": "a100"},
    "spec": {
        "template": {
            "spec": {
                "nodeClassRef": {
                    "group": "karpenter.k8s.aws",
                    "kind": "EC2NodeClass",
                    "name": "a100",
                },
                "requirements": [
                    {
                        "key": "node.kubernetes.io/instance-type",
                        "operator": "In",
                        "values": ["p4d.24xlarge"],
                    }
                ],
            }
        },
        "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "300s"},
        "limits": {"nodes": "4"},
    },
}
SCALED_OBJECT: dict[str, Any] = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "qwen", "namespace": "qwen"},
    "spec": {
        "scaleTargetRef": {"name": "server"},
        "minReplicaCount": 0,
        "maxReplicaCount": 4,
        "triggers": [
            {
                "type": "prometheus",
                "metadata": {"serverAddress": "http://prometheus", "query": "1", "threshold": "5"},
            }
        ],
    },
}
POD_MONITOR: dict[str, Any] = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": {"name": "qwen", "namespace": "qwen"},
    "spec": {
        "selector": {"matchLabels": {"app": "qwen"}},
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "5s"}],
    },
}
GOOD = (NODE_CLASS, NODE_POOL, SCALED_OBJECT, POD_MONITOR)


def changed(good: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    """A copy of `good` with the field at `path` set, or removed when `value` is None."""
    copied = copy.deepcopy(good)
    place: Any = copied
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copied


EBS = ("spec", "blockDeviceMappings", 0, "ebs")
REQUIREMENT = ("spec", "template", "spec", "requirements", 0)
TRIGGER = ("spec", "triggers", 0, "metadata")
REFUSED = {
    "a volume initialization rate without a snapshot": (
        changed(
            changed(NODE_CLASS, *EBS, "snapshotID", value=None), *EBS, "volumeSize", value="100Gi"
        ),
        "snapshotID must be set when volumeInitializationRate is set",
    ),
    "a volume initialization rate above 300 MiB/s": (
        changed(NODE_CLASS, *EBS, "volumeInitializationRate", value=301),
        "should be less than or equal to 300",
    ),
    "an instance store policy that does not exist": (
        changed(NODE_CLASS, "spec", "instanceStorePolicy", value="RAID1"),
        'supported values: "RAID0"',
    ),
    "a role together with an instance profile": (
        changed(NODE_CLASS, "spec", "instanceProfile", value="node"),
        "must specify exactly one of ['role', 'instanceProfile']",
    ),
    "a requirement In without values": (
        changed(NODE_POOL, *REQUIREMENT, "values", value=[]),
        "requirements with operator 'In' must have a value defined",
    ),
    "an unknown field at any depth": (
        changed(NODE_POOL, "spec", "disruption", "consolidateafter", value="300s"),
        "spec.disruption.consolidateafter: unknown field",
    ),
    "a missing required field": (
        changed(NODE_POOL, "spec", "template", "spec", "nodeClassRef", "name", value=None),
        "nodeClassRef.name: Required value",
    ),
    "a number where a trigger wants a string": (
        changed(SCALED_OBJECT, *TRIGGER, "threshold", value=5),
        'must be of type string: "integer"',
    ),
    "a misspelt field of a scaled object": (
        changed(SCALED_OBJECT, "spec", "minReplicas", value=1),
        "spec.minReplicas: unknown field",
    ),
    "a pod monitor with a misspelt interval": (
        changed(POD_MONITOR, "spec", "podMetricsEndpoints", 0, "interval", value="5 seconds"),
        "should match",
    ),
    "a namespaced object without its namespace": (
        changed(SCALED_OBJECT, "metadata", "namespace", value=None),
        "metadata.namespace: Required value",
    ),
    "an unknown field of the metadata": (
        changed(NODE_CLASS, "metadata", "labls", value={"a": "b"}),
        "unknown field",
    ),
    "a version that nobody serves": (
        changed(NODE_CLASS, "apiVersion", value="karpenter.k8s.aws/v1beta1"),
        'no definition serves apiVersion "karpenter.k8s.aws/v1beta1"',
    ),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """All messages by the name of the object, from one run of the checker."""
    objects = []
    for index, (bad, _) in enumerate(REFUSED.values()):
        copied = copy.deepcopy(bad)
        copied["metadata"]["name"] = f"case-{index}"
        objects.append(copied)
    lines = crds.check(objects)
    return {
        what: "\n".join(line for line in lines if f" case-{index}: " in line)
        for index, what in enumerate(REFUSED)
    }


def test_good_objects_of_every_kind_pass() -> None:
    assert crds.check(GOOD) == []


@pytest.mark.parametrize("what", REFUSED)
def test_the_checker_refuses(what: str, verdicts: dict[str, str]) -> None:
    assert REFUSED[what][1] in verdicts[what]


def test_each_wrong_object_breaks_for_one_reason(verdicts: dict[str, str]) -> None:
    assert {what: text.count("\n") for what, text in verdicts.items()} == dict.fromkeys(REFUSED, 0)


def test_whole_numbers_are_sent_as_the_provider_sends_them() -> None:
    assert crds.check([changed(SCALED_OBJECT, "spec", "maxReplicaCount", value=4.0)]) == []


def test_nothing_to_check_needs_no_checker() -> None:
    assert crds.check([]) == []


def test_the_own_pod_monitor_schema_names_only_fields_that_upstream_has() -> None:
    own = yaml.safe_load((crds.OWN_DEFINITIONS / "podmonitor.yaml").read_text())
    fields = _fields(own["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    assert "spec.podMetricsEndpoints.interval" in fields
    if UPSTREAM_POD_MONITOR.exists():
        assert fields - _fields(json.loads(UPSTREAM_POD_MONITOR.read_text())) == set()


def _fields(schema: dict[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for name, below in schema.get("properties", {}).items():
        found |= {f"{path}{name}"} | _fields(below, f"{path}{name}.")
    if "items" in schema:
        found |= _fields(schema["items"], path)
    return found


def test_a_wrong_checksum_of_a_module_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, folder = crds.MODULES[0]
    with pytest.raises(crds.CheckerUnavailableError, match="expected h1:other"):
        crds._module_folder(module, "h1:other", folder)


def test_a_missing_go_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(crds.CheckerUnavailableError, match="install Go"):
        crds._go("version", cwd=tmp_path)
