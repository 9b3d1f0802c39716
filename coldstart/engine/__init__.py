"""Find or build the Pulumi CLI and run the real engine against stand-in providers.

Everything here starts processes; nothing imports Pulumi.
"""

from coldstart.engine.cluster import ClusterAccess, ClusterAccessError
from coldstart.engine.process import DeadlineError
from coldstart.engine.result import Diagnostic, PolicyResult, Result, Step, Violation
from coldstart.engine.run import Rehearsal
from coldstart.engine.toolchain import Toolchain, ToolchainError, ensure
from coldstart.engine.workspace import RehearsalError

__all__ = [
    "ClusterAccess",
    "ClusterAccessError",
    "DeadlineError",
    "Diagnostic",
    "PolicyResult",
    "Rehearsal",
    "RehearsalError",
    "Result",
    "Step",
    "Toolchain",
    "ToolchainError",
    "Violation",
    "ensure",
]
