"""The life of a control plane: others' ports, killed parents, up and down, what a crash left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart.cli.cluster import cluster_app
from coldstart.controlplane import ControlPlane
from coldstart.controlplane import plane as plane_module
from coldstart.controlplane.components import free_ports
from coldstart.controlplane.processes import read_record
from tests.waiting import until

pytestmark = pytest.mark.proof("API server")

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 60
# The first test of all may have to build the binaries.
BUILD_DEADLINE_SECONDS = 1500


def test_ports_that_others_took_are_given_up_for_free_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        taken = []
        for other in (first, second, third):
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken.append(other.getsockname()[1])
        scripted = [
            lambda free: [taken[0], free[1], taken[2], free[3]],
            lambda free: [free[0], taken[1], free[2], free[3]],
        ]

        def choose(count: int) -> list[int]:
            free = free_ports(count)
            return scripted.pop(0)(free) if scripted else free

        monkeypatch.setattr(plane_module, "free_ports", choose)
        with ControlPlane() as plane:
            assert plane.admin.request("GET", "/readyz").status == 200
            assert "address already in use" in plane.log("etcd")
            assert "address already in use" in plane.log("kube-apiserver")
            assert "address already in use" in plane.log("kube-controller-manager")


def test_a_killed_parent_leaves_no_component_behind() -> None:
    program = (
        "import sys\nfrom coldstart.controlplane import ControlPlane\n"
        "with ControlPlane() as plane:\n    print(plane.folder, flush=True)\n    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    folder = Path(parent.stdout.readline().strip())
    recorded = read_record(folder)
    assert len(recorded) == 5
    assert all(process.alive for process in recorded)
    parent.kill()
    parent.communicate(timeout=DEADLINE_SECONDS)
    until(lambda: not any(p.alive for p in recorded), "every process to be gone", DEADLINE_SECONDS)
    until(lambda: not folder.exists(), "the folder to be removed", DEADLINE_SECONDS)


def test_a_detached_one_stays_is_found_again_and_goes_as_a_whole(tmp_path: Path) -> None:
    def cluster(*words: str) -> tuple[int, str]:
        """In a process of its own, which is gone afterwards."""
        program = "from coldstart.cli.cluster import cluster_app; cluster_app()"
        command = [sys.executable, "-c", program, *words, "--folder", str(tmp_path / "cluster")]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BUILD_DEADLINE_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert cluster("status") == (1, "nothing is up\n")
    try:
        code, said = cluster("up")
        assert code == 0
        assert f"export KUBECONFIG={tmp_path / 'cluster' / 'kubeconfig'}" in said
        assert cluster("up")[1].startswith("The control plane was already up")
        assert cluster("status")[0] == 0
        recorded = read_record(tmp_path / "cluster")
        scheduler = next(process for process in recorded if process.name == "kube-scheduler")
        os.kill(scheduler.pid, signal.SIGKILL)
        until(lambda: not scheduler.alive, "the scheduler to be gone", DEADLINE_SECONDS)
        code, said = cluster("status")
        assert (code, "kube-scheduler           gone" in said) == (1, True)
        code, said = cluster("up")
        assert (code, "is damaged, these ended by themselves: kube-scheduler" in said) == (2, True)
        code, said = cluster("down")
        assert (code, said) == (0, "ended: etcd, kube-apiserver, kube-controller-manager\n")
        assert not any(process.alive for process in recorded)
        assert not (tmp_path / "cluster").exists()
    finally:
        cluster("down")


def test_what_a_power_cut_left_is_cleared_before_a_new_start(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    up = ["up", "--json", "--folder", str(folder)]
    try:
        first = json.loads(CliRunner().invoke(cluster_app, up).stdout)
        supervisor = first["processes"]["supervisor"]["pid"]
        recorded = read_record(folder)
        os.kill(supervisor, signal.SIGKILL)
        until(
            lambda: not any(process.alive for process in recorded),
            "all to be gone",
            DEADLINE_SECONDS,
        )
        answer = CliRunner().invoke(cluster_app, up)
        assert "removing what a control plane that is gone left" in answer.stderr
        second = json.loads(answer.stdout)
        assert second["up"]
        assert second["processes"]["etcd"]["pid"] != first["processes"]["etcd"]["pid"]
    finally:
        CliRunner().invoke(cluster_app, ["down", "--folder", str(folder)])
    assert not folder.exists()
