"""Prometheus rules that tell which phase of a cold start took longer than planned.

The metrics are kube-state-metrics' timestamps of pods (docs/metrics/workload/pod-metrics.md at
c92fe0c5). A container's start and a pod's readiness move with every restart and every probe that
fails once, so the earliest value of the pod's life counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldstart.planning.watch import Watch, WatchedPhase

RECORD = "coldstart:start_phase_seconds"
"""Seconds of each watched phase, by namespace, pod and phase; `measurements` are read from it."""
SHOWN = "1h"
"""How long after a pod was created a phase that is over can still be shown as slow."""
LIFE = "6h"
"""How far back the earliest value is looked for: a restart since then does not move it."""
_SHOWN_SECONDS = 3600
_ALERTS = {
    "node": "ColdStartNodeSlow",
    "image": "ColdStartImageSlow",
    "engine": "ColdStartEngineSlow",
    "whole": "ColdStartSlow",
}
_NAMES = {
    "node": "waiting for its node",
    "image": "getting its images",
    "engine": "starting its engine",
    "whole": "its whole start",
}
_RUNBOOKS = {
    "node": "kubectl -n {ns} describe pod {pod} says why it is not scheduled. kubectl get "
    "nodeclaims -o wide: no NodeClaim means the pool is at its limit or a quota is; one without a "
    "node means no capacity of that type (its events name it) or a node that does not join; a node "
    "that is Ready without GPUs lacks its device plugin. Other types, zones or capacity in "
    "nodePools, or warmNodes, help.",
    "image": "kubectl -n {ns} get events --field-selector involvedObject.name={pod} shows each "
    "pull with its seconds. A slow one: is the pool's image delivery at work on this node "
    "(snapshot on the data volume, parallel pull in the node's settings, peers that have the "
    "image), is the registry throttled, do pulls leave through a NAT gateway?",
    "engine": "kubectl -n {ns} logs {pod} -c stager shows how fast weights came and whether the "
    "compile cache was restored; -c engine shows the seconds of weight loading, torch.compile and "
    "graph capture. Compiling anew means the archive of this image, GPU, model and arguments is "
    "missing: its publishing Job says why.",
    "whole": "The alerts ColdStartNodeSlow, ColdStartImageSlow and ColdStartEngineSlow name the "
    "phase; with none of them every phase is a little late, and the plan's figures are too "
    "optimistic for this cluster: write measurements into the stack file.",
}


def prometheus_rule(namespace: str, container: str, watch: Watch) -> dict[str, Any]:
    """The spec of one model's PrometheusRule: records of each phase's seconds, and the alerts.

    `container` is the engine's in the pods that a ReplicaSet of `namespace` owns.
    """
    created = f'min by (namespace, pod) (kube_pod_created{{namespace="{namespace}"}})'
    scheduled = _earliest(f'kube_pod_status_scheduled_time{{namespace="{namespace}"}}')
    chosen = f'namespace="{namespace}", container="{container}"'
    started = _earliest(f"kube_pod_container_state_started{{{chosen}}}")
    ready = _earliest(f'kube_pod_status_ready_time{{namespace="{namespace}"}}')
    between = {
        "node": (created, scheduled),
        "image": (scheduled, started),
        "engine": (started, ready),
        "whole": (created, ready),
    }
    records = [
        {
            "record": RECORD,
            "expr": _seconds(namespace, *between[phase.key]),
            "labels": {"phase": phase.key},
        }
        for phase in watch.phases
    ]
    alerts = [_alert(namespace, phase, watch.budget_seconds) for phase in watch.phases]
    return {"groups": [{"name": f"cold-start-{namespace}", "rules": [*records, *alerts]}]}


def _earliest(selector: str) -> str:
    return f"min by (namespace, pod) (min_over_time({selector}[{LIFE}]))"


def _seconds(namespace: str, start: str, end: str) -> str:
    """Over: the earliest end less the start, of young pods. Not over: what has passed so far."""
    serving = f'kube_pod_owner{{namespace="{namespace}", owner_kind="ReplicaSet"}}'
    young = f'kube_pod_created{{namespace="{namespace}"}} > time() - {_SHOWN_SECONDS}'
    return (
        f"(({end} - {start}) and on (namespace, pod) ({young})"
        f" or (time() - {start}) unless on (namespace, pod) {end})"
        f" and on (namespace, pod) {serving}"
    )


def _alert(namespace: str, phase: WatchedPhase, budget_seconds: float | None) -> dict[str, Any]:
    key = phase.key
    limit = f"{phase.threshold_seconds} s"
    if key == "whole" and budget_seconds is not None:
        limit += ", what coldStartBudget leaves once the pod exists"
    elif phase.threshold_seconds > phase.p95_seconds + 1:
        limit += ", its share of coldStartBudget"
    else:
        limit += ", the predicted 95th percentile"
    return {
        "alert": _ALERTS[key],
        "expr": f'{RECORD}{{namespace="{namespace}", phase="{key}"}} > {phase.threshold_seconds}',
        "labels": {"severity": "warning" if key == "whole" else "info", "model": namespace},
        "annotations": {
            "summary": f"Pod {{{{ $labels.pod }}}} of {namespace} took "
            f"{{{{ $value | humanizeDuration }}}} for {_NAMES[key]}",
            "description": f"More than {limit}. Predicted: half of all starts take at most "
            f"{phase.p50_seconds:.0f} s, 95 % at most {phase.p95_seconds:.0f} s.",
            "runbook": _RUNBOOKS[key].format(ns=namespace, pod="{{ $labels.pod }}"),
        },
    }
