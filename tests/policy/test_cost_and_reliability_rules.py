"""What examples of the cost and reliability rules cannot say: their table, what is unknown."""

from __future__ import annotations

import pytest
from policy_examples import UNKNOWN, Given, judge, node_pool, requirement

from policies.reading.gpu_instances import allowed_instances, instances
from policies.reading.gpus import families
from policies.reading.scheduling import Requirement

FAMILY = "karpenter.k8s.aws/instance-family"
SPOT = requirement("karpenter.sh/capacity-type", "spot", "on-demand")
INTERRUPTION = "karpenter-nodepool-require-spot-interruption"
ZONES = "aws-network-require-zones"
WHOLE_NODE = "kubernetes-pod-require-whole-node"


def test_every_instance_type_of_the_table_has_a_known_family_and_a_sensible_count():
    assert len(instances()) > 50
    for instance in instances():
        assert instance.labels[FAMILY] in families()
        assert instance.gpus in (1, 2, 4, 8)
        assert instance.usd_per_hour is None or 0.1 < instance.usd_per_hour < 200


@pytest.mark.parametrize(
    ("requirements", "names"),
    [
        ([Requirement(FAMILY, "In", ("p4d", "p4de"))], {"p4d.24xlarge", "p4de.24xlarge"}),
        (
            [Requirement("node.kubernetes.io/instance-type", "In", ("g6.12xlarge",))],
            {"g6.12xlarge"},
        ),
        (
            [
                Requirement("karpenter.k8s.aws/instance-gpu-name", "In", ("h100",)),
                Requirement("karpenter.k8s.aws/instance-gpu-count", "Gt", ("1",)),
            ],
            {"p5.48xlarge"},
        ),
        (
            [
                Requirement(FAMILY, "In", ("g5g",)),
                Requirement("kubernetes.io/arch", "In", ("amd64",)),
            ],
            set(),
        ),
        ([Requirement(FAMILY, "In", ("p4d", "p9"))], set()),
        ([Requirement(FAMILY, "In", ("m7i",))], set()),
    ],
)
def test_requirements_leave_those_instance_types_open_that_fulfil_them_all(requirements, names):
    assert {instance.name for instance in allowed_instances(requirements)} == names


def _karpenter(**settings) -> Given:
    properties = {
        "chart": "oci://public.ecr.aws/karpenter/karpenter",
        "values": {"settings": {"clusterName": "serving", **settings}},
    }
    return Given("kubernetes:helm.sh/v3:Release", properties, "karpenter")


def test_an_interruption_queue_not_known_yet_is_undecided():
    verdict = judge(INTERRUPTION, node_pool("gpu", SPOT), _karpenter(interruptionQueue=UNKNOWN))
    assert verdict.messages == []
    assert verdict.undecided == "karpenter.values.settings.interruptionQueue"


def test_an_event_pattern_not_known_yet_is_undecided():
    queue = Given("aws:sqs/queue:Queue", {"name": "events"}, "queue")
    rule = Given("aws:cloudwatch/eventRule:EventRule", {"eventPattern": UNKNOWN}, "rule")
    karpenter = _karpenter(interruptionQueue="events")
    verdict = judge(INTERRUPTION, node_pool("gpu", SPOT), karpenter, queue, rule)
    assert verdict.messages == [] and verdict.undecided == "rule.eventPattern"


def _subnet(name: str, zone: object) -> Given:
    properties = {"availabilityZone": zone, "tags": {"kubernetes.io/role/internal-elb": "1"}}
    return Given("aws:ec2/subnet:Subnet", properties, name)


def test_a_zone_not_known_yet_leaves_the_network_undecided_and_hides_no_node_group():
    cluster = Given("aws:eks/cluster:Cluster", {"name": "serving"}, "cluster")
    group = Given(
        "aws:eks/nodeGroup:NodeGroup",
        {"instanceTypes": ["m7i.large"], "subnetIds": [UNKNOWN]},
        "system",
    )
    verdict = judge(ZONES, cluster, _subnet("a", "us-west-2a"), _subnet("b", UNKNOWN), group)
    assert "node group system stands in one subnet" in verdict.messages[0]
    assert len(verdict.messages) == 1 and verdict.undecided == "b.availabilityZone"


def _pod(name: str, gpus: int) -> Given:
    container = {
        "name": "engine",
        "image": "a:1",
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
    }
    metadata = {"name": name, "namespace": "serving"}
    spec = {"containers": [container], "tolerations": [{"operator": "Exists"}]}
    return Given("kubernetes:core/v1:Pod", {"metadata": metadata, "spec": spec}, name)


def test_models_that_fill_a_node_together_waste_nothing():
    pool = node_pool("gpu", requirement(FAMILY, "p4d"))
    assert len(judge(WHOLE_NODE, pool, _pod("a", 3), _pod("b", 4)).messages) == 2
    assert judge(WHOLE_NODE, pool, _pod("a", 4), _pod("b", 4)).passed
