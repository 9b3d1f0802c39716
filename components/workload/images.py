"""Where each image is pulled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from coldstart.planning import ImagePlan


@dataclass(frozen=True)
class Images:
    """The plan's images behind the cluster's pull-through caches."""

    plan: Mapping[str, ImagePlan]
    mirrors: pulumi.Input[Mapping[str, str]]

    def reference(self, key: str) -> pulumi.Output[str]:
        """The image, pinned by digest, at its mirror where there is one."""
        image = self.plan[key]
        return pulumi.Output.from_input(self.mirrors).apply(
            lambda mirrors: (
                f"{(mirrors or {}).get(image.registry, image.registry)}"
                f"/{image.repository}@{image.digest}"
            )
        )
