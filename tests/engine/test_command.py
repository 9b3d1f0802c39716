"""The command as a process: how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coldstart.engine import Toolchain
from policies.presets import levels

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 90


def _mentioning(text: str) -> list[str]:
    """Command lines of running processes in which `text` stands."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def _wait_until_gone(text: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while left := _mentioning(text):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_engine_too_and_leaves_no_folder(
    number: signal.Signals, tmp_path: Path, toolchain: Toolchain
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "coldstart", "preview", "eks-dev"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # A shell's background job, and all it starts, ignores the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b" resources, " in line:
                break
        process.send_signal(number)
        rest = process.stderr.read().decode()
        assert process.wait(DEADLINE_SECONDS) == 128 + number, rest
    assert "interrupted; nothing was left running" in rest
    assert "Traceback" not in rest
    _wait_until_gone(str(tmp_path))
    assert list(tmp_path.glob("coldstart-rehearsal-*")) == []


def test_json_stands_alone_on_standard_output(toolchain: Toolchain) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coldstart", "preview", "eks-dev", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["preview"]["ok"] is True
    assert found["models"]["qwen3-1-7b"]["coldStart"]["criticalPath"][0] == "signal"
    in_force = {name for name, level in levels("development").items() if level != "disabled"}
    assert {item["policy"] for item in found["preview"]["policies"]} == in_force
