"""What the world offers, as data with a source per fact: see `load()`."""

from coldstart.catalog.loader import Catalog, CatalogError, UnknownKeyError, load, load_folder
from coldstart.catalog.models import (
    Accelerator,
    Chart,
    ContainerImage,
    EksRelease,
    EngineVersion,
    FixedPrice,
    GpuSecondPrice,
    InstanceType,
    Limit,
    Model,
    PhaseFigure,
    Precision,
    Price,
    RentalPrice,
    TokenPrice,
)

__all__ = [
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
