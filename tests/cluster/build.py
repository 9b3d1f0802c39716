"""Builds every real part that the tests in this folder start.

`python -m tests.cluster.build`, before pytest: workers that build at once would compile what
their parts share several times, while others' tests wait for a busy machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from coldstart.engine.build import BuildError, ensure_built
from coldstart.engine.bundles import BUNDLES

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit code 0 once all are there, 1 with the reason when one cannot be built."""
    try:
        for name in BUNDLES:
            ensure_built(name, ROOT, os.environ, lambda message: print(message, flush=True))  # noqa: T201
    except BuildError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
