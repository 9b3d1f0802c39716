"""Where replicas and the pods that keep a place for them stand."""

from __future__ import annotations

from typing import Any

from coldstart.render import pods
from tests.program import workload_runs as runs


def test_a_replica_fits_where_a_pause_pod_stood() -> None:
    """A warm node of a size that only the pause pod fits on would be paid for and never used."""
    recorded = runs.run(runs.LOCAL, warm=1)
    reserve = recorded.one("Deployment", "warm-capacity-l40s").at("spec.template.spec")
    replica = runs.server(recorded).at("spec.template.spec")

    def asked(pod: dict[str, Any], key: str) -> int:
        found = [c["resources"]["requests"].get(key, "0") for c in runs.containers(pod)]
        return sum(int(text.removesuffix("Mi").removesuffix("m")) for text in found)

    for key in ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"):
        assert asked(reserve, key) >= asked(replica, key) > 0, key


def test_the_engine_image_comes_to_a_warm_node_without_touching_its_gpus() -> None:
    """The image asks for all of them, and their hook fails on a read-only root file system."""
    reserve = runs.run(runs.LOCAL, warm=1).one("Deployment", "warm-capacity-l40s")
    bringer = reserve.at("spec.template.spec.initContainers.0")
    assert bringer["securityContext"]["readOnlyRootFilesystem"] is True
    assert runs.variables(bringer) == {"NVIDIA_VISIBLE_DEVICES": "void"}


def test_replicas_that_share_a_node_do_not_each_buy_one() -> None:
    """While it chooses nodes, Karpenter takes a soft spread for a must (preferencePolicy)."""
    alone = runs.server(runs.run(runs.LOCAL)).at("spec.template.spec.topologySpreadConstraints")
    assert [c["topologyKey"] for c in alone] == [
        "topology.kubernetes.io/zone", "kubernetes.io/hostname",
    ]  # fmt: skip
    shared = runs.planned(
        runs.stack_spec({"chat": {}}, pool={"instanceTypes": ["g6e.12xlarge"], "maxNodes": 4})
    )
    assert pods.fills_a_node(shared.models["chat"], shared.pools["l40s"]) is False
    pod = runs.server(runs.served(shared)).at("spec.template.spec")
    assert "topologySpreadConstraints" not in pod


def test_a_cluster_of_another_stack_is_not_replaced_with_its_certificate() -> None:
    provider = runs.served_on_reference(runs.plan_for(runs.LOCAL)).one(
        "pulumi:providers:kubernetes", "workload"
    )
    assert provider.at("clusterIdentifier") == "eks-test"
