"""A report as files: the page, and each picture by its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldstart.report.contents import all_pictures
from coldstart.report.drawing import png_file, svg_file
from coldstart.report.files import ReportError, check_file, check_folder, write_whole
from coldstart.report.page import page
from coldstart.report.series import Pictures, slug


def write_report(
    found: Mapping[str, Any],
    more: Pictures | None = None,
    *,
    output: Path | None = None,
    svg: Path | None = None,
    png: Path | None = None,
) -> list[Path]:
    """Write the page to `output` and pictures into the folders `svg` and `png`; what was written.

    Raises ReportError as `check_places`, before anything is drawn, and for a file that cannot be
    written.
    """
    check_places(output, svg, png)
    written: list[Path] = []
    if output is not None:
        write_whole(output, page(found, more).encode())
        written.append(output)
    for picture in all_pictures(found, more) if svg or png else ():
        name = slug(f"{found['stack']}-{picture.key}")
        if svg is not None:
            write_whole(svg / f"{name}.svg", svg_file(picture).encode())
            written.append(svg / f"{name}.svg")
        if png is not None:
            write_whole(png / f"{name}.png", png_file(picture))
            written.append(png / f"{name}.png")
    return written


def check_places(output: Path | None, svg: Path | None, png: Path | None) -> None:
    """Raise ReportError for a place that `write_report` could not write to, before any work."""
    if output is not None:
        check_file("--output", output)
    for option, folder in (("--svg", svg), ("--png", png)):
        if folder is not None:
            check_folder(option, folder)


def only_models(found: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """The summary with these models alone; all of them when none is named.

    Raises ReportError for a name that the stack does not have.
    """
    if unknown := [name for name in names if name not in found["models"]]:
        known = ", ".join(found["models"]) or "none"
        raise ReportError(
            f"--model: {unknown[0]!r} is no model of {found['stack']}; its models: {known}"
        )
    models = {key: model for key, model in found["models"].items() if not names or key in names}
    return {**found, "models": models}
