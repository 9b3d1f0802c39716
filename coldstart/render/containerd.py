"""containerd's configuration for pulls through its transfer service.

Sources: containerd v2.2.4 internal/cri/config/config.go (what falls back to local pull),
plugins/transfer/plugin.go and core/unpack/unpacker.go; containerd issues 12415 (a `config_path`
with a colon is not split) and 13030 (parallel unpack lost whiteouts up to 2.2.2; the pinned AMIs
carry 2.2.4).
"""

from __future__ import annotations

HOSTS_DIRECTORY = "/etc/containerd/certs.d"
"""Where mirrors are looked up; Spegel's `containerdRegistryConfigPath` default as well."""

CONCURRENT_DOWNLOADS = 10
"""Layers of one image fetched at once; containerd's default is 3, an engine image has 20 to 40."""

CONCURRENT_UNPACKS = 4
"""Layers unpacked at once; containerd's default of 1 unpacks one after the other. Each takes a
core for decompression, and the smallest GPU instances have 4 vCPU."""


def transfer_service_config() -> str:
    """TOML that moves pulls of an EKS AL2023 node to the transfer service, mirrors included.

    The node ships `discard_unpacked_layers = true`, which forces local pull and unpacks layer by
    layer. Keeping the layers brings the transfer service, which parallel unpack and peers need;
    that in turn needs `config_path` to be one directory, since it reads a list as one name. Only
    version 3 plugin keys: without one of them nodeadm takes its version 2 template. The CRI's own
    `max_concurrent_downloads` stays at 3: any other value forces local pull again.
    """
    return f"""\
[plugins."io.containerd.cri.v1.images"]
discard_unpacked_layers = false

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{HOSTS_DIRECTORY}"

[plugins."io.containerd.transfer.v1.local"]
max_concurrent_downloads = {CONCURRENT_DOWNLOADS}
max_concurrent_unpacks = {CONCURRENT_UNPACKS}
"""
