"""Which phase of a start is late: thresholds from the plan, expressions over what pods show."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from stack_examples import BIG, SMALL, planned

from coldstart.planning import ModelPlan, Timeline
from coldstart.planning.percentiles import percentiles
from coldstart.planning.watch import Watch, WatchedPhase, watch
from coldstart.render.alerts import RECORD, prometheus_rule

KUBE_STATE_METRICS = {
    "kube_pod_created",
    "kube_pod_owner",
    "kube_pod_status_scheduled_time",
    "kube_pod_container_state_started",
    "kube_pod_status_ready_time",
}
"""docs/metrics/workload/pod-metrics.md at c92fe0c5; none is opt-in."""
PHASES = ["node", "image", "engine", "whole"]


def model(name: str = "qwen3-8b", changes: dict | None = None) -> ModelPlan:
    return planned(changes).models[name]


def rules(name: str = "qwen3-8b", changes: dict | None = None) -> list[dict[str, Any]]:
    (group,) = prometheus_rule(name, "engine", watch(model(name, changes)))["groups"]
    assert group["name"] == f"cold-start-{name}"
    return group["rules"]


def by_key(found: Watch) -> dict[str, WatchedPhase]:
    return {phase.key: phase for phase in found.phases}


def without_budget(name: str) -> ModelPlan:
    return replace(model(name), budget_seconds=None)


def segments(line: Timeline) -> dict[str, float]:
    scheduled = line.end("device" if "device" in line.starts else "node")
    signal = line.end("signal")
    return {
        "node": scheduled - signal,
        "image": line.end("image") - scheduled,
        "engine": line.total_seconds - line.end("image"),
        "whole": line.total_seconds - signal,
    }


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-32b"])
def test_the_watched_stretches_are_those_of_the_first_nodes_timeline(name: str) -> None:
    line, found = model(name).first_node, by_key(watch(model(name)))
    assert list(found) == PHASES
    for key, seconds in segments(line).items():
        assert found[key].p50_seconds == pytest.approx(seconds, rel=0.1)
        assert found[key].p50_seconds <= found[key].p95_seconds
    whole = percentiles(line).p95_seconds - line.phase("signal").seconds
    assert found["whole"].p95_seconds == pytest.approx(whole, rel=0.08)


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-32b"])
def test_without_a_budget_a_phase_is_slow_beyond_its_predicted_95th_percentile(name: str) -> None:
    for phase in watch(without_budget(name)).phases:
        assert phase.p95_seconds <= phase.threshold_seconds < phase.p95_seconds + 1


def test_the_whole_is_slow_when_the_budget_is_missed_and_the_signals_part_is_over_by_then() -> None:
    plan = model(changes={(*SMALL, "coldStartBudget"): "5m"})
    found = watch(plan)
    signal = plan.first_node.phase("signal").seconds
    assert found.budget_seconds == 300 - signal
    assert by_key(found)["whole"].threshold_seconds == 300 - signal


def test_a_phase_may_use_its_share_of_a_wide_budget_but_never_has_less_than_its_p95() -> None:
    wide, tight = (
        by_key(watch(model(changes={(*SMALL, "coldStartBudget"): b}))) for b in ("1h", "170s")
    )
    plain = by_key(watch(without_budget("qwen3-8b")))
    for key in ("node", "image", "engine"):
        assert wide[key].threshold_seconds > 10 * plain[key].p95_seconds
        assert tight[key].threshold_seconds >= plain[key].p95_seconds
    shares = sum(wide[key].threshold_seconds for key in ("node", "image", "engine"))
    assert shares == pytest.approx(3590, abs=3), "together the shares are the budget"


def test_a_pod_waits_for_its_device_plugin_and_its_shared_mount_before_it_is_scheduled() -> None:
    shared = model(changes={(*SMALL, "weights"): "shared", (*SMALL, "coldStartBudget"): "20m"})
    line = shared.first_node
    assert by_key(watch(shared))["node"].p50_seconds == pytest.approx(
        line.end("mount") - line.end("signal"), rel=0.1
    )


def test_measured_phases_move_the_thresholds() -> None:
    slow = {(*BIG, "measurements"): {"process": {"p50": "30s", "p95": "300s"}}}
    measured = watch(replace(model("qwen3-32b", slow), budget_seconds=None))
    assert by_key(measured)["engine"].threshold_seconds > 250
    assert by_key(watch(without_budget("qwen3-32b")))["engine"].threshold_seconds < 150


def test_every_phase_is_recorded_before_its_alert_reads_it() -> None:
    found = rules()
    assert [r.get("record") for r in found] == [RECORD] * 4 + [None] * 4
    assert [r["labels"]["phase"] for r in found[:4]] == PHASES
    for phase, alert in zip(watch(model()).phases, found[4:], strict=True):
        assert alert["expr"] == (
            f'{RECORD}{{namespace="qwen3-8b", phase="{phase.key}"}} > {phase.threshold_seconds}'
        )


def test_expressions_read_only_metrics_of_pods_that_kube_state_metrics_has() -> None:
    read: set[str] = set()
    for rule in rules()[:4]:
        metrics = re.findall(r"\b(kube_\w+)\{([^}]*)\}", rule["expr"])
        assert metrics and all('namespace="qwen3-8b"' in matchers for _, matchers in metrics)
        assert len(metrics) == len(re.findall(r"kube_", rule["expr"]))
        read |= {name for name, _ in metrics}
    assert read == KUBE_STATE_METRICS


@pytest.mark.parametrize("rule", rules()[:4], ids=PHASES)
def test_an_expression_is_balanced_and_joins_by_pod(rule: dict[str, Any]) -> None:
    text = rule["expr"]
    for opened, closed in ("()", "[]", "{}"):
        depth = 0
        for character in text:
            depth += (character == opened) - (character == closed)
            assert depth >= 0
        assert depth == 0
    assert text.count('"') % 2 == 0
    for operator in re.findall(r"\b(?:and|unless)\b(?: on \(([\w, ]+)\))?", text):
        assert operator == "namespace, pod"
    assert text.endswith('kube_pod_owner{namespace="qwen3-8b", owner_kind="ReplicaSet"}'), (
        "publishing Jobs run the same container in the same namespace"
    )


def test_a_readiness_that_comes_and_goes_is_no_second_start() -> None:
    for rule in rules()[:4]:
        for metric in ("kube_pod_status_ready_time", "kube_pod_container_state_started"):
            for use in re.findall(rf"(\w+\()?{metric}\{{[^}}]*\}}(\[\w+\])?", rule["expr"]):
                assert use == ("min_over_time(", "[6h]")


def test_an_alert_says_how_much_which_limit_and_where_to_look() -> None:
    found = {r["alert"]: r for r in rules()[4:]}
    assert set(found) == {
        "ColdStartNodeSlow",
        "ColdStartImageSlow",
        "ColdStartEngineSlow",
        "ColdStartSlow",
    }
    for alert in found.values():
        said = alert["annotations"]
        assert (
            "{{ $labels.pod }} of qwen3-8b took {{ $value | humanizeDuration }}" in said["summary"]
        )
        assert re.search(
            r"More than \d+ s, .+\. Predicted: half of all starts", said["description"]
        )
        assert "{ns}" not in said["runbook"] and "{pod}" not in said["runbook"]
        assert alert["labels"]["model"] == "qwen3-8b"
    assert "coldStartBudget leaves" in found["ColdStartSlow"]["annotations"]["description"]
    assert found["ColdStartSlow"]["labels"]["severity"] == "warning"
    plain = prometheus_rule("m", "engine", watch(without_budget("qwen3-8b")))
    for alert in plain["groups"][0]["rules"][4:]:
        assert "the predicted 95th percentile" in alert["annotations"]["description"]
