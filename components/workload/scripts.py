"""Scripts as pods get them."""

from __future__ import annotations

from pulumi import ResourceOptions
from pulumi_kubernetes import core, meta

from coldstart.render import pods


def scripts_config(
    resource: str,
    name: str,
    namespace: str,
    scripts: tuple[str, ...],
    opts: ResourceOptions,
) -> core.v1.ConfigMap:
    """An immutable ConfigMap with `scripts`; `name` changes with what is in it."""
    return core.v1.ConfigMap(
        resource,
        metadata=meta.v1.ObjectMetaArgs(name=name, namespace=namespace),
        immutable=True,
        data={script: pods.script(script) for script in scripts},
        opts=opts,
    )
