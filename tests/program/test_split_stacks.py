"""A workload stack on the cluster of another stack, the whole program under mocks."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from components.contract import ContractError
from tests.program.harness import run_program

INFRA, WORKLOAD = "eks-prod-infra", "eks-prod-workload"


@cache
def exports() -> dict[str, Any]:
    return run_program(INFRA).exports()


def served(change: Any = lambda contract: None) -> Any:
    outputs = deepcopy(exports())
    change(outputs["contract"])
    return run_program(WORKLOAD, stack_outputs={INFRA: outputs})


def test_the_workload_serves_on_the_cluster_its_reference_names() -> None:
    recorded = served()
    assert recorded.stack_references == [f"organization/coldstart/{INFRA}"]
    assert {d.at("metadata.name") for d in recorded.of_type("Deployment")} > {
        "qwen3-8b",
        "qwen3-32b",
    }


def test_a_cluster_that_is_behind_its_stack_file_is_refused_with_what_differs() -> None:
    def behind(contract: dict[str, Any]) -> None:
        contract["pools"]["l40s"]["imageDelivery"] = "registry"

    with pytest.raises(
        ContractError, match="node pool l40s of stack eks-prod-infra differs"
    ) as said:
        served(behind)
    assert "imageDelivery ('registry', the file says 'parallel')" in str(said.value)
    assert "run pulumi up on eks-prod-infra first" in str(said.value)


def test_a_cluster_without_the_pool_is_refused_with_the_pools_it_has() -> None:
    with pytest.raises(ContractError, match="has no node pool l40s; it has a100"):
        served(lambda contract: contract["pools"].pop("l40s"))


def test_a_contract_of_another_schema_is_refused() -> None:
    with pytest.raises(ContractError, match="exports contract schema 2, this program reads 1"):
        served(lambda contract: contract.update(schemaVersion=2))
