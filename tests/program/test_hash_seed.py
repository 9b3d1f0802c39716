"""What the program registers does not hang on the order in which Python walks through a set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.program.harness import run_program

ROOT = Path(__file__).resolve().parents[2]


def registered() -> str:
    """Every resource of a stack, a line each."""
    resources = run_program("eks-dev").resources
    return "\n".join(sorted(f"{r.type} {r.name} {r.inputs}" for r in resources))


def test_another_hash_seed_registers_the_same() -> None:
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.program.test_hash_seed"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ended.stdout.count("\n") > 100
    assert ended.stdout == registered() + "\n"


if __name__ == "__main__":
    print(registered())  # noqa: T201
