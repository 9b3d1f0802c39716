"""The boot scripts, run by bash against stand-ins for the node's own commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from coldstart.spec.model import ImageDelivery, LocalStorage
from tests.unit.user_data_texts import al2023

# Each stand-in records its call; what it answers comes from files of the fake node.
STAND_IN = """#!/bin/bash
name=$(basename "$0")
echo "$name $*" >>"$NODE/calls"
if [[ -e $NODE/$name.fails ]]; then exit 1; fi
if [[ -e $NODE/$name.says ]]; then cat "$NODE/$name.says"; fi
"""
LSBLK = """#!/bin/bash
echo "lsblk $*" >>"$NODE/calls"
case "$*" in
  *MODEL*) cat "$NODE/disks" ;;
  *TYPE*) cat "$NODE/children" 2>/dev/null || true ;;
esac
"""
MOUNTPOINT = """#!/bin/bash
grep --quiet --line-regexp --fixed-strings -- "$2" "$NODE/mounted" 2>/dev/null
"""
CURL = """#!/bin/bash
echo "curl $*" >>"$NODE/calls"
case "$*" in
  *api/token*) echo token-1 ;;
  *"token-1"*local-ipv4*) echo 10.40.7.9 ;;
  *) exit 22 ;;
esac
"""
TWO_DISKS_AND_ONE_EBS_VOLUME = """\
/dev/nvme0n1 Amazon Elastic Block Store
/dev/nvme2n1 Amazon EC2 NVMe Instance Storage
/dev/nvme1n1 Amazon EC2 NVMe Instance Storage
"""


class Node:
    """A directory that stands for a node: its commands, their answers, the calls made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands = path / "bin"
        self.commands.mkdir()
        for name in ("mdadm", "wipefs", "blkid", "mkfs.xfs", "mount", "udevadm", "systemctl"):
            self.command(name, STAND_IN)
        self.command("lsblk", LSBLK)
        self.command("mountpoint", MOUNTPOINT)
        self.command("curl", CURL)
        self.write("disks", TWO_DISKS_AND_ONE_EBS_VOLUME)
        self.kubelet = path / "kubelet"
        self.array = path / "array"
        self.kubelet.mkdir()

    def command(self, name: str, text: str) -> None:
        file = self.commands / name
        file.write_text(text)
        file.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {"NODE": str(self.path), "PATH": f"{self.commands}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def calls(self, name: str) -> list[str]:
        file = self.path / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.split()[0] == name]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def disk_program(node: Node) -> str:
    (script,) = al2023(ImageDelivery.PARALLEL, LocalStorage.USER_DATA).scripts
    found = re.search(r"<<'PROGRAM'\n(.*?)\nPROGRAM\n", script, re.DOTALL)
    assert found is not None
    program = found[1].replace("mount_point=/mnt/k8s-disks/0", f"mount_point={node.array}")
    return program.replace("bound=/var/lib/kubelet", f"bound={node.kubelet}")


def blank(node: Node) -> None:
    """Disks never used before: mdadm finds no array on them and blkid no file system."""
    node.command("mdadm", STAND_IN.replace("if [[ -e", "[[ $1 != --examine ]] || exit 1\nif [[ -e"))


def test_only_instance_store_disks_join_the_array(node: Node) -> None:
    blank(node)
    assert node.run(disk_program(node)).returncode == 0
    (create,) = [call for call in node.calls("mdadm") if "--create" in call]
    assert create.endswith("--raid-devices=2 /dev/nvme1n1 /dev/nvme2n1")
    assert "nvme0n1" not in "".join(node.calls("mdadm") + node.calls("wipefs"))


def test_a_blank_array_is_formatted_and_mounted_before_the_bind(node: Node) -> None:
    blank(node)
    assert node.run(disk_program(node)).returncode == 0
    assert node.calls("mkfs.xfs") == ["mkfs.xfs -q /dev/md/kubernetes"]
    assert node.calls("mount") == [
        f"mount -t xfs -o noatime /dev/md/kubernetes {node.array}",
        f"mount --bind {node.array}/kubelet {node.kubelet}",
    ]


def test_what_nodeadm_already_wrote_moves_to_the_array(node: Node) -> None:
    blank(node)
    (node.kubelet / "config.json").write_text("{}")
    assert node.run(disk_program(node)).returncode == 0
    assert (node.array / "kubelet" / "config.json").read_text() == "{}"


def test_a_disk_that_holds_something_is_left_alone(node: Node) -> None:
    blank(node)
    node.write("wipefs.says", "0x0 ext4\n")
    done = node.run(disk_program(node))
    assert done.returncode == 1
    assert "/dev/nvme1n1 is not blank" in done.stderr
    assert not [call for call in node.calls("mdadm") if "--create" in call]


def test_an_instance_without_disks_fails_loudly(node: Node) -> None:
    node.write("disks", "/dev/nvme0n1 Amazon Elastic Block Store\n")
    done = node.run(disk_program(node))
    assert done.returncode == 1
    assert "no instance store" in done.stderr


def test_a_reboot_assembles_the_array_and_keeps_its_contents(node: Node) -> None:
    node.write("blkid.says", "xfs\n")
    assert node.run(disk_program(node)).returncode == 0
    assert [call.split()[1] for call in node.calls("mdadm")] == ["--examine", "--assemble"]
    assert node.calls("mkfs.xfs") == []


def test_an_array_the_kernel_assembled_is_used_under_its_own_name(node: Node) -> None:
    node.write("children", "/dev/nvme1n1 disk\n/dev/md127 raid0\n")
    node.write("blkid.says", "xfs\n")
    assert node.run(disk_program(node)).returncode == 0
    assert node.calls("mdadm") == []
    assert node.calls("mount")[0] == f"mount -t xfs -o noatime /dev/md127 {node.array}"


def test_a_second_run_changes_nothing(node: Node) -> None:
    node.write("children", "/dev/md127 raid0\n")
    node.write("mounted", f"{node.array}\n{node.kubelet}\n")
    assert node.run(disk_program(node)).returncode == 0
    assert node.calls("mount") == node.calls("mkfs.xfs") == node.calls("mdadm") == []


def test_the_kubelet_never_starts_before_or_without_its_disks() -> None:
    (script,) = al2023(ImageDelivery.PARALLEL, LocalStorage.USER_DATA).scripts
    unit = script.partition("<<'UNIT'\n")[2].partition("\nUNIT\n")[0]
    assert re.search(r"^Before=nodeadm-run.service .*kubelet.service$", unit, re.MULTILINE)
    assert "RequiredBy=kubelet.service" in unit
    assert "After=" not in unit, "waiting for cloud-final from inside cloud-final would hang"


def test_the_mirror_is_the_nodes_own_address_and_serves_no_tags(node: Node) -> None:
    (script,) = al2023(ImageDelivery.PEER, LocalStorage.RAID0).scripts
    hosts = node.path / "certs.d"
    done = node.run(script.replace("/etc/containerd/certs.d", str(hosts)))
    assert done.returncode == 0, done.stderr
    text = (hosts / "_default" / "hosts.toml").read_text()
    assert '[host."http://10.40.7.9:30020"]' in text
    assert '[host."http://10.40.7.9:30021"]' in text
    assert "resolve" not in text


def test_the_nodes_address_is_asked_with_a_token(node: Node) -> None:
    (script,) = al2023(ImageDelivery.PEER, LocalStorage.RAID0).scripts
    node.run(script.replace("/etc/containerd/certs.d", str(node.path / "certs.d")))
    token, address = node.calls("curl")
    assert "--request PUT" in token
    assert "X-aws-ec2-metadata-token: token-1" in address
    assert all("--max-time 5" in call for call in (token, address))
