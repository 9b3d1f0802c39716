"""Subnets: one block over the zones, none overlapping, each large enough for prefix delegation."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.planning.network import SMALLEST_PRIVATE_PREFIX, allocate
from coldstart.spec.fields import PRIVATE_BLOCKS

zone_counts = st.integers(2, 4)


@st.composite
def vpc_blocks(draw: st.DrawFn) -> IPv4Network:
    prefix = draw(st.integers(16, 20))
    private = draw(st.sampled_from(PRIVATE_BLOCKS))
    number = draw(st.integers(0, 2 ** (prefix - private.prefixlen) - 1))
    start = int(private.network_address) + number * 2 ** (32 - prefix)
    return IPv4Network((start, prefix))


@settings(max_examples=80, deadline=None)
@given(vpc_blocks(), zone_counts)
def test_every_legal_block_gives_disjoint_subnets_inside_it(block: IPv4Network, zones: int) -> None:
    subnets = allocate(block, zones)
    networks = [IPv4Network(subnet.cidr) for subnet in subnets]
    assert all(network.subnet_of(block) for network in networks)
    assert not [(a, b) for a, b in combinations(networks, 2) if a.overlaps(b)]


@settings(max_examples=40, deadline=None)
@given(vpc_blocks(), zone_counts)
def test_each_zone_gets_one_private_and_one_public_subnet(block: IPv4Network, zones: int) -> None:
    places = [(subnet.zone_index, subnet.public) for subnet in allocate(block, zones)]
    assert sorted(places) == sorted((z, public) for z in range(zones) for public in (False, True))


@pytest.mark.parametrize("prefix", range(16, 21))
@pytest.mark.parametrize("zones", [2, 3, 4])
def test_private_subnets_hold_whole_prefixes_and_most_of_the_block(prefix: int, zones: int) -> None:
    block = IPv4Network(f"10.0.0.0/{prefix}")
    private = [IPv4Network(s.cidr) for s in allocate(block, zones) if not s.public]
    public = [IPv4Network(s.cidr) for s in allocate(block, zones) if s.public]
    assert all(network.prefixlen <= SMALLEST_PRIVATE_PREFIX for network in private)
    assert len({network.prefixlen for network in private}) == 1
    assert sum(n.num_addresses for n in private) >= block.num_addresses / 2
    # AWS keeps five addresses of each subnet; NAT gateways and load balancers need eight free.
    assert all(network.num_addresses >= 5 + 8 for network in public)


@pytest.mark.parametrize(("block", "zones"), [("10.0.0.0/21", 4), ("10.0.0.0/24", 2)])
def test_a_block_too_small_names_the_one_that_works(block: str, zones: int) -> None:
    with pytest.raises(ValueError, match=r"so use a /\d\d block or larger") as caught:
        allocate(IPv4Network(block), zones)
    works = str(caught.value).partition("so use a ")[2].split()[0]
    assert allocate(IPv4Network(f"10.0.0.0{works}"), zones)


def test_the_same_block_is_always_cut_the_same_way() -> None:
    assert [s.cidr for s in allocate(IPv4Network("10.40.0.0/16"), 3)] == [
        "10.40.0.0/18",
        "10.40.64.0/18",
        "10.40.128.0/18",
        "10.40.192.0/21",
        "10.40.200.0/21",
        "10.40.208.0/21",
    ]
