"""Readers for rendered user data: what cloud-init, nodeadm and Bottlerocket would see."""

from __future__ import annotations

import email
import tomllib
from dataclasses import dataclass
from typing import Any

import yaml

from coldstart.render import render_user_data
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem

Combination = tuple[OperatingSystem, ImageDelivery, LocalStorage]

EVERY_COMBINATION: list[Combination] = [
    (os, image, storage)
    for os in OperatingSystem
    for image in ImageDelivery
    for storage in LocalStorage
]


def is_possible(combination: Combination) -> bool:
    try:
        render_user_data(*combination)
    except ValueError:
        return False
    return True


POSSIBLE = [combination for combination in EVERY_COMBINATION if is_possible(combination)]
IMPOSSIBLE = [combination for combination in EVERY_COMBINATION if not is_possible(combination)]


def label(combination: Combination) -> str:
    return "-".join(combination)


@dataclass(frozen=True)
class Al2023:
    """The parts of one multi-part text."""

    content_types: tuple[str, ...]
    contents: tuple[str, ...]

    @property
    def spec(self) -> dict[str, Any]:
        (text,) = [
            content
            for kind, content in zip(self.content_types, self.contents, strict=True)
            if kind == "application/node.eks.aws"
        ]
        document = yaml.safe_load(text)
        assert document["apiVersion"] == "node.eks.aws/v1alpha1"
        assert document["kind"] == "NodeConfig"
        return document["spec"]

    @property
    def containerd(self) -> dict[str, Any]:
        return tomllib.loads(self.spec.get("containerd", {}).get("config", ""))

    @property
    def scripts(self) -> list[str]:
        return [
            content
            for kind, content in zip(self.content_types, self.contents, strict=True)
            if kind == "text/x-shellscript"
        ]


def al2023(image: ImageDelivery, storage: LocalStorage, **options: Any) -> Al2023:
    message = email.message_from_string(
        render_user_data(OperatingSystem.AL2023, image, storage, **options)
    )
    assert message.is_multipart() and not message.defects
    parts = [part for part in message.walk() if not part.is_multipart()]
    return Al2023(
        tuple(part.get_content_type() for part in parts),
        tuple(str(part.get_payload()) for part in parts),
    )


def bottlerocket(image: ImageDelivery, storage: LocalStorage) -> dict[str, Any]:
    text = render_user_data(OperatingSystem.BOTTLEROCKET, image, storage)
    return tomllib.loads(text)["settings"]
