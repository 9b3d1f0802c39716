"""What a workload says of its cold start: to policies by annotations, to people by alerts."""

from __future__ import annotations

from dataclasses import replace

from coldstart.render import alerts
from policies.presets import levels
from policies.reading.values import Resource
from policies.rule import verdict
from policies.rules import RULES
from tests.program import workload_runs as runs
from tests.program.recording import Recorded, revealed

RULE = "kubernetes-workload-limit-cold-start"


def said_by_policies(recorded: Recorded) -> list[str]:
    """The mandatory rules of production that find something."""
    found = [Resource(r.type, r.name, revealed(r.inputs)) for r in recorded.resources]
    asked = levels("production")
    return [
        rule.name
        for rule in RULES
        if asked[rule.name] == "mandatory" and verdict(rule, found, {}).findings
    ]


def test_a_budget_the_plan_keeps_passes_the_policies_and_one_it_misses_does_not() -> None:
    plan = runs.planned(runs.stack_spec({"chat": {"coldStartBudget": "10m"}}))
    assert said_by_policies(runs.served(plan)) == []
    model = plan.models["chat"]
    exact = replace(model, budget_seconds=model.first_node.total_seconds)
    assert said_by_policies(runs.served(replace(plan, models={"chat": exact}))) == []
    missed = replace(model, budget_seconds=model.first_node.total_seconds - 1)
    assert said_by_policies(runs.served(replace(plan, models={"chat": missed}))) == [RULE]


def test_a_slow_phase_is_told_where_prometheus_reads_it() -> None:
    recorded = runs.run(runs.LOCAL)
    release = recorded.one("Release", "kube-prometheus-stack")
    rule = recorded.one("PrometheusRule")
    assert release.urn in rule.dependencies
    assert release.at("values.prometheus.prometheusSpec.ruleSelectorNilUsesHelmValues") is False
    assert release.at("values.prometheus.prometheusSpec.retention") == alerts.LIFE
    # kube-state-metrics stays on, with every metric of pods.
    assert release.at("values").get("kubeStateMetrics") is None
    assert set(release.at("values.kube-state-metrics")) == {"resources"}
    (group,) = rule.at("spec.groups")
    assert rule.at("metadata.namespace") == "chat" and "chat" in group["name"]
    containers = runs.engine(recorded)["name"]
    assert f'container="{containers}"' in group["rules"][1]["expr"]
    owners = {r.at("metadata.namespace") for r in recorded.of_type("Deployment")}
    assert "chat" in owners, "its ReplicaSets are the ones the rule asks for"


def test_the_deployment_states_its_budget_and_what_is_predicted_and_its_pods_do_not() -> None:
    plan = runs.planned(runs.stack_spec({"chat": {"coldStartBudget": "10m"}}))
    recorded = runs.served(plan)
    deployment, first = runs.server(recorded), plan.models["chat"].first_node.total_seconds
    stated = deployment.at("metadata.annotations")
    assert stated["coldstart.dev/cold-start-budget-seconds"] == "600"
    said = float(stated["coldstart.dev/predicted-first-token-seconds"])
    assert first - 0.1 < said <= first
    on_pods = deployment.at("spec.template.metadata.annotations")
    assert not set(stated) & set(on_pods), "a new figure would restart the pods"
    without = runs.server(runs.run(runs.LOCAL)).at("metadata.annotations")
    assert "coldstart.dev/cold-start-budget-seconds" not in without
