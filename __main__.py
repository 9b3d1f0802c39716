"""The whole program: read the stack file, plan, make or find the cluster, serve the models."""

from __future__ import annotations

from pathlib import Path

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from coldstart.planning import PlanFailedError, plan_stack
from coldstart.report import stack_outputs
from coldstart.spec import PROJECT, Layer, SpecError, parse_config, stack_file
from coldstart.spec.load import SECRET_KEYS
from components.contract import ClusterContract

ROOT = Path(__file__).parent


def main() -> None:
    """Deploy the layers this stack names; a stack file that cannot work ends here."""
    stack, config = pulumi.get_stack(), pulumi.Config(PROJECT)
    values = {
        key: value
        for key, value in {**get_config_env(), **CONFIG.get()}.items()
        if key.partition(":")[2] not in SECRET_KEYS
    }
    file = stack_file(ROOT, stack).relative_to(ROOT).as_posix()
    try:
        spec = parse_config(values, stack=stack, file=file, root=ROOT)
        plan = plan_stack(spec)
    except (SpecError, PlanFailedError) as error:
        raise pulumi.RunError(str(error)) from None

    if Layer.INFRA in spec.layers:
        from components import aws

        contract = aws.provision(plan)
        pulumi.export("contract", contract.to_outputs())
    else:
        contract = ClusterContract.from_stack(spec.cluster_name, plan)

    if Layer.WORKLOAD in spec.layers:
        from components import workload

        secrets = workload.Secrets(
            api_key=config.get_secret("apiKey"),
            hugging_face_token=config.get_secret("huggingFaceToken"),
        )
        for name, value in workload.deploy(plan, contract, secrets).items():
            pulumi.export(name, value)

    for name, value in stack_outputs(plan).items():
        pulumi.export(name, value)


main()
