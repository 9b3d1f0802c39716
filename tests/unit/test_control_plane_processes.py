"""Processes of a control plane: none outlives its purpose, none of somebody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart.cli.cluster import cluster_app
from coldstart.controlplane import ControlPlane, ControlPlaneError
from coldstart.controlplane.components import COMPONENTS, free_ports, port_is_free
from coldstart.controlplane.keys import make_keys
from coldstart.controlplane.processes import Supervisor, end_recorded, read_record
from coldstart.controlplane.supervisor import RECORD, identity
from tests.waiting import DEADLINE_SECONDS, gone, until

ROOT = Path(__file__).parents[2]
FOREVER = ["/bin/sh", "-c", "exec sleep 600"]


def start(supervisor: Supervisor, folder: Path, name: str, command: list[str], **how) -> int:
    how = {"stage": 0, "grace_seconds": 5, **how}
    return supervisor.start(name, command, folder / f"{name}.log", {}, **how)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture
def supervisor(folder: Path) -> Iterator[Supervisor]:
    made = Supervisor(folder)
    yield made
    made.end()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen]:
    """A process of somebody else."""
    process = subprocess.Popen(FOREVER)
    yield process
    process.kill()
    process.wait()


def fake_binaries(folder: Path, **scripts: str) -> Path:
    """Programs that only sleep, but for those given as `etcd="exit 7"`."""
    folder.mkdir()
    for name in COMPONENTS:
        path = folder / name
        body = scripts.get(name.replace("-", "_"), "exec sleep 600")
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
    return folder


def test_leaving_ends_every_process_and_removes_the_folder(folder: Path) -> None:
    supervisor = Supervisor(folder)
    pids = [start(supervisor, folder, name, FOREVER) for name in ("one", "two")]
    assert not gone(*pids)
    supervisor.end()
    assert gone(*pids, supervisor.pid)
    assert not folder.exists()


def test_a_higher_stage_has_ended_before_a_lower_one_is_asked_to(
    folder: Path, tmp_path: Path
) -> None:
    supervisor = Supervisor(folder)
    ended = tmp_path / "ended"
    for name, stage in (("database", 0), ("client", 2), ("server", 1)):
        # The database is started last again, as after a fault test.
        script = (
            f"trap 'echo {name} >> {ended}; exit' TERM; echo ready; while :; do sleep 0.02; done"
        )
        start(supervisor, folder, name, ["/bin/sh", "-c", script], stage=stage)
        log = folder / f"{name}.log"
        until(lambda log=log: "ready" in log.read_text(), f"{name} to be ready")
    supervisor.end()
    assert ended.read_text().split() == ["client", "server", "database"]


def test_a_process_that_ignores_the_polite_signal_is_killed_after_its_grace(folder: Path) -> None:
    supervisor = Supervisor(folder)
    deaf = ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"]
    pid = start(supervisor, folder, "deaf", deaf, grace_seconds=0.1)
    until(lambda: "ready" in (folder / "deaf.log").read_text(), "it to be deaf")
    supervisor.end()
    assert (gone(pid), supervisor.exit_status) == (True, 0)


def test_a_killed_parent_leaves_nobody_behind(folder: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from coldstart.controlplane.processes import Supervisor\n"
        "folder = Path(sys.argv[1])\n"
        "s = Supervisor(folder)\n"
        "pid = s.start('a', ['/bin/sleep', '600'], folder / 'a.log', {}, stage=0,"
        " grace_seconds=5)\n"
        "print(s.pid, pid, flush=True)\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert not gone(*pids)
    parent.kill()
    parent.communicate(timeout=DEADLINE_SECONDS)
    until(lambda: gone(*pids), "the supervisor and its process to be gone")
    until(lambda: not folder.exists(), "the folder to be removed")


def test_a_killed_supervisor_takes_its_processes_along(folder: Path) -> None:
    supervisor = Supervisor(folder)
    pid = start(supervisor, folder, "one", FOREVER)
    os.kill(supervisor.pid, signal.SIGKILL)
    if sys.platform == "linux":
        until(lambda: gone(pid), "the kernel to end its process")
    with pytest.raises(ControlPlaneError, match="supervisor of the control plane is gone"):
        supervisor.status("one")
    supervisor.end()
    assert gone(pid)


def test_an_interrupt_while_it_starts_leaves_nobody_behind(tmp_path: Path) -> None:
    binaries, state = fake_binaries(tmp_path / "bin"), tmp_path / "state"
    program = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from coldstart.controlplane import ControlPlane\n"
        # Whoever runs the tests in the background may have had interrupts ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ControlPlane(folder=Path(sys.argv[1]), binaries=Path(sys.argv[2])):\n    pass\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(state), str(binaries)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    # None of the sleeping programs ever answers, so it waits for etcd.
    until(lambda: state.exists() and len(read_record(state)) == 3, "etcd and API server to start")
    recorded = read_record(state)
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=DEADLINE_SECONDS)
    assert said.strip().endswith("KeyboardInterrupt")
    assert gone(*(process.pid for process in recorded))
    assert not state.exists()


def test_a_process_id_that_went_to_somebody_else_is_left_alone(
    folder: Path, stranger: subprocess.Popen
) -> None:
    entry = {"pid": stranger.pid, "started": "another time"}
    record = {"format": 1, "supervisor": entry, "processes": {"etcd": entry}}
    (folder / RECORD).write_text(json.dumps(record))
    assert not any(process.alive for process in read_record(folder))
    assert end_recorded(folder) == []
    answer = CliRunner().invoke(cluster_app, ["down", "--folder", str(folder)])
    assert (answer.exit_code, answer.stdout) == (0, "nothing was up\n")
    assert stranger.poll() is None
    assert not folder.exists()


def test_recorded_processes_whose_supervisor_is_gone_are_ended(
    folder: Path, stranger: subprocess.Popen
) -> None:
    left = subprocess.Popen(FOREVER)
    entry = {"pid": left.pid, "started": identity(left.pid)}
    old = {"pid": 1 << 22, "started": "another time"}
    record = {"format": 1, "supervisor": old, "processes": {"etcd": entry}}
    (folder / RECORD).write_text(json.dumps(record))
    assert end_recorded(folder) == ["etcd"]
    assert left.wait(DEADLINE_SECONDS) == -signal.SIGTERM
    assert stranger.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9}', '{"format": 1}'])
def test_a_record_that_cannot_be_read_is_one_message(folder: Path, text: str) -> None:
    (folder / RECORD).write_text(text)
    for command in ("up", "down", "status"):
        answer = CliRunner().invoke(cluster_app, [command, "--folder", str(folder)])
        assert answer.exit_code == 2
        assert f"{folder / RECORD} cannot be read" in answer.stderr
        assert "then remove the folder" in answer.stderr
        assert "Traceback" not in answer.output
    assert folder.exists()


def test_a_folder_that_is_no_control_planes_is_neither_used_nor_removed(folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")
    for command, message in (("up", "is not empty"), ("down", "is no control plane's")):
        answer = CliRunner().invoke(
            cluster_app,
            [command, "--folder", str(folder)],
            env={"COLDSTART_CONTROL_PLANE": str(fake_binaries(folder.parent / command))},
        )
        assert answer.exit_code == 2
        assert message in answer.stderr
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_a_missing_binary_is_named_with_the_way_out(tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin")
    (binaries / "kube-scheduler").unlink()
    (binaries / "etcd").chmod(0o644)
    plane = ControlPlane(environment={"COLDSTART_CONTROL_PLANE": str(binaries)})
    with pytest.raises(ControlPlaneError) as refused, plane:
        pass
    assert f"{binaries} has no executable etcd, kube-scheduler" in str(refused.value)
    assert "unset it to have them built" in str(refused.value)


def test_a_binary_of_another_machine_is_named(tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin")
    (binaries / "etcd").write_bytes(b"\xfe\xed\xfa\xcf no ELF")
    with (
        pytest.raises(ControlPlaneError, match=r"etcd cannot be started: .*Exec format error"),
        ControlPlane(folder=tmp_path / "state", binaries=binaries),
    ):
        pass
    assert not (tmp_path / "state").exists()


def test_an_etcd_that_dies_is_told_with_status_and_last_lines(tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin", etcd="echo one; echo the disk is full >&2; exit 7")
    with (
        pytest.raises(ControlPlaneError) as refused,
        ControlPlane(folder=tmp_path / "state", binaries=binaries),
    ):
        pass
    assert str(refused.value) == (
        "etcd ended with exit status 7. Its last lines:\n  one\n  the disk is full"
    )
    assert not (tmp_path / "state").exists()


def test_a_component_killed_by_a_signal_is_told_so(tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin", kube_apiserver="kill -9 $$")
    with (
        pytest.raises(ControlPlaneError, match=r"kube-apiserver ended with signal 9\."),
        ControlPlane(binaries=binaries),
    ):
        pass


def test_a_port_asked_for_and_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    binaries, state = fake_binaries(tmp_path / "bin"), tmp_path / "state"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = CliRunner().invoke(
            cluster_app,
            ["up", "--folder", str(state), "--port", str(port)],
            env={"COLDSTART_CONTROL_PLANE": str(binaries)},
        )
    assert answer.exit_code == 2
    assert f"port {port} of 127.0.0.1 is in use: end what listens there" in answer.stderr
    assert not state.exists()


def test_ports_are_free_different_and_out_of_the_way_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port_is_free(port) and port < 30000 for port in ports)


def test_flags_for_a_component_that_does_not_exist_are_refused() -> None:
    with pytest.raises(ControlPlaneError, match="extra flags for kube-proxy: components are etcd"):
        ControlPlane(extra_flags={"kube-proxy": ["--v=9"]})


def test_keys_and_tokens_are_for_their_owner_only(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in keys.folder.iterdir()}
    secret = {name for name in modes if name.endswith(".key")} | {"tokens.csv"}
    assert len(secret) == 8
    assert {modes[name] for name in secret} == {0o600}
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert make_keys(tmp_path / "more").tokens["admin"] != keys.tokens["admin"]
    assert all(len(token) >= 43 for token in keys.tokens.values())


def test_without_openssl_one_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ControlPlaneError, match="install the package openssl"):
        make_keys(tmp_path / "keys")
