"""User data for Amazon Linux 2023: what nodeadm and cloud-init read before the kubelet starts.

Karpenter puts these parts before its own NodeConfig, and nodeadm lets the later one win
(karpenter-provider-aws v1.14.1 pkg/providers/amifamily/bootstrap/nodeadm.go), so nothing here names
the cluster, labels, taints or the RAID0 strategy.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from coldstart.render import containerd, kubelet
from coldstart.spec.model import ImageDelivery, LocalStorage

BOUNDARY = "coldstart-user-data"
_NODE_CONFIG = "application/node.eks.aws"
_SHELL_SCRIPT = 'text/x-shellscript; charset="us-ascii"'
_SCRIPTS = Path(__file__).parent / "scripts"
_ALL_REGISTRIES = ("_default",)


def render(image: ImageDelivery, storage: LocalStorage, mirror_registries: tuple[str, ...]) -> str:
    """The MIME multi-part text for one combination, which the caller has found possible."""
    parts = [(_NODE_CONFIG, _node_config(image, storage))]
    if storage is LocalStorage.USER_DATA:
        parts.append((_SHELL_SCRIPT, _script("local-disks.sh")))
    if image is ImageDelivery.PEER:
        registries = shlex.join(mirror_registries or _ALL_REGISTRIES)
        script = _script("peer-mirror.sh").replace("@REGISTRIES@", registries)
        parts.append(
            (_SHELL_SCRIPT, script.replace("@HOSTS_DIRECTORY@", containerd.HOSTS_DIRECTORY))
        )
    return _multipart(parts)


def _node_config(image: ImageDelivery, storage: LocalStorage) -> str:
    spec: dict[str, Any] = {
        "kubelet": {
            "config": {
                "serializeImagePulls": False,
                "maxParallelImagePulls": kubelet.PARALLEL_PULLS,
                "registryPullQPS": kubelet.PULLS_PER_SECOND,
                "registryBurst": kubelet.PULL_BURST,
            }
        }
    }
    if image is ImageDelivery.PARALLEL:
        spec["featureGates"] = {"FastImagePull": True}
    if image in {ImageDelivery.PEER, ImageDelivery.REGISTRY}:
        spec["containerd"] = {"config": containerd.transfer_service_config()}
    if storage is LocalStorage.PODS_ONLY:
        spec["instance"] = {
            "localStorage": {"strategy": "RAID0", "disabledMounts": _kept_on_root(image)}
        }
    document = {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec}
    return yaml.dump(document, Dumper=_Readable, sort_keys=False)


def _kept_on_root(image: ImageDelivery) -> list[str]:
    # With FastImagePull the layers lie in SOCI's own directory. Left on the array, a stopped
    # instance would come back with containerd's records of layers that are gone.
    return ["Containerd", "SOCI"] if image is ImageDelivery.PARALLEL else ["Containerd"]


def _script(name: str) -> str:
    return (_SCRIPTS / name).read_text(encoding="ascii")


def _multipart(parts: list[tuple[str, str]]) -> str:
    lines = ["MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{BOUNDARY}"', ""]
    for content_type, content in parts:
        lines += [f"--{BOUNDARY}", f"Content-Type: {content_type}", "", content.rstrip("\n"), ""]
    return "\n".join([*lines, f"--{BOUNDARY}--", ""])


class _Readable(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a reviewer reads TOML as TOML."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Readable.add_representer(str, _text)
