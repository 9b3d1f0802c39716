"""Subnets from one block, and the choice of NAT gateways."""

from __future__ import annotations

from ipaddress import IPv4Network

from coldstart.catalog import Catalog
from coldstart.planning.decision import Candidate, Decision, choose
from coldstart.planning.model import NetworkPlan, SubnetPlan
from coldstart.spec.model import AUTO, Environment, NatGateways, StackSpec

SMALLEST_PRIVATE_PREFIX = 23
"""Prefix delegation takes /28 blocks of 16 addresses per node interface; a subnet smaller than
/23 runs out of whole blocks after a few nodes (EKS user guide, CNI prefix delegation)."""
PUBLIC_PREFIX_STEP = 3
"""Public subnets hold NAT gateways and load balancers only: an eighth of what is left over."""


def allocate(block: IPv4Network, zones: int) -> tuple[SubnetPlan, ...]:
    """One large private and one small public subnet per zone, none overlapping.

    The block is cut into the smallest power of two above `zones`; each zone gets one part, the
    public subnets share the last. Raises ValueError when a private subnet would be smaller than
    `SMALLEST_PRIVATE_PREFIX`.
    """
    parts_prefix = block.prefixlen + zones.bit_length()
    if parts_prefix > SMALLEST_PRIVATE_PREFIX:
        raise ValueError(
            f"{block} over {zones} zones leaves /{parts_prefix} private subnets; "
            f"/{SMALLEST_PRIVATE_PREFIX} is the smallest that works, so use a "
            f"/{SMALLEST_PRIVATE_PREFIX - zones.bit_length()} block or larger"
        )
    parts = list(block.subnets(new_prefix=parts_prefix))
    public = list(parts[-1].subnets(prefixlen_diff=PUBLIC_PREFIX_STEP))
    return tuple(
        SubnetPlan(zone, str(cidr), is_public)
        for is_public, cidrs in ((False, parts), (True, public))
        for zone, cidr in enumerate(cidrs[:zones])
    )


def nat_gateways(spec: StackSpec, catalog: Catalog) -> Decision[NatGateways]:
    """One per zone in prod, one in all in dev, with what each costs an hour."""
    price = catalog.fixed_price("nat_gateway_hour")
    each = price.usd_by_region.get(spec.region)
    prod = spec.environment is Environment.PROD
    several = f"${each * spec.network.zones:.3f} an hour" if each else "a gateway in each"
    one = f"${each:.3f} an hour" if each else "one gateway"
    wish = None if spec.network.nat_gateways == AUTO else NatGateways(spec.network.nat_gateways)
    decision = choose(
        [
            Candidate(
                NatGateways.PER_ZONE,
                0 if prod else 1,
                f"the other zones keep their way out when one is lost, for {several}",
            ),
            Candidate(
                NatGateways.ONE,
                1 if prod else 0,
                f"{one} instead of {several.removesuffix(' an hour')}; its zone takes the way out "
                "with it",
            ),
        ],
        path="network.natGateways",
        wish=wish,
    )
    return Decision(
        decision.value,
        decision.reason,
        tuple(type(r)(r.value, r.reason.partition(" (")[0]) for r in decision.rejected),
    )


def network_plan(spec: StackSpec, catalog: Catalog) -> NetworkPlan:
    """The VPC of this stack."""
    return NetworkPlan(
        str(spec.network.cidr),
        allocate(spec.network.cidr, spec.network.zones),
        nat_gateways(spec, catalog),
    )
