"""What a fresh AL2023 node does with its user data, from metadata service to image pull.

Runs as a process of its own inside mount, network and process namespaces that `node_texts_world`
makes, so nothing here reaches the machine's folders or network, and everything it starts ends with
it. The programs are real (nodeadm, the shell parts, containerd); EC2, systemd and the registries
are stood in for by small servers. A job comes as JSON on standard input, the answer goes to
standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.cluster.node_texts_servers import Ec2, Registry, image, serve, serve_systemd

METADATA_ADDRESS = "169.254.169.254"
REGISTRY_ADDRESS = "127.0.0.2"
"""Loopback, because containerd speaks plain HTTP to nothing else unless a hosts.toml says so."""
REGISTRY_PORT = 5000
MIRROR_PORTS = (30020, 30021)
EC2_PORT = 8080

STEP_DEADLINE_SECONDS = 60.0
_POLL_SECONDS = 0.05
_SOCKET = Path("/run/containerd/containerd.sock")
_CONTENT = Path("/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256")
_CACHED_CONFIG = Path("/run/eks/nodeadm/config.json")
_READ_BACK = (
    "/etc/containerd/config.toml",
    "/etc/kubernetes/kubelet/config.json",
    "/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf",
    "/etc/eks/kubelet/environment",
    "/etc/soci-snapshotter-grpc/config.toml",
)


class StepError(Exception):
    """A step of the boot failed; the message holds what the program said."""


def main() -> None:
    job = json.load(sys.stdin)
    try:
        answer = boot(job)
    except (StepError, OSError) as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


def boot(job: Mapping[str, Any]) -> dict[str, Any]:
    """Everything from the metadata service to, if asked for, a pull; see `node_texts_world`."""
    _furnish(Path(job["root"]), job["address"], job["kubelet_version"], job["hardware"])
    with ExitStack() as servers:
        ec2 = Ec2(job["user_data"], job["instance_type"], job["address"])
        servers.enter_context(serve(ec2.metadata, METADATA_ADDRESS, 80))
        servers.enter_context(serve(ec2.api, "127.0.0.1", EC2_PORT))
        servers.enter_context(serve_systemd(Path("/run/systemd/private")))
        environment = _environment(job["programs"])
        # The order of the AMI's units: nodeadm-config, cloud-init's scripts, nodeadm-run.
        nodeadm = _step(
            [
                *("nodeadm", "init", "--skip", "run", "--config-source", "imds://user-data"),
                *("--config-cache", str(_CACHED_CONFIG)),
            ],
            environment,
        )
        for number, script in enumerate(job["scripts"]):
            _script(number, script, environment)
        answer: dict[str, Any] = {
            "nodeadm": nodeadm.stderr,
            "node_config": json.loads(_CACHED_CONFIG.read_text(encoding="utf-8")),
            "files": {name: _text(name) for name in _READ_BACK if Path(name).is_file()},
            "hosts": _hosts(),
            "dump": _step(["containerd", "config", "dump"], environment).stdout,
        }
        if job["pull"]:
            answer["pull"] = _pull(job["pull"], job["address"], environment, servers)
    return answer


def _furnish(root: Path, address: str, kubelet_version: str, hardware: Mapping[str, int]) -> None:
    """Put folders of `root` over the machine's own and addresses on the loopback device."""
    for name in ("etc", "run", "var/lib"):
        (root / name).mkdir(parents=True)
    etc = root / "etc"
    (etc / "hosts").write_text("127.0.0.1 localhost\n", encoding="ascii")
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="ascii")
    (etc / "group").write_text("root:x:0:\n", encoding="ascii")
    (etc / "nsswitch.conf").write_text("hosts: files\n", encoding="ascii")
    (etc / "eks/image-credential-provider").mkdir(parents=True)
    (etc / "eks/image-credential-provider/ecr-credential-provider").touch(mode=0o755)
    (etc / "eks/kubelet-version.txt").write_text(f"Kubernetes {kubelet_version}\n", "ascii")
    _hardware(root / "devices", hardware["vcpu"], hardware["memory_mib"])
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{METADATA_ADDRESS}/32", "dev", "lo"],
        ["ip", "address", "add", f"{address}/32", "dev", "lo"],
        ["mount", "--bind", str(root / "devices"), "/sys/devices/system"],
        ["mount", "--bind", str(root / "run"), "/run"],
        ["mount", "--bind", str(root / "var/lib"), "/var/lib"],
        ["mount", "--bind", str(etc), "/etc"],
    ):
        _step(command, dict(os.environ))


def _hardware(devices: Path, vcpu: int, memory_mib: int) -> None:
    """The processors and memory of the instance type, where nodeadm reads them."""
    for folder in ("cpu", "node/node0"):
        for number in range(vcpu):
            (devices / folder / f"cpu{number}").mkdir(parents=True)
    (devices / "cpu/online").write_text(f"0-{vcpu - 1}\n", encoding="ascii")
    block = devices / "memory/memory0"
    block.mkdir(parents=True)
    (block / "online").write_text("1\n", encoding="ascii")
    size = f"{memory_mib * 1024 * 1024:x}\n"
    (devices / "memory/block_size_bytes").write_text(size, encoding="ascii")


def _environment(programs: str) -> dict[str, str]:
    # Keys that open nothing: the SDK signs its request to the stand-in with them.
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL_EC2": f"http://127.0.0.1:{EC2_PORT}",
        "AWS_ACCESS_KEY_ID": "stand-in",
        "AWS_SECRET_ACCESS_KEY": "stand-in",
    }


def _step(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=STEP_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = b"".join(filter(None, (error.stdout, error.stderr))).decode(errors="replace")
        limit = f"{STEP_DEADLINE_SECONDS:.0f} s"
        raise StepError(f"{shown} did not end within {limit}:\n{said}") from None
    if done.returncode != 0:
        raise StepError(f"{shown} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def _script(number: int, text: str, environment: Mapping[str, str]) -> None:
    # As cloud-init does: a file of its own, run by its first line.
    path = Path(f"/run/part-{number:03}")
    path.write_text(text, encoding="utf-8")
    path.chmod(0o700)
    _step([str(path)], environment)


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _hosts() -> dict[str, str]:
    found = Path("/etc/containerd/certs.d").glob("*/hosts.toml")
    return {path.parent.name: path.read_text(encoding="utf-8") for path in found}


def _pull(
    pull: Mapping[str, Any], address: str, environment: Mapping[str, str], servers: ExitStack
) -> dict[str, Any]:
    """Pull the image through the CRI, as the kubelet does, and tell who was asked for what."""
    wanted = image()
    log: list[tuple[str, str, str]] = []
    upstream = Registry("registry", wanted, log)
    servers.enter_context(serve(upstream.handler, REGISTRY_ADDRESS, REGISTRY_PORT))
    if pull["mirror"] != "down":
        held = wanted if pull["mirror"] == "full" else None
        mirror = Registry("mirror", held, log)
        for port in MIRROR_PORTS:
            servers.enter_context(serve(mirror.handler, address, port))
    suffix = f"@{wanted.digest}" if pull["by"] == "digest" else ":1"
    reference = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}/models/engine{suffix}"
    containerd_log = Path("/run/containerd.log")
    with containerd_log.open("wb") as output:
        process = subprocess.Popen(
            ["containerd", "--log-level", "debug"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for_runtime(process, containerd_log, environment)
        _cri(["pull", reference], environment)
        before = _blobs()
        _cri(["collect"], environment)
        status = json.loads(_cri(["status"], environment))
        listed = json.loads(_cri(["list"], environment))
        after = _blobs()
    finally:
        _end(process)
    return {
        "requests": log,
        "image": wanted.digests,
        "blobs": {"pulled": before, "collected": after},
        "listed": listed,
        "status": status,
        "log": containerd_log.read_text(encoding="utf-8"),
    }


def _wait_for_runtime(
    process: subprocess.Popen[bytes], log: Path, environment: Mapping[str, str]
) -> None:
    deadline = time.monotonic() + STEP_DEADLINE_SECONDS
    last = "no socket yet"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StepError(f"containerd ended with {process.returncode}:\n{log.read_text()}")
        if _SOCKET.is_socket():
            try:
                _cri(["list"], environment)
            except StepError as error:
                last = str(error)
            else:
                return
        time.sleep(_POLL_SECONDS)
    raise StepError(f"containerd did not answer within {STEP_DEADLINE_SECONDS:.0f} s: {last}")


def _cri(arguments: list[str], environment: Mapping[str, str]) -> str:
    return _step(["cri-images", str(_SOCKET), *arguments], environment).stdout


def _blobs() -> list[str]:
    return sorted(f"sha256:{path.name}" for path in _CONTENT.iterdir())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STEP_DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
