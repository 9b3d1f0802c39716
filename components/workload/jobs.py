"""What the Jobs of the workload layer share."""

from __future__ import annotations

from pulumi_kubernetes import batch


def disruptions_are_no_failures() -> batch.v1.PodFailurePolicyArgs:
    """Counts no retry for a pod that was preempted, evicted or drained: it did nothing wrong."""
    return batch.v1.PodFailurePolicyArgs(
        rules=[
            batch.v1.PodFailurePolicyRuleArgs(
                action="Ignore",
                on_pod_conditions=[
                    batch.v1.PodFailurePolicyOnPodConditionsPatternArgs(type="DisruptionTarget")
                ],
            )
        ]
    )
