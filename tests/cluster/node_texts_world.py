"""Pools of nodes, their user data after Karpenter's merge, and nodes that boot with it."""

from __future__ import annotations

import email
import functools
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import yaml

from coldstart import catalog
from coldstart.engine.build import ensure_built
from coldstart.planning import Decision
from coldstart.spec.model import ImageDelivery, LocalStorage, OperatingSystem
from components.aws.gpu_node_pool import GpuNodePoolArgs, node_class_spec, node_pool_spec
from tests.program.harness import ROOT, run_program
from tests.program.plans import A100
from tests.program.recording import revealed
from tests.unit.user_data_texts import POSSIBLE, label

NODE_CONFIG = "application/node.eks.aws"
SHELL_SCRIPT = "text/x-shellscript"
AWS_STACKS = tuple(
    sorted(path.name.split(".")[1] for path in (ROOT / "stacks").glob("Pulumi.eks-*.yaml"))
)
MAX_PODS = 110
BOOT_DEADLINE_SECONDS = 300.0

Object = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """What Karpenter learns from EKS; the certificate is base64."""

    name: str = "eks-test"
    version: str = "1.35"
    endpoint: str = "https://0123456789ABCDEF.gr7.us-west-2.eks.amazonaws.com"
    certificate: str = "YSBjZXJ0aWZpY2F0ZQ=="
    service_cidr: str = "172.20.0.0/16"

    @property
    def dns_address(self) -> str:
        """The tenth address of the services, as EKS gives it to CoreDNS."""
        return self.service_cidr.replace(".0/16", ".10")


@dataclass(frozen=True)
class Pool:
    """A node class and one of its node pools, as an API server would hold them."""

    name: str
    cluster: Cluster
    node_class: Object
    node_pool: Object

    @property
    def user_data(self) -> str:
        """The text of the project alone."""
        return self.node_class["spec"]["userData"]

    @property
    def image_alias(self) -> str:
        """`al2023@…` or `bottlerocket@…`."""
        return self.node_class["spec"]["amiSelectorTerms"][0]["alias"]

    def wants(self, key: str) -> list[str]:
        """The values of a requirement."""
        requirements = self.node_pool["spec"]["template"]["spec"]["requirements"]
        return next(each["values"] for each in requirements if each["key"] == key)

    @property
    def smallest_instance_type(self) -> str:
        """By memory: what fits there fits everywhere in the pool."""
        instances = catalog.load()
        return min(
            self.wants("node.kubernetes.io/instance-type"),
            key=lambda name: instances.instance(name).memory_mib,
        )

    def with_user_data(self, text: str) -> Pool:
        """The same pool with another text of its own."""
        spec = {**self.node_class["spec"], "userData": text}
        return replace(self, node_class={**self.node_class, "spec": spec})


@dataclass(frozen=True)
class Merged:
    """What an instance of a pool reads."""

    pool: Pool
    family: Literal["AL2023", "Bottlerocket"]
    text: str
    taints: list[Object]
    labels: list[str]
    unknown: list[str]
    """Settings of ours that Karpenter's types do not have, and would drop."""

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Content type and text of each part."""
        return mime_parts(self.text)

    @property
    def settings(self) -> dict[str, Any]:
        """Bottlerocket's settings."""
        return tomllib.loads(self.text)["settings"]

    @property
    def scripts(self) -> list[str]:
        return [text for kind, text in self.parts if kind == SHELL_SCRIPT]


def mime_parts(text: str) -> list[tuple[str, str]]:
    """The parts of a multi-part text, read with Python's parser as cloud-init does."""
    message = email.message_from_string(text)
    assert message.is_multipart() and not message.defects, message.defects
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert not any(part.defects for part in parts)
    return [(part.get_content_type(), str(part.get_payload())) for part in parts]


@functools.cache
def pools_of_stacks() -> tuple[Pool, ...]:
    """A pool for every NodePool that the stacks in stacks/ register."""
    found: list[Pool] = []
    for stack in AWS_STACKS:
        run = run_program(stack, stack_outputs=_infra_outputs(stack))
        objects = [each for each in run.custom_objects() if each["kind"] != "ScaledObject"]
        classes = {o["metadata"]["name"]: o for o in objects if o["kind"] == "EC2NodeClass"}
        for node_pool in (o for o in objects if o["kind"] == "NodePool"):
            state = revealed(run.one("aws:eks/cluster:Cluster").outputs)
            cluster = Cluster(
                state["name"],
                state["version"],
                state["endpoint"],
                state["certificateAuthority"]["data"],
                state["kubernetesNetworkConfig"]["serviceIpv4Cidr"],
            )
            reference = node_pool["spec"]["template"]["spec"]["nodeClassRef"]["name"]
            name = f"{stack}/{node_pool['metadata']['name']}"
            found.append(Pool(name, cluster, classes[reference], node_pool))
    return tuple(found)


def _infra_outputs(stack: str) -> dict[str, Mapping[str, Any]] | None:
    if not stack.endswith("-workload"):
        return None
    infra = f"{stack.removesuffix('-workload')}-infra"
    return {infra: run_program(infra).exports()}


def made_pool(
    os: OperatingSystem, image: ImageDelivery, storage: LocalStorage, user_data: str
) -> Pool:
    """A pool by hand, for combinations that no stack in stacks/ has."""
    alias = "al2023@v20260714" if os is OperatingSystem.AL2023 else "bottlerocket@v1.64.0"
    plan = replace(
        A100,
        operating_system=Decision(os, "by hand"),
        ami_alias=alias,
        local_storage=Decision(storage, "by hand"),
        image_delivery=Decision(image, "by hand"),
        user_data=user_data,
    )
    args = GpuNodePoolArgs("eks-test", "node-role", plan, {})
    metadata = {"name": plan.name}
    node_class = {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": metadata,
        "spec": node_class_spec(args),
    }
    node_pool = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": metadata,
        "spec": node_pool_spec(plan, plan.capacity.value[0]),
    }
    return Pool(label((os, image, storage)), Cluster(), node_class, node_pool)


@functools.cache
def pools_of_combinations() -> tuple[Pool, ...]:
    """A pool for every combination of system, image delivery and local disks that can be made."""
    from coldstart.render import render_user_data

    return tuple(made_pool(*each, render_user_data(*each)) for each in POSSIBLE)


@functools.cache
def programs() -> str:
    """A search path with what is built from tools/."""
    folders = [
        ensure_built(name, ROOT, os.environ, _say).resolve()
        for name in ("node-texts", "containerd")
    ]
    return os.pathsep.join(str(folder) for folder in folders)


def _say(message: str) -> None:
    print(message, file=sys.__stderr__, flush=True)


def merge(pools: Iterable[Pool]) -> list[Merged]:
    """The pools' user data as Karpenter gives it to instances; AssertionError when it refuses."""
    merged: list[Merged] = []
    by_cluster: dict[Cluster, list[Pool]] = {}
    for pool in pools:
        by_cluster.setdefault(pool.cluster, []).append(pool)
    for cluster, members in by_cluster.items():
        answers = _run_tool(
            "node-texts", {"cluster": _as_request(cluster), "nodes": [*map(_node, members)]}
        )
        merged += [
            Merged(
                pool,
                answer["family"],
                answer["userData"],
                answer["taints"],
                answer["labels"],
                answer["unknown"],
            )
            for pool, answer in zip(members, answers, strict=True)
        ]
    return merged


def _as_request(cluster: Cluster) -> Object:
    return {
        "name": cluster.name,
        "endpoint": cluster.endpoint,
        "certificateAuthority": cluster.certificate,
        "serviceCIDR": cluster.service_cidr,
        "dnsAddress": cluster.dns_address,
        "region": "us-west-2",
    }


def _node(pool: Pool) -> Object:
    return {
        "name": pool.name,
        "nodeClass": pool.node_class,
        "nodePool": pool.node_pool,
        "instanceType": pool.smallest_instance_type,
        "capacityType": pool.wants("karpenter.sh/capacity-type")[-1],
        "maxPods": MAX_PODS,
    }


def strict_findings(documents: list[str]) -> list[str]:
    """What nodeadm's own types do not know in NodeConfig documents; nodeadm would drop it."""
    return _run_tool("nodeconfig-check", documents)


def _run_tool(name: str, request: Any) -> Any:
    done = subprocess.run(
        [name],
        input=json.dumps(request),
        env={"PATH": programs()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Pull:
    """A pull through the CRI on the booted node.

    `mirror` is what answers where the node's hosts.toml points: a server that holds the image, one
    that holds nothing, or nobody. Images are pinned by digest in this project.
    """

    mirror: Literal["full", "empty", "down"] = "full"
    by: Literal["digest", "tag"] = "digest"


@dataclass(frozen=True)
class Booted:
    """What a node wrote and did; see `node_texts_node`."""

    answer: Mapping[str, Any]

    @property
    def node_config(self) -> dict[str, Any]:
        """The NodeConfig that nodeadm made of all parts."""
        return self.answer["node_config"]

    @property
    def containerd(self) -> dict[str, Any]:
        """containerd's effective configuration, from its own `config dump`."""
        return tomllib.loads(self.answer["dump"])

    @property
    def images(self) -> dict[str, Any]:
        """The part of it that the CRI's image service reads."""
        return self.containerd["plugins"]["io.containerd.cri.v1.images"]

    @property
    def transfer(self) -> dict[str, Any]:
        """The part of it that the transfer service reads."""
        return self.containerd["plugins"]["io.containerd.transfer.v1.local"]

    @property
    def kubelet(self) -> dict[str, Any]:
        """The kubelet's configuration with the drop-in laid over it, one level deep."""
        files = self.answer["files"]
        main, extra = (
            "/etc/kubernetes/kubelet/config.json",
            "/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf",
        )
        return {**json.loads(files[main]), **json.loads(files.get(extra, "{}"))}

    @property
    def pulled(self) -> dict[str, Any]:
        return self.answer["pull"]

    def asked(self, server: str) -> list[str]:
        """The kinds of things a server was asked for in the pull: manifests or blobs, each once."""
        paths = [path for name, _, path in self.pulled["requests"] if name == server]
        return sorted({part for path in paths for part in ("manifests", "blobs") if part in path})


NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def boot(
    merged: Merged,
    *,
    scripts: Iterable[str] = (),
    pull: Pull | None = None,
    vcpu: int | None = None,
    address: str = "10.41.0.7",
) -> Booted:
    """Boot an AL2023 node with its user data in namespaces of its own and tell what came of it.

    Runs nodeadm, then `scripts`, containerd's dump, and a pull if wanted, on the smallest instance
    type of the pool, or one that has `vcpu` processors instead. AssertionError when a step fails
    or the machine does not let namespaces be made.
    """
    instance = catalog.load().instance(merged.pool.smallest_instance_type)
    with tempfile.TemporaryDirectory(prefix="coldstart-node-", ignore_cleanup_errors=True) as root:
        job = {
            "root": root,
            "programs": programs(),
            "user_data": merged.text,
            "instance_type": instance.name,
            "hardware": {"vcpu": vcpu or instance.vcpu, "memory_mib": instance.memory_mib},
            "kubelet_version": f"v{merged.pool.cluster.version}.0",
            "address": address,
            "scripts": list(scripts),
            "pull": None if pull is None else {"mirror": pull.mirror, "by": pull.by},
        }
        user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        done = subprocess.run(
            ["unshare", *user, *NAMESPACES, sys.executable, "-m", "tests.cluster.node_texts_node"],
            input=json.dumps(job),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BOOT_DEADLINE_SECONDS,
            check=False,
        )
    assert done.returncode == 0, f"no node in namespaces of its own: {done.stderr}"
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer["error"]
    return Booted(answer)


def node_config(**spec: Any) -> str:
    """A NodeConfig as bare user data."""
    return yaml.safe_dump(
        {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec}
    )
