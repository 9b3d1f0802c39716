"""Writing a report: a file is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from coldstart.errors import UserError


class ReportError(UserError):
    """A place that a report cannot be written to; the message says what would work."""


def check_folder(option: str, folder: Path) -> None:
    """Raise ReportError unless `folder`, which `option` names, exists."""
    if folder.is_dir():
        return
    if folder.exists():
        raise ReportError(f"{option}: {folder} is a file, not a folder; name a folder")
    raise ReportError(
        f"{option}: the folder {folder} does not exist; make it first: mkdir -p {folder}"
    )


def check_file(option: str, path: Path) -> None:
    """Raise ReportError unless a file can have the name `path`, which `option` gives."""
    if path.is_dir():
        raise ReportError(
            f"{option}: {path} is a folder; name a file in it, such as {path / 'report.html'}"
        )
    check_folder(option, path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the file and move it into place, so that no reader sees half of it.

    Raises ReportError when the folder takes no file.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ReportError(f"{path} cannot be written: {error.strerror}") from None


def _umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found
