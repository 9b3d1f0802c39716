"""User data for Bottlerocket: TOML settings, which Karpenter merges with its own.

Karpenter keeps every table verbatim except `settings.kubernetes`, of which it drops keys it does
not know (karpenter-provider-aws v1.14.1 bootstrap/bottlerocketsettings.go). For RAID0 it adds its
own bootstrap command, so nothing is written here for it.
"""

from __future__ import annotations

from coldstart.render import containerd, kubelet
from coldstart.spec.model import ImageDelivery, LocalStorage

_KUBERNETES = f"""\
[settings.kubernetes]
registry-qps = {kubelet.PULLS_PER_SECOND}
registry-burst = {kubelet.PULL_BURST}
"""

# `max-concurrent-unpacks` came with settings model 0.22.0 (bottlerocket-settings-sdk, April 2026);
# an older release refuses user data that names it. Both values go to the transfer service, not to
# the CRI's setting of the same name (core kit, packages/containerd-2.2, k8s templates).
_CONTAINERD = f"""\
[settings.container-runtime]
max-concurrent-downloads = {containerd.CONCURRENT_DOWNLOADS}
max-concurrent-unpacks = {containerd.CONCURRENT_UNPACKS}
"""

# The figures nodeadm ships for the same snapshotter (amazon-eks-ami,
# nodeadm/internal/containerd/snapshotter/soci-snapshotter.config.toml): Bottlerocket's defaults of
# three downloads and one unpack per image are slower than containerd without SOCI.
_SOCI = """\
[settings.container-runtime]
snapshotter = "soci"

[settings.container-runtime-plugins.soci-snapshotter]
pull-mode = "parallel-pull-unpack"

[settings.container-runtime-plugins.soci-snapshotter.parallel-pull-unpack]
concurrent-download-chunk-size = "16mb"
max-concurrent-downloads-per-image = 20
max-concurrent-unpacks-per-image = 12
discard-unpacked-layers = true
"""

# Containerd stays on its volume: a bind hides what the volume holds, copying nothing.
_PODS_ON_ARRAY = """\
[settings.bootstrap-commands.coldstart-pod-storage]
commands = [
  ["apiclient", "ephemeral-storage", "init"],
  ["apiclient", "ephemeral-storage", "bind", "--dirs", "/var/lib/kubelet", "/var/log/pods"],
]
essential = true
mode = "always"
"""


def render(image: ImageDelivery, storage: LocalStorage) -> str:
    """The TOML for one combination, which the caller has found possible."""
    tables = [_KUBERNETES, _SOCI if image is ImageDelivery.PARALLEL else _CONTAINERD]
    if storage is LocalStorage.PODS_ONLY:
        tables.append(_PODS_ON_ARRAY)
    return "\n".join(tables)
