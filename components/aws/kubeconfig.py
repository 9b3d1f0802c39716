"""How to reach the cluster: without a credential in it, through the caller's own AWS identity."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi import Output, ResourceOptions

from components.aws.cluster import Cluster


def kubeconfig(cluster: Cluster, region: str) -> Output[str]:
    """A kubeconfig that asks `aws eks get-token` for a token each time."""
    profile = pulumi.Config("aws").get("profile")
    name = cluster.name
    return Output.json_dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": cluster.endpoint,
                        "certificate-authority-data": cluster.certificate,
                    },
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "users": [
                {
                    "name": name,
                    "user": {
                        "exec": {
                            "apiVersion": "client.authentication.k8s.io/v1beta1",
                            "command": "aws",
                            "args": [
                                "eks",
                                "get-token",
                                "--cluster-name",
                                name,
                                "--region",
                                region,
                            ],
                            "env": [{"name": "AWS_PROFILE", "value": profile}] if profile else None,
                            "interactiveMode": "Never",
                        }
                    },
                }
            ],
        }
    )


def kubernetes_provider(cluster: Cluster, config: Output[str]) -> kubernetes.Provider:
    """The provider of everything inside the cluster.

    It is replaced only with the cluster, not when an endpoint or a certificate is renewed. It
    depends on the access entries, so that a destroy takes those away last.
    """
    return kubernetes.Provider(
        "cluster",
        kubeconfig=config,
        cluster_identifier=cluster.name,
        enable_server_side_apply=True,
        opts=ResourceOptions(depends_on=cluster.access),
    )
