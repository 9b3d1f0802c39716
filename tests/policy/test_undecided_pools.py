"""Rules that compare resources: a value not known yet beside one that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from policies.examples import Edit, examples_of
from policies.reading.values import Unknown
from policies.rule import Outcome, verdict
from policies.rules import RULES

BY_NAME = {rule.name: rule for rule in RULES}
LATER = Unknown(("later",))


def judged(name: str, removed: tuple[str, ...] = (), **values: Any) -> Outcome:
    edit = Edit(values=values.get("values", {}), removed=removed)
    return verdict(BY_NAME[name], examples_of(name).after(edit))


@pytest.mark.parametrize(
    ("name", "wrong", "removed"),
    [
        (
            "helm-spegel-require-gpu-tolerations",
            {"0/values/tolerations": [], "2/spec/userData": LATER},
            (),
        ),
        (
            "karpenter-nodeclass-require-discovery-tags",
            {"2/tags": {}, "5": {"type": "aws:ec2/tag:Tag", "properties": {"key": LATER}}},
            (),
        ),
        (
            "gke-nodepool-require-dra-label",
            {"1/spec/spec/devices/requests": LATER},
            ("0/nodeConfig/labels",),
        ),
        (
            "eks-nodepool-forbid-dra-at-zero",
            {"0/scalingConfig/minSize": 0, "1/spec/spec/devices/requests": LATER},
            (),
        ),
        ("doks-nodepool-require-nfs-region", {"2/region": "nyc2", "1/size": LATER}, ()),
        (
            "doks-nodepool-require-nfs-region",
            {
                "2/region": "nyc2",
                "3": {"type": "digitalocean:index/nfs:Nfs", "properties": {"region": LATER}},
            },
            (),
        ),
        (
            "kubernetes-pod-forbid-late-node-label",
            {
                "0/spec/template/spec/nodeSelector": {"nvidia.com/gpu.product": "L4"},
                "2": {
                    "apiVersion": "karpenter.sh/v1",
                    "kind": "NodePool",
                    "metadata": {"name": "l4"},
                    "spec": {"template": {"metadata": {"labels": LATER}}},
                },
            },
            (),
        ),
        ("aws-vpc-require-image-endpoints", {"1/serviceName": LATER}, ()),
    ],
)
def test_what_may_still_be_right_is_not_called_wrong(
    name: str, wrong: dict[str, Any], removed: tuple[str, ...]
):
    outcome = judged(name, removed, values=wrong)
    assert outcome.undecided and not outcome.findings


def test_an_unknown_pool_hides_no_other_pool_with_streaming():
    name = "aks-agentpool-forbid-digest-with-artifact-streaming"
    image = "models.azurecr.io/vllm@sha256:" + "a" * 64
    outcome = judged(
        name,
        values={
            "1/spec/template/spec/containers/0/image": image,
            "2": {
                "type": "azure-native:containerservice:AgentPool",
                "properties": {"artifactStreamingProfile": LATER},
            },
        },
    )
    assert len(outcome.findings) == 1 and outcome.undecided


def test_a_pod_whose_gpus_are_not_known_hides_no_other_snapshot():
    name = "kubernetes-podsnapshot-forbid-multi-gpu"
    container = {"name": "vllm", "image": "vllm", "resources": {"limits": LATER}}
    outcome = judged(
        name,
        values={
            "1/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu": 8,
            "2": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "other"},
                "spec": {"containers": [container]},
            },
        },
    )
    assert len(outcome.findings) == 1 and outcome.undecided
