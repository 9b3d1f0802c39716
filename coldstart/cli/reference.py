"""`python -m coldstart.cli.reference` writes `docs/commands.md` from the help of each command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer.main

from coldstart.cli.app import app
from coldstart.cli.shared import ROOT

PAGE = ROOT / "docs" / "commands.md"
COLUMNS = 100
HEAD = """# Commands

Written by `python -m coldstart.cli.reference` from the help of each command.

`bin/coldstart` runs from any folder; put `bin/` on PATH, or link to the file. Answers go to
standard output, progress and errors to standard error. Exit codes: 0 fine; 1 the engine, a policy
or a limit said no; 2 bad input, with a message that says where and what would work; 130
interrupted.

Text is coloured on a terminal only, and not under `NO_COLOR`. `--json` is for machines,
`--format markdown` for a pull request ([ci.md](ci.md) has a workflow).

`coldstart --install-completion` teaches your shell the names of commands, stacks, models, node
pools, decisions and regions.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in _commands(typer.main.get_command(app), "coldstart"):
        parts.append("\n".join(_section(name, command)) + "\n")
    return "\n".join(parts)


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _section(name: str, command: Any) -> Iterator[str]:
    with command.make_context(
        name, [], resilient_parsing=True, terminal_width=COLUMNS, color=False
    ) as context:
        text = command.get_help(context)
    yield from (f"## `{name}`", "", "```text")
    yield from (line.rstrip() for line in text.strip().splitlines())
    yield "```"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is written\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
