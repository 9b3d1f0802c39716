"""The registry: every rule of the pack, in the order of the documentation."""

from __future__ import annotations

from policies.rule import Rule
from policies.rules import (
    access,
    compile_cache,
    containers,
    encryption,
    images,
    node_images,
    privileges,
    probes,
    scaling,
)

RULES: tuple[Rule, ...] = (
    privileges.FORBID_PRIVILEGED_DISK_SETUP,
    node_images.FORBID_SNAPSHOT_WITH_RAID0,
    node_images.REQUIRE_SINGLE_MIRROR_PATH,
    node_images.FORBID_PEER_MIRROR_WITH_SOCI,
    images.REQUIRE_PINNED_GPU_IMAGE,
    probes.REQUIRE_STARTUP_BUDGET,
    containers.LIMIT_SHARED_MEMORY,
    scaling.FORBID_SINGLE_NODE_VOLUME,
    access.FORBID_OPEN_ENDPOINT,
    encryption.REQUIRE_ENCRYPTED_STORAGE,
    scaling.REQUIRE_POOL_LIMITS,
    compile_cache.FORBID_MIXED_GPUS,
)
