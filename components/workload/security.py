"""Security settings under which every pod of the workload runs (Pod Security "restricted")."""

from __future__ import annotations

from pulumi_kubernetes import core

ENGINE_UID, ENGINE_GID = 2000, 0
"""The engine image's own non-root user; its home and caches are writable for group 0."""
PRIVILEGED, RESTRICTED = "privileged", "restricted"


def pod_security() -> core.v1.PodSecurityContextArgs:
    """Not root, and the default seccomp profile."""
    return core.v1.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=ENGINE_UID,
        run_as_group=ENGINE_GID,
        fs_group=ENGINE_GID,
        # A recursive chown of a large volume would stand in the way of every start.
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=core.v1.SeccompProfileArgs(type="RuntimeDefault"),
    )


def container_security(*, writable_root: bool = False) -> core.v1.SecurityContextArgs:
    """No privilege to gain and no capability."""
    return core.v1.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=not writable_root,
        capabilities=core.v1.CapabilitiesArgs(drop=["ALL"]),
    )


def pod_security_labels(level: str) -> dict[str, str]:
    """The namespace labels that make the API server enforce `level`."""
    return {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "audit", "warn")}
