"""What must hold after a create failed in the middle of an up.

`python -m tests.engine.convergence [STACK] [--output FILE]` tries every k and writes a line for
each; the tests try a spread of them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coldstart.engine import Rehearsal, Toolchain, ensure
from offline.world import World

ROOT = Path(__file__).resolve().parents[2]
MODES = ("before", "partial")
SPREAD = 3
"""Points that the tests try in each mode."""


@dataclass(frozen=True)
class Outcome:
    """One failed create and the up after it; `faults` is empty when the stack converged."""

    k: int
    mode: str
    met: bool
    made: int
    faults: tuple[str, ...]

    def line(self) -> str:
        """One line of the record."""
        verdict = "converged" if not self.faults else "; ".join(self.faults)
        return f"{self.k:4} {self.mode:8} {self.made:4} resources  {verdict}"


def mode_of(k: int) -> str:
    """Fail before the object exists and with the object half made, in turn."""
    return MODES[k % len(MODES)]


def converge(stack: str, k: int, toolchain: Toolchain) -> Outcome:
    """Let the k-th create of a first up fail, up again, and look for what was lost or doubled."""
    mode = mode_of(k)
    with Rehearsal(ROOT, toolchain) as rehearsal:
        failed = rehearsal.up(stack, fail_create=k, fail_mode=mode)
        second = rehearsal.up(stack)
        world = World(rehearsal.world_path)
        objects, history = world.objects(), world.history()
        known = {r["urn"] for r in rehearsal.export(stack)["deployment"].get("resources", [])}
    faults = []
    if not second.ok:
        faults.append("the next up failed: " + " / ".join(second.errors)[:300])
    made = Counter(event.urn for event in history if event.action == "create")
    removed = Counter(event.urn for event in history if event.action == "delete")
    doubled = [urn for urn, count in made.items() if count - removed[urn] > 1]
    faults += [f"made twice: {urn}" for urn in doubled]
    faults += [f"lost from the state: {o.urn}" for o in objects if o.urn not in known]
    return Outcome(k, mode, not failed.ok, len(objects), tuple(faults))


def assert_converges(part: int, mode: str, total: int, toolchain: Toolchain) -> None:
    """One of SPREAD points between the first create of eks-dev and the last, failing in `mode`."""
    k = 1 + part * (total - 1) // (SPREAD - 1)
    if mode_of(k) != mode:
        k += 1 if k == 1 else -1
    outcome = converge("eks-dev", k, toolchain)
    assert outcome.met, f"create {k} was never reached"
    assert outcome.faults == ()
    assert outcome.made == total


def creates_of(stack: str, toolchain: Toolchain) -> int:
    """How many creates a clean up of `stack` makes."""
    with Rehearsal(ROOT, toolchain) as rehearsal:
        result = rehearsal.up(stack)
        if not result.ok:
            sys.exit("\n".join(result.errors))
        return len(World(rehearsal.world_path).objects())


def main() -> None:
    """Every k of one stack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", nargs="?", default="eks-dev")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    toolchain = ensure(lambda line: print(line, file=sys.stderr))  # noqa: T201
    total = creates_of(arguments.stack, toolchain)
    lines = [
        f"# {arguments.stack}: {total} creates; each fails once, then the next up must converge"
    ]
    bad = 0
    with ThreadPoolExecutor(2) as pool:
        for outcome in pool.map(
            lambda k: converge(arguments.stack, k, toolchain), range(1, total + 1)
        ):
            wrong = bool(outcome.faults) or not outcome.met or outcome.made != total
            bad += wrong
            lines.append(outcome.line())
            print(lines[-1], flush=True)  # noqa: T201
    lines.append(f"# {total - bad} of {total} converged")
    print(lines[-1])  # noqa: T201
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
