"""The cold start of one replica on a fresh node, as a graph of phases.

Every duration is a size over a rate, or a published figure; the catalog holds each with its source.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.catalog import Catalog, InstanceType, Model
from coldstart.planning.timeline import Phase, Timeline, timeline
from coldstart.spec.model import CompileCache, ImageDelivery, OperatingSystem, WeightsPath


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What decides how long a replica takes: node, image, weights, caches.

    `parallel_loader` is false for load formats that read one range after another.
    """

    instance: InstanceType
    operating_system: OperatingSystem
    image_delivery: ImageDelivery
    image_bytes: int
    model: Model
    tensor_parallel: int
    weights: WeightsPath
    compile_cache: CompileCache
    parallel_loader: bool = True


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
    bottlerocket = os is OperatingSystem.BOTTLEROCKET
    if delivery is ImageDelivery.SNAPSHOT:
        figure = catalog.figure("image.snapshot")
        return figure.seconds_p50 or 0.0, figure.source
    if delivery is ImageDelivery.PARALLEL:
        if bottlerocket:
            key = "image.parallel.raid0" if instance.nvme_gb else "image.parallel.bottlerocket"
        else:
            key = "image.parallel.al2023"
    elif delivery is ImageDelivery.PEER and not first_node:
        key = "image.peer"
    else:
        key = "image.registry.bottlerocket" if bottlerocket else "image.registry"
    figure = catalog.figure(key)
    rate = min(figure.bytes_per_second or float("inf"), network_bytes_per_second(instance))
    return image_bytes / rate, figure.source


def interpolated(prefix: str, parameters_billion: float, catalog: Catalog) -> tuple[float, str]:
    """Seconds at a model's size, on the straight line between the two nearest published sizes.

    Outside the published sizes the nearest figure stands.
    """
    points = sorted(
        (figure.parameters_billion, figure.seconds_p50, figure.source)
        for key, figure in catalog.figures.items()
        if key.startswith(prefix) and figure.parameters_billion and figure.seconds_p50 is not None
    )
    below = [p for p in points if p[0] <= parameters_billion] or points[:1]
    above = [p for p in points if p[0] >= parameters_billion] or points[-1:]
    (x0, y0, low), (x1, y1, high) = below[-1], above[0]
    share = 0.0 if x1 == x0 else (parameters_billion - x0) / (x1 - x0)
    seconds = y0 + share * (y1 - y0)
    if x0 == x1:
        return seconds, f"figure at {x0:g}B parameters: {low}"
    return seconds, f"between {x0:g}B ({low}) and {x1:g}B ({high})"


def predict(
    start: ColdStart, catalog: Catalog, *, first_node: bool = False, warm_node: bool = False
) -> Timeline:
    """From the cause of the scaling signal to the first token of a replica.

    The node is fresh, or, with `warm_node`, one that warm capacity kept ready with the engine image
    on it.
    """
    stager = catalog.figure("image.seed_pull_small")
    small = stager.seconds_p50 or 0.0
    phases = [*_node_phases(start, catalog)][: 1 if warm_node else None]
    before = phases[-1].key
    if start.weights is WeightsPath.SHARED and not warm_node:
        phases.append(
            Phase(
                "mount",
                "shared file system driver and mount",
                small,
                (before,),
                f"driver image like a small helper: {stager.source}",
            )
        )
        before = "mount"
    waits: tuple[str, ...] = ()
    if start.weights is WeightsPath.LOCAL or start.compile_cache is CompileCache.GOLDEN:
        phases.append(Phase("stager", "stager image", small, (before,), stager.source))
        before = "stager"
    if start.weights is WeightsPath.LOCAL:
        seconds, source = _stage_seconds(start, catalog)
        phases.append(Phase("stage", "weights to local NVMe", seconds, ("stager",), source))
        waits = ("stage",)
    seconds, source = image_seconds(
        start.image_delivery,
        start.operating_system,
        start.instance,
        start.image_bytes,
        catalog,
        first_node=first_node,
    )
    if warm_node:
        seconds, source = 0.0, "warm capacity keeps the image on the node"
    phases.append(Phase("image", "engine image", seconds, (before,), source))
    return timeline([*phases, *_engine_phases(start, catalog, ("image", *waits))])


def baseline(start: ColdStart, catalog: Catalog) -> Timeline:
    """The same replica with no lever: everything in turn, nothing kept.

    Stock image pull, weights copied by an ordinary init container before the engine image is
    pulled, the default loader, an empty compile cache.
    """
    plain = ColdStart(
        start.instance,
        OperatingSystem.AL2023,
        ImageDelivery.REGISTRY,
        start.image_bytes,
        start.model,
        start.tensor_parallel,
        WeightsPath.LOCAL,
        CompileCache.NONE,
        parallel_loader=False,
    )
    phases = [*_node_phases(plain, catalog)]
    serial = catalog.figure("weights.efs.serial")
    rate = min(serial.bytes_per_second or float("inf"), network_bytes_per_second(plain.instance))
    phases.append(
        Phase(
            "stage",
            "weights by an init container",
            plain.model.checkpoint_bytes / rate,
            (phases[-1].key,),
            serial.source,
        )
    )
    seconds, source = image_seconds(
        plain.image_delivery,
        plain.operating_system,
        plain.instance,
        plain.image_bytes,
        catalog,
        first_node=True,
    )
    phases.append(Phase("image", "engine image", seconds, ("stage",), source))
    return timeline([*phases, *_engine_phases(plain, catalog, ("image",))])


def _node_phases(start: ColdStart, catalog: Catalog) -> list[Phase]:
    signal = catalog.figure("signal.keda.prometheus")
    node = catalog.figure(f"node.{start.operating_system}")
    phases = [
        Phase("signal", "scaling signal", signal.seconds_p50 or 0.0, (), signal.source),
        Phase("node", "node and driver", node.seconds_p50 or 0.0, ("signal",), node.source),
    ]
    if start.operating_system is OperatingSystem.AL2023:
        plugin = catalog.figure("image.seed_pull_small")
        phases.append(
            Phase(
                "device",
                "device plugin",
                plugin.seconds_p50 or 0.0,
                ("node",),
                f"plugin image like a small helper: {plugin.source}",
            )
        )
    return phases


def _stage_seconds(start: ColdStart, catalog: Catalog) -> tuple[float, str]:
    store = catalog.figure("weights.s3.stream")
    rate = min(store.bytes_per_second or float("inf"), network_bytes_per_second(start.instance))
    return start.model.checkpoint_bytes / rate, store.source


def _load_rate(start: ColdStart, catalog: Catalog) -> tuple[float, str]:
    key = {
        WeightsPath.LOCAL: "weights.nvme.read",
        WeightsPath.STREAM: "weights.s3.stream",
        WeightsPath.SHARED: "weights.efs.client",
    }[start.weights]
    figure = catalog.figure(key)
    rate = figure.bytes_per_second or float("inf")
    if start.weights is not WeightsPath.LOCAL:
        rate = min(rate, network_bytes_per_second(start.instance))
    if not start.parallel_loader:
        plain = catalog.figure("weights.gp3.default_loader")
        return min(rate, plain.bytes_per_second or rate), plain.source
    return rate, figure.source


def _engine_phases(start: ColdStart, catalog: Catalog, after: tuple[str, ...]) -> list[Phase]:
    billion = start.model.parameters_billion
    rate, load_source = _load_rate(start, catalog)
    state = "warm" if start.compile_cache is CompileCache.GOLDEN else "cold"
    compiled, compile_source = interpolated(f"compile.{state}.", billion, catalog)
    graphs, graphs_source = interpolated("graphs.", billion, catalog)
    process, profile, warmup = (
        catalog.figure(key) for key in ("process.import", "engine.profile", "warmup.readiness")
    )
    return [
        Phase("process", "engine process", process.seconds_p50 or 0.0, after, process.source),
        Phase(
            "load", "weights to GPU", start.model.checkpoint_bytes / rate, ("process",), load_source
        ),
        Phase("compile", f"compile ({state} cache)", compiled, ("load",), compile_source),
        Phase(
            "profile", "memory profiling", profile.seconds_p50 or 0.0, ("compile",), profile.source
        ),
        Phase("graphs", "graph capture", graphs, ("profile",), graphs_source),
        Phase("ready", "first token", warmup.seconds_p50 or 0.0, ("graphs",), warmup.source),
    ]
