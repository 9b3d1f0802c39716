"""Whole preview of a stack against a bare program that registers the same resources directly.

`python -m tests.bench` (or `make bench`) interleaves the two, prints medians and their ratio, then
what it is worth that the Python processes of a rehearsal are forks, how the preview grows from 50
models on 12 pools to 200 on 50, what the policy pack adds to the preview of 500 resources, and how
long it takes to lint 1,000 manifests. `python -m tests.bench policies` does the last two alone.
Nothing here is a test: no timing is asserted.
"""

from __future__ import annotations

import inspect
import json
import re
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi_aws
import pulumi_kubernetes
import pulumi_random
import yaml

from coldstart.engine import Rehearsal, Result, Step, Toolchain, ensure
from coldstart.engine.forkserver import ADDRESS_VARIABLE
from tests.bench_policies import compare_linters, compare_previews

ROOT = Path(__file__).resolve().parents[1]
STACK = "eks-prod"
ROUNDS = 5
SIZES = ((50, 12), (100, 25), (200, 50))
# Models and pools of a stack of about 500 resources.
JUDGED_SIZE = (16, 4)
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".cache", "__pycache__", "tests", "tools")
PEAK_WRITER = """
import atexit, os, resource, sys
if any("pulumi-language-python-exec" in part for part in getattr(sys, "orig_argv", [])):
    def write():
        with open(os.environ["COLDSTART_BENCH_PEAK"], "w") as out:
            out.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    atexit.register(write)
"""
BARE_PROGRAM = """
import json, pathlib
import pulumi, pulumi_aws, pulumi_kubernetes, pulumi_random

aws = pulumi.ResourceOptions(provider=pulumi_aws.Provider("aws", region="us-west-2"))
{aws}
kubernetes = pulumi.ResourceOptions(
    provider=pulumi_kubernetes.Provider("kubernetes", kubeconfig=cluster.endpoint))
{rest}
"""


@dataclass(frozen=True)
class Figures:
    """One preview: wall and CPU seconds of the whole process tree, peak of the program in MiB."""

    wall_seconds: float
    cpu_seconds: float
    program_peak_mib: float


class Bench:
    """Runs measured previews; the scratch folder holds what the programs write."""

    def __init__(self, toolchain: Toolchain, scratch: Path) -> None:
        self.toolchain = toolchain
        self.peak_file = scratch / "peak"
        site = scratch / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(PEAK_WRITER)
        # Started anew: the CPU seconds of forks are not those of the engine's children.
        self.environment = {
            "PYTHONPATH": str(site),
            "COLDSTART_BENCH_PEAK": str(self.peak_file),
            ADDRESS_VARIABLE: "",
        }

    def preview(self, project: Path, stack: str, **policies: Any) -> tuple[Figures, Result]:
        """One measured preview; ends the bench with the engine's words when it refuses."""
        self.peak_file.unlink(missing_ok=True)
        with Rehearsal(project, self.toolchain, extra_environment=self.environment) as rehearsal:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = rehearsal.preview(stack, **policies)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not result.ok:
            sys.exit("\n".join(result.errors))
        cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak_mib = float(self.peak_file.read_text()) / 1024
        return Figures(result.duration_seconds, cpu_seconds, peak_mib), result


def bare_project(folder: Path, steps: Sequence[Step]) -> Path:
    """A project of one constructor call per resource, with the inputs the real program gave."""
    folder.mkdir()
    clouds: list[str] = []
    rest: list[str] = []
    seen: dict[str, int] = {}
    for step in steps:
        package = step.type.partition(":")[0]
        if package not in ("aws", "kubernetes", "random"):
            continue
        seen[step.type + step.name] = number = seen.get(step.type + step.name, 0) + 1
        options = ", opts=" + package if package != "random" else ""
        call = _call(step, f"{step.name}-{number}", options)
        if step.type == "aws:eks/cluster:Cluster":
            call = "cluster = " + call
        (clouds if package == "aws" else rest).append(call)
    text = BARE_PROGRAM.format(aws="\n".join(clouds), rest="\n".join(rest))
    (folder / "__main__.py").write_text(text)
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    project.pop("config")
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    (folder / "stacks").mkdir()
    (folder / f"stacks/Pulumi.{STACK}.yaml").write_text("config:\n  aws:region: us-west-2\n")
    return folder


def _call(step: Step, name: str, options: str) -> str:
    inputs = {k: v for k, v in step.inputs.items() if not k.startswith("__")}
    path, kind = _class(step.type)
    if kind is pulumi_kubernetes.apiextensions.CustomResource:
        inputs = {"api_version": inputs.pop("apiVersion"), **inputs}
    else:
        accepted = inspect.signature(kind._internal_init).parameters
        named = {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", k).lower(): v for k, v in inputs.items()}
        inputs = {k: v for k, v in named.items() if k in accepted}
    return f"{path}({name!r}, **json.loads({json.dumps(inputs)!r}){options})"


def _class(token: str) -> tuple[str, Any]:
    package, module, kind = token.split(":")
    if package == "random":
        return f"pulumi_random.{kind}", getattr(pulumi_random, kind)
    if package == "aws":
        scope = module.partition("/")[0]
        found = getattr(pulumi_aws if scope == "index" else getattr(pulumi_aws, scope), kind)
        return f"pulumi_aws.{kind}" if scope == "index" else f"pulumi_aws.{scope}.{kind}", found
    group, version = module.split("/")
    scope = group.partition(".")[0]
    holder = getattr(getattr(pulumi_kubernetes, scope, None), version, None)
    if hasattr(holder, kind):
        return f"pulumi_kubernetes.{scope}.{version}.{kind}", getattr(holder, kind)
    custom = pulumi_kubernetes.apiextensions.CustomResource
    return "pulumi_kubernetes.apiextensions.CustomResource", custom


def sized_project(folder: Path, models: int, pools: int) -> tuple[Path, str]:
    """A copy of this project with a stack of that many models and pools."""
    stack = f"bench-{models}"
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
    dev = yaml.safe_load((ROOT / "stacks/Pulumi.eks-dev.yaml").read_text())
    config: dict[str, Any] = dev["config"]
    pool = {"accelerator": "nvidia-l4-24gb", "capacity": ["spot", "on-demand"], "maxNodes": 16}
    source = "hf://Qwen/Qwen3-1.7B@70d244cc86ccca08cf5af4e1e306ecf908b1ad5e"
    config["coldstart:nodePools"] = {f"pool-{i}": pool for i in range(pools)}
    config["coldstart:models"] = {
        f"model-{i}": {
            "source": source,
            "nodePool": f"pool-{i % pools}",
            "scaling": {"min": 1, "max": 2},
        }
        for i in range(models)
    }
    (folder / f"stacks/Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": config}))
    return folder, stack


def median(figures: Sequence[Figures], of: Callable[[Figures], float]) -> float:
    """The middle figure of several rounds."""
    return statistics.median(of(figure) for figure in figures)


def report(name: str, figures: Sequence[Figures], resources: int) -> None:
    """One row."""
    wall, cpu, peak = (
        median(figures, of)
        for of in (
            lambda f: f.wall_seconds,
            lambda f: f.cpu_seconds,
            lambda f: f.program_peak_mib,
        )
    )
    print(  # noqa: T201
        f"{name:<24}{resources:>5} resources  wall {wall:6.2f} s  cpu {cpu:6.2f} s"
        f"  program peak {peak:4.0f} MiB"
    )


def counted(steps: Sequence[Step]) -> int:
    """Resources that a provider would make."""
    return sum(not step.type.startswith(("coldstart:", "pulumi:")) for step in steps)


def compare(bench: Bench, scratch: Path) -> None:
    """Real and bare program in turn."""
    _, result = bench.preview(ROOT, STACK)
    bare = bare_project(scratch / "bare", result.resources)
    runs: Mapping[str, list[Figures]] = {"real": [], "bare": []}
    counts: dict[str, int] = {}
    for _ in range(ROUNDS):
        for name, project in (("real", ROOT), ("bare", bare)):
            figures, result = bench.preview(project, STACK)
            runs[name].append(figures)
            counts[name] = counted(result.resources)
    report(STACK, runs["real"], counts["real"])
    report("bare program", runs["bare"], counts["bare"])
    for name, of in (
        ("wall", lambda f: f.wall_seconds),
        ("cpu", lambda f: f.cpu_seconds),
        ("program peak", lambda f: f.program_peak_mib),
    ):
        ratios = [of(a) / of(b) for a, b in zip(runs["real"], runs["bare"], strict=True)]
        print(f"ratio {name}: {statistics.median(ratios):.2f}")  # noqa: T201


def compare_starts(toolchain: Toolchain) -> None:
    """Previews whose Python processes are started anew, and those whose processes are forks."""
    runs: dict[str, list[float]] = {"started anew": [], "forks": []}
    for _ in range(ROUNDS):
        for name, environment in (("started anew", {ADDRESS_VARIABLE: ""}), ("forks", {})):
            with Rehearsal(ROOT, toolchain, extra_environment=environment) as rehearsal:
                result = rehearsal.preview(STACK)
            runs[name].append(result.duration_seconds)
    for name, walls in runs.items():
        print(f"{STACK}, processes {name}: wall {statistics.median(walls):.2f} s")  # noqa: T201
    ratios = [fork / anew for anew, fork in zip(*runs.values(), strict=True)]
    print(f"ratio wall: {statistics.median(ratios):.2f}")  # noqa: T201


def growth(bench: Bench, scratch: Path) -> None:
    """The same program at three sizes."""
    for models, pools in SIZES:
        project, stack = sized_project(scratch / f"sized-{models}", models, pools)
        figures, result = bench.preview(project, stack)
        report(f"{models} models, {pools} pools", [figures], counted(result.resources))


def policies(bench: Bench, scratch: Path) -> None:
    """What the pack adds to a preview, and the pack as a linter."""
    project, stack = sized_project(scratch / "judged", *JUDGED_SIZE)

    def preview(**given: Any) -> tuple[float, float, int]:
        figures, result = bench.preview(project, stack, **given)
        return figures.wall_seconds, figures.cpu_seconds, counted(result.resources)

    compare_previews(preview)
    compare_linters(scratch)


def main() -> None:
    """Compare, grow, judge."""
    toolchain = ensure(lambda line: print(line, file=sys.stderr))  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="coldstart-bench-") as folder:
        scratch = Path(folder)
        bench = Bench(toolchain, scratch)
        if sys.argv[1:] != ["policies"]:
            compare(bench, scratch)
            compare_starts(toolchain)
            growth(bench, scratch)
        policies(bench, scratch)


if __name__ == "__main__":
    main()
