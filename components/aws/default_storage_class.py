"""The class of volumes for claims that name none: encrypted gp3."""

from __future__ import annotations

import pulumi_kubernetes as kubernetes
from pulumi import ComponentResource, ResourceOptions


class DefaultStorageClass(ComponentResource):
    """Volumes are made in the zone of the pod that needs them."""

    def __init__(self, name: str, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:aws:DefaultStorageClass", name, opts=opts)
        kubernetes.storage.v1.StorageClass(
            f"{name}-gp3",
            metadata={
                "name": "gp3",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true"},
            volume_binding_mode="WaitForFirstConsumer",
            reclaim_policy="Delete",
            allow_volume_expansion=True,
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})
