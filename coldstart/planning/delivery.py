"""Operating system, local disks and image delivery of a pool: three choices that depend on each
other, made together so that no two of them cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from coldstart.catalog import InstanceType
from coldstart.planning.cold_start import image_seconds
from coldstart.planning.context import Context
from coldstart.planning.decision import NAMED, Decision, PlanError, Rejection
from coldstart.spec.model import (
    AUTO,
    Environment,
    ImageDelivery,
    LocalStorage,
    NodePoolSpec,
    OperatingSystem,
)
from coldstart.units import format_bytes, format_seconds

RANGED_REGISTRIES = (
    "docker.io",
    "quay.io",
    "ghcr.io",
    "public.ecr.aws",
    "registry.k8s.io",
    ".amazonaws.com",
)
"""Registries known to answer ranged GETs, which a parallel pull needs (SOCI snapshotter docs)."""
NVSWITCH_FAMILIES = ("p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300")
"""Hosts whose GPUs need the fabric manager, which the AL2023 NVIDIA image is documented to carry
(amazon-eks-ami release v20260714)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The three decisions of one pool."""

    operating_system: Decision[OperatingSystem]
    local_storage: Decision[LocalStorage]
    image: Decision[ImageDelivery]


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """`depth` is how far the combination came: the deepest one says what is really missing."""

    axis: str
    text: str
    depth: int = 0


_Combination = tuple[OperatingSystem, LocalStorage, ImageDelivery]
_AXES = ("os", "localStorage", "image")


def delivery(
    path: str, pool: NodePoolSpec, types: tuple[InstanceType, ...], context: Context
) -> Delivery:
    """The fastest combination that holds, on the first node of an empty cluster.

    Raises PlanError naming the wish that cannot work, why, and what would.
    """
    table = _Table(pool, types, context)
    wishes: tuple[str, str, str] = (pool.os, pool.local_storage, pool.image)
    open_ones = [c for c in table.matching(wishes) if table.obstacle(c) is None]
    if not open_ones:
        raise _refusal(path, table, wishes)
    best = min(open_ones, key=table.cost)

    def decide(axis: int) -> Decision:
        rejected = []
        for value in dict.fromkeys(c[axis] for c in table.all()):
            if value is not best[axis]:
                rejected.append(Rejection(value, _turned_down(table, best, axis, value)))
        named = f"{NAMED}: " if wishes[axis] != AUTO else ""
        return Decision(best[axis], named + table.reason(best, axis), tuple(rejected))

    return Delivery(decide(0), decide(1), decide(2))


def _turned_down(table: _Table, best: _Combination, axis: int, value: object) -> str:
    beside = tuple(value if i == axis else part for i, part in enumerate(best))
    obstacle = table.obstacle(beside)  # type: ignore[arg-type]
    if obstacle is None:
        slower = table.seconds(beside) - table.seconds(best)  # type: ignore[arg-type]
        if slower > 0:
            return f"{format_seconds(slower)} slower to a node with the image"
        return table.second_best(value)
    return obstacle.text


def _refusal(path: str, table: _Table, wishes: tuple[str, str, str]) -> PlanError:
    found = [(o, c) for c in table.matching(wishes) if (o := table.obstacle(c)) is not None]
    obstacle, _ = min(
        found, key=lambda pair: (-_AXES.index(pair[0].axis), -pair[0].depth, table.cost(pair[1]))
    )
    axis = _AXES.index(obstacle.axis)
    named = [i for i in range(3) if wishes[i] != AUTO]
    blamed = axis if axis in named else named[-1]
    cure = ", or ".join(_cures(table, wishes, named))
    return PlanError(
        f"{path}.{_AXES[blamed]}",
        f'"{wishes[blamed]}" cannot be used: {obstacle.text}.\nUse {cure}.',
    )


def _cures(table: _Table, wishes: tuple[str, str, str], named: list[int]) -> list[str]:
    """What to write instead: one key where one is enough, else as few together as it takes."""
    for count in range(1, len(named) + 1):
        cures = []
        for given_up in combinations(named, count):
            os, storage, image = (AUTO if i in given_up else wish for i, wish in enumerate(wishes))
            working = [c for c in table.matching((os, storage, image)) if table.obstacle(c) is None]
            if working:
                best = min(working, key=table.cost)
                changes = " and ".join(f"{_AXES[i]}: {best[i]}" for i in given_up)
                cures.append(f"{changes} (chosen by auto here)")
        if cures:
            return cures
    raise AssertionError(
        "all three left to auto always work: AL2023, its root volume, its registry"
    )


class _Table:
    """Every combination with its obstacle or its seconds."""

    def __init__(
        self, pool: NodePoolSpec, types: tuple[InstanceType, ...], context: Context
    ) -> None:
        self.pool, self.types, self.image = pool, types, context.image
        self.environment, self.catalog = context.spec.environment, context.catalog
        self.nvme = all(t.nvme_gb for t in types)
        self.names = ", ".join(t.name for t in types[:3]) + (", …" if len(types) > 3 else "")

    def all(self) -> Iterator[_Combination]:
        return product(OperatingSystem, LocalStorage, ImageDelivery)

    def matching(self, wishes: tuple[str, str, str]) -> list[_Combination]:
        os, storage, image = wishes
        return list(
            product(
                OperatingSystem if os == AUTO else [OperatingSystem(os)],
                LocalStorage if storage == AUTO else [LocalStorage(storage)],
                ImageDelivery if image == AUTO else [ImageDelivery(image)],
            )
        )

    def seconds(self, combination: _Combination) -> float:
        os, _, image = combination
        node = self.catalog.figure(f"node.{os}").seconds_p50 or 0.0
        pull = max(
            image_seconds(image, os, t, self.image.compressed_bytes, self.catalog, first_node=True)[
                0
            ]
            for t in self.types
        )
        return node + pull

    def cost(self, combination: _Combination) -> tuple[float, float, int, int]:
        """Local disks used well come first, then seconds, then the plainer way."""
        _, storage, image = combination
        keeps_nvme = storage is LocalStorage.RAID0 or (
            storage is LocalStorage.PODS_ONLY and image is ImageDelivery.SNAPSHOT
        )
        return (
            0.0 if keeps_nvme or not self.nvme else 1.0,
            self.seconds(combination),
            list(LocalStorage).index(storage),
            _PLAINEST_IMAGE.index(image),
        )

    def obstacle(self, combination: _Combination) -> _Obstacle | None:
        os, storage, image = combination
        return (
            self._os_obstacle(os)
            or self._storage_obstacle(os, storage)
            or self._image_obstacle(os, storage, image)
        )

    def _os_obstacle(self, os: OperatingSystem) -> _Obstacle | None:
        families = sorted({t.family for t in self.types} & set(NVSWITCH_FAMILIES))
        if os is OperatingSystem.BOTTLEROCKET and families:
            return _Obstacle(
                "os",
                f"{families[0]} joins its GPUs by NVSwitch, whose fabric manager "
                "is documented for the AL2023 NVIDIA image only",
            )
        return None

    def _storage_obstacle(self, os: OperatingSystem, storage: LocalStorage) -> _Obstacle | None:
        if storage is LocalStorage.NONE:
            return None
        if not self.nvme:
            return _Obstacle("localStorage", f"not every type of the pool has NVMe: {self.names}")
        if storage is LocalStorage.USER_DATA and os is OperatingSystem.BOTTLEROCKET:
            return _Obstacle(
                "localStorage",
                "Bottlerocket runs no shell script at boot; its own "
                "agent prepares disks (raid0, pods-only)",
            )
        if storage is LocalStorage.DAEMONSET:
            if os is OperatingSystem.BOTTLEROCKET:
                return _Obstacle(
                    "localStorage",
                    "a pod cannot format disks on Bottlerocket, whose root is read-only",
                )
            if self.environment is not Environment.DEV:
                return _Obstacle(
                    "localStorage",
                    "a privileged pod that formats disks can take over "
                    "the node; it is for stacks with environment: dev only",
                )
        return None

    def _image_obstacle(
        self, os: OperatingSystem, storage: LocalStorage, image: ImageDelivery
    ) -> _Obstacle | None:
        bottlerocket = os is OperatingSystem.BOTTLEROCKET
        if image is ImageDelivery.SNAPSHOT:
            return self._snapshot_obstacle(bottlerocket, storage)
        if image is ImageDelivery.PEER:
            if bottlerocket:
                return _Obstacle(
                    "image",
                    "Bottlerocket has no setting for a peer mirror's host "
                    "capabilities (bottlerocket#4710)",
                )
            if self.pool.max_nodes < 2:
                return _Obstacle("image", "a pool of one node has no peer to pull from")
        if image is ImageDelivery.PARALLEL:
            vcpu, gib = (
                self.catalog.limit(f"soci_min_{what}").value for what in ("vcpu", "memory_gib")
            )
            small = [t for t in self.types if t.vcpu < vcpu or t.memory_mib / 1024 < gib]
            if small:
                return _Obstacle(
                    "image",
                    f"{small[0].name} is below {vcpu:g} vCPU and {gib:g} GiB, where the node "
                    "ignores the setting silently",
                )
            if not self.image.registry.endswith(RANGED_REGISTRIES):
                return _Obstacle(
                    "image",
                    f"registry {self.image.registry} is not known to answer "
                    "ranged requests, which a parallel pull is made of",
                )
        return None

    def _snapshot_obstacle(self, bottlerocket: bool, storage: LocalStorage) -> _Obstacle | None:
        size = format_bytes(self.image.compressed_bytes)
        if storage is LocalStorage.RAID0:
            return _Obstacle(
                "image",
                f"local-disk RAID0 on {self.names} moves containerd's root off "
                f"the snapshot volume, so every start would pull {size} again",
            )
        if not bottlerocket:
            return _Obstacle(
                "image",
                "AL2023 keeps images on its root volume; a snapshot of images "
                "alone needs Bottlerocket's data volume",
                depth=1,
            )
        if self.pool.image_snapshot is None:
            return _Obstacle(
                "image",
                "no imageSnapshot is named; tools/image-snapshot/build.sh makes one",
                depth=2,
            )
        return None

    def reason(self, combination: _Combination, axis: int) -> str:
        os, storage, image = combination
        if axis == 0:
            return (
                f"a GPU node is ready in "
                f"{format_seconds(self.catalog.figure(f'node.{os}').seconds_p50 or 0)}"
                " by the published figure"
            )
        if axis == 1:
            return _STORAGE_REASONS[storage]
        pull = self.seconds(combination) - (self.catalog.figure(f"node.{os}").seconds_p50 or 0)
        size = format_bytes(self.image.compressed_bytes)
        return {
            ImageDelivery.SNAPSHOT: f"{size} lie on the data volume when the node boots",
            ImageDelivery.PARALLEL: f"{size} in {format_seconds(pull)}: chunks and layers at once, "
            "on the first node as on the tenth",
            ImageDelivery.PEER: "layers come from nodes that have them; the first node takes "
            f"{format_seconds(pull)} from the registry",
            ImageDelivery.REGISTRY: f"{size} in {format_seconds(pull)}, layer after layer",
        }[image]

    def second_best(self, value: object) -> str:
        return _SECOND_BEST.get(str(value), "equal here, and less common")


_PLAINEST_IMAGE = (
    ImageDelivery.SNAPSHOT,
    ImageDelivery.PARALLEL,
    ImageDelivery.REGISTRY,
    ImageDelivery.PEER,
)
"""Between equal times the one with less to run: a peer mirror is a DaemonSet on every node."""
_STORAGE_REASONS = {
    LocalStorage.RAID0: "Karpenter stripes the NVMe disks for containerd, kubelet and pods, with "
    "no script and no privileged pod",
    LocalStorage.PODS_ONLY: "the node agent stripes the NVMe disks for pods, containerd stays on "
    "its own volume",
    LocalStorage.USER_DATA: "a boot script stripes and mounts the NVMe disks before kubelet starts",
    LocalStorage.DAEMONSET: "a privileged pod formats the NVMe disks after boot, in a dev stack",
    LocalStorage.NONE: "images and scratch space stay on the root volume",
}
_SECOND_BEST: dict[str, str] = {
    LocalStorage.PODS_ONLY: "images would stay on EBS though the NVMe disks are faster",
    LocalStorage.USER_DATA: "a script of our own for what Karpenter does by one field",
    LocalStorage.NONE: "the NVMe disks that are paid for would lie idle",
    LocalStorage.DAEMONSET: "a privileged pod for what Karpenter does by one field",
    LocalStorage.RAID0: "the images would move off the snapshot volume",
}
