"""Selectors that find nothing: of a node class in its VPC, of a pod among nodes to be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.reading.aws_network import (
    CLUSTER,
    SECURITY_GROUP,
    SUBNET,
    TAG,
    VPC,
    carries,
    is_value,
)
from policies.reading.cloud_pools import CloudPool, gpu_pools_of
from policies.reading.node_pools import is_node_pool
from policies.reading.scheduling import Placement, Pool, Requirement, placement_of, pool_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    at,
    first_mapping,
    gather,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
    texts,
)
from policies.reading.workloads import Pod, pods_of
from policies.rule import Finding, Settings, StackRule

# Field of the node class, type that it selects, how that is called, prefix of its identifiers.
_SELECTED = (
    ("subnetSelectorTerms", SUBNET, "subnet", "subnet-"),
    ("securityGroupSelectorTerms", SECURITY_GROUP, "security group", "sg-"),
)
# Tags that EKS itself puts on the cluster's security group.
_TAGS_OF_EKS = ("aws:eks:", "kubernetes.io/cluster/")
_SHOWN = 4
# Labels of node and GPU feature discovery, whose agents run on the node.
_DISCOVERED = (
    "feature.node.kubernetes.io/",
    "nvidia.com/gpu.",
    "nvidia.com/cuda.",
    "nvidia.com/mig.",
    "nvidia.com/gfd.",
    "amd.com/gpu.",
    "beta.amd.com/gpu.",
)
_LABEL_COMMAND = re.compile(r"\blabel\s+(?:--\S+\s+)*(?:nodes?|no)\b([^;|&\n]{1,500})")
_LABEL_KEY = re.compile(r"""(?:^|[\s"'])((?:[\w.-]{1,253}/)?[\w.-]{1,63})=""")
_LABEL_FIELDS = ("labels", "nodeLabels")


def _judge_discovery_tags(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    types = {item.type for item in resources}
    # Subnets and groups of a VPC made elsewhere carry tags that this stack cannot show.
    if VPC not in types or CLUSTER not in types:
        return
    classes = [
        item
        for item in resources
        if item.kind == "EC2NodeClass" and item.group == "karpenter.k8s.aws"
    ]
    if not classes:
        return
    wanted = [_Tagged.of(resources, *selected) for selected in _SELECTED]
    pairs = [(item, tagged) for item in classes for tagged in wanted]
    yield from judge_each(pairs, lambda pair: _judge_terms(*pair))


@dataclass(frozen=True)
class _Tagged:
    """What of one kind this stack makes, with the tags on it and those put on separately."""

    field: str
    called: str
    names: tuple[str, ...]
    tags: list[Mapping[str, Any]]
    separate: list[tuple[str, str]]
    undecided: tuple[tuple[str, ...], ...]

    @classmethod
    def of(
        cls, resources: Sequence[Resource], field: str, selected: str, called: str, prefix: str
    ) -> _Tagged:
        there = [item for item in resources if item.type == selected]
        tags, undecided = gather(there, _tags_of)
        separate, unread = gather(resources, lambda item: _tag_of(item, prefix))
        names = tuple(item.name for item in there)
        return cls(field, called, names, tags, separate, (*undecided, *unread))

    def has(self, wanted: Mapping[str, Any]) -> bool:
        """Whether something may carry all of the wanted tags."""
        missing = {
            key: value
            for key, value in wanted.items()
            if not any(key == tag and is_value(value, its) for tag, its in self.separate)
        }
        if self.called == "security group":
            missing = {
                key: value for key, value in missing.items() if not key.startswith(_TAGS_OF_EKS)
            }
        return not missing or any(carries(tags, missing) for tags in self.tags)


def _tags_of(resource: Resource) -> Iterator[Mapping[str, Any]]:
    yield {
        **mapping_at(resource.properties, "tagsAll"),
        **mapping_at(resource.properties, "tags"),
    }


def _tag_of(resource: Resource, prefix: str) -> Iterator[tuple[str, str]]:
    """A tag put on something separately, unless that is known to be something else."""
    if resource.type != TAG:
        return
    target = resource.properties.get("resourceId")
    if not isinstance(target, str) or target.startswith(prefix):
        yield text_at(resource.properties, "key"), text_at(resource.properties, "value")


def _judge_terms(node_class: Resource, tagged: _Tagged) -> Iterator[Finding]:
    terms = [known(term) for term in list_at(node_class.properties, "spec", tagged.field)]
    by_tags = [mapping_at(term, "tags") for term in terms]
    if not terms or (tagged.called == "subnet" and not tagged.names):
        return
    # A term by identifier or name, with no tags, is the person's own choice.
    if any(map(tagged.has, by_tags)):
        return
    if tagged.undecided:
        raise NotYetKnown(*tagged.undecided)
    shown = " or ".join(
        " and ".join(f"{key}={value}" for key, value in sorted(tags.items())) for tags in by_tags
    )
    there = ", ".join(tagged.names[:_SHOWN]) or "the stack makes none itself"
    yield Finding(
        node_class,
        f"spec.{tagged.field} of EC2NodeClass {node_class.object_name} ask for the tag {shown}, "
        f"which no {tagged.called} of this stack carries ({there}). Karpenter finds nothing, the "
        "class never becomes ready, and no node is ever launched. Tag the nodes' "
        f"{tagged.called}, or select it by the tags it has.",
    )


def _judge_late_label(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    pools, undecided = gather(resources, _pools)
    clouds, unread = gather(resources, gpu_pools_of)
    # With a node that is always there the autoscaler copies that node's labels.
    if not (pools or clouds or undecided or unread) or any(map(_is_never_empty, clouds)):
        return
    late, unseen = gather(resources, _labels_set_by_agents)
    open_fields = (*undecided, *unread, *unseen)

    def judge(resource: Resource) -> Iterator[Finding]:
        if resource.kind != "DaemonSet":
            yield from judge_each(pods_of(resource), judge_pod)

    def judge_pod(pod: Pod) -> Iterator[Finding]:
        if not pod.requests_gpu:
            return
        placement = placement_of(pod.spec)
        keys = sorted({item.key for item in _late_conditions(placement, late)})
        if not keys or _is_served(placement, pools, clouds, late):
            return
        reached = [pool.name for pool in pools if _without(placement, late).can_run_on(pool)]
        reached += [pool.name for pool in clouds]
        if open_fields:
            raise NotYetKnown(*open_fields)
        if reached:
            yield Finding(pod.owner, _late_message(pod, keys, reached))

    yield from judge_each(resources, judge)


def _pools(resource: Resource) -> Iterator[Pool]:
    """Karpenter's pools that start empty; static ones have their nodes."""
    if is_node_pool(resource) and at(resource.properties, "spec", "replicas") is None:
        yield pool_of(resource)


def _is_never_empty(pool: CloudPool) -> bool:
    return not pool.autoscaled or pool.minimum > 0


def _labels_set_by_agents(resource: Resource) -> Iterator[str]:
    """Keys of node labels that a script in a pod sets with kubectl."""
    for pod in pods_of(resource):
        for container in pod.containers(with_init=True):
            words = [*list_at(container.spec, "command"), *list_at(container.spec, "args")]
            for found in _LABEL_COMMAND.finditer(" ".join(texts(words))):
                yield from _LABEL_KEY.findall(found[1])


def _is_late(condition: Requirement, late: Sequence[str]) -> bool:
    return condition.key in late or condition.key.startswith(_DISCOVERED)


def _late_conditions(placement: Placement, late: Sequence[str]) -> Iterator[Requirement]:
    for conditions in placement.alternatives:
        yield from (item for item in conditions if _is_late(item, late))


def _without(placement: Placement, late: Sequence[str]) -> Placement:
    return Placement(
        tuple(
            tuple(item for item in conditions if not _is_late(item, late))
            for conditions in placement.alternatives
        ),
        placement.tolerations,
    )


def _is_served(
    placement: Placement,
    pools: Sequence[Pool],
    clouds: Sequence[CloudPool],
    late: Sequence[str],
) -> bool:
    """Whether some pool declares the labels itself, or an alternative asks for none of them."""
    if any(map(placement.can_run_on, pools)):
        return True
    for conditions in placement.alternatives:
        asked = [item for item in conditions if _is_late(item, late)]
        if any(all(map(_declared(pool).can_have, asked)) for pool in clouds):
            return True
    return False


def _declared(pool: CloudPool) -> Pool:
    node = first_mapping(at(pool.resource.properties, "nodeConfig"))
    labels: dict[str, str] = {}
    for tree in (pool.resource.properties, node, *_profiles(pool.resource)):
        for field in _LABEL_FIELDS:
            labels |= {key: str(known(value)) for key, value in mapping_at(tree, field).items()}
    return Pool(pool.name, "", labels)


def _profiles(resource: Resource) -> Iterator[Mapping[str, Any]]:
    """Pools written inside their cluster."""
    yield first_mapping(at(resource.properties, "nodePool"))
    yield from map(first_mapping, list_at(resource.properties, "agentPoolProfiles"))


def _late_message(pod: Pod, keys: Sequence[str], reached: Sequence[str]) -> str:
    return (
        f"{pod.field('nodeSelector')} (or affinity) asks for {', '.join(keys)}, which an agent "
        "puts on a node after it has booted. The autoscaler looks at the labels that pool "
        f"{', '.join(reached)} declares for nodes to come, finds none, and never adds the first "
        "node: the pod stays pending. Declare the label in the pool's template, or select by a "
        "label of the pool."
    )


REQUIRE_DISCOVERY_TAGS = StackRule(
    code="CS115",
    name="karpenter-nodeclass-require-discovery-tags",
    concern="nodes",
    title="Karpenter finds the subnets and security groups it selects",
    description="Where a stack makes the VPC and the EKS cluster, its subnets and security groups "
    "must carry the tags that each EC2NodeClass selects by.",
    severity="high",
    tags=("karpenter", "aws"),
    remediation="Tag the private subnets and the nodes' security group with the tags of the "
    "selector terms, such as karpenter.sh/discovery: <cluster>.",
    reason="A selector that matches nothing leaves the node class not ready; a wrong group tagged "
    "by hand instead cuts nodes off from one another.",
    links=(
        "https://karpenter.sh/docs/concepts/nodeclasses/#specsecuritygroupselectorterms",
        "https://github.com/terraform-aws-modules/terraform-aws-eks/tree/master/examples/karpenter",
    ),
    judge=_judge_discovery_tags,
)

FORBID_LATE_LABEL = StackRule(
    code="CS121",
    name="kubernetes-pod-forbid-late-node-label",
    concern="nodes",
    title="No GPU pod waits for a label that only a running node has",
    description="GPU pods must not select nodes by a label that an agent sets after boot, unless "
    "the pool declares it too: from zero nodes the pool never grows.",
    severity="high",
    tags=("kubernetes", "cold-start", "scale-to-zero"),
    remediation="Put the label into the pool (NodePool spec.template.metadata.labels, labels of "
    "the cloud's pool), or select by a label of the pool; hold pods back with a startup taint.",
    reason="An autoscaler plans with what the pool declares, so a label of feature discovery or of "
    "a tuning DaemonSet does not exist for it.",
    links=(
        "https://karpenter.sh/docs/concepts/scheduling/#labels",
        "https://github.com/digitalocean/scale-with-simplicity/tree/main/reference-architectures/vllm-nfs",
    ),
    judge=_judge_late_label,
)
