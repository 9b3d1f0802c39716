"""The cold start of one replica, as a graph of phases.

Every duration is a size over a rate, or a published figure; the catalog holds each with its source.
What the stack file says was measured takes the place of a published figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from coldstart.catalog import Catalog, InstanceType, Model, PhaseFigure
from coldstart.planning.distribution import Distribution, from_range
from coldstart.planning.timeline import Phase, Timeline, timeline
from coldstart.spec.model import CompileCache, ImageDelivery, OperatingSystem, WeightsPath

MEASURED = "measured, stack file"
PHASES: Mapping[str, str] = {
    "signal": "from load to a new replica, by polled metrics",
    "wake": "from a held request to the first replica, pushed",
    "node": "from the node's order to Ready, driver included",
    "device": "device plugin on AL2023",
    "mount": "driver and mount of the shared file system",
    "stager": "image of the sidecar that brings weights and caches",
    "stage": "weights to local disk",
    "image": "engine image on a fresh node",
    "process": "interpreter, imports, CUDA context, workers",
    "load": "weights to GPU memory",
    "compile": "torch.compile, or restoring its cache",
    "profile": "memory profiling and KV cache",
    "graphs": "CUDA graph capture",
    "ready": "readiness and first token",
}
"""Every phase a timeline can have, by the key `measurements` names it with."""
DECIDED_BY: Mapping[str, tuple[str, ...]] = {
    "node": ("operating_system",),
    "device": ("operating_system",),
    "image": ("operating_system", "image_delivery", "image_bytes", "instance"),
    "stage": ("weights", "instance"),
    "load": ("weights", "parallel_loader", "instance"),
    "compile": ("compile_cache",),
}
"""What a measured phase depends on: with one of these changed, the measurement says nothing."""


class Case(StrEnum):
    """Which start is meant; each begins and finds its node in another state.

    `NEXT_REPLICA` is N→N+1 on a fresh node whose peers have the image. `FROM_ZERO` is 0→1: a held
    request is pushed to the autoscaler, and no peer is left to pull from. `FIRST_NODE` is the
    first node of an empty cluster. `WARM_NODE` is kept by warm capacity with the image on it.
    """

    NEXT_REPLICA = "next-replica"
    FROM_ZERO = "from-zero"
    FIRST_NODE = "first-node"
    WARM_NODE = "warm-node"

    @property
    def has_peers(self) -> bool:
        """Whether another node of the pool has the engine image."""
        return self is Case.NEXT_REPLICA


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What decides how long a replica takes: node, image, weights, caches.

    `parallel_loader` is false for load formats that read one range after another. `measured` holds
    the user's own figures by phase; they are of exactly this start.
    """

    instance: InstanceType
    operating_system: OperatingSystem
    image_delivery: ImageDelivery
    image_bytes: int
    model: Model
    weights: WeightsPath
    compile_cache: CompileCache
    parallel_loader: bool = True
    measured: Mapping[str, Distribution] = field(default_factory=dict)


def altered(start: ColdStart, **changes: Any) -> ColdStart:
    """The start with other decisions, without the measurements they make void."""
    return with_measurements_of(start, replace(start, **changes))


def with_measurements_of(measured: ColdStart, other: ColdStart) -> ColdStart:
    """Another start with those measurements of `measured` that hold for it as well."""
    kept = {
        key: found
        for key, found in measured.measured.items()
        if all(getattr(other, name) == getattr(measured, name) for name in DECIDED_BY.get(key, ()))
    }
    return replace(other, measured=kept)


class _Estimate(NamedTuple):
    seconds: float
    source: str
    spread: Distribution | None


def network_bytes_per_second(instance: InstanceType) -> float:
    """The instance's baseline bandwidth, not its burst."""
    return instance.network_mbps * 1e6 / 8


def image_seconds(
    delivery: ImageDelivery,
    os: OperatingSystem,
    instance: InstanceType,
    image_bytes: int,
    catalog: Catalog,
    *,
    first_node: bool = False,
) -> tuple[float, str]:
    """Seconds until the image is on a fresh node, and the source of the rate.

    A peer mirror gives the first node of an empty cluster nothing: it pulls like `registry`.
    """
    found = _image(delivery, os, instance, image_bytes, catalog, first_node=first_node)
    return found.seconds, found.source


def interpolated(prefix: str, parameters_billion: float, catalog: Catalog) -> tuple[float, str]:
    """Seconds at a model's size, on the straight line between the two nearest published sizes.

    Outside the published sizes the nearest figure stands.
    """
    found = _at_size(prefix, parameters_billion, catalog)
    return found.seconds, found.source


def predict(
    start: ColdStart,
    catalog: Catalog,
    case: Case = Case.NEXT_REPLICA,
    *,
    in_turn: bool = False,
) -> Timeline:
    """From the cause of the scaling signal to the first token of a replica.

    `in_turn` copies the weights by an ordinary init container, so that the kubelet pulls the engine
    image only afterwards; otherwise local weights are staged beside the pull.
    """
    phases = [_signal(case, catalog)]
    if case is not Case.WARM_NODE:
        phases += _node_phases(start, catalog, phases[-1].key)
    small = _fixed(catalog.figure("image.seed_pull_small"))
    before = phases[-1].key
    if start.weights is WeightsPath.SHARED and case is not Case.WARM_NODE:
        source = f"driver image like a small helper: {small.source}"
        name = "shared file system driver and mount"
        phases.append(Phase("mount", name, small.seconds, (before,), source, small.spread))
        before = "mount"
    local = start.weights is WeightsPath.LOCAL
    if (local and not in_turn) or start.compile_cache is CompileCache.GOLDEN:
        phases.append(_phase("stager", "stager image", small, (before,)))
        before = "stager"
    waits: tuple[str, ...] = ()
    if local:
        name = "weights by an init container" if in_turn else "weights to local NVMe"
        key = "weights.efs.serial" if in_turn else "weights.s3.stream"
        moved = start.model.checkpoint_bytes
        found = _moved(moved, catalog.figure(key), network_bytes_per_second(start.instance))
        phases.append(_phase("stage", name, found, (before,)))
        waits = ("stage",)
        before = "stage" if in_turn else before
    if case is Case.WARM_NODE:
        pulled = _Estimate(0.0, "warm capacity keeps the image on the node", None)
    else:
        pulled = _image(
            start.image_delivery,
            start.operating_system,
            start.instance,
            start.image_bytes,
            catalog,
            first_node=not case.has_peers,
        )
    phases.append(_phase("image", "engine image", pulled, (before,)))
    phases += _engine_phases(start, catalog, ("image", *waits))
    return timeline([_measured(phase, start, case, in_turn=in_turn) for phase in phases])


def baseline(start: ColdStart, catalog: Catalog, case: Case = Case.NEXT_REPLICA) -> Timeline:
    """The same replica with no lever: everything in turn, nothing kept.

    Stock image pull, weights copied by an ordinary init container before the engine image is
    pulled, the default loader, an empty compile cache.
    """
    return predict(without_levers(start), catalog, case, in_turn=True)


def without_levers(start: ColdStart) -> ColdStart:
    """The start that `baseline` predicts, to be run in turn."""
    return altered(
        start,
        operating_system=OperatingSystem.AL2023,
        image_delivery=ImageDelivery.REGISTRY,
        weights=WeightsPath.LOCAL,
        compile_cache=CompileCache.NONE,
        parallel_loader=False,
    )


def _phase(key: str, name: str, found: _Estimate, after: tuple[str, ...]) -> Phase:
    return Phase(key, name, found.seconds, after, found.source, found.spread)


def _measured(phase: Phase, start: ColdStart, case: Case, *, in_turn: bool) -> Phase:
    found = start.measured.get(phase.key)
    # An init container's copy is another mechanism than the one that was measured.
    if found is None or (phase.key == "stage" and in_turn):
        return phase
    if phase.key == "image":
        mirrored = start.image_delivery is ImageDelivery.PEER
        if case is Case.WARM_NODE or (mirrored and not case.has_peers):
            return phase
    return replace(phase, seconds=found.p50_seconds, spread=found, source=MEASURED)


def _signal(case: Case, catalog: Catalog) -> Phase:
    if case is Case.FROM_ZERO:
        found = _fixed(catalog.figure("signal.keda.push"))
        return _phase("wake", "held request wakes the model", found, ())
    return _phase("signal", "scaling signal", _fixed(catalog.figure("signal.keda.prometheus")), ())


def _node_phases(start: ColdStart, catalog: Catalog, before: str) -> list[Phase]:
    node = _fixed(catalog.figure(f"node.{start.operating_system}"))
    phases = [_phase("node", "node and driver", node, (before,))]
    if start.operating_system is OperatingSystem.AL2023:
        plugin = _fixed(catalog.figure("image.seed_pull_small"))
        source = f"plugin image like a small helper: {plugin.source}"
        device = ("device", "device plugin", plugin.seconds, ("node",), source, plugin.spread)
        phases.append(Phase(*device))
    return phases


def _engine_phases(start: ColdStart, catalog: Catalog, after: tuple[str, ...]) -> list[Phase]:
    billion = start.model.parameters_billion
    state = "warm" if start.compile_cache is CompileCache.GOLDEN else "cold"
    steps = (
        ("process", "engine process", _fixed(catalog.figure("process.import"))),
        ("load", "weights to GPU", _load(start, catalog)),
        ("compile", f"compile ({state} cache)", _at_size(f"compile.{state}.", billion, catalog)),
        ("profile", "memory profiling", _fixed(catalog.figure("engine.profile"))),
        ("graphs", "graph capture", _at_size("graphs.", billion, catalog)),
        ("ready", "first token", _fixed(catalog.figure("warmup.readiness"))),
    )
    phases: list[Phase] = []
    for key, name, found in steps:
        phases.append(_phase(key, name, found, after))
        after = (key,)
    return phases


def _fixed(figure: PhaseFigure) -> _Estimate:
    if figure.seconds_p50 is None:
        raise ValueError(f"the catalog's figure {figure.key} has no seconds")
    seconds = figure.seconds_p50
    spread = from_range(seconds, figure.seconds_low, seconds, figure.seconds_high)
    return _Estimate(seconds, figure.source, spread)


def _moved(moved_bytes: int, figure: PhaseFigure, at_most: float = float("inf")) -> _Estimate:
    """Bytes at the figure's rate, and never faster than `at_most` bytes a second."""
    if figure.bytes_per_second is None:
        raise ValueError(f"the catalog's figure {figure.key} has no rate")
    floor = moved_bytes / at_most
    seconds = moved_bytes / figure.bytes_per_second
    low, middle, high = figure.seconds_low, figure.seconds_p50, figure.seconds_high
    spread = from_range(seconds, low, middle, high, floor)
    return _Estimate(max(seconds, floor), figure.source, spread)


def _image(
    delivery: ImageDelivery,
    os: OperatingSystem,
    instance: InstanceType,
    image_bytes: int,
    catalog: Catalog,
    *,
    first_node: bool,
) -> _Estimate:
    bottlerocket = os is OperatingSystem.BOTTLEROCKET
    if delivery is ImageDelivery.SNAPSHOT:
        return _fixed(catalog.figure("image.snapshot"))
    if delivery is ImageDelivery.PARALLEL:
        if bottlerocket:
            key = "image.parallel.raid0" if instance.nvme_gb else "image.parallel.bottlerocket"
        else:
            key = "image.parallel.al2023"
    elif delivery is ImageDelivery.PEER and not first_node:
        key = "image.peer"
    else:
        key = "image.registry.bottlerocket" if bottlerocket else "image.registry"
    return _moved(image_bytes, catalog.figure(key), network_bytes_per_second(instance))


def _load(start: ColdStart, catalog: Catalog) -> _Estimate:
    key = {
        WeightsPath.LOCAL: "weights.nvme.read",
        WeightsPath.STREAM: "weights.s3.stream",
        WeightsPath.SHARED: "weights.efs.client",
    }[start.weights]
    at_most = float("inf")
    if start.weights is not WeightsPath.LOCAL:
        at_most = network_bytes_per_second(start.instance)
    moved = start.model.checkpoint_bytes
    found = _moved(moved, catalog.figure(key), at_most)
    if not start.parallel_loader:
        plain = _moved(moved, catalog.figure("weights.gp3.default_loader"), at_most)
        return max(found, plain, key=lambda estimate: estimate.seconds)
    return found


def _at_size(prefix: str, parameters_billion: float, catalog: Catalog) -> _Estimate:
    points = sorted(
        (figure.parameters_billion, figure.seconds_p50, key)
        for key, figure in catalog.figures.items()
        if key.startswith(prefix) and figure.parameters_billion and figure.seconds_p50 is not None
    )
    below = [p for p in points if p[0] <= parameters_billion] or points[:1]
    above = [p for p in points if p[0] >= parameters_billion] or points[-1:]
    (x0, y0, small), (x1, y1, large) = below[-1], above[0]
    share = 0.0 if x1 == x0 else (parameters_billion - x0) / (x1 - x0)
    seconds = y0 + share * (y1 - y0)
    low, high = catalog.figure(small), catalog.figure(large)
    spread = None
    if any(f.seconds_low is not None or f.seconds_high is not None for f in (low, high)):
        lows = [_or_median(f.seconds_low, f) for f in (low, high)]
        highs = [_or_median(f.seconds_high, f) for f in (low, high)]
        spread = from_range(
            seconds,
            min(seconds, lows[0] + share * (lows[1] - lows[0])),
            seconds,
            max(seconds, highs[0] + share * (highs[1] - highs[0])),
        )
    if x0 == x1:
        return _Estimate(seconds, f"figure at {x0:g}B parameters: {low.source}", spread)
    return _Estimate(seconds, f"between {x0:g}B ({low.source}) and {x1:g}B ({high.source})", spread)


def _or_median(end: float | None, figure: PhaseFigure) -> float:
    """One end of a published range; without one the median."""
    return (figure.seconds_p50 or 0.0) if end is None else end
