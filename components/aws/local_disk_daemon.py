"""A privileged DaemonSet that prepares NVMe disks, for dev stacks only.

Planning refuses it elsewhere, and so does the policy pack: a pod with the node's mount namespace
and every capability is the node's root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from shlex import quote
from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import ComponentResource, ResourceOptions

from coldstart.planning import ImagePlan, PoolPlan
from components.aws.gpu_nodes import on_nodes_of, tolerations_of
from components.charts import privileged_namespace

NAMESPACE = "local-disks"

SCRIPT = """\
set -eu
target={target}
scratch={scratch}
if ! mountpoint -q "$target"; then
  disks=$(lsblk -dpno NAME,MODEL | awk '/Amazon EC2 NVMe Instance Storage/ {{print $1}}')
  if [ -z "$disks" ]; then echo "no instance store on this node" >&2; exit 1; fi
  set -- $disks
  device=$1
  if [ $# -gt 1 ]; then
    device=/dev/md/scratch
    [ -e "$device" ] || mdadm --assemble --run "$device" "$@" ||
      mdadm --create "$device" --run --level=0 --homehost=any --raid-devices=$# "$@"
  fi
  [ -n "$(blkid -o value -s TYPE "$device")" ] || mkfs.xfs "$device"
  mkdir -p "$target"
  mount -o noatime "$device" "$target"
fi
install -d -o {user_id} -g {group_id} -m 0770 "$scratch"
"""


@dataclass(frozen=True)
class LocalDiskDaemonArgs:
    """The pools whose disks it prepares, the images of its two containers, and the engine's ids."""

    pools: Sequence[PoolPlan]
    tools: ImagePlan
    pause: ImagePlan
    environment: str
    user_id: int = 2000
    group_id: int = 0


class LocalDiskDaemon(ComponentResource):
    """One DaemonSet per pool, in a namespace of its own that alone admits privileged pods."""

    def __init__(
        self, name: str, args: LocalDiskDaemonArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:LocalDiskDaemon", name, opts=opts)
        child = ResourceOptions(parent=self)
        namespace = privileged_namespace(f"{name}-namespace", NAMESPACE, args.environment, child)
        for pool in args.pools:
            labels = {"app.kubernetes.io/name": "local-disks", "coldstart.dev/node-pool": pool.name}
            kubernetes.apps.v1.DaemonSet(
                f"{name}-{pool.name}",
                metadata={
                    "name": f"local-disks-{pool.name}",
                    "namespace": NAMESPACE,
                    "labels": labels,
                    # It becomes ready only on GPU nodes, of which there may be none.
                    "annotations": {"pulumi.com/skipAwait": "true"},
                },
                spec=daemon_set_spec(args, pool, labels),
                opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[namespace])),
            )
        self.register_outputs({"pools": [pool.name for pool in args.pools]})


def script(pool: PoolPlan, user_id: int, group_id: int) -> str:
    """Formats and mounts what is not mounted yet; run twice it changes nothing.

    Raises ValueError for a pool whose plan names no scratch directory.
    """
    if pool.scratch_host_path is None:
        raise ValueError(f"nodePools.{pool.name}: localStorage daemonset without a scratch path")
    scratch = PurePosixPath(pool.scratch_host_path)
    return SCRIPT.format(
        target=quote(str(scratch.parent)),
        scratch=quote(str(scratch)),
        user_id=user_id,
        group_id=group_id,
    )


def daemon_set_spec(args: LocalDiskDaemonArgs, pool: PoolPlan, labels: dict[str, str]) -> Any:
    """One pod per node of `pool`."""
    return {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(args, pool)},
    }


def pod_spec(args: LocalDiskDaemonArgs, pool: PoolPlan) -> dict[str, Any]:
    """An init container that acts in the node's mount namespace, then a container that sleeps."""
    resources: dict[str, Any] = {
        "requests": {"cpu": "10m", "memory": "16Mi"},
        "limits": {"memory": "64Mi"},
    }
    return {
        "hostPID": True,
        "automountServiceAccountToken": False,
        "priorityClassName": "system-node-critical",
        "affinity": on_nodes_of([pool]),
        "tolerations": tolerations_of([pool]),
        "initContainers": [
            {
                "name": "prepare",
                "image": args.tools.reference,
                "command": ["nsenter", "-t", "1", "-m", "--", "/bin/sh", "-c"],
                "args": [script(pool, args.user_id, args.group_id)],
                "securityContext": {"privileged": True},
                "resources": resources,
            }
        ],
        "containers": [
            {
                "name": "pause",
                "image": args.pause.reference,
                "resources": resources,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "runAsNonRoot": True,
                    "runAsUser": 65535,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
