"""What is built from `tools/`: bundles of binaries that are needed together.

What runs in or around a cluster shares one Go module, so that what all of them import (client-go
above all) is compiled once; Pulumi's CLI, its language host and containerd have modules of their
own, because they are built with the dependency versions of their own release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CLI_VERSION = "3.259.0"
HOST_VERSION = "3.78.1"
ETCD_VERSION = "3.6.16"
KUBERNETES_VERSION = "1.36.3"
CONTAINERD_VERSION = "2.2.4"
KARPENTER_VERSION = "1.14.1"
KWOK_VERSION = "0.8.0"
HELM_VERSION = "4.3.1"
KEDA_VERSION = "2.20.2"
KEDA_HTTP_ADD_ON_VERSION = "0.15.0"

PINNED_HOST_MARK = "pinned-language-host"
"""A file beside the built host, so that the cache can also be named by COLDSTART_PULUMI."""

_SDK = "github.com/pulumi/pulumi/sdk/v3"
_CLUSTER = "cluster"
_PULUMI_TAGS = ("osusergo", "grpcnotrace")


@dataclass(frozen=True, slots=True)
class Change:
    """A text in the main package of a program that is replaced before it is built."""

    old: str
    new: str
    times: int
    """How often `old` is there; another number fails the build."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Parts of a published module that are left out of a build, with all that only they import."""

    source_module: str
    files: str
    """Glob in the module; what matches is left out unless its name is in `kept_files`."""
    kept_files: tuple[str, ...]
    registry: str
    """The file of the module that names the parts."""
    entry: str
    """Pattern of one part's entry there; its first group is the name of the part."""
    kept_entries: tuple[str, ...]


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
    change: Change | None = None
    trim: Trim | None = None
    """Of the module that has the package."""


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
    """Measured on 2 cores with nothing cached but what the bundles above it in the table share."""
    binaries: tuple[Binary, ...]
    scripts: tuple[ModuleScript, ...] = ()
    marks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Small files by name, put beside the binaries."""


# KEDA has over sixty kinds of triggers, most with the SDK of a product: half of all it compiles.
_OTHER_TRIGGERS = Trim(
    "github.com/kedacore/keda/v2",
    files="pkg/scalers/*_scaler.go",
    # The one for Azure queues declares a constant that all of them use.
    kept_files=(
        "azure_queue_scaler.go",
        "cron_scaler.go",
        "external_scaler.go",
        "prometheus_scaler.go",
    ),
    registry="pkg/scaling/scalers_builder.go",
    entry=r'\tcase "([\w-]+)":\n\t\treturn scalers\.New.*\n',
    kept_entries=("cron", "external", "external-push", "prometheus"),
)


def _pulumi(name: str, module: str, package: str, version: str) -> Binary:
    symbol = f"{_SDK}/go/common/version.Version"
    return Binary(name, module, package, version, symbol, _PULUMI_TAGS)


def _kubernetes(name: str) -> Binary:
    symbol = "k8s.io/component-base/version.gitVersion"
    return Binary(name, _CLUSTER, f"k8s.io/kubernetes/cmd/{name}", KUBERNETES_VERSION, symbol)


def _http_add_on(name: str, change: Change | None = None) -> Binary:
    return Binary(
        f"keda-http-{name}",
        _CLUSTER,
        f"github.com/kedacore/http-add-on/{name}",
        KEDA_HTTP_ADD_ON_VERSION,
        "github.com/kedacore/http-add-on/pkg/build.version",
        change=change,
    )


def _keda(name: str, change: Change | None = None) -> Binary:
    return Binary(
        f"keda-{name}",
        _CLUSTER,
        f"github.com/kedacore/keda/v2/cmd/{name}",
        KEDA_VERSION,
        "github.com/kedacore/keda/v2/version.Version",
        change=change,
        trim=_OTHER_TRIGGERS,
    )


def _on_loopback(old: str, new: str, times: int) -> Change:
    """These programs let nobody choose their listening address, which is every one otherwise."""
    return Change(old, new, times)


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
        cold_build_seconds=75,
        binaries=(Binary("crdcheck", _CLUSTER, "./crdcheck"),),
    ),
    "control-plane": Bundle(
        title="etcd and the Kubernetes control plane",
        cold_build_seconds=370,
        binaries=(
            Binary("etcd", _CLUSTER, "./etcd", ETCD_VERSION),
            _kubernetes("kube-apiserver"),
            _kubernetes("kube-controller-manager"),
            _kubernetes("kube-scheduler"),
        ),
    ),
    "kwok": Bundle(
        title="kwok, which plays the kubelets of simulated nodes",
        cold_build_seconds=20,
        binaries=(
            Binary(
                "kwok",
                _CLUSTER,
                "sigs.k8s.io/kwok/cmd/kwok",
                KWOK_VERSION,
                "sigs.k8s.io/kwok/pkg/consts.Version",
            ),
        ),
    ),
    "karpenter": Bundle(
        title="Karpenter's core with a simulated cloud",
        cold_build_seconds=40,
        binaries=(
            Binary(
                "karpenter",
                _CLUSTER,
                "./karpenter",
                KARPENTER_VERSION,
                "sigs.k8s.io/karpenter/pkg/operator.Version",
            ),
        ),
    ),
    "keda": Bundle(
        title="KEDA and its HTTP add-on",
        cold_build_seconds=90,
        binaries=(
            _keda("operator"),
            _keda("adapter", _on_loopback('Sprintf(":%v"', 'Sprintf("127.0.0.1:%v"', 1)),
            _http_add_on("operator"),
            _http_add_on("scaler", _on_loopback('"0.0.0.0:%d"', '"127.0.0.1:%d"', 2)),
            _http_add_on("interceptor", _on_loopback('"0.0.0.0:%d"', '"127.0.0.1:%d"', 3)),
        ),
    ),
    "helm": Bundle(
        title="Helm",
        cold_build_seconds=35,
        binaries=(
            Binary(
                "helm",
                _CLUSTER,
                "helm.sh/helm/v4/cmd/helm",
                HELM_VERSION,
                "helm.sh/helm/v4/internal/version.version",
            ),
        ),
    ),
    "node-texts": Bundle(
        title="Karpenter's user data merge and nodeadm",
        cold_build_seconds=90,
        binaries=(
            Binary("node-texts", _CLUSTER, "./node-texts"),
            Binary("nodeconfig-check", _CLUSTER, "./nodeconfig-check"),
            Binary("nodeadm", _CLUSTER, "github.com/awslabs/amazon-eks-ami/nodeadm/cmd/nodeadm"),
        ),
    ),
    "containerd": Bundle(
        title="containerd as the pinned AL2023 image ships it",
        cold_build_seconds=130,
        binaries=(
            Binary(
                "containerd",
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd",
                CONTAINERD_VERSION,
                "github.com/containerd/containerd/v2/version.Version",
                ("no_btrfs", "no_devmapper", "no_zfs"),
            ),
            Binary("cri-images", "containerd", "./cri-images"),
        ),
    ),
}
