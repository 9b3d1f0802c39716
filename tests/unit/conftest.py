"""What makes the tests of commands fast."""

from __future__ import annotations

import functools

import typer.testing
from typer.main import get_command

# A runner builds the whole command line anew for every call, which takes longer than most calls.
typer.testing._get_command = functools.cache(  # pyright: ignore[reportPrivateImportUsage]
    get_command
)
