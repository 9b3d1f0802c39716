"""Passing objects: the project's own wherever it renders the kind, by hand where it does not."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from tests.cluster.rendered_objects import Object, bare_pod, dev_nodes, first, fleet, stack

TENANT = "near"
"""A namespace of the project's fleet: a model with weights on local disks."""
SHARED = "shared"
ASLEEP = "streamed"


@cache
def _rendered() -> dict[str, Object]:
    objects, prod = fleet(), stack("eks-prod")
    found = {
        "EC2NodeClass": first(prod, "EC2NodeClass", "l40s"),
        "EC2NodeClass of a snapshot": first(objects, "EC2NodeClass"),
        "EC2NodeClass of reservations": first(prod, "EC2NodeClass", "a100"),
        "NodePool": first(prod, "NodePool", "l40s"),
        "ScaledObject": first(objects, "ScaledObject", TENANT),
        "InterceptorRoute": first(objects, "InterceptorRoute"),
        "PodMonitor": first(objects, "PodMonitor", TENANT),
        "PrometheusRule": first(objects, "PrometheusRule"),
        "Deployment": first(objects, "Deployment", TENANT),
        "Job": first(objects, "Job"),
        "DaemonSet": first(dev_nodes(), "DaemonSet"),
        "NetworkPolicy": first(objects, "NetworkPolicy", "server"),
        "Service": first(objects, "Service", TENANT),
        "PodDisruptionBudget": first(objects, "PodDisruptionBudget", TENANT),
        "PersistentVolume": first(objects, "PersistentVolume"),
        "PersistentVolumeClaim": first(objects, "PersistentVolumeClaim"),
        "StorageClass": first(prod, "StorageClass"),
        "PriorityClass": first(objects, "PriorityClass"),
        "ResourceQuota": first(objects, "ResourceQuota"),
        "Secret": first(objects, "Secret"),
        "Namespace": first(objects, "Namespace", TENANT),
    }
    found["Pod"] = bare_pod(found["Deployment"])
    found["Pod of a Job"] = bare_pod(found["Job"])
    found["Pod of the disk daemon"] = bare_pod(found["DaemonSet"])
    found["Pod of the warm capacity"] = bare_pod(first(objects, "Deployment", "l40s"))
    return found


BY_HAND: dict[str, Object] = {
    "TriggerAuthentication": {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": "prometheus", "namespace": TENANT},
        "spec": {
            "secretTargetRef": [{"parameter": "bearerToken", "name": "prometheus", "key": "token"}]
        },
    },
    "HTTPScaledObject": {
        "apiVersion": "http.keda.sh/v1alpha1",
        "kind": "HTTPScaledObject",
        "metadata": {"name": "chat", "namespace": TENANT},
        "spec": {
            "hosts": ["chat.near"],
            "scaleTargetRef": {"name": "chat", "service": "chat", "port": 8000},
            "replicas": {"min": 0, "max": 3},
        },
    },
    "AKSNodeClass": {
        "apiVersion": "karpenter.azure.com/v1beta1",
        "kind": "AKSNodeClass",
        "metadata": {"name": "a100"},
        "spec": {
            "imageFamily": "Ubuntu2204",
            "osDiskSizeGB": 512,
            "maxPods": 30,
            "artifactStreaming": {"enabled": True},
            "gpu": {"mode": "Driver"},
            "kubelet": {"imageGCHighThresholdPercent": 90, "imageGCLowThresholdPercent": 80},
            "tags": {"stack": "aks"},
        },
    },
    "ComputeClass": {
        "apiVersion": "cloud.google.com/v1",
        "kind": "ComputeClass",
        "metadata": {"name": "l4"},
        "spec": {
            "nodePoolAutoCreation": {"enabled": True},
            "nodePoolConfig": {"imageStreaming": {"enabled": True}, "imageType": "cos_containerd"},
            "priorities": [
                {
                    "machineType": "g2-standard-12",
                    "spot": True,
                    "gpu": {"type": "nvidia-l4", "count": 1, "driverVersion": "latest"},
                    "storage": {"bootDiskSize": 100, "bootDiskType": "pd-balanced"},
                },
                {
                    "machineType": "a3-highgpu-1g",
                    "flexStart": {"enabled": True},
                    "gpu": {"type": "nvidia-h100-80gb", "count": 1},
                },
            ],
            "whenUnsatisfiable": "DoNotScaleUp",
        },
    },
    "InferencePool": {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "chat", "namespace": TENANT},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "chat"}},
            "targetPorts": [{"number": 8000}],
            "endpointPickerRef": {"name": "picker", "port": {"number": 9002}},
        },
    },
    "RoleBinding": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": TENANT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "server", "namespace": TENANT}],
    },
}

NAMES = (
    "EC2NodeClass",
    "EC2NodeClass of a snapshot",
    "EC2NodeClass of reservations",
    "NodePool",
    "ScaledObject",
    "InterceptorRoute",
    "PodMonitor",
    "PrometheusRule",
    "Deployment",
    "Job",
    "NetworkPolicy",
    "Service",
    "PodDisruptionBudget",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "StorageClass",
    "PriorityClass",
    "ResourceQuota",
    "Secret",
    "Namespace",
    "Pod",
    "Pod of a Job",
    "Pod of the disk daemon",
    "Pod of the warm capacity",
    *BY_HAND,
)


def passing(name: str) -> Any:
    """A copy of the passing object of that name."""
    return copy.deepcopy(BY_HAND[name] if name in BY_HAND else _rendered()[name])
