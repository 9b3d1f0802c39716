"""What is built from `tools/`: bundles of binaries that are needed together.

Each released product has a Go module of its own, so that it is built with the dependency versions
of its own release and not with those of another product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CLI_VERSION = "3.259.0"
HOST_VERSION = "3.78.1"
ETCD_VERSION = "3.6.16"
KUBERNETES_VERSION = "1.36.3"

PINNED_HOST_MARK = "pinned-language-host"
"""A file beside the built host, so that the cache can also be named by COLDSTART_PULUMI."""

_SDK = "github.com/pulumi/pulumi/sdk/v3"
_PULUMI_TAGS = ("osusergo", "grpcnotrace")


@dataclass(frozen=True, slots=True)
class Binary:
    """One program."""

    name: str
    module: str
    """Folder under tools/."""
    package: str
    """Import path of its main package; `.` for one of our own."""
    version: str = ""
    version_symbol: str = ""
    """The variable that the program prints as its version, where its release sets one."""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleScript:
    """A script that a Go module carries; a module's archive keeps no file modes."""

    module: str
    """Folder under tools/ whose go.mod pins the module."""
    source_module: str
    path: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """Programs that are built into one folder."""

    title: str
    cold_build_seconds: int
    """Measured on 2 cores with nothing cached."""
    binaries: tuple[Binary, ...]
    scripts: tuple[ModuleScript, ...] = ()
    marks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Small files by name, put beside the binaries."""


def _pulumi(name: str, module: str, package: str, version: str) -> Binary:
    symbol = f"{_SDK}/go/common/version.Version"
    return Binary(name, module, package, version, symbol, _PULUMI_TAGS)


def _kubernetes(name: str) -> Binary:
    symbol = "k8s.io/component-base/version.gitVersion"
    return Binary(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES_VERSION, symbol)


BUNDLES: Mapping[str, Bundle] = {
    "pulumi": Bundle(
        title="the Pulumi CLI and its Python language host",
        cold_build_seconds=240,
        binaries=(
            _pulumi("pulumi", "pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", CLI_VERSION),
            # The newest source of the host that can be had is older than the CLI.
            _pulumi(
                "pulumi-language-python",
                "language-host",
                f"{_SDK}/python/cmd/pulumi-language-python",
                HOST_VERSION,
            ),
        ),
        scripts=(ModuleScript("pulumi", _SDK, "python/cmd/pulumi-language-python-exec"),),
        marks={PINNED_HOST_MARK: f"{HOST_VERSION}\n"},
    ),
    "crdcheck": Bundle(
        title="the checker of custom resources",
        cold_build_seconds=60,
        binaries=(Binary("crdcheck", "crdcheck", "."),),
    ),
    "control-plane": Bundle(
        title="etcd and the Kubernetes control plane",
        cold_build_seconds=300,
        binaries=(
            Binary("etcd", "etcd", ".", ETCD_VERSION),
            _kubernetes("kube-apiserver"),
            _kubernetes("kube-controller-manager"),
            _kubernetes("kube-scheduler"),
        ),
    ),
}
