"""Karpenter's own core as a process, set up as the project's Helm values set it up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from coldstart.controlplane import ControlPlane
from coldstart.controlplane.components import free_ports
from coldstart.controlplane.modules import KARPENTER_AWS, Module, module_folder
from coldstart.engine.build import ensure_built

CORE = Module("sigs.k8s.io/karpenter", "v1.14.1", "h1:GjqvOHLjl2+OXM0ti5VEZSQuvcitB0pETd8zdChXEtI=")
KWOK_DEFINITIONS = "kwok/apis/crds"
"""The folder of `CORE` with the KWOKNodeClass definition."""
REPOSITORY = Path(__file__).resolve().parents[2]
READY_DEADLINE_SECONDS = 60.0
"""Measured 1 to 2 s; two busy cores take longer."""
_NAME = "karpenter"
_POLL_SECONDS = 0.1
_FROM_VALUES = {
    "BATCH_MAX_DURATION": "batchMaxDuration",
    "BATCH_IDLE_DURATION": "batchIdleDuration",
    "PREFERENCE_POLICY": "preferencePolicy",
    "MIN_VALUES_POLICY": "minValuesPolicy",
    "IGNORE_DRA_REQUESTS": "ignoreDRARequests",
}
"""The chart's template (charts/karpenter/templates/deployment.yaml), of what the core reads."""


def environment_from(values: Mapping[str, Any]) -> dict[str, str]:
    """What the chart would give the controller for these values, its defaults beneath them."""
    chart = module_folder(KARPENTER_AWS) / "charts/karpenter/values.yaml"
    defaults = yaml.safe_load(chart.read_text(encoding="utf-8"))["settings"]
    settings = {**defaults, **values.get("settings", {})}
    gates = {**defaults["featureGates"], **settings["featureGates"]}
    unknown = gates.keys() - defaults["featureGates"].keys()
    if unknown:
        raise ValueError(f"the chart knows no feature gate {', '.join(sorted(unknown))}")
    variables = {name: _text(settings[key]) for name, key in _FROM_VALUES.items()}
    variables["FEATURE_GATES"] = ",".join(
        f"{key[0].upper()}{key[1:]}={_text(on)}" for key, on in gates.items()
    )
    return variables


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Karpenter:
    """One controller, which ends with the control plane it works on.

    It binds its metrics and health ports on every address, since the core lets nobody choose one;
    both are free ports and serve no secret.
    """

    def __init__(
        self,
        plane: ControlPlane,
        values: Mapping[str, Any],
        instance_types: Iterable[Mapping[str, Any]],
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        program = ensure_built("karpenter", REPOSITORY, os.environ, progress) / _NAME
        self._plane = plane
        self._session = requests.Session()
        # A proxy of the caller's has no business between this process and its neighbour.
        self._session.trust_env = False
        self._sold_out = plane.folder / "sold-out.json"
        types = plane.folder / "instance-types.json"
        types.write_text(json.dumps(list(instance_types)), encoding="utf-8")
        self._metrics, health = free_ports(2)
        environment = environment_from(values) | {
            "KUBECONFIG": str(plane.kubeconfig),
            "INSTANCE_TYPES_FILE_PATH": str(types),
            "COLDSTART_SOLD_OUT_FILE": str(self._sold_out),
            "METRICS_PORT": str(self._metrics),
            "HEALTH_PROBE_PORT": str(health),
            "DISABLE_LEADER_ELECTION": "true",
            "LOG_LEVEL": "debug",
            "HOME": str(plane.folder),
        }
        plane.run(_NAME, [program], environment)
        self._await_ready(health)

    def _await_ready(self, port: int) -> None:
        deadline = time.monotonic() + READY_DEADLINE_SECONDS
        while time.monotonic() < deadline:
            if self._plane.pid(_NAME) is None:
                raise RuntimeError(f"Karpenter ended at its start:\n{self.log()[-3000:]}")
            try:
                if self._session.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"Karpenter is not ready:\n{self.log()[-3000:]}")

    def sells_out(self, *lines: Mapping[str, str]) -> None:
        """From now on a launch of these offers fails; no line at all: everything can be had.

        A line has any of `instanceType`, `capacityType` and `zone`; what it leaves out is any.
        """
        whole = self._sold_out.with_suffix(".new")
        whole.write_text(json.dumps([dict(line) for line in lines]), encoding="utf-8")
        whole.replace(self._sold_out)

    def log(self) -> str:
        """All that it has written."""
        return self._plane.log(_NAME)

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of one of its metrics, None while it has none of these labels or is busy."""
        try:
            answer = self._session.get(f"http://127.0.0.1:{self._metrics}/metrics", timeout=5)
        except requests.Timeout:
            return None
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        for line in answer.text.splitlines():
            if line.startswith(f"{name}{{") and all(label in line for label in wanted):
                return float(line.rpartition(" ")[2])
        return None

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message, as data."""
        found = (line for line in self.log().splitlines() if f'"message":"{message}"' in line)
        return [json.loads(line) for line in found]
