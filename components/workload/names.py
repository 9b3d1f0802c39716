"""Names that several parts of the workload share."""

from __future__ import annotations

ENVIRONMENT_LABEL = "coldstart.dev/environment"
CLIENT_LABEL = "coldstart.dev/client"
"""A namespace labelled `coldstart.dev/client: "true"` may call the models."""
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
COLD_START_ANNOTATION = "coldstart.dev/predicted-cold-start-seconds"
"""From the container's start to ready: what the startup probe must cover."""
WHOLE_START_ANNOTATION = "coldstart.dev/predicted-first-token-seconds"
"""From the cause of the scaling signal to the first token, on a first node."""
BUDGET_ANNOTATION = "coldstart.dev/cold-start-budget-seconds"
COMPILE_CACHE_ANNOTATION = "coldstart.dev/compile-cache"
PRIVILEGED_ANNOTATION = "coldstart.dev/privileged-because"
DO_NOT_DISRUPT_ANNOTATION = "karpenter.sh/do-not-disrupt"
NODE_POOL_LABEL_PREFIX = "coldstart.dev/"

SERVER, WEIGHTS, COMPILE_CACHE = "server", "weights", "compile-cache"
"""Values of `app.kubernetes.io/component`, by which network policies tell pods apart."""
ENGINE = "engine"
"""The container that serves, in every pod that has one."""
SERVING_PRIORITY = "coldstart-serving"
JOBS_PRIORITY = "coldstart-jobs"
WARM_CAPACITY_PRIORITY = "coldstart-warm-capacity"
API_KEY = "api-key"
TOKEN = "token"  # noqa: S105
TOKEN_SECRET = "hugging-face-token"  # noqa: S105
OBJECT_STORE_CONFIG = "object-store"
METRICS_PATH, HEALTH_PATH, HTTP_PORT = "/metrics", "/health", "http"


def labels(name: str, component: str) -> dict[str, str]:
    """The labels of one part of one model."""
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "coldstart",
    }
