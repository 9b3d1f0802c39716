"""Spegel, the peer-to-peer image mirror, as a DaemonSet or as a chart, and the nodes it reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.reading.nodes import NodeDefinition
from policies.reading.scheduling import Placement, Pool, placement_of, pool_of
from policies.reading.values import NotYetKnown, Resource, at, list_at, mapping_at
from policies.reading.workloads import Pod, pods_of

_CHART_KINDS = frozenset({"Release", "Chart"})


def is_chart(resource: Resource) -> bool:
    """Whether a resource is a Helm chart, whose values stand for its objects."""
    return resource.is_kubernetes and resource.kind in _CHART_KINDS


def is_spegel(resource: Resource) -> bool:
    """Whether a resource installs Spegel. Raises NotYetKnown where that is not known yet."""
    if is_chart(resource):
        return "spegel" in str(at(resource.properties, "chart", default="")).lower()
    return resource.kind == "DaemonSet" and any(
        "/spegel" in str(at(container.spec, "image", default=""))
        for pod in pods_of(resource)
        for container in pod.containers(with_init=False)
    )


def placement_of_spegel(spegel: Resource) -> Placement:
    """Where Spegel runs. Its chart tolerates every taint unless its values say otherwise."""
    if is_chart(spegel):
        return placement_of(mapping_at(spegel.properties, "values"), tolerates_all_without=True)
    return placement_of(_pod(spegel).spec)


def writes_mirrors(spegel: Resource) -> bool:
    """Whether Spegel writes containerd's mirror files on the node itself, as it does by default."""
    if is_chart(spegel):
        stated = at(spegel.properties, "values", "spegel", "containerdMirrorAdd", default=True)
        return str(stated).lower() != "false"
    # The chart does it in an init container that runs `registry configuration`.
    return any(
        "configuration" in map(str, list_at(container.spec, "args"))
        for container in _pod(spegel).containers(with_init=True)
        if container.is_init
    )


def pools_in(node_pool: Resource) -> Iterator[Pool]:
    """The pool of a Karpenter NodePool; nothing for another resource."""
    if node_pool.kind == "NodePool" and node_pool.group == "karpenter.sh":
        yield pool_of(node_pool)


def pools_of(
    node: NodeDefinition, pools: Sequence[Pool], undecided: Sequence[tuple[str, ...]]
) -> Sequence[Pool]:
    """The pools whose nodes a definition makes.

    `undecided` are the fields of NodePools that could not be read: NotYetKnown is raised where one
    of those may be the only pool.
    """
    name = node.resource.object_name
    own = [pool for pool in pools if pool.node_class == name]
    if not own and undecided:
        raise NotYetKnown(*undecided)
    # Without a pool in this stack only the class is known, and it is all a selector can meet.
    return own or [Pool(name, name, {"karpenter.k8s.aws/ec2nodeclass": name})]


def _pod(spegel: Resource) -> Pod:
    return next(pods_of(spegel))
