"""Azure Blob Storage that weights are read from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from policies.reading.engines import engines_of
from policies.reading.values import (
    NotYetKnown,
    Resource,
    Unknown,
    at,
    first_mapping,
    gather,
    judge_each,
    mapping_at,
    text_at,
)
from policies.reading.workloads import pods_of
from policies.rule import Finding, Settings, StackRule

_NATIVE = re.compile(r"azure-native:storage(?:/v\d+)?:StorageAccount")
_CLASSIC = "azure:storage/account:Account"
_BLOB_DRIVER = "blob.csi.azure.com"
# The driver's default, docs/driver-parameters.md of kubernetes-sigs/blob-csi-driver.
_DEFAULT_SKU = "Standard_LRS"
_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"


def _judge(resources: Sequence[Resource], _: Settings) -> Iterator[Finding]:
    kubernetes = [item for item in resources if item.is_kubernetes]
    yield from judge_each(
        ((item, kubernetes) for item in resources if _is_account(item.type)), _judge_account
    )
    classes = [item for item in kubernetes if item.kind == "StorageClass"]
    if classes:
        claimed, undecided = gather(kubernetes, _classes_of_gpu_claims(kubernetes))
        yield from judge_each(classes, lambda item: _judge_class(item, dict(claimed)))
        if undecided:
            raise NotYetKnown(*undecided)


def _is_account(resource_type: str) -> bool:
    return resource_type == _CLASSIC or _NATIVE.fullmatch(resource_type) is not None


def _judge_account(subject: tuple[Resource, Sequence[Resource]]) -> Iterator[Finding]:
    account, kubernetes = subject
    tier = _tier(account)
    if not tier or tier.startswith("Premium"):
        return
    name = at(account.properties, "accountName", default=at(account.properties, "name"))
    streaming, undecided = gather(kubernetes, _accounts_streamed_from)
    for used, workload in streaming:
        if isinstance(name, str) and used == name:
            yield Finding(
                account,
                f"storage account {name} is {tier}, and {workload} streams its weights from it "
                f"({_ACCOUNT}): standard blob storage limits each account's throughput and answers "
                "slowly to many parallel reads, which is what the streamer does. Make it a "
                "BlockBlobStorage account with sku Premium_LRS or Premium_ZRS in the cluster's "
                "region.",
            )
            return
    if undecided:
        raise NotYetKnown(*undecided)


def _tier(account: Resource) -> str:
    if account.type == _CLASSIC:
        return text_at(account.properties, "accountTier")
    return text_at(first_mapping(account.properties.get("sku", {})), "name")


def _accounts_streamed_from(workload: Resource) -> Iterator[tuple[str, str]]:
    for pod in pods_of(workload):
        for engine in engines_of(pod):
            if (engine.model or "").startswith("az://"):
                name = engine.variable(_ACCOUNT)
                if name:
                    yield name, f"{workload.kind} {workload.object_name}"


def _classes_of_gpu_claims(
    kubernetes: Sequence[Resource],
) -> Callable[[Resource], Iterator[tuple[str, str]]]:
    claims: Mapping[tuple[str, str], Resource] = {
        (item.namespace, item.object_name): item
        for item in kubernetes
        if item.kind == "PersistentVolumeClaim"
    }

    def find(workload: Resource) -> Iterator[tuple[str, str]]:
        for pod in pods_of(workload):
            for volume in pod.volumes().values() if pod.requests_gpu else ():
                name = text_at(volume, "persistentVolumeClaim", "claimName")
                claim = claims.get((workload.namespace, name))
                if claim is not None:
                    storage_class = text_at(claim.properties, "spec", "storageClassName")
                    yield storage_class, f"{workload.kind} {workload.object_name}"

    return find


def _judge_class(storage_class: Resource, claimed: Mapping[str, str]) -> Iterator[Finding]:
    if at(storage_class.properties, "provisioner") != _BLOB_DRIVER:
        return
    workload = claimed.get(storage_class.object_name)
    parameters = mapping_at(storage_class.properties, "parameters")
    # An account that exists already has its own tier, which nobody sees here.
    if workload is None or any(key.lower() == "storageaccount" for key in parameters):
        return
    stated = next(
        (
            value
            for key, value in parameters.items()
            if key.lower() in ("skuname", "storageaccounttype")
        ),
        _DEFAULT_SKU,
    )
    if isinstance(stated, Unknown):
        raise NotYetKnown(stated.path)
    if not str(stated).startswith("Premium"):
        yield Finding(
            storage_class,
            f"StorageClass {storage_class.object_name} makes blob containers of parameters.skuName="
            f"{stated}, and {workload} mounts one in a GPU pod: weights come with the throughput "
            "and the latency of standard storage. Set skuName to Premium_LRS or Premium_ZRS.",
        )


REQUIRE_PREMIUM_BLOB = StackRule(
    code="CS304",
    name="azure-storage-require-premium-blob",
    concern="weights",
    title="Weights on Azure lie in premium blob storage",
    description="A storage account or StorageClass from which GPU pods read weights must be "
    "premium block blob storage.",
    severity="low",
    tags=("azure", "weights", "cold-start"),
    remediation="Create the account with kind BlockBlobStorage and sku Premium_LRS, or set skuName "
    "of the StorageClass to Premium_LRS.",
    reason="The published start times with streamed weights are of premium block blobs; standard "
    "ones answer slower and are throttled sooner.",
    links=(
        "https://learn.microsoft.com/en-us/azure/storage/blobs/storage-blob-block-blob-premium",
        "https://github.com/Azure/AKS/pull/5845",
        "https://github.com/kubernetes-sigs/blob-csi-driver/blob/master/docs/driver-parameters.md",
    ),
    level="advisory",
    production="advisory",
    development="disabled",
    judge=_judge,
)
