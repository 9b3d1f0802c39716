"""Deadlines hold, and nothing that a program started outlives it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from coldstart.engine import process

# Starts a child in a process group of its own that ignores every polite signal.
STUBBORN = """
import os, pathlib, signal, subprocess, sys, threading
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, threading;"
     "signal.signal(signal.SIGINT, signal.SIG_IGN);"
     "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
     "threading.Event().wait()"],
    process_group=0,
)
pathlib.Path(sys.argv[1]).write_text(str(os.getsid(0)))
threading.Event().wait()
"""


def test_a_program_past_its_deadline_is_ended_with_all_it_started(tmp_path: Path) -> None:
    note = tmp_path / "session"
    with pytest.raises(process.DeadlineError, match="did not end within"):
        process.run(
            [sys.executable, "-c", STUBBORN, note],
            cwd=tmp_path,
            env=dict(os.environ),
            deadline_seconds=2,
        )
    assert process.session_members(int(note.read_text())) == []


def test_what_a_program_writes_is_kept_apart_and_whole(tmp_path: Path) -> None:
    script = "import sys; print('x' * 200000); print('trouble', file=sys.stderr); sys.exit(3)"
    done = process.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=dict(os.environ), deadline_seconds=60
    )
    assert done.exit_code == 3
    assert len(done.stdout) == 200001
    assert done.stderr == "trouble\n"


def test_a_program_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.run([tmp_path / "none"], cwd=tmp_path, env={}, deadline_seconds=1)
