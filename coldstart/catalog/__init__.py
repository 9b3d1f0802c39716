"""What the world offers, as data with a source per fact: see `load()`."""

from coldstart.catalog.loader import Catalog, CatalogError, UnknownKeyError, load, load_folder
from coldstart.catalog.models import (
    Accelerator,
    Chart,
    ContainerImage,
    EksRelease,
    EngineVersion,
    FixedPrice,
    InstanceType,
    Limit,
    MigProfile,
    Model,
    PhaseFigure,
    Precision,
    Price,
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
    "InstanceType",
    "Limit",
    "MigProfile",
    "Model",
    "PhaseFigure",
    "Precision",
    "Price",
    "UnknownKeyError",
    "load",
    "load_folder",
]
