"""Fields of the stack file that several settings share, each with words for what it is not."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field

from coldstart.units import DurationSeconds

LARGEST_IMAGE_BYTES = 10**12
PRIVATE_BLOCKS = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
"""RFC 1918. Loopback, link-local and test ranges are "private" to Python and useless to a VPC."""
RESERVED_NAMESPACES = frozenset(
    {
        "dcgm-exporter",
        "default",
        "karpenter",
        "keda",
        "local-disks",
        "monitoring",
        "nvidia-device-plugin",
        "platform",
        "spegel",
        "warm-capacity",
    }
)


def written(pattern: str, words: str) -> AfterValidator:
    """Text that matches `pattern` as a whole; `words` say what it is not, and what to write."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)


def _not_reserved(name: str) -> str:
    if name == "vllm":
        raise ValueError(
            "is reserved: a Service named vllm makes Kubernetes inject VLLM_PORT=tcp://…, "
            "which stops the engine"
        )
    if name in RESERVED_NAMESPACES or name.startswith("kube-"):
        raise ValueError("is reserved: the cluster has a namespace of that name")
    return name


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _no_yes(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


ResourceName = Annotated[
    str,
    written(
        r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?",
        "is not a name; use up to 40 of a-z, 0-9 and -, a letter first",
    ),
    AfterValidator(_not_reserved),
]


def _node_life(seconds: float) -> float:
    if not 3600 <= seconds <= 365 * 86_400:
        raise ValueError("must be between 1h and 365d")
    return seconds


def _vpc_block(block: IPv4Network) -> IPv4Network:
    if not 16 <= block.prefixlen <= 20:
        raise ValueError(
            f"has a /{block.prefixlen} prefix; use /16 to /20: a VPC takes no block larger, and "
            "below /20 prefix delegation runs out of addresses"
        )
    if not any(block.subnet_of(private) for private in PRIVATE_BLOCKS):
        raise ValueError("is not private address space; use 10/8, 172.16/12 or 192.168/16")
    return block


def _client_block(text: str) -> str:
    try:
        block = IPv4Network(text)
    except ValueError:
        raise ValueError(
            "is not an IPv4 block; write for example 203.0.113.0/24, host bits zero"
        ) from None
    if block.prefixlen < 8:
        raise ValueError(
            "opens the API endpoint to (nearly) everyone; name the networks your operators "
            "come from"
        )
    return str(block)


def _clock_minutes(value: object) -> int:
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('is not a time of day; write it in quotes, for example "08:30"')
    return int(match[1]) * 60 + int(match[2])


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("is not a time zone; write for example Europe/Berlin or UTC")
    return name


VpcBlock = Annotated[IPv4Network, AfterValidator(_vpc_block)]
ClientBlock = Annotated[str, AfterValidator(_client_block)]
Count = Annotated[int, BeforeValidator(_no_truth_value)]
"""A whole number; YAML's `yes` and `true` are not 1."""
UsdPerHour = Annotated[float, BeforeValidator(_no_yes), Field(gt=0, le=10_000, allow_inf_nan=False)]
"""US dollars for an hour of one instance; the dearest one on any list is near 200."""
RequestsPerSecond = Annotated[
    float, BeforeValidator(_no_yes), Field(gt=0, le=1e6, allow_inf_nan=False)
]
TimesPerDay = Annotated[float, BeforeValidator(_no_yes), Field(gt=0, le=1440, allow_inf_nan=False)]
"""At most once a minute: what comes more often is no peak."""
UsdPerSecond = Annotated[float, BeforeValidator(_no_yes), Field(gt=0, le=1000, allow_inf_nan=False)]
"""US dollars for a second; at the most a missed hour costs 3.6 million."""
Percent = Annotated[float, BeforeValidator(_no_yes), Field(gt=0, le=100, allow_inf_nan=False)]
ClockMinutes = Annotated[int, BeforeValidator(_clock_minutes)]
"""Minutes since midnight, written "08:30"."""
TimeZone = Annotated[str, AfterValidator(_time_zone)]
NodeLifeSeconds = Annotated[DurationSeconds, AfterValidator(_node_life)]
