"""Nodes without machines: kwok plays the kubelet of every node that carries its annotation.

The scheduler and the controllers see ordinary nodes and pods. What a kubelet would do is simulated:
no image is pulled, no volume mounted, no probe asked. A pod is ready as soon as it is bound.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from coldstart.controlplane.plane import ControlPlane
from coldstart.engine.build import ensure_built

KWOK = "kwok"
"""The bundle, the program, and its name in the control plane."""
MANAGED = {"kwok.x-k8s.io/node": "fake"}
"""Annotation of the nodes that kwok plays."""
DRAIN_ANNOTATION = "simulated.coldstart.dev/drain"
"""While a pod that is being deleted says `held` here, it goes on draining."""
OUTCOME_ANNOTATION = "simulated.coldstart.dev/outcome"
"""A pod of a Job runs until it says `succeeded` here."""

REPOSITORY = Path(__file__).resolve().parents[2]
_POD_ADDRESSES = "10.244.0.0/16"
_NODE_ADDRESS = "127.0.0.1"

_READY_NODE = """\
conditions:
- type: Ready
  status: "True"
  reason: Simulated
  message: kwok plays this kubelet
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
phase: Running
"""

_RUNNING_POD = """\
{{ $now := Now | Quote }}
phase: Running
startTime: {{ $now }}
{{ with PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ . | Quote }}
podIPs:
- ip: {{ . | Quote }}
{{ end }}
conditions:
{{ range $type := list "Initialized" "ContainersReady" "Ready" }}
- type: {{ $type }}
  status: "True"
  lastTransitionTime: {{ $now }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state:
    running:
      startedAt: {{ $now }}
{{ end }}
"""  # noqa: E501

_ENDED_POD = """\
{{ $now := Now | Quote }}
phase: %s
conditions:
{{ range $type := list "ContainersReady" "Ready" }}
- type: {{ $type }}
  status: "False"
  lastTransitionTime: {{ $now }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      exitCode: %d
      reason: %s
      startedAt: {{ $now }}
      finishedAt: {{ $now }}
{{ end }}
"""

_READY_STATUS = '.status.conditions.[] | select( .type == "Ready" ) | .status'
_DELETED = ".metadata.deletionTimestamp"
_NOT_HELD = (f'.metadata.annotations["{DRAIN_ANNOTATION}"]', "NotIn", "held")


def _stage(
    name: str, kind: str, selector: list[tuple[str, str, str | None]], then: Mapping[str, Any]
) -> dict[str, Any]:
    expressions = [
        {"key": key, "operator": operator} | ({"values": [value]} if value else {})
        for key, operator, value in selector
    ]
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            "next": dict(then),
        },
    }


STAGES = (
    _stage("node", "Node", [(_READY_STATUS, "NotIn", "True")], {"statusTemplate": _READY_NODE}),
    _stage(
        "pod-starts",
        "Pod",
        [(_DELETED, "DoesNotExist", None), (".status.phase", "In", "Pending")],
        {"statusTemplate": _RUNNING_POD},
    ),
    _stage(
        "pod-succeeds",
        "Pod",
        [
            (_DELETED, "DoesNotExist", None),
            (".status.phase", "In", "Running"),
            (f'.metadata.annotations["{OUTCOME_ANNOTATION}"]', "In", "succeeded"),
        ],
        {"statusTemplate": _ENDED_POD % ("Succeeded", 0, "Completed")},
    ),
    _stage(
        "pod-stops",
        "Pod",
        [(_DELETED, "Exists", None), _NOT_HELD, (".status.phase", "In", "Running")],
        # 128 + SIGTERM. A kubelet reports the end of a pod before it lets go of it.
        {"statusTemplate": _ENDED_POD % ("Failed", 143, "Error")},
    ),
    _stage(
        "pod-goes",
        "Pod",
        [(_DELETED, "Exists", None), _NOT_HELD, (".status.phase", "NotIn", "Running")],
        {"delete": True},
    ),
)


def play_kubelets(
    plane: ControlPlane,
    progress: Callable[[str], None],
    *,
    repository: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Start kwok beside `plane`, with which it ends; `plane.stop(KWOK)` ends it before.

    Raises BuildError when kwok cannot be built.
    """
    surroundings = os.environ if environment is None else environment
    program = ensure_built(KWOK, repository, surroundings, progress) / KWOK
    stages = plane.folder / "kwok-stages.yaml"
    stages.write_text(yaml.safe_dump_all(STAGES), encoding="utf-8")
    managed = ",".join(f"{key}={value}" for key, value in MANAGED.items())
    command = [
        program,
        f"--kubeconfig={plane.kubeconfig}",
        f"--config={stages}",
        f"--manage-nodes-with-annotation-selector={managed}",
        f"--cidr={_POD_ADDRESSES}",
        f"--node-ip={_NODE_ADDRESS}",
    ]
    # A kwok.yaml in the user's home would add its own stages.
    plane.run(KWOK, command, {"HOME": str(plane.folder)})
