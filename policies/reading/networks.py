"""Address ranges, and whether a list of them is everybody."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from policies.reading.values import NotYetKnown, gather, known

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network | None:
    """An address range, or None for text that is none, such as a service tag."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def covers_everything(blocks: Iterable[str]) -> bool:
    """Whether address ranges together are the whole internet of IPv4 or of IPv6."""
    networks: dict[int, list[Any]] = {4: [], 6: []}
    for item in filter(None, map(network, blocks)):
        networks[item.version].append(item)
    # Collapsing also sees the whole internet written as two halves.
    return any(
        merged.prefixlen == 0
        for same_version in networks.values()
        for merged in ipaddress.collapse_addresses(same_version)
    )


def open_to_the_world(blocks: Sequence[Any]) -> list[str] | None:
    """The ranges, where they let everyone in, or None.

    Raises NotYetKnown where the ranges known so far do not, and others are not known yet.
    """
    stated, undecided = gather(
        blocks, lambda block: [block] if isinstance(known(block), str) else []
    )
    if covers_everything(stated):
        return stated
    if undecided:
        raise NotYetKnown(*undecided)
    return None
