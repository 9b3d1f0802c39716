"""User data of a GPU node: one text from the operating system, image delivery and local disks."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from coldstart.render import al2023, bottlerocket
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem

_EVERY_OS = frozenset(OperatingSystem)
_EVERY_IMAGE = frozenset(ImageDelivery)
_EVERY_STORAGE = frozenset(LocalStorage)


@dataclass(frozen=True, slots=True)
class _Conflict:
    """A set of combinations that would cancel themselves on the node, and what works instead."""

    reason: str
    operating_systems: Set[OperatingSystem] = _EVERY_OS
    images: Set[ImageDelivery] = _EVERY_IMAGE
    storage: Set[LocalStorage] = _EVERY_STORAGE

    def holds(
        self, operating_system: OperatingSystem, image: ImageDelivery, storage: LocalStorage
    ) -> bool:
        return (
            operating_system in self.operating_systems
            and image in self.images
            and storage in self.storage
        )


_CONFLICTS = (
    _Conflict(
        "a snapshot holds the data volume of Bottlerocket (/dev/xvdb), which AL2023 does not have; "
        "use os: bottlerocket, or image: parallel",
        operating_systems=frozenset({OperatingSystem.AL2023}),
        images=frozenset({ImageDelivery.SNAPSHOT}),
    ),
    _Conflict(
        "RAID0 binds /var/lib/containerd to the empty array, which hides the images of the "
        "snapshot; use localStorage: pods-only, or image: parallel",
        images=frozenset({ImageDelivery.SNAPSHOT}),
        storage=frozenset({LocalStorage.RAID0}),
    ),
    _Conflict(
        "Spegel writes its mirrors below /etc/containerd, which Bottlerocket keeps for its own "
        "settings; use os: al2023, or image: parallel",
        operating_systems=frozenset({OperatingSystem.BOTTLEROCKET}),
        images=frozenset({ImageDelivery.PEER}),
    ),
    _Conflict(
        "Bottlerocket runs no boot script and lets no pod format its disks; "
        "use localStorage: pods-only or raid0, or os: al2023",
        operating_systems=frozenset({OperatingSystem.BOTTLEROCKET}),
        storage=frozenset({LocalStorage.USER_DATA, LocalStorage.DAEMONSET}),
    ),
)


def render_user_data(
    os: OperatingSystem,
    image: ImageDelivery,
    storage: LocalStorage,
    *,
    mirror_registries: tuple[str, ...] = (),
) -> str:
    """The user data of an EC2NodeClass, to which Karpenter adds the cluster, labels and taints.

    AL2023 reads a MIME multi-part text, Bottlerocket reads TOML. `mirror_registries` are the
    registries (`docker.io`) whose images come from peers, read for `image` peer only; empty means
    all of them, as in Spegel's own `mirroredRegistries`. Raises ValueError for a combination that
    would cancel itself on the node, saying why and what works.
    """
    for conflict in _CONFLICTS:
        if conflict.holds(os, image, storage):
            raise ValueError(
                f"os {os}, image {image} and localStorage {storage} do not go together: "
                f"{conflict.reason}"
            )
    if os is OperatingSystem.BOTTLEROCKET:
        return bottlerocket.render(image, storage)
    return al2023.render(image, storage, mirror_registries)
