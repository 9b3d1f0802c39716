"""Charts and the definitions they bring, laid out for the provider that installs them.

    <folder>/<chart>-<version>            a chart's folder, where it is at hand
    <folder>/<chart>.definitions.json     what the chart would bring, for one that is not

At hand are Karpenter's charts, which its Go module carries, and those that the user has put into
the folder named by COLDSTART_CHARTS (`helm pull --untar` makes them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from coldstart.controlplane import definitions
from coldstart.controlplane.errors import ControlPlaneError
from coldstart.controlplane.modules import KARPENTER_AWS, ModuleUnavailableError, module_folder

CHARTS_VARIABLE = "COLDSTART_CHARTS"
_CARRIED = ("karpenter", "karpenter-crd")


def lay_out(folder: Path, environment: Mapping[str, str]) -> Path:
    """Fill `folder`, which is made when it is missing, and give it back.

    Raises ControlPlaneError when Go or a module is missing, or COLDSTART_CHARTS names no folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = module_folder(KARPENTER_AWS) / "charts"
        # The module has the chart of the release before; it is published under the module's own.
        version = KARPENTER_AWS.version.removeprefix("v")
        for chart in _CARRIED:
            _link(folder / f"{chart}-{version}", source / chart)
        for chart in definitions.CHARTS:
            text = json.dumps(definitions.of_chart(chart))
            (folder / f"{chart}.definitions.json").write_text(text, encoding="utf-8")
    except (ModuleUnavailableError, definitions.DefinitionsError) as error:
        raise ControlPlaneError(str(error)) from None
    named = environment.get(CHARTS_VARIABLE)
    if named:
        for chart in _charts_in(Path(named)):
            told = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
            _link(folder / f"{told['name']}-{told['version']}", chart)
    return folder


def _charts_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ControlPlaneError(f"{CHARTS_VARIABLE}={folder}: there is no such folder")
    return sorted(path.parent.resolve() for path in folder.glob("*/Chart.yaml"))


def _link(place: Path, target: Path) -> None:
    place.unlink(missing_ok=True)
    place.symlink_to(target, target_is_directory=True)
