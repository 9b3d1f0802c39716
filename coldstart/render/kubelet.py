"""How many images the kubelet asks for at once."""

from __future__ import annotations

PARALLEL_PULLS = 20
"""Images pulled at the same time.

A fresh GPU node pulls about 17 images: three of the VPC CNI, kube-proxy, three each of the EBS and
EFS drivers, pod identity, node monitoring, device plugin, DCGM exporter, Spegel, stager and
engine. A lower bound would let the engine's image, asked for last, wait behind the others."""

PULLS_PER_SECOND = 10
"""`registryPullQPS`; the kubelet's default is 5 (KubeletConfiguration v1beta1 reference)."""

PULL_BURST = PARALLEL_PULLS
"""`registryBurst`; the default of 10 (same reference) answers the eleventh image of a booting
node with "pull QPS exceeded", which costs a back-off of ten seconds."""
