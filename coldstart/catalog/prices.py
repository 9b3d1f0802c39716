"""Prices as the catalog holds them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from coldstart.catalog.entry import Entry, Positive


class Price(Entry):
    """Hourly price of one instance type in one region; `None` where no figure was found."""

    region: str
    instance: str
    on_demand_usd_per_hour: Positive | None
    spot_usd_per_hour: Positive | None
    on_demand_date: dt.date
    spot_date: dt.date | None


class FixedPrice(Entry):
    """A list price that does not depend on the instance type, per region, in `unit`."""

    key: str
    unit: str
    usd_by_region: dict[str, Positive] = Field(min_length=1)
    date: dt.date | None

    def usd(self, region: str) -> float:
        """List price in `region`; `LookupError` naming the known regions when it is unknown."""
        try:
            return self.usd_by_region[region]
        except KeyError:
            known = ", ".join(sorted(self.usd_by_region))
            raise LookupError(
                f"no {self.key} price for region {region!r}; known: {known}"
            ) from None


class TokenPrice(Entry):
    """What a provider of serverless inference asks for a million tokens of one model.

    `served_as` is the provider's own name of it, which may be a quantised variant.
    """

    provider: str
    model: str
    input_usd_per_million: Positive
    output_usd_per_million: Positive
    served_as: str
    date: dt.date


class GpuSecondPrice(Entry):
    """What a serverless platform asks for a second of one GPU, and which seconds it bills.

    A worker stays `idle_seconds` after its last request unless told otherwise, billed; with
    `bills_start` the seconds before its first answer are billed too; its life is rounded up to a
    multiple of `rounding_seconds`. `date` is None where the page carries none.
    """

    provider: str
    accelerator: str
    usd_per_second: Positive
    idle_seconds: Annotated[float, Field(ge=0)]
    bills_start: bool
    rounding_seconds: Positive
    date: dt.date | None


class RentalPrice(Entry):
    """What one GPU with its share of a machine costs an hour, rented outside AWS."""

    key: str
    provider: str
    gpu: str
    usd_per_hour: Positive
    date: dt.date
