"""A real Kubernetes control plane on the loopback address, and a client for it.

Nothing here imports Pulumi.
"""

from coldstart.controlplane.client import Applied, Client
from coldstart.controlplane.errors import ControlPlaneError, DeadlineError, Refused, Unreachable
from coldstart.controlplane.http import Answer
from coldstart.controlplane.plane import ControlPlane

__all__ = [
    "Answer",
    "Applied",
    "Client",
    "ControlPlane",
    "ControlPlaneError",
    "DeadlineError",
    "Refused",
    "Unreachable",
]
