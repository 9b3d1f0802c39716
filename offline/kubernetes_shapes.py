"""What a Kubernetes API server knows about kinds, as data.

Paths that cannot change in place follow the API's own immutability rules and what
pulumi-kubernetes 4.34 replaces (its provider/pkg/provider/diff.go).
"""

from __future__ import annotations

from collections.abc import Mapping

RELEASE = "kubernetes:helm.sh/v3:Release"

# Kinds without a namespace. Custom resources are told apart by whether they state one.
CLUSTER_KINDS = frozenset(
    {
        "APIService",
        "CSIDriver",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "DeviceClass",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttributesClass",
        "VolumeSnapshotClass",
        # of the charts below
        "NodePool",
        "NodeClaim",
        "EC2NodeClass",
        "ClusterTriggerAuthentication",
        "GatewayClass",
    }
)

# Namespaces every cluster has from the start.
INITIAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})

# The chart that brings the definitions of an API group: a custom resource made before its release
# is refused by a real cluster, which is how a missing dependency shows.
CHARTS_BY_GROUP: Mapping[str, frozenset[str]] = {
    "karpenter.sh": frozenset({"karpenter", "karpenter-crd"}),
    "karpenter.k8s.aws": frozenset({"karpenter", "karpenter-crd"}),
    "keda.sh": frozenset({"keda"}),
    "monitoring.coreos.com": frozenset({"kube-prometheus-stack", "prometheus-operator-crds"}),
}

_ALWAYS_REPLACES = ("apiVersion", "kind", "metadata.name", "metadata.namespace")

_REPLACES_BY_KIND: Mapping[str, tuple[str, ...]] = {
    "ClusterRoleBinding": ("roleRef",),
    "ConfigMap": ("data", "binaryData"),
    "DaemonSet": ("spec.selector",),
    "Deployment": ("spec.selector",),
    "Job": ("spec.completions", "spec.parallelism", "spec.selector", "spec.template"),
    "PersistentVolume": ("spec.csi", "spec.nfs", "spec.hostPath", "spec.local"),
    "PersistentVolumeClaim": ("spec",),
    "Pod": ("spec",),
    "PriorityClass": ("value", "preemptionPolicy"),
    "RoleBinding": ("roleRef",),
    "RuntimeClass": ("handler",),
    "Secret": ("type", "data", "stringData"),
    "Service": ("spec.clusterIP",),
    "StatefulSet": (
        "spec.podManagementPolicy",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    "StorageClass": ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"),
}

_RELEASE_REPLACES = ("name", "namespace")


def replaces_of(type_token: str, kind: str) -> tuple[str, ...]:
    """Input paths of `kind` that cannot change in place."""
    if type_token == RELEASE:
        return _RELEASE_REPLACES
    return _ALWAYS_REPLACES + _REPLACES_BY_KIND.get(kind, ())
