"""Reports as files: whole or not there, and a clear word when they cannot be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart.cli.app import app
from coldstart.report.files import ReportError, write_whole


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["report", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_page_and_the_pictures_are_written(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = run(
        "eks-prod", "--output", str(page), "--svg", str(tmp_path), "--png", str(tmp_path)
    )
    written = {
        "page.html",
        *(
            f"eks-prod-cold-start-{model}.{kind}"
            for model in ("qwen3-8b", "qwen3-32b")
            for kind in ("svg", "png")
        ),
    }
    assert code == 0
    assert {file.name for file in tmp_path.iterdir()} == written
    assert {Path(line.removeprefix("wrote ")).name for line in out.splitlines()} == written
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_without_options_a_page_is_written_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("eks-dev")[:2] == (0, "wrote report.html\n")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_only_the_models_asked_for_are_shown(tmp_path: Path) -> None:
    assert run("eks-prod", "--model", "qwen3-8b", "--svg", str(tmp_path))[0] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["eks-prod-cold-start-qwen3-8b.svg"]


def test_an_unknown_model_is_refused_with_those_there_are(tmp_path: Path) -> None:
    code, _, error = run("eks-prod", "--model", "qwen3-9b", "--svg", str(tmp_path))
    assert (code, error) == (
        2,
        "--model: 'qwen3-9b' is no model of eks-prod; its models: qwen3-32b, qwen3-8b\n",
    )


@pytest.mark.parametrize("option", ["--output", "--svg", "--png"])
def test_a_missing_folder_is_refused_before_anything_is_written(
    tmp_path: Path, option: str
) -> None:
    missing = tmp_path / "none"
    target = missing / "page.html" if option == "--output" else missing
    code, out, error = (
        run("eks-dev", option, str(target), "--svg", str(tmp_path))
        if (option != "--svg")
        else run("eks-dev", option, str(target), "--output", str(tmp_path / "page.html"))
    )
    assert (code, out) == (2, "")
    assert error == (
        f"{option}: the folder {missing} does not exist; make it first: mkdir -p {missing}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    code, _, error = run("eks-dev", "--svg", str(file))
    assert code == 2
    assert f"--svg: {file} is a file, not a folder" in error


def test_a_bad_stack_is_refused_as_by_every_command() -> None:
    code, _, error = run("nowhere")
    assert code == 2
    assert "nowhere" in error


def test_a_file_that_is_replaced_is_never_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(b"old")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ReportError, match=r"page\.html cannot be written: No space left"):
        write_whole(page, b"new")
    assert page.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_folder_in_the_place_of_the_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ReportError, match=r"page\.html cannot be written: Is a directory"):
        write_whole(tmp_path / "page.html", b"new")
    code, out, error = run("no-such-stack", "--output", str(tmp_path / "page.html"))
    assert (code, out) == (2, "")
    assert error.startswith(f"--output: {tmp_path}/page.html is a folder; name a file in it")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_time_without_a_simulation_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, error = run("eks-dev", "--output", str(page), "--starts-at", "2026-03-02T08:00:00Z")
    assert (code, out) == (2, "")
    assert error == "--starts-at is of a simulation; give --simulate or --trace too\n"
    assert not page.exists()


def test_a_page_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "page.html", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640
