"""Karpenter: its permissions statement by statement, its queue, its chart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from coldstart.controlplane.modules import KARPENTER_AWS, module_folder
from components.aws.interruption import EVENTS
from components.aws.karpenter import KarpenterArgs, controller_values
from components.aws.karpenter_policies import ControllerScope, controller_policies
from tests.program.aws_runs import full, plain, provisioned
from tests.program.plans import ADDONS, CHARTS, stack_plan
from tests.program.test_aws_cluster import depends

DATA = Path(__file__).parent / "data" / "karpenter_policies.json"
TEMPLATE = (
    Path(__file__).resolve().parents[3] / "shared/facts/karpenter-v1.14.1-cloudformation.yaml"
)
RELEASE = "kubernetes:helm.sh/v3:Release"

SCOPE = ControllerScope(
    partition="{partition}",
    region="{region}",
    account="{account}",
    cluster="{cluster}",
    node_role="{node_role}",
    queue="{queue}",
)
"""Filled in with the names themselves, the policies read as templates."""

Statement = dict[str, Any]


def listed(value: Any) -> list[str]:
    return sorted(value) if isinstance(value, list) else [value]


def distilled(policies: Mapping[str, str]) -> dict[str, Statement]:
    """By Sid: the policy it stands in, its actions, resources and conditions, all sorted."""
    found: dict[str, Statement] = {}
    for policy, text in policies.items():
        for statement in json.loads(text)["Statement"]:
            assert statement["Effect"] == "Allow"
            assert statement["Sid"] not in found
            found[statement["Sid"]] = {
                "policy": policy,
                "actions": listed(statement["Action"]),
                "resources": listed(statement["Resource"]),
            }
            if "Condition" in statement:
                found[statement["Sid"]]["conditions"] = {
                    operator: {key: listed(value) for key, value in tests.items()}
                    for operator, tests in statement["Condition"].items()
                }
    return found


def table() -> dict[str, Statement]:
    return json.loads(DATA.read_text(encoding="utf-8"))["statements"]


def template() -> dict[str, Any]:
    """The published CloudFormation template, its tags read as their plain values."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))
    return yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader)["Resources"]  # noqa: S506


def template_policies() -> dict[str, str]:
    names = {
        "AWS::Partition": "partition",
        "AWS::Region": "region",
        "AWS::AccountId": "account",
        "ClusterName": "cluster",
        "KarpenterNodeRole.Arn": "node_role",
        "KarpenterInterruptionQueue.Arn": "queue",
    }
    found: dict[str, str] = {}
    for name, resource in template().items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            text = resource["Properties"]["PolicyDocument"]
            for upstream, ours in names.items():
                text = text.replace(f"${{{upstream}}}", f"{{{ours}}}")
            found[name.removesuffix("Policy")] = text
    return found


def test_there_are_six_policies_with_eighteen_statements() -> None:
    policies = controller_policies(SCOPE)
    assert len(policies) == 6
    assert len(distilled(policies)) == 18


@pytest.mark.parametrize("sid", sorted(table()))
def test_the_controller_may_do_exactly_what_karpenter_needs(sid: str) -> None:
    assert distilled(controller_policies(SCOPE))[sid] == table()[sid]


def test_no_statement_is_missing_from_the_table() -> None:
    assert set(distilled(controller_policies(SCOPE))) == set(table())


@pytest.mark.skipif(not TEMPLATE.exists(), reason="the upstream template is not at hand")
def test_the_table_is_what_the_upstream_template_says() -> None:
    assert distilled(template_policies()) == table()


@pytest.mark.skipif(not TEMPLATE.exists(), reason="the upstream template is not at hand")
def test_the_events_are_those_of_the_upstream_template() -> None:
    rules = [r["Properties"] for r in template().values() if r["Type"] == "AWS::Events::Rule"]
    upstream = {
        (rule["EventPattern"]["source"][0], rule["EventPattern"]["detail-type"][0])
        for rule in rules
    }
    assert upstream == set(EVENTS.values())


def test_policies_name_this_cluster_its_node_role_and_its_queue() -> None:
    run = plain()
    policies = {
        p.name.removeprefix("karpenter-iam-"): p for p in run.of_type("aws:iam/policy:Policy")
    }
    assert len(policies) == 6
    words = [f"{{{word}}}" for word in asdict(SCOPE)]
    assert not [p.name for p in policies.values() for w in words if w in p.at("policy")]
    role = run.one("aws:iam/role:Role", "karpenter-iam-node-role")
    assert role.outputs["arn"] in policies["IAMIntegration"].at("policy")
    assert run.one("aws:sqs/queue:Queue").outputs["arn"] in policies["Interruption"].at("policy")
    assert "kubernetes.io/cluster/eks-test" in policies["NodeLifecycle"].at("policy")


def test_all_six_policies_are_attached_before_the_controller_gets_its_identity() -> None:
    run = plain()
    association = run.one(
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "karpenter-iam-controller-association",
    )
    attached = [
        r
        for r in run.of_type("aws:iam/rolePolicyAttachment:RolePolicyAttachment")
        if r.name.startswith("karpenter-iam-controller-")
    ]
    assert len(attached) == 6
    assert all(depends(run, association, attachment) for attachment in attached)
    assert association.at("namespace") == "kube-system"
    assert association.at("serviceAccount") == "karpenter"


def test_pod_identity_may_assume_the_controllers_role_and_tag_its_session() -> None:
    role = plain().one("aws:iam/role:Role", "karpenter-iam-controller-role")
    statement = json.loads(role.at("assumeRolePolicy"))["Statement"][0]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert set(statement["Action"]) == {"sts:AssumeRole", "sts:TagSession"}


def test_karpenters_nodes_join_by_an_access_entry_of_their_type() -> None:
    run = plain()
    entry = run.one("aws:eks/accessEntry:AccessEntry", "karpenter-iam-node")
    assert entry.at("type") == "EC2_LINUX"
    role = run.one("aws:iam/role:Role", "karpenter-iam-node-role")
    assert entry.at("principalArn") == role.outputs["arn"]


def test_a_node_role_gets_the_four_policies_of_the_template_and_no_storage() -> None:
    attached = {
        r.at("policyArn").rpartition("/")[2]
        for r in full().of_type("aws:iam/rolePolicyAttachment:RolePolicyAttachment")
        if r.name.startswith("karpenter-iam-node-")
    }
    assert attached == {
        "AmazonEKS_CNI_Policy",
        "AmazonEKSWorkerNodePolicy",
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonSSMManagedInstanceCore",
    }
    inline = [
        r.at("policy")
        for r in full().of_type("aws:iam/rolePolicy:RolePolicy")
        if r.name.startswith(("karpenter-iam-node-", "system-node-"))
    ]
    assert inline
    assert not any("s3:" in policy or "elasticfilesystem" in policy for policy in inline)


def test_the_queue_is_named_as_the_cluster_short_lived_and_encrypted() -> None:
    queue = plain().one("aws:sqs/queue:Queue")
    assert queue.at("name") == "eks-test"
    assert queue.at("messageRetentionSeconds") == 300
    assert queue.at("sqsManagedSseEnabled") is True


def test_the_queue_takes_events_and_refuses_plain_http() -> None:
    policy = json.loads(plain().one("aws:sqs/queuePolicy:QueuePolicy").at("policy"))
    allow, deny = policy["Statement"]
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert allow["Action"] == "sqs:SendMessage"
    (rules,) = allow["Condition"]["ArnLike"].values()
    assert rules.startswith("arn:aws:events:us-west-2:111122223333:rule/"), "no other account's"
    assert (deny["Sid"], deny["Effect"]) == ("DenyHTTP", "Deny")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_five_rules_send_every_notice_to_the_queue() -> None:
    run = plain()
    patterns = [
        json.loads(r.at("eventPattern")) for r in run.of_type("aws:cloudwatch/eventRule:EventRule")
    ]
    assert sorted(p["detail-type"][0] for p in patterns) == [
        "AWS Health Event",
        "EC2 Capacity Reservation Instance Interruption Warning",
        "EC2 Instance Rebalance Recommendation",
        "EC2 Instance State-change Notification",
        "EC2 Spot Instance Interruption Warning",
    ]
    queue = run.one("aws:sqs/queue:Queue").outputs["arn"]
    targets = run.of_type("aws:cloudwatch/eventTarget:EventTarget")
    assert [t.at("arn") for t in targets] == [queue] * 5
    rules = {r.outputs["name"] for r in run.of_type("aws:cloudwatch/eventRule:EventRule")}
    assert {t.at("rule") for t in targets} == rules


def test_the_chart_is_told_of_the_queue_under_the_key_it_reads() -> None:
    settings = plain().one(RELEASE, "karpenter-controller").at("values.settings")
    assert settings["interruptionQueue"] == "eks-test"
    assert settings["clusterName"] == "eks-test"


def test_every_value_given_to_the_chart_exists_in_it() -> None:
    chart = module_folder(KARPENTER_AWS) / "charts" / "karpenter" / "values.yaml"
    args = KarpenterArgs(CHARTS["karpenter-crd"], CHARTS["karpenter"], "c", "q", "r", True)
    assert not unknown(controller_values(args), yaml.safe_load(chart.read_text(encoding="utf-8")))


def unknown(given: Mapping[str, Any], known: Mapping[str, Any], path: str = "") -> list[str]:
    missing = [f"{path}{key}" for key in given if key not in known]
    for key, value in given.items():
        # An empty mapping of the chart takes anything; so does a list.
        if isinstance(value, Mapping) and known.get(key):
            missing += unknown(value, known[key], f"{path}{key}.")
    return missing


def test_crds_come_from_their_own_chart_and_first() -> None:
    run = plain()
    crd, controller = run.one(RELEASE, "karpenter-crds"), run.one(RELEASE, "karpenter-controller")
    assert crd.at("chart") == "oci://public.ecr.aws/karpenter/karpenter-crd"
    assert controller.at("chart") == "oci://public.ecr.aws/karpenter/karpenter"
    assert controller.at("skipCrds") is True
    assert not crd.at("skipCrds")
    assert depends(run, controller, crd)


def test_charts_are_installed_at_the_planned_version_and_rolled_back_when_they_fail() -> None:
    for name in ("karpenter-crds", "karpenter-controller"):
        release = plain().one(RELEASE, name)
        assert release.at("version") == "1.2.3"
        assert release.at("namespace") == "kube-system"
        assert release.at("atomic") is True


def test_the_controller_has_resources_and_its_region_without_instance_metadata() -> None:
    controller = plain().one(RELEASE, "karpenter-controller").at("values.controller")
    assert controller["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert controller["env"] == [{"name": "AWS_REGION", "value": "us-west-2"}]


def test_broken_nodes_are_replaced_only_where_the_monitoring_agent_finds_them() -> None:
    assert gates(plain())["nodeRepair"] is True
    without = {k: v for k, v in ADDONS.items() if k != "eks-node-monitoring-agent"}
    assert gates(provisioned(stack_plan(cluster={"addons": without})))["nodeRepair"] is False


def gates(run: Any) -> dict[str, bool]:
    return run.one(RELEASE, "karpenter-controller").at("values.settings.featureGates")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("aws:eks/nodeGroup:NodeGroup", "system-group"),
        ("aws:eks/addon:Addon", "cluster-addons-coredns"),
        ("aws:sqs/queuePolicy:QueuePolicy", "interruption-policy"),
        (
            "aws:eks/podIdentityAssociation:PodIdentityAssociation",
            "karpenter-iam-controller-association",
        ),
    ],
)
def test_the_controller_starts_after_what_it_needs(kind: str, name: str) -> None:
    run = plain()
    assert depends(run, run.one(RELEASE, "karpenter-controller"), run.one(kind, name))


def test_nodes_are_drained_while_karpenter_and_the_network_are_still_there() -> None:
    run = plain()
    needed = [
        run.one(RELEASE, "karpenter-controller"),
        run.one("aws:eks/accessEntry:AccessEntry", "karpenter-iam-node"),
        run.one("aws:ec2/tag:Tag"),
        run.one("aws:ec2/route:Route", "network-private-0-default"),
        run.one("aws:eks/addon:Addon", "node-addons-vpc-cni"),
    ]
    pool = run.one("kubernetes:karpenter.sh/v1:NodePool")
    node_class = run.one("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass")
    assert depends(run, pool, node_class)
    for resource in needed:
        assert depends(run, node_class, resource), resource.name
