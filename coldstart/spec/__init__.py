"""The stack file: what a user may say, and how it is read."""

from coldstart.spec.load import PROJECT, load_stack, parse_config, read_config, stack_file
from coldstart.spec.model import (
    AUTO,
    CapacityType,
    CompileCache,
    Environment,
    ImageDelivery,
    Layer,
    LocalStorage,
    ModelSpec,
    NatGateways,
    NodePoolSpec,
    OperatingSystem,
    Platform,
    StackSpec,
    WeightsPath,
)
from coldstart.spec.problems import Problem, SpecError

__all__ = [
    "AUTO",
    "PROJECT",
    "CapacityType",
    "CompileCache",
    "Environment",
    "ImageDelivery",
    "Layer",
    "LocalStorage",
    "ModelSpec",
    "NatGateways",
    "NodePoolSpec",
    "OperatingSystem",
    "Platform",
    "Problem",
    "SpecError",
    "StackSpec",
    "WeightsPath",
    "load_stack",
    "parse_config",
    "read_config",
    "stack_file",
]
