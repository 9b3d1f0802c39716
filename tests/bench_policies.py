"""What the policy pack costs: in a preview, and as a linter beside Checkov on the same files.

Both parts run the compared programs in turn, several rounds each, and print medians and the
median of the rounds' ratios. No timing is asserted.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from policies.examples import examples_of
from policies.manifests import is_object
from policies.rules import RULES

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "policies"
# The released linter for Kubernetes files with the largest pack of rules, kept out of the project's
# own environment.
CHECKOV_VERSION = "3.3.30"
CHECKOV_FOLDER = ROOT / f".cache/checkov-{CHECKOV_VERSION}"
LINTED_FILES = 1_000
SEED = 5
ROUNDS = 3
RUN_DEADLINE_SECONDS = 900
ORDINARY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: web
          image: example.com/web:1.2.3
          ports: [{containerPort: 8080}]
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 128Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop}
data: {settings.yaml: "level: info"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web, namespace: shop}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: sweep, namespace: shop}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: sweep, image: "example.com/sweep:1.2.3", args: [--all]}]
"""


def say(line: str) -> None:
    """One line of the report."""
    print(line, flush=True)  # noqa: T201


def manifests(folder: Path, count: int = LINTED_FILES, seed: int = SEED) -> int:
    """Write that many files of one object each; half of them from the rules' own examples.

    Returns the number of bytes. The same seed writes the same files.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret depends on it
    ordinary = list(yaml.safe_load_all(ORDINARY))
    special = [item for rule in RULES for item in _objects_of(rule.name)]
    folder.mkdir(parents=True)
    size = 0
    for number in range(count):
        document = dict(rng.choice(special if number % 2 else ordinary))
        metadata = dict(document.get("metadata") or {})
        name = f"{metadata.get('name', 'object')}-{number}"
        document["metadata"] = {**metadata, "name": name}
        size += (folder / f"{number:04}.yaml").write_text(yaml.safe_dump(document))
    return size


def _objects_of(rule: str) -> list[dict[str, Any]]:
    """Objects of a rule's passing example and of its first violations."""
    examples = examples_of(rule)
    sets: list[Sequence[Mapping[str, Any]]] = [examples.documents]
    sets += [examples.documents_after(edit) for edit in examples.violations[:3]]
    return [dict(item) for documents in sets for item in documents if is_object(item)]


def checkov() -> Path | None:
    """Python with Checkov installed; None, after saying why, where it cannot be had."""
    found = CHECKOV_FOLDER / "bin/python"
    if (CHECKOV_FOLDER / "bin/checkov").exists():
        return found
    say(f"installing checkov {CHECKOV_VERSION} into {CHECKOV_FOLDER.relative_to(ROOT)}")
    venv.create(CHECKOV_FOLDER, with_pip=True, clear=True)
    done = subprocess.run(
        [
            *(str(found), "-m", "pip", "install", "-q"),
            *("--disable-pip-version-check", f"checkov=={CHECKOV_VERSION}"),
        ],
        capture_output=True,
        text=True,
        timeout=RUN_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(CHECKOV_FOLDER, ignore_errors=True)
        say(f"checkov cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        return None
    return found


def _timed(command: Sequence[str], accepted: Sequence[int]) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_DEADLINE_SECONDS,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode not in accepted or not done.stdout:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def compare_linters(scratch: Path) -> None:
    """`coldstart lint` and Checkov's Kubernetes framework on the same files, in turn."""
    folder = scratch / "manifests"
    size = manifests(folder)
    say(f"{LINTED_FILES} manifests, {size / 2**20:.2f} MiB, seed {SEED}")
    commands: dict[str, tuple[str, ...]] = {
        "coldstart lint": (
            *(sys.executable, "-m", "coldstart", "lint", str(folder)),
            *("--preset", "production", "--format", "json"),
        )
    }
    other = checkov()
    if other:
        commands["checkov"] = (
            *(str(other), "-m", "checkov.main", "--directory", str(folder)),
            *("--framework", "kubernetes"),
            *("--compact", "--quiet", "--skip-download", "--output", "json"),
        )
    runs: dict[str, list[float]] = {name: [] for name in commands}
    printed: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seconds, printed[name] = _timed(command, (0, 1))
            runs[name].append(seconds)
    ours = json.loads(printed["coldstart lint"])
    _row("coldstart lint", runs, f"{ours['rules']} rules, {len(ours['violations'])} findings")
    if other:
        theirs = json.loads(printed["checkov"])
        checks = {item["check_id"] for item in theirs["results"]["failed_checks"]}
        failed = theirs["summary"]["failed"]
        _row("checkov", runs, f"{len(checks)} rules with findings, {failed} findings")
        pairs = zip(runs["coldstart lint"], runs["checkov"], strict=True)
        say(f"ratio lint to checkov: {statistics.median(a / b for a, b in pairs):.2f}")


def _row(name: str, runs: Mapping[str, Sequence[float]], says: str) -> None:
    say(f"{name:<24}{statistics.median(runs[name]):7.2f} s  {says}")


def compare_previews(preview: Callable[..., tuple[float, float, int]]) -> None:
    """A preview without the pack, with it and no rule asked, and with every rule, in turn.

    `preview` takes `policy_pack` and `policy_config` and returns wall seconds, CPU seconds of all
    its processes, and resources. The middle row is what the engine takes for any pack.
    """
    # No rule ends the preview before the figure is taken.
    given = {
        "no pack": {},
        "pack, no rule asked": _pack_at("disabled"),
        f"pack, {len(RULES)} rules": _pack_at("advisory"),
    }
    wall: dict[str, list[float]] = {name: [] for name in given}
    cpu: dict[str, list[float]] = {name: [] for name in given}
    resources = 0
    for _ in range(ROUNDS):
        for name, arguments in given.items():
            wall_seconds, cpu_seconds, resources = preview(**arguments)
            wall[name].append(wall_seconds)
            cpu[name].append(cpu_seconds)
            if len(wall[name]) == ROUNDS:
                added = f"wall {_added(wall, name):+.0%}, cpu {_added(cpu, name):+.0%}"
                _row(name, wall, f"cpu {statistics.median(cpu[name]):.2f} s, {added}")
    say(f"{resources} resources")


def _pack_at(level: str) -> dict[str, Any]:
    levels = {rule.name: {"enforcementLevel": level} for rule in RULES}
    return {"policy_pack": PACK, "policy_config": levels}


def _added(runs: Mapping[str, Sequence[float]], name: str) -> float:
    """The median share by which a run is longer than that of its round without the pack."""
    return statistics.median(b / a for a, b in zip(runs["no pack"], runs[name], strict=True)) - 1
