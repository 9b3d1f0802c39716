"""One model's namespace: who runs in it, what may reach it and what it may reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes import core, meta, networking

from coldstart.planning import ModelPlan, PoolPlan
from coldstart.render import pods
from coldstart.spec.model import WeightsPath
from components.contract import PUBLISHER_ACCOUNT, SERVING_ACCOUNT, ObjectStore
from components.workload import names
from components.workload.security import PRIVILEGED, RESTRICTED, pod_security_labels

ANYWHERE = "0.0.0.0/0"
LINK_LOCAL = "169.254.0.0/16"
DNS_NAMESPACE, DNS_PORT, HTTPS_PORT = "kube-system", 53, 443
IDENTITY_AGENTS = {"eks": ("169.254.170.23/32", 80)}
"""Address and port of the agent that gives pods their own credentials (EKS Pod Identity, IPv4)."""


@dataclass(frozen=True)
class TenantArgs:
    """The model, its secrets, and what has to exist first.

    `callers` is the namespace of a proxy that all requests go through, None when clients call the
    engine themselves.
    """

    model: ModelPlan
    pool: PoolPlan
    platform: str
    environment: str
    object_store: ObjectStore
    api_key: pulumi.Input[str]
    hugging_face_token: pulumi.Input[str] | None
    monitoring_namespace: str
    callers: str | None
    after: Sequence[pulumi.Resource]


class Tenant(ComponentResource):
    """The namespace with its accounts, quota, secrets and network policies."""

    def __init__(self, name: str, args: TenantArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("coldstart:workload:Tenant", name, opts=opts)
        self._name, self._args = name, args
        # As text, not as an output: a first preview can then say what lies in which namespace.
        self.namespace = args.model.name
        made = core.v1.Namespace(
            name,
            metadata=namespace_metadata(args),
            opts=ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        self._child = ResourceOptions(parent=self, depends_on=[made])
        for account in (SERVING_ACCOUNT, PUBLISHER_ACCOUNT):
            core.v1.ServiceAccount(
                f"{name}-{account}",
                metadata=self._metadata(account),
                automount_service_account_token=False,
                opts=self._child,
            )
        core.v1.ResourceQuota(
            f"{name}-gpus",
            metadata=self._metadata("gpus"),
            spec=core.v1.ResourceQuotaSpecArgs(
                hard={f"requests.{args.pool.resource_name}": str(pods.gpus_allowed(args.model))}
            ),
            opts=self._child,
        )
        self.object_store_config = self._object_store_config().metadata.name
        self.api_key_secret = self._api_key().metadata.name
        self.token_secret = self._token()
        self._network_policies()
        self.register_outputs({"namespace": self.namespace})

    def _metadata(self, name: str) -> meta.v1.ObjectMetaArgs:
        return meta.v1.ObjectMetaArgs(name=name, namespace=self.namespace)

    def _object_store_config(self) -> core.v1.ConfigMap:
        store = self._args.object_store
        return core.v1.ConfigMap(
            f"{self._name}-object-store",
            metadata=self._metadata(names.OBJECT_STORE_CONFIG),
            data=pulumi.Output.all(
                settings=store.rclone, scheme=store.scheme, bucket=store.bucket
            ).apply(lambda known: pods.remote_environment(**known)),
            opts=self._child,
        )

    def _api_key(self) -> core.v1.Secret:
        # No name of its own: a new key gets a new name, and so reaches the pods.
        return core.v1.Secret(
            f"{self._name}-api-key",
            metadata=meta.v1.ObjectMetaArgs(namespace=self.namespace),
            immutable=True,
            string_data={names.API_KEY: self._args.api_key},
            opts=ResourceOptions.merge(self._child, SECRET_DATA),
        )

    def _token(self) -> pulumi.Output[str] | None:
        if self._args.hugging_face_token is None:
            return None
        secret = core.v1.Secret(
            f"{self._name}-hugging-face-token",
            metadata=self._metadata(names.TOKEN_SECRET),
            string_data={names.TOKEN: self._args.hugging_face_token},
            opts=ResourceOptions.merge(self._child, SECRET_DATA),
        )
        return secret.metadata.name

    def _network_policies(self) -> None:
        self._policy("deny-all", {}, [], [])
        outside = [dns(), https(), *identity_agent(self._args.platform)]
        serving = outside if pods.reads_object_store(self._args.model) else [dns()]
        self._policy(
            names.SERVER,
            names.labels(self._args.model.name, names.SERVER),
            self._ingress(),
            serving,
        )
        for job in (names.WEIGHTS, names.COMPILE_CACHE):
            self._policy(job, names.labels(self._args.model.name, job), [], outside)

    def _ingress(self) -> list[networking.v1.NetworkPolicyIngressRuleArgs]:
        """The API key guards /v1 only, so callers and scrapers are named as well."""
        caller = (
            {names.CLIENT_LABEL: "true"}
            if self._args.callers is None
            else {names.NAMESPACE_NAME_LABEL: self._args.callers}
        )
        scraper = {names.NAMESPACE_NAME_LABEL: self._args.monitoring_namespace}
        return [
            networking.v1.NetworkPolicyIngressRuleArgs(
                from_=[
                    networking.v1.NetworkPolicyPeerArgs(
                        namespace_selector=meta.v1.LabelSelectorArgs(match_labels=peer)
                    )
                    for peer in (caller, scraper)
                ],
                ports=[networking.v1.NetworkPolicyPortArgs(port=pods.PORT, protocol="TCP")],
            )
        ]

    def _policy(
        self,
        policy: str,
        selected: dict[str, str],
        ingress: list[networking.v1.NetworkPolicyIngressRuleArgs],
        egress: list[networking.v1.NetworkPolicyEgressRuleArgs],
    ) -> None:
        networking.v1.NetworkPolicy(
            f"{self._name}-{policy}",
            metadata=self._metadata(policy),
            spec=networking.v1.NetworkPolicySpecArgs(
                pod_selector=meta.v1.LabelSelectorArgs(match_labels=selected or None),
                policy_types=["Ingress", "Egress"],
                ingress=ingress,
                egress=egress,
            ),
            opts=self._child,
        )


SECRET_DATA = ResourceOptions(additional_secret_outputs=["data", "stringData"])


def namespace_metadata(args: TenantArgs) -> meta.v1.ObjectMetaArgs:
    """Restricted, unless a dev stack's privileged DaemonSet is what prepares the pods' disk."""
    by_host_path = (
        args.pool.scratch_host_path is not None and args.model.weights.value is WeightsPath.LOCAL
    )
    return meta.v1.ObjectMetaArgs(
        name=args.model.name,
        labels={
            **pod_security_labels(PRIVILEGED if by_host_path else RESTRICTED),
            names.ENVIRONMENT_LABEL: args.environment,
        },
        annotations={
            names.PRIVILEGED_ANNOTATION: "localStorage: daemonset hands out its disks as hostPath, "
            "which no other Pod Security level allows"
        }
        if by_host_path
        else None,
    )


def dns() -> networking.v1.NetworkPolicyEgressRuleArgs:
    """The cluster's DNS."""
    return networking.v1.NetworkPolicyEgressRuleArgs(
        to=[
            networking.v1.NetworkPolicyPeerArgs(
                namespace_selector=meta.v1.LabelSelectorArgs(
                    match_labels={names.NAMESPACE_NAME_LABEL: DNS_NAMESPACE}
                )
            )
        ],
        ports=[
            networking.v1.NetworkPolicyPortArgs(port=DNS_PORT, protocol=protocol)
            for protocol in ("UDP", "TCP")
        ],
    )


def https() -> networking.v1.NetworkPolicyEgressRuleArgs:
    """The object store, and for Jobs the Hub. Both have public addresses that change, also behind a
    gateway endpoint, and a NetworkPolicy knows no names; the metadata service is left out."""
    return networking.v1.NetworkPolicyEgressRuleArgs(
        to=[
            networking.v1.NetworkPolicyPeerArgs(
                ip_block=networking.v1.IPBlockArgs(cidr=ANYWHERE, except_=[LINK_LOCAL])
            )
        ],
        ports=[networking.v1.NetworkPolicyPortArgs(port=HTTPS_PORT, protocol="TCP")],
    )


def identity_agent(platform: str) -> list[networking.v1.NetworkPolicyEgressRuleArgs]:
    """The node's agent that hands out the pod's credentials, where the platform has one."""
    return [
        networking.v1.NetworkPolicyEgressRuleArgs(
            to=[
                networking.v1.NetworkPolicyPeerArgs(
                    ip_block=networking.v1.IPBlockArgs(cidr=address)
                )
            ],
            ports=[networking.v1.NetworkPolicyPortArgs(port=port, protocol="TCP")],
        )
        for known, (address, port) in IDENTITY_AGENTS.items()
        if known == platform
    ]
