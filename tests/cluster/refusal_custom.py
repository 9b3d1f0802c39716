"""Wrong custom resources of KEDA, AKS, GKE and others: what the rules of definitions refuse."""

from __future__ import annotations

from tests.cluster.refusal_rows import INVALID, REMOVED, UNTYPED, Place, Row, invalid

SPEC = "spec"
TRIGGER: Place = (SPEC, "triggers", 0)
RULE: Place = (SPEC, "priorities", 0)
LATER_RULE: Place = (SPEC, "priorities", 1)

SCALED, ROUTE = "ScaledObject", "InterceptorRoute"
SCALING = (
    Row(
        "a threshold as a number",
        SCALED,
        {(*TRIGGER, "metadata", "threshold"): 5},
        UNTYPED,
        ("spec.triggers[0].metadata.threshold", "expected string"),
    ),
    invalid(
        "a threshold as a number, created",
        SCALED,
        (*TRIGGER, "metadata", "threshold"),
        5,
        "spec.triggers[0].metadata.threshold",
        'must be of type string: "integer"',
        strict_create=True,
    ),
    invalid(
        "more replicas at least than at most",
        SCALED,
        (SPEC, "minReplicaCount"),
        4,
        "minReplicaCount must be less than or equal to maxReplicaCount",
    ),
    invalid(
        "a scaled object without a target",
        SCALED,
        (SPEC, "scaleTargetRef"),
        REMOVED,
        "spec.scaleTargetRef: Required value",
    ),
    invalid(
        "a trigger without a type",
        SCALED,
        (*TRIGGER, "type"),
        REMOVED,
        "spec.triggers[0].type: Required value",
    ),
    invalid(
        "a fallback behaviour that does not exist",
        SCALED,
        (SPEC, "fallback", "behavior"),
        "keep",
        'Unsupported value: "keep"',
    ),
    invalid(
        "a fallback without its replicas",
        SCALED,
        (SPEC, "fallback", "replicas"),
        REMOVED,
        "spec.fallback.replicas: Required value",
    ),
    invalid(
        "a secret without its key",
        "TriggerAuthentication",
        (SPEC, "secretTargetRef", 0, "key"),
        REMOVED,
        "spec.secretTargetRef[0].key: Required value",
    ),
    invalid(
        "a pod identity of a provider KEDA does not know",
        "TriggerAuthentication",
        (SPEC, "podIdentity"),
        {"provider": "aws-kiam-2"},
        'Unsupported value: "aws-kiam-2"',
    ),
    invalid(
        "a route to a port by number and by name",
        ROUTE,
        (SPEC, "target", "port"),
        8000,
        "exactly one of 'port' or 'portName' must be set",
    ),
    invalid(
        "a route without a metric to scale by",
        ROUTE,
        (SPEC, "scalingMetric"),
        {},
        "at least one of 'concurrency' or 'requestRate' must be set",
    ),
    invalid(
        "a route that scales by zero requests at a time",
        ROUTE,
        (SPEC, "scalingMetric", "concurrency", "targetValue"),
        0,
        "targetValue",
        "should be greater than or equal to 1",
    ),
    invalid(
        "a target of an HTTPScaledObject without a port",
        "HTTPScaledObject",
        (SPEC, "scaleTargetRef", "port"),
        REMOVED,
        "must define either the 'portName' or the 'port'",
    ),
)

AKS, COMPUTE = "AKSNodeClass", "ComputeClass"
DESCRIBED = (
    invalid(
        "a swap file where the kubelet fails with swap on",
        AKS,
        (SPEC, "linuxOSConfig"),
        {"swapFileSize": "2Gi"},
        "kubelet.failSwapOn must be set to false",
        "linuxOSConfig.swapFileSize",
    ),
    invalid(
        "image garbage collection of AKS that starts below where it ends",
        AKS,
        (SPEC, "kubelet", "imageGCLowThresholdPercent"),
        95,
        "imageGCHighThresholdPercent must be greater than",
    ),
    Row(
        "FIPS on an image that has no FIPS variant",
        AKS,
        {(SPEC, "fipsMode"): "FIPS", (SPEC, "imageFamily"): "Ubuntu2404"},
        INVALID,
        ("FIPS is not yet", "Ubuntu2404"),
    ),
    invalid(
        "an image family that AKS does not have",
        AKS,
        (SPEC, "imageFamily"),
        "Bottlerocket",
        'Unsupported value: "Bottlerocket"',
    ),
    invalid(
        "an operating system disk below 30 GB",
        AKS,
        (SPEC, "osDiskSizeGB"),
        20,
        "osDiskSizeGB",
        "should be greater than or equal to 30",
    ),
    invalid(
        "a tag key with a character Azure does not take",
        AKS,
        (SPEC, "tags", "cost%center"),
        "serving",
        "tags keys must not contain",
    ),
    invalid(
        "flex start on spot capacity",
        COMPUTE,
        (*LATER_RULE, "spot"),
        True,
        "spec.priorities[1]",
        "Flex Start",
        "incompatible",
        "Spot",
    ),
    invalid(
        "a machine family and a machine type",
        COMPUTE,
        (*RULE, "machineFamily"),
        "g2",
        "achineFamily and ",
        "achineType cannot be set together",
    ),
    invalid(
        "cores wanted of a machine type",
        COMPUTE,
        (*RULE, "minCores"),
        4,
        "achineType cannot be set together with",
    ),
    invalid(
        "node pools of one's own among other fields",
        COMPUTE,
        (*RULE, "nodepools"),
        ["l4"],
        "odepool",
        "cannot be set along with other fields",
    ),
    invalid(
        "waiting for capacity that is not flex start",
        COMPUTE,
        (*RULE, "capacityCheckWaitTimeSeconds"),
        600,
        "capacityCheckWaitTimeSeconds is only supported for Flex Start",
    ),
    invalid(
        "a specific reservation that is not named",
        COMPUTE,
        (*RULE, "reservations"),
        {"affinity": "Specific"},
        "t least 1 specific reservation",
    ),
    invalid(
        "a score for one priority only",
        COMPUTE,
        (*RULE, "priorityScore"),
        10,
        "riorityScore must be set for all priorities or for none",
    ),
    invalid(
        "a behaviour for when nothing fits that does not exist",
        COMPUTE,
        (SPEC, "whenUnsatisfiable"),
        "Wait",
        'Unsupported value: "Wait"',
    ),
    invalid(
        "two ports of the same number",
        "InferencePool",
        (SPEC, "targetPorts", 1),
        {"number": 8000},
        "port number must be unique",
    ),
    invalid(
        "an endpoint picker without a port",
        "InferencePool",
        (SPEC, "endpointPickerRef", "port"),
        REMOVED,
        "port is required",
    ),
    invalid(
        "a scrape interval in words",
        "PodMonitor",
        (SPEC, "podMetricsEndpoints", 0, "interval"),
        "5 seconds",
        "spec.podMetricsEndpoints[0].interval",
        "should match",
    ),
    invalid(
        "a pod monitor that selects nothing",
        "PodMonitor",
        (SPEC, "selector"),
        REMOVED,
        "spec.selector: Required value",
    ),
    invalid(
        "a Prometheus rule without an expression",
        "PrometheusRule",
        (SPEC, "groups", 0, "rules", 0, "expr"),
        REMOVED,
        "spec.groups[0].rules[0].expr: Required value",
    ),
    invalid(
        "a waiting time of an alert in words",
        "PrometheusRule",
        (SPEC, "groups", 0, "rules", 0, "for"),
        "5 minutes",
        "spec.groups[0].rules[0].for",
        "should match",
    ),
    invalid(
        "a group of rules without a name",
        "PrometheusRule",
        (SPEC, "groups", 0, "name"),
        REMOVED,
        "spec.groups[0].name: Required value",
    ),
)
"""Rows whose definition may be our own or a published one; both must say the same."""
