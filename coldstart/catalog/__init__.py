"""What the world offers, as data with a source per fact: see `load()`."""

from coldstart.catalog.entry import BITS, Precision
from coldstart.catalog.loader import Catalog, CatalogError, UnknownKeyError, load, load_folder
from coldstart.catalog.models import (
    Accelerator,
    Chart,
    ContainerImage,
    EksRelease,
    EngineVersion,
    InstanceType,
    Limit,
    MigProfile,
    Model,
    PhaseFigure,
)
from coldstart.catalog.prices import FixedPrice, GpuSecondPrice, Price, RentalPrice, TokenPrice

__all__ = [
    "BITS",
    "Accelerator",
    "Catalog",
    "CatalogError",
    "Chart",
    "ContainerImage",
    "EksRelease",
    "EngineVersion",
    "FixedPrice",
    "GpuSecondPrice",
    "InstanceType",
    "Limit",
    "MigProfile",
    "Model",
    "PhaseFigure",
    "Precision",
    "Price",
    "RentalPrice",
    "TokenPrice",
    "UnknownKeyError",
    "load",
    "load_folder",
]
