"""Every possible user data, word for word. COLDSTART_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coldstart.render import render_user_data
from tests.unit.user_data_texts import POSSIBLE, Combination, label

GOLDEN = Path(__file__).parent.parent / "golden" / "user-data"


def golden_file(combination: Combination) -> Path:
    suffix = "mime" if combination[0] == "al2023" else "toml"
    return GOLDEN / f"{label(combination)}.{suffix}"


@pytest.mark.parametrize("combination", POSSIBLE, ids=label)
def test_user_data_is_what_was_last_reviewed(combination: Combination) -> None:
    rendered = render_user_data(*combination)
    file = golden_file(combination)
    if os.environ.get("COLDSTART_UPDATE_GOLDEN") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered, encoding="ascii")
        pytest.fail(f"wrote {file.name}: review it, then run without COLDSTART_UPDATE_GOLDEN")
    assert file.is_file(), f"no golden file {file.name}; write it with COLDSTART_UPDATE_GOLDEN=1"
    assert rendered == file.read_text(encoding="ascii")


def test_every_golden_file_belongs_to_a_possible_combination() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == {
        golden_file(combination).name for combination in POSSIBLE
    }
