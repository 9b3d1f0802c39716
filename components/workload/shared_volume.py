"""The shared file system as one namespace sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import core, meta

from components.contract import SharedFileSystem

CLAIM = "weights"


@dataclass(frozen=True)
class SharedVolumeArgs:
    """Whose part of which file system."""

    tenant: str
    namespace: str
    file_system: SharedFileSystem
    after: Sequence[pulumi.Resource]


class SharedVolume(ComponentResource):
    """A volume made by hand, since the file system exists already, and the claim it is kept for."""

    def __init__(
        self, name: str, args: SharedVolumeArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:workload:SharedVolume", name, opts=opts)
        child = ResourceOptions(parent=self)
        shared = args.file_system
        modes = ["ReadWriteMany"]
        volume = core.v1.PersistentVolume(
            name,
            metadata=meta.v1.ObjectMetaArgs(name=name),
            spec=core.v1.PersistentVolumeSpecArgs(
                access_modes=modes,
                capacity={"storage": shared.capacity},
                storage_class_name="",
                persistent_volume_reclaim_policy="Retain",
                mount_options=shared.mount_options,
                claim_ref=core.v1.ObjectReferenceArgs(
                    api_version="v1",
                    kind="PersistentVolumeClaim",
                    name=CLAIM,
                    namespace=args.namespace,
                ),
                csi=core.v1.CSIPersistentVolumeSourceArgs(
                    driver=shared.driver,
                    volume_handle=pulumi.Output.from_input(shared.volume_handles).apply(
                        lambda handles: handles[args.tenant]
                    ),
                ),
            ),
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=list(args.after))),
        )
        claim = core.v1.PersistentVolumeClaim(
            name,
            metadata=meta.v1.ObjectMetaArgs(name=CLAIM, namespace=args.namespace),
            spec=core.v1.PersistentVolumeClaimSpecArgs(
                access_modes=modes,
                # Empty, not absent: otherwise the default class would make another volume.
                storage_class_name="",
                volume_name=volume.metadata.name,
                resources=core.v1.VolumeResourceRequirementsArgs(
                    requests={"storage": shared.capacity}
                ),
            ),
            opts=child,
        )
        self.claim = claim.metadata.name
        self.register_outputs({"claim": self.claim})
