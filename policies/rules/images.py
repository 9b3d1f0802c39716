"""Images of GPU pods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from policies.reading.values import Resource, at, judge_each, mapping_at
from policies.reading.workloads import Container, Pod, carries_pods, pods_of
from policies.rule import ResourceRule, Settings

_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-fA-F]{64}")


def _judge(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(pods_of(resource), _judge_pod)


def _judge_pod(pod: Pod) -> Iterator[str]:
    if not pod.requests_gpu:
        return
    yield from judge_each(pod.containers(with_init=True), _judge_container)
    for name, volume in pod.volumes().items():
        image = mapping_at(volume, "image")
        if image:
            field = f"{pod.field('volumes')}[{name}].image"
            yield from _judge_image(
                f"image volume {name!r}", f"{field}.reference", at(image, "reference", default="")
            )
            yield from _judge_pull(f"image volume {name!r}", f"{field}.pullPolicy", image)


def _judge_container(container: Container) -> Iterator[str]:
    what = f"container {container.name!r}"
    image = at(container.spec, "image", default="")
    yield from _judge_image(what, f"{container.field}.image", image)
    policy = at(container.spec, "imagePullPolicy")
    yield from _judge_pull(what, f"{container.field}.imagePullPolicy", {"pullPolicy": policy})


def _judge_image(what: str, field: str, image: Any) -> Iterator[str]:
    if not _DIGEST.fullmatch(str(image)):
        yield (
            f"{what} of a GPU pod uses {field}={image!r} without a digest. A tag can move, so "
            "snapshots, peer copies and compile caches made for one image stop matching and the "
            "node pulls and compiles again. Write it as name@sha256:<64 hex digits>."
        )


def _judge_pull(what: str, field: str, spec: Any) -> Iterator[str]:
    if at(spec, "pullPolicy") == "Always":
        yield (
            f"{what} of a GPU pod has {field}=Always: every start asks the registry, and fails "
            "when the registry does. Use IfNotPresent with a digest."
        )


REQUIRE_PINNED_GPU_IMAGE = ResourceRule(
    code="CS201",
    name="kubernetes-pod-require-pinned-gpu-image",
    concern="images",
    title="GPU pods use pinned images that are already there",
    description="Every image of a pod that requests a GPU must be pinned by digest and must not "
    "have the pull policy Always.",
    severity="high",
    tags=("kubernetes", "cold-start", "supply-chain"),
    remediation="Pin each image as name@sha256:<digest> and set imagePullPolicy: IfNotPresent, "
    "in init containers and sidecars too.",
    reason="A moving tag invalidates every cache keyed on the image; Always adds a registry "
    "round trip to each start.",
    links=("https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy",),
    development="advisory",
    reads=carries_pods,
    judge=_judge,
)
