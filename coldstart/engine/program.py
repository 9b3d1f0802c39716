"""Starts what the language host starts, so that it ends at once when the engine gives up.

Run as a file: `python program.py <pulumi-language-python-exec> <its arguments>`. Python turns the
engine's SIGINT into an exception, after which the SDK's executor waits for answers that never
come, and the engine kills it only after 5 s (seen with CLI 3.259 and SDK 3.272).
"""

import runpy
import signal
import sys
from pathlib import Path


def main() -> None:
    """Run the script given as the first argument as if it had been started itself."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
