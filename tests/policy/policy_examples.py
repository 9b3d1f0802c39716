"""Resources that every rule accepts, and the small edits that turn them into violations."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi_policy import (
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.policy import PolicyCustomTimeouts
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy

from policies.pack import policies

DIGEST = "sha256:" + "ab" * 32
IMAGE = f"example.com/vllm/vllm-openai@{DIGEST}"
OPTIONS = PolicyResourceOptions(False, [], None, [], PolicyCustomTimeouts(0, 0, 0), [])
UNKNOWN = UNKNOWN_STRING_VALUE


@dataclass(frozen=True)
class Given:
    """A resource as the engine would hand it over."""

    type: str
    properties: dict[str, Any]
    name: str = "subject"

    @property
    def urn(self) -> str:
        return f"urn:pulumi:test::project::{self.type}::{self.name}"

    def edited(self, *edits: tuple[str, Any]) -> Given:
        """A copy with values set at dotted paths; `...` removes the value."""
        properties = copy.deepcopy(self.properties)
        for path, value in edits:
            _set(properties, path.split("/"), value)
        return Given(self.type, properties, self.name)


@dataclass(frozen=True)
class Verdict:
    """What a policy reported, and the first field it had to leave undecided."""

    messages: list[str]
    urns: list[str | None]
    undecided: str | None

    @property
    def passed(self) -> bool:
        return not self.messages and self.undecided is None


def judge(rule: str, *given: Given, config: Mapping[str, Any] | None = None) -> Verdict:
    """Run one policy the way the engine does, unknown values refused on access."""
    # A pack lives for one operation of the engine, so each judgement gets one of its own.
    policy = next(policy for policy in policies() if policy.name == rule)
    messages: list[str] = []
    urns: list[str | None] = []

    def report(message: str, urn: str | None = None) -> None:
        messages.append(message)
        urns.append(urn)

    undecided = None
    try:
        if isinstance(policy, StackValidationPolicy):
            policy.validate(
                StackValidationArgs([_in_stack(item) for item in given], config), report
            )
        elif isinstance(policy, ResourceValidationPolicy):
            for item in given:
                policy.validate(_alone(item, config), report)
    except UnknownValueError as unknown:
        undecided = ".".join(unknown.props)
    return Verdict(messages, urns, undecided)


def _alone(given: Given, config: Mapping[str, Any] | None) -> ResourceValidationArgs:
    properties = unknown_checking_proxy(given.properties)
    return ResourceValidationArgs(
        given.type, properties, given.urn, given.name, OPTIONS, None, config
    )


def _in_stack(given: Given) -> PolicyResource:
    properties = unknown_checking_proxy(given.properties)
    return PolicyResource(
        given.type, properties, given.urn, given.name, OPTIONS, None, None, [], {}
    )


def _set(tree: Any, keys: Sequence[str], value: Any) -> None:
    *above, last = [int(key) if key.isdigit() else key for key in keys]
    for key in above:
        tree = tree[key] if isinstance(key, int) else tree.setdefault(key, {})
    if value is ...:
        del tree[last]
    else:
        tree[last] = value


def node_config(containerd: str = "", *, gate: bool = False, storage: str = "") -> str:
    """Amazon Linux 2023 user data as MIME with one NodeConfig part."""
    body = ["apiVersion: node.eks.aws/v1alpha1", "kind: NodeConfig", "spec:"]
    body += [f"  featureGates: {{FastImagePull: {str(gate).lower()}}}"]
    body += [f"  instance: {{localStorage: {storage}}}"] if storage else []
    if containerd:
        body += ["  containerd:", "    config: |"]
        body += [f"      {line}" for line in containerd.splitlines()]
    return "\n".join(
        [
            "MIME-Version: 1.0",
            'Content-Type: multipart/mixed; boundary="PART"',
            "",
            "--PART",
            "Content-Type: application/node.eks.aws",
            "",
            *body,
            "--PART--",
        ]
    )


def images_toml(*lines: str, config_path: str | None = None) -> str:
    """containerd settings under the keys of version 3."""
    toml = ['[plugins."io.containerd.cri.v1.images"]', *lines]
    if config_path is not None:
        toml += ['[plugins."io.containerd.cri.v1.images".registry]']
        toml += [f'config_path = "{config_path}"']
    return "\n".join(toml)


def node_class(**spec: Any) -> Given:
    return Given(
        "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass",
        {
            "apiVersion": "karpenter.k8s.aws/v1",
            "kind": "EC2NodeClass",
            "metadata": {"name": "gpu"},
            "spec": {"amiSelectorTerms": [{"alias": "al2023@v20260714"}], **spec},
        },
        "gpu-class",
    )


def launch_template(user_data: str, **properties: Any) -> Given:
    encoded = base64.b64encode(user_data.encode()).decode()
    return Given(
        "aws:ec2/launchTemplate:LaunchTemplate", {"userData": encoded, **properties}, "template"
    )


def requirement(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def node_pool(name: str = "gpu", *requirements: dict[str, Any], **more: Any) -> Given:
    template: dict[str, Any] = {
        "metadata": {"labels": {"pool": name}},
        "spec": {
            "requirements": list(requirements)
            or [requirement("karpenter.k8s.aws/instance-family", "g6e")],
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": name},
            "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
        },
    }
    return Given(
        "kubernetes:karpenter.sh/v1:NodePool",
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodePool",
            "metadata": {"name": name, "annotations": more.get("annotations", {})},
            "spec": {"limits": {"nvidia.com/gpu": 8.0}, "template": template},
        },
        f"pool-{name}",
    )


def gpu_deployment(name: str = "model") -> Given:
    """A serving Deployment that all rules accept."""
    return Given(
        "kubernetes:apps/v1:Deployment",
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "serving"},
            "spec": {
                "replicas": 1.0,
                "template": {
                    "metadata": {
                        "annotations": {"coldstart.dev/predicted-cold-start-seconds": "93"}
                    },
                    "spec": _pod_spec(),
                },
            },
        },
        f"deployment-{name}",
    )


def _pod_spec() -> dict[str, Any]:
    engine = {
        "name": "engine",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "VLLM_CACHE_ROOT", "value": "/cache/vllm"}],
        "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "48Gi"}},
        "startupProbe": {
            "httpGet": {"path": "/health", "port": 8000.0},
            "periodSeconds": 5.0,
            "failureThreshold": 60.0,
        },
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "weights", "mountPath": "/models"},
        ],
    }
    return {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "initContainers": [
            {"name": "stage", "image": f"example.com/stage@{DIGEST}", "restartPolicy": "Always"}
        ],
        "containers": [engine],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
            {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}},
        ],
    }


def claim(mode: str = "ReadWriteOnce", name: str = "weights") -> Given:
    return Given(
        "kubernetes:core/v1:PersistentVolumeClaim",
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "serving"},
            "spec": {"accessModes": [mode]},
        },
        f"claim-{name}",
    )


def disk_daemon_set(**spec: Any) -> Given:
    """A DaemonSet that formats the local disks; what rule and environment make of it differs."""
    container = {
        "name": "raid",
        "image": f"example.com/tools@{DIGEST}",
        "command": ["sh", "-c", "mdadm --create /dev/md0 && mkfs.xfs /dev/md0"],
        "securityContext": {"privileged": True},
    }
    return Given(
        "kubernetes:apps/v1:DaemonSet",
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "nvme-setup", "namespace": "storage", "labels": {}},
            "spec": {"template": {"spec": {"containers": [container], "volumes": [], **spec}}},
        },
        "nvme-setup",
    )


def spegel(**values: Any) -> Given:
    chart = "oci://ghcr.io/spegel-org/helm-charts/spegel"
    return Given("kubernetes:helm.sh/v3:Release", {"chart": chart, "values": values}, "spegel")


def cluster(**vpc_config: Any) -> Given:
    return Given("aws:eks/cluster:Cluster", {"vpcConfig": vpc_config}, "cluster")
