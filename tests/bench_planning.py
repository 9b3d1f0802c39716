"""How long it takes to plan a stack of 200 models, as CPU seconds and in starts of an interpreter.

`python -m tests.bench_planning [MODELS]` plans in memory, five times in turn with starts of a bare
`python -c pass`, and prints medians. The imports are paid before. Nothing here is a test.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from coldstart.catalog import load
from coldstart.planning import plan_stack
from coldstart.spec.model import StackSpec

MODELS, MODELS_PER_POOL = 200, 4
ROUNDS = 5
SOURCE = "hf://Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218"
LOAD: dict[str, Any] = {
    "traffic": {
        "requestsPerSecond": 2.0,
        "peakRequestsPerSecond": 4.0,
        "promptTokens": {"mean": 700, "p95": 2400},
        "outputTokens": {"mean": 200, "p95": 600},
    },
    "slo": {"ttft": "2s", "tpot": "80ms"},
}


def stack(models: int) -> StackSpec:
    """Every second model with traffic and objectives."""
    pool = {"accelerator": "nvidia-l40s-48gb", "capacity": ["spot", "on-demand"], "maxNodes": 40}
    return StackSpec.model_validate(
        {
            "stack": "bench",
            "region": "us-west-2",
            "platform": "eks",
            "nodePools": {f"pool-{i}": pool for i in range(-(-models // MODELS_PER_POOL))},
            "models": {
                f"model-{i}": {
                    "source": SOURCE,
                    "nodePool": f"pool-{i // MODELS_PER_POOL}",
                    "scaling": {"min": 1, "max": 8},
                    **(LOAD if i % 2 else {}),
                }
                for i in range(models)
            },
        }
    )


def interpreter_seconds() -> float:
    """CPU time of one start of the interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Plan and start in turn."""
    models = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    spec, catalog = stack(models), load()
    plans, starts = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        plan_stack(spec, catalog)
        plans.append(time.process_time() - began)
        starts.append(interpreter_seconds())
    planned, started = statistics.median(plans), statistics.median(starts)
    print(  # noqa: T201
        f"{models} models: {planned:.2f} s of CPU, the first {plans[0]:.2f} s; "
        f"{planned / started:.0f} starts of an interpreter at {1000 * started:.0f} ms each"
    )


if __name__ == "__main__":
    main()
