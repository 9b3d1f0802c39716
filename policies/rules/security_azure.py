"""Encryption on Azure that is left to the program: in transit, and on the node's own disks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from policies.reading.values import (
    Resource,
    at,
    first_mapping,
    is_true,
    judge_each,
    known,
    list_at,
    mapping_at,
    text_at,
)
from policies.rule import ResourceRule, Settings

_ACCOUNT = re.compile(r"azure-native:storage(?:/v\w+)?:StorageAccount")
_CLASSIC_ACCOUNT = "azure:storage/account:Account"
# Names of one switch: REST, azure-native, azure 6 and azure 5.
_HTTPS_ONLY = (
    "supportsHttpsTrafficOnly",
    "enableHttpsTrafficOnly",
    "httpsTrafficOnlyEnabled",
)
_NFS_V3 = ("enableNfsV3", "isNfsV3Enabled", "nfsv3Enabled")
_OLD_TLS = frozenset({"TLS1_0", "TLS1_1"})
_FILES = "file.csi.azure.com"
_VOLUME_KINDS = frozenset({"StorageClass", "PersistentVolume"})
_POOL = re.compile(r"azure-native:containerservice(?:/v\w+)?:AgentPool")
_CLUSTER = re.compile(r"azure-native:containerservice(?:/v\w+)?:ManagedCluster")
_CLASSIC_POOL = "azure:containerservice/kubernetesClusterNodePool:KubernetesClusterNodePool"
_CLASSIC_CLUSTER = "azure:containerservice/kubernetesCluster:KubernetesCluster"
_NATIVE_FLAG = "enableEncryptionAtHost"
_CLASSIC_FLAGS = ("hostEncryptionEnabled", "enableHostEncryption")


def _kind(resource_type: str) -> str:
    return resource_type.rsplit(":", 1)[-1].removesuffix("Patch")


def _is_account(resource_type: str) -> bool:
    return resource_type == _CLASSIC_ACCOUNT or _ACCOUNT.fullmatch(resource_type) is not None


def _reads_transit(resource_type: str) -> bool:
    return _is_account(resource_type) or (
        resource_type.startswith("kubernetes:") and _kind(resource_type) in _VOLUME_KINDS
    )


def _judge_transit(resource: Resource, _: Settings) -> Iterator[str]:
    judges = (_https, _tls_version) if _is_account(resource.type) else (_nfs_in_the_clear,)
    yield from judge_each(judges, lambda judge: judge(resource.properties))


def _https(properties: Mapping[str, Any]) -> Iterator[str]:
    # NFS 3.0 on Blob storage has no encryption at all and asks for the switch to be off.
    if any(is_true(at(properties, name)) for name in _NFS_V3):
        return
    for name in _HTTPS_ONLY:
        if str(at(properties, name, default=True)).lower() == "false":
            yield (
                f"{name} is false: the account answers over plain HTTP and lets file shares be "
                "mounted without encryption, so weights and access keys cross the network in "
                "the clear. Remove it; Azure requires secure transfer by default."
            )


def _tls_version(properties: Mapping[str, Any]) -> Iterator[str]:
    for name in ("minimumTlsVersion", "minTlsVersion"):
        version = text_at(properties, name)
        if version in _OLD_TLS:
            yield (
                f"{name} is {version}, a version of TLS that is broken and that Azure Storage no "
                "longer offers. Set TLS1_2 or newer, and update clients that cannot speak it."
            )


def _nfs_in_the_clear(properties: Mapping[str, Any]) -> Iterator[str]:
    if text_at(properties, "provisioner") == _FILES:
        field, attributes = "parameters", mapping_at(properties, "parameters")
    elif text_at(properties, "spec", "csi", "driver") == _FILES:
        field = "spec.csi.volumeAttributes"
        attributes = mapping_at(properties, "spec", "csi", "volumeAttributes")
    else:
        return
    if text_at(attributes, "protocol").lower() == "nfs" and not is_true(
        at(attributes, "encryptInTransit")
    ):
        yield (
            f'{field}.encryptInTransit is not "true" for an NFS share of Azure Files: what is '
            "read from it and written to it crosses the network in the clear. Set "
            f'{field}.encryptInTransit to "true"; the driver then mounts over TLS.'
        )


def _reads_pools(resource_type: str) -> bool:
    return (
        resource_type in (_CLASSIC_POOL, _CLASSIC_CLUSTER)
        or _POOL.fullmatch(resource_type) is not None
        or _CLUSTER.fullmatch(resource_type) is not None
        or (
            resource_type.startswith("kubernetes:karpenter.azure.com/")
            and _kind(resource_type) == "AKSNodeClass"
        )
    )


def _judge_pools(resource: Resource, _: Settings) -> Iterator[str]:
    yield from judge_each(_pools(resource), lambda pool: _judge_pool(*pool))


def _judge_pool(field: str, pool: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    if not any(is_true(at(pool, name)) for name in names):
        yield (
            f"{field}{names[0]} is not true: the nodes' temporary disks and the caches of their "
            "other disks, where images, weights and compile caches lie, are not encrypted at "
            f"rest. Set {names[0]}=true, on a subscription with the EncryptionAtHost feature and "
            "a VM size that supports it."
        )


def _pools(resource: Resource) -> Iterator[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
    """Each pool of nodes: path of its fields, its settings, and what the switch is called."""
    properties = resource.properties
    if resource.is_kubernetes:
        yield "spec.security.", mapping_at(properties, "spec", "security"), ("encryptionAtHost",)
    elif resource.type == _CLASSIC_POOL:
        yield "", properties, _CLASSIC_FLAGS
    elif resource.type == _CLASSIC_CLUSTER:
        pool = first_mapping(at(properties, "defaultNodePool", default={}))
        if pool:
            yield "defaultNodePool.", pool, _CLASSIC_FLAGS
    elif _POOL.fullmatch(resource.type):
        yield "", properties, (_NATIVE_FLAG,)
    else:
        for index, pool in enumerate(map(known, list_at(properties, "agentPoolProfiles"))):
            if isinstance(pool, Mapping):
                yield f"agentPoolProfiles[{index}].", pool, (_NATIVE_FLAG,)


REQUIRE_TRANSIT_ENCRYPTION = ResourceRule(
    code="CS707",
    name="azure-storage-require-transit-encryption",
    concern="security",
    title="Azure storage is reached over encrypted connections only",
    description="Storage accounts must require secure transfer and a current TLS version, and NFS "
    "shares of Azure Files must be mounted with encryption in transit.",
    severity="high",
    tags=("azure", "aks", "security", "encryption"),
    remediation="Leave secure transfer on and minimumTlsVersion at TLS1_2, and set "
    'encryptInTransit to "true" on NFS storage classes and volumes of file.csi.azure.com.',
    reason="Everything at rest is encrypted on Azure, but plain HTTP and NFS hand weights, keys "
    "and caches to whoever can listen. NFS 3.0 of Blob storage is left alone: it has no "
    "encryption to switch on.",
    links=(
        "https://learn.microsoft.com/en-us/azure/storage/common/storage-require-secure-transfer",
        "https://learn.microsoft.com/en-us/azure/aks/azure-files-csi",
    ),
    development="advisory",
    reads=_reads_transit,
    judge=_judge_transit,
)

REQUIRE_HOST_ENCRYPTION = ResourceRule(
    code="CS708",
    name="aks-agentpool-require-host-encryption",
    concern="security",
    title="The own disks of AKS nodes are encrypted",
    description="AKS node pools must encrypt temporary disks and disk caches on the host.",
    severity="medium",
    tags=("azure", "aks", "security", "encryption"),
    remediation="Set enableEncryptionAtHost to true on the node pool (spec.security."
    "encryptionAtHost on an AKSNodeClass), after registering the EncryptionAtHost feature.",
    reason="Azure encrypts managed disks by itself, but not a VM's temporary disk and disk caches; "
    "model servers keep their scratch data exactly there.",
    links=("https://learn.microsoft.com/en-us/azure/aks/enable-host-encryption",),
    level="advisory",
    development="advisory",
    reads=_reads_pools,
    judge=_judge_pools,
)
